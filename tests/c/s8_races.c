/* Section 8 under fire: a cancel at every step of start, restart and stop; many at a time; monitors that come late. */
#include "lives.h"

#include <stdio.h>
#include <string.h>

/* Of several runtimes of one name only the last can be run by a child. */
static probe *numbered(const char *name, int number) {
  char text[32];
  snprintf(text, sizeof text, "%s %d", name, number);
  return probe_new(text);
}

/* Every change from one state to the next that the contract knows of; a merged event stands for several. */
static void check_step(const podkeep_event *e) {
  static const uint32_t next[] = {
      [PODKEEP_STATE_NEW] = 1u << PODKEEP_STATE_STARTING | 1u << PODKEEP_STATE_STOPPED,
      [PODKEEP_STATE_STARTING] = 1u << PODKEEP_STATE_RUNNING | 1u << PODKEEP_STATE_STOPPING | 1u << PODKEEP_STATE_RESTARTING |
                                 1u << PODKEEP_STATE_STOPPED | 1u << PODKEEP_STATE_FAILED,
      [PODKEEP_STATE_RUNNING] = 1u << PODKEEP_STATE_STOPPING | 1u << PODKEEP_STATE_RESTARTING | 1u << PODKEEP_STATE_FAILED,
      [PODKEEP_STATE_STOPPING] = 1u << PODKEEP_STATE_RESTARTING | 1u << PODKEEP_STATE_STOPPED | 1u << PODKEEP_STATE_FAILED,
      [PODKEEP_STATE_RESTARTING] = 1u << PODKEEP_STATE_STARTING | 1u << PODKEEP_STATE_STOPPED,
      [PODKEEP_STATE_ABANDONED] = 0,
  };
  if (e->from != e->to && e->missed == 0 && !(next[e->from] & 1u << e->to))
    check_failed(__FILE__, __LINE__, "from %s to %s", state_word(e->from), state_word(e->to));
}

/* All that a monitor of one pod has to say: a chain without a gap, whose lives only grow. Answers how many changes there were. */
static uint32_t follow(podkeep_monitor *m, podkeep_state first, podkeep_state end, uint32_t last_life) {
  podkeep_event e = NEXT_EVENT(m);
  podkeep_state at = first;
  uint32_t life = 0, changes = 0;
  uint64_t sequence = 0, time = 0;
  podkeep_status status = PODKEEP_OK;
  for (; status == PODKEEP_OK; status = podkeep_monitor_next(m, &e, LIMIT_MS)) {
    CHECK_INT(e.from, at);
    check_step(&e);
    CHECK(e.sequence > sequence && e.time_ns >= time);
    CHECK(e.incarnation >= life && (e.missed > 0 || e.incarnation - life <= (e.to == PODKEEP_STATE_STARTING)));
    CHECK(e.failure == NULL || podkeep_failure_incarnation(e.failure) == e.incarnation);
    at = e.to;
    life = e.incarnation;
    sequence = e.sequence;
    time = e.time_ns;
    changes += (e.from != e.to || e.missed > 0) + e.missed;
  }
  CHECK_STATUS(status, PODKEEP_ERR_ENDED);
  CHECK_INT(at, end);
  CHECK_INT(life, last_life);
  return changes;
}

/* --- A cancel, at whatever moment ------------------------------------------------------------------------------------- */

enum { LIVES = 64, CANCEL, CLOSE, FREE };

static int32_t fails_soon(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  return (int32_t)(tick() % 3); /* 0, too, which is a clean end */
}

static int32_t dies_soon(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  if (tick() % 3 == 0) return 1;
  end_S();
}

static void asked_at_any_moment(int how, bool dies) {
  for (int round = 0; round < rounds(160); round++) {
    probe *p = probe_new("hunted");
    p->options.restart = PODKEEP_RESTART_ALWAYS;
    p->options.max_restarts = LIVES - 2;
    p->options.backoff_ms = p->options.backoff_max_ms = 1;
    p->no_hook = round % 2;
    p->s_may_die = dies;
    p->run.does = dies ? dies_soon : fails_soon;
    incarnation *lives = probe_lives(p, LIVES);
    podkeep_monitor *m = watch(probe_make(p));
    podkeep_pod *pod = probe_start(p);
    pass_us((long)random_below(S_is_elsewhere() ? 12000 : 4000)); /* the shift is what is varied */
    podkeep_status status = PODKEEP_OK;
    if (how == CANCEL) CHECK_OK(podkeep_pod_cancel(pod));
    if (how != FREE) {
      status = how == CLOSE ? podkeep_pod_close(pod) : podkeep_pod_join(pod, LIMIT_MS);
      CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
      CHECK_STATE(pod, status == PODKEEP_OK ? PODKEEP_STATE_STOPPED : PODKEEP_STATE_FAILED);
      uint32_t last = restarts_of(pod);
      follow(m, PODKEEP_STATE_NEW, status == PODKEEP_OK ? PODKEEP_STATE_STOPPED : PODKEEP_STATE_FAILED, last);
      CHECK_INT(lives[last + 1].init.count, 0);
    }
    probe_free(p); /* waits for the drop, and nothing comes after it: probes_check */
    if (how == FREE) while (podkeep_monitor_next(m, &(podkeep_event)PODKEEP_EVENT_INIT, LIMIT_MS) == PODKEEP_OK) {}
    CHECK_OK(podkeep_monitor_free(m));
  }
}

TEST(S8_race__cancel_at_any_moment) { asked_at_any_moment(CANCEL, false); }
TEST(S8_race__close_at_any_moment) { asked_at_any_moment(CLOSE, false); }
TEST(S8_race__free_at_any_moment) { asked_at_any_moment(FREE, false); }
TEST_WITH(S8_race__cancel_of_one_that_dies, NOT_MAIN(LIBRARYS_S)) { asked_at_any_moment(CANCEL, true); }
TEST_WITH(S8_race__close_of_one_that_dies, NOT_MAIN(LIBRARYS_S)) { asked_at_any_moment(CLOSE, true); }
TEST_WITH(S8_race__free_of_one_that_dies, NOT_MAIN(LIBRARYS_S)) { asked_at_any_moment(FREE, true); }

/* Its last act is the drop's end, whoever else comes by: the moment at which the next life would have been due, say. */
static int32_t drops_slowly(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  pass_ms(700);
  return 0;
}

TEST(S8_race__a_drop_between_two_lives_is_over_when_close_returns) {
  probe *p = probe_new("between");
  p->options.restart = PODKEEP_RESTART_ON_FAILURE;
  p->options.backoff_ms = p->options.backoff_max_ms = 300;
  p->run.does = does_return;
  p->run.returns = 7;
  p->drop.does = drops_slowly;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->runtime = NULL;
  until_restarting(pod);
  uint64_t from = now_ns();
  podkeep_pod_close(pod);
  CHECK(event_is_set(&p->drop.left) || now_ns() - from >= 1000000000); /* it is not waited for longer than a second */
  probe_free(p);
}

/* Right around the moment at which the next life begins. */
TEST(S8_race__cancel_and_revival) {
  for (int round = 0; round < rounds(240); round++) {
    probe *p = probe_new("nearly");
    p->options.restart = PODKEEP_RESTART_ALWAYS;
    p->options.backoff_ms = p->options.backoff_max_ms = 1;
    p->no_hook = true;
    incarnation *lives = probe_lives(p, 2);
    lives[0].run.does = does_return;
    lives[0].run.returns = 3;
    podkeep_monitor *m = watch(probe_make(p));
    podkeep_pod *pod = probe_start(p);
    podkeep_event e = NEXT_EVENT(m);
    while (e.to != PODKEEP_STATE_RESTARTING) e = NEXT_EVENT(m);
    while (now_ns() < e.time_ns + 700000 + random_below(500000)) {} /* a sleep would not hit it */
    CHECK_OK(podkeep_pod_cancel(pod));
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    uint32_t life = restarts_of(pod);
    CHECK(life == 1 || lives[1].init.count == 0);
    if (life == 1) CHECK_NO_FAILURE(pod);
    else CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 3, NULL);
    podkeep_status ready = podkeep_pod_wait_ready(pod, 0);
    if (life == 0) CHECK_STATUS(ready, PODKEEP_ERR_ENDED);
    else CHECK(ready == PODKEEP_OK || ready == PODKEEP_ERR_ENDED);
    podkeep_state at = PODKEEP_STATE_RESTARTING;
    while (podkeep_monitor_next(m, &e, LIMIT_MS) == PODKEEP_OK) {
      CHECK_INT(e.from, at);
      check_step(&e);
      CHECK_INT(e.incarnation, e.from == PODKEEP_STATE_RESTARTING && e.to == PODKEEP_STATE_STOPPED ? 0 : 1);
      at = e.to;
    }
    CHECK_INT(at, PODKEEP_STATE_STOPPED);
    CHECK_OK(podkeep_monitor_free(m));
    probe_free(p);
  }
}

/* Threads that cancel, wait, look and watch, all over one pod's many lives. */
typedef struct crowd {
  podkeep_pod *pod;
  barrier all;
  uint32_t role;
} crowd;

static void meddles(void *arg) {
  crowd *c = arg;
  uint32_t role = ADD(c->role, 1u) - 1;
  barrier_wait(&c->all, 6);
  podkeep_status status = PODKEEP_ERR_TIMEOUT;
  switch (role) {
    case 0:
      pass_us((long)random_below(8000));
      CHECK_OK(podkeep_pod_cancel(c->pod));
      break;
    case 1: /* it may be ready, between two lives, or have ended, again and again */
      while ((status = podkeep_pod_wait_ready(c->pod, 1)) == PODKEEP_ERR_TIMEOUT || status == PODKEEP_OK)
        if (podkeep_pod_join(c->pod, 0) != PODKEEP_ERR_TIMEOUT) return;
      CHECK(status == PODKEEP_ERR_ENDED || status == PODKEEP_ERR_FAILED);
      break;
    case 2:
      status = podkeep_pod_join(c->pod, PODKEEP_FOREVER);
      CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
      break;
    case 3:
      while ((status = podkeep_pod_join(c->pod, 1)) == PODKEEP_ERR_TIMEOUT) {}
      CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
      break;
    default:
      while (podkeep_pod_join(c->pod, 0) == PODKEEP_ERR_TIMEOUT) {
        podkeep_monitor *m = watch(c->pod);
        podkeep_event e = NEXT_EVENT(m);
        CHECK(e.from == e.to);
        if (podkeep_monitor_next(m, &e, 1) == PODKEEP_OK) check_step(&e);
        CHECK_OK(podkeep_monitor_free(m));
      }
  }
}

static void crowded(bool dies) {
  for (int round = 0; round < rounds(60); round++) {
    probe *p = probe_new("crowded");
    p->options.restart = PODKEEP_RESTART_ALWAYS;
    p->options.max_restarts = LIVES - 2;
    p->options.backoff_ms = p->options.backoff_max_ms = 1;
    p->s_may_die = dies;
    p->run.does = dies ? dies_soon : fails_soon;
    probe_lives(p, LIVES);
    crowd *c = world_alloc(sizeof *c);
    worker w[5];
    for (int i = 0; i < 5; i++) worker_start(&w[i], meddles, c);
    c->pod = probe_start(p);
    barrier_wait(&c->all, 6);
    for (int i = 0; i < 5; i++) worker_join(&w[i]);
    probe_free(p);
  }
}

TEST(S8_race__a_crowd) { crowded(false); }
TEST_WITH(S8_race__a_crowd_around_one_that_dies, NOT_MAIN(LIBRARYS_S)) { crowded(true); }

/* A shutdown among many that come and go. */
TEST(S8_race__shutdown_among_many) {
  enum { N = 12 };
  probe *p[N];
  for (int i = 0; i < N; i++) {
    p[i] = numbered("swept", i);
    p[i]->options.restart = PODKEEP_RESTART_ALWAYS;
    p[i]->options.max_restarts = LIVES - 2;
    p[i]->options.backoff_ms = p[i]->options.backoff_max_ms = 1 + i;
    p[i]->run.does = fails_soon;
    probe_lives(p[i], LIVES);
    probe_start(p[i]);
  }
  pass_us((long)random_below(20000));
  uint32_t left = 99;
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  uint32_t before[N];
  for (int i = 0; i < N; i++) before[i] = LOAD(p[i]->called.count);
  pass_ms(SHORT_MS); /* nothing begins any more */
  for (int i = 0; i < N; i++) CHECK_INT(LOAD(p[i]->called.count), before[i]);
  for (int i = 0; i < N; i++) probe_free(p[i]);
}

/* An end from inside, about when the hook of a ready timeout begins: however it turns out, each life is counted once. */
static int32_t exits_when_stopped(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  uint64_t until = now_ns() + random_below(60000);
  while (now_ns() < until) {} /* a sleep would not hit it */
  end_S();
}

TEST_WITH(S8_race__ended_from_inside_as_its_hook_begins, NOT_MAIN(LIBRARYS_S)) {
  uint32_t n = (uint32_t)rounds(600);
  probe *p = probe_new("counted");
  p->options.restart = PODKEEP_RESTART_ON_FAILURE;
  p->options.backoff_ms = p->options.backoff_max_ms = 1;
  p->options.max_restarts = n - 1;
  p->options.restart_window_ms = 600000;
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = S_is_elsewhere() ? slow_ms(20) : 1;
  p->s_may_die = true;
  p->run.does = exits_when_stopped;
  probe_lives(p, n);
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, 3 * LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_INT(restarts_of(pod), n - 1);
  probe_free(p);
}

/* --- Many at a time --------------------------------------------------------------------------------------------------- */

static int32_t fails_on_the_word(probe *p, podkeep_context *ctx) {
  event_wait(p->data);
  return podkeep_context_fail(ctx, 1, "all together");
}

TEST(S8_many__a_hundred_fail_in_one_moment) {
  enum { MOST = 100 };
  static probe *all[MOST];
  int n = S_is_elsewhere() ? 24 : MOST;
  event *word = world_alloc(sizeof *word);
  for (int i = 0; i < n; i++) {
    probe *p = all[i] = numbered("together", i);
    p->options.restart = PODKEEP_RESTART_ON_FAILURE;
    p->options.backoff_ms = 20;
    p->data = word;
    probe_lives(p, 2)[0].run.does = fails_on_the_word;
    probe_running(p);
  }
  podkeep_monitor *m = watch(NULL);
  for (int i = 0; i < n; i++) CHECK_INT(NEXT_EVENT(m).to, PODKEEP_STATE_RUNNING);
  event_set(word);
  int restarting = 0, running = 0;
  uint64_t sequence = 0, earliest = UINT64_MAX, latest = 0;
  while (running < n) {
    podkeep_event e = NEXT_EVENT(m);
    CHECK(e.sequence > sequence && e.missed == 0);
    check_step(&e);
    sequence = e.sequence;
    restarting += e.to == PODKEEP_STATE_RESTARTING;
    running += e.to == PODKEEP_STATE_RUNNING;
    if (e.to != PODKEEP_STATE_STARTING) continue;
    if (e.time_ns < earliest) earliest = e.time_ns;
    if (e.time_ns > latest) latest = e.time_ns;
  }
  CHECK_INT(restarting, n);
  CHECK(latest - earliest > 1000000); /* they do not come back in one moment: a quarter of 20 ms is drawn */
  CHECK_OK(podkeep_monitor_free(m));
  for (int i = 0; i < n; i++) CHECK_INT(restarts_of(all[i]->pod), 1);
  for (int i = 0; i < n; i++) CHECK_OK(podkeep_pod_cancel(all[i]->pod));
  for (int i = 0; i < n; i++) probe_close(all[i], PODKEEP_OK);
}

/* --- Readers that come late ------------------------------------------------------------------------------------------- */

/* Four changes a life, more than a monitor keeps: they are merged, in order, counted, and the newest is there. */
static void read_late(uint32_t lives, bool merged) {
  probe *p = probe_new("unheard");
  p->options.restart = PODKEEP_RESTART_ALWAYS;
  p->options.max_restarts = lives - 1;
  p->options.restart_window_ms = 600000;
  p->options.backoff_ms = p->options.backoff_max_ms = 1;
  p->no_hook = true;
  p->run.does = does_return;
  p->run.returns = 4;
  probe_lives(p, lives);
  podkeep_monitor *m = watch(probe_make(p)), *all = watch(NULL);
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, 3 * LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_INT(restarts_of(pod), lives - 1);
  CHECK_INT(follow(m, PODKEEP_STATE_NEW, PODKEEP_STATE_FAILED, lives - 1), 4 * lives);
  podkeep_event e = PODKEEP_EVENT_INIT;
  uint32_t missed = 0, changes = 0;
  uint64_t sequence = 0;
  while (podkeep_monitor_next(all, &e, 0) == PODKEEP_OK) {
    CHECK(e.sequence > sequence);
    sequence = e.sequence;
    missed += e.missed;
    changes += 1 + e.missed;
    if (e.to == PODKEEP_STATE_FAILED) break;
  }
  CHECK_INT(e.to, PODKEEP_STATE_FAILED);
  CHECK_INT(e.incarnation, lives - 1);
  CHECK_FAILURE_IN(e.failure, lives - 1, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 4, NULL);
  CHECK_INT(changes, 4 * lives + 1); /* and the first look */
  CHECK_INT(missed > 0, merged);
  CHECK_OK(podkeep_monitor_free(all));
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

TEST(S8_late__all_is_kept) { read_late(30, false); }
TEST(S8_late__much_is_merged) { read_late(400, true); }
