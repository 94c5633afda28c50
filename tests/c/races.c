/* Races over whole lives: many pods, many threads that cancel, wait, watch and free, and every promise still holds. */
#include "probe.h"

#include <string.h>

/* Guava testTransitionRace: snappy pods, watched all along by a monitor of their own and one of all; no change is lost or told
 * out of order. */
static int order_of(podkeep_state s) {
  static const int order[] = {0, 1, 2, 3, 1, 5, 5, 4};
  return order[s];
}

static void follow(podkeep_monitor *m, podkeep_state end) {
  podkeep_state state = -1;
  uint32_t changes = 0;
  uint64_t sequence = 0;
  podkeep_event e = PODKEEP_EVENT_INIT;
  podkeep_status status;
  while ((status = podkeep_monitor_next(m, &e, LIMIT_MS)) == PODKEEP_OK) {
    if (state >= 0) {
      CHECK_INT(e.from, state);
      CHECK(order_of(e.to) > order_of(e.from));
    }
    CHECK(e.sequence > sequence);
    sequence = e.sequence;
    state = e.to;
    changes += 1 + e.missed;
  }
  CHECK_STATUS(status, PODKEEP_ERR_ENDED);
  CHECK_INT(state, end);
  CHECK(changes >= 2 && changes <= 5);
}

TEST(race_transitions_of_snappy_pods) {
  podkeep_monitor *all = watch(NULL);
  for (int round = 0; round < rounds(200); round++) {
    probe *p[5];
    podkeep_monitor *m[5];
    for (int i = 0; i < 5; i++) {
      p[i] = probe_new("snappy");
      p[i]->run.does = i % 2 ? does_return : NULL;
      p[i]->run.returns = i == 3;
      m[i] = watch(probe_make(p[i]));
      probe_start(p[i]);
    }
    for (int i = 0; i < 5; i += 2) CHECK_OK(podkeep_pod_cancel(p[i]->pod));
    for (int i = 0; i < 5; i++) {
      follow(m[i], i == 3 ? PODKEEP_STATE_FAILED : PODKEEP_STATE_STOPPED);
      CHECK_OK(podkeep_monitor_free(m[i]));
      CHECK_STATUS(podkeep_pod_join(p[i]->pod, LIMIT_MS), i == 3 ? PODKEEP_ERR_FAILED : PODKEEP_OK);
      probe_free(p[i]);
    }
    podkeep_event e = PODKEEP_EVENT_INIT;
    while (podkeep_monitor_next(all, &e, 0) == PODKEEP_OK) CHECK(order_of(e.to) >= order_of(e.from));
  }
  CHECK_OK(podkeep_monitor_free(all));
}

/* One life; four threads cancel, four join, two wait for ready, one watches; each gets an answer that is true. */
typedef struct life {
  podkeep_pod *pod;
  barrier all;
  uint32_t role, ended;
} life;

enum { ACTORS = 11 };

static void act(void *arg) {
  life *l = arg;
  uint32_t role = ADD(l->role, 1u) - 1;
  podkeep_status status;
  barrier_wait(&l->all, ACTORS + 1);
  pass_us((long)random_below(50));
  if (role < 4) {
    CHECK_OK(podkeep_pod_cancel(l->pod));
  } else if (role < 8) {
    while ((status = podkeep_pod_join(l->pod, role % 2 ? PODKEEP_FOREVER : 3)) == PODKEEP_ERR_TIMEOUT) {}
    CHECK_OK(status);
    CHECK_STATE(l->pod, PODKEEP_STATE_STOPPED);
  } else if (role < 10) {
    status = podkeep_pod_wait_ready(l->pod, role % 2 ? PODKEEP_FOREVER : LIMIT_MS);
    CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_ENDED);
  } else {
    podkeep_monitor *m = watch(l->pod);
    podkeep_event e = PODKEEP_EVENT_INIT;
    while (e.to != PODKEEP_STATE_STOPPED) e = NEXT_EVENT(m);
    CHECK_OK(podkeep_monitor_free(m));
  }
  ADD(l->ended, 1u);
}

TEST(race_cancels_waits_and_monitors_of_one_pod) {
  for (int round = 0; round < rounds(60); round++) {
    probe *p = probe_new("beset");
    p->options.ready = round % 2 ? PODKEEP_READY_ON_RUN : PODKEEP_READY_NOTIFY;
    life *l = world_alloc(sizeof *l);
    l->pod = probe_start(p);
    worker w[ACTORS];
    for (int i = 0; i < ACTORS; i++) worker_start(&w[i], act, l);
    barrier_wait(&l->all, ACTORS + 1);
    for (int i = 0; i < ACTORS; i++) worker_join(&w[i]);
    CHECK_INT(l->ended, ACTORS);
    CHECK_NO_FAILURE(l->pod);
    probe_free(p);
  }
}

/* Waits of several threads are under way while another frees the handle: they end well, or had come too late. */
static void wait_or_be_late(void *arg) {
  life *l = arg;
  uint32_t role = ADD(l->role, 1u) - 1;
  barrier_wait(&l->all, 5);
  podkeep_status status = role % 2 ? podkeep_pod_join(l->pod, PODKEEP_FOREVER) : podkeep_pod_wait_ready(l->pod, PODKEEP_FOREVER);
  CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_ENDED || status == PODKEEP_ERR_INVALID_HANDLE);
}

TEST(race_waits_and_free) {
  for (int round = 0; round < rounds(150); round++) {
    probe *p = probe_new("freed");
    life *l = world_alloc(sizeof *l);
    l->pod = probe_start(p);
    worker w[4];
    for (int i = 0; i < 4; i++) worker_start(&w[i], wait_or_be_late, l);
    barrier_wait(&l->all, 5);
    pass_us((long)random_below(50));
    probe_free(p);
    for (int i = 0; i < 4; i++) worker_join(&w[i]);
  }
}

/* Several threads free one handle: one of them did it. */
static void free_it(void *arg) {
  life *l = arg;
  barrier_wait(&l->all, 4);
  podkeep_status status = podkeep_pod_free(l->pod);
  if (status == PODKEEP_OK) ADD(l->ended, 1u);
  else CHECK_STATUS(status, PODKEEP_ERR_INVALID_HANDLE);
}

TEST(race_frees) {
  for (int round = 0; round < rounds(100); round++) {
    probe *p = probe_new("freed by four");
    life *l = world_alloc(sizeof *l);
    l->pod = probe_start(p);
    worker w[4];
    for (int i = 0; i < 4; i++) worker_start(&w[i], free_it, l);
    for (int i = 0; i < 4; i++) worker_join(&w[i]);
    CHECK_INT(l->ended, 1);
    p->pod = NULL;
    probe_free(p);
  }
}

/* The end of the grace and the end of S come at the same moment: OK and STOPPED, or TIMEOUT, ABANDONED and then FAILED (a child:
 * FAILED); never a mixture, and the count of abandoned threads comes back to none. */
static int32_t ends_at_the_edge(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  while (podkeep_context_time_left(ctx) > 0) pass_us(50); /* up to the last moment */
  return 0;
}

TEST_WITH(race_grace_and_the_end_of_S, NOT_MAIN(EXIT)) {
  for (int round = 0; round < rounds(150); round++) {
    probe *p = probe_new("edgy");
    p->options.grace_ms = 1 + (int64_t)random_below(3);
    p->run.does = ends_at_the_edge;
    p->s_may_die = true; /* by force */
    podkeep_pod *pod = probe_running(p);
    podkeep_status closed = podkeep_pod_close(pod);
    podkeep_status joined = podkeep_pod_join(pod, LIMIT_MS);
    if (closed == PODKEEP_OK) CHECK_OK(joined);
    else CHECK_STATUS(joined, PODKEEP_ERR_FAILED);
    CHECK(closed == PODKEEP_OK || closed == PODKEEP_ERR_TIMEOUT || closed == PODKEEP_ERR_FAILED);
    podkeep_failure *f = NULL;
    CHECK_OK(podkeep_pod_failure(pod, &f));
    CHECK((f != NULL) == (joined == PODKEEP_ERR_FAILED));
    if (f) CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
    CHECK_OK(podkeep_failure_free(f));
    uint32_t abandoned = 99;
    CHECK_OK(podkeep_abandoned(&abandoned));
    CHECK_INT(abandoned, 0);
    if (joined == PODKEEP_OK || !S_is_elsewhere()) CHECK_INT(p->teardown.count, 1);
    probe_free(p);
  }
}

/* Ready and its timeout come at the same moment. */
static int32_t ready_at_the_edge(probe *p, podkeep_context *ctx) {
  pass_us(900 + (long)random_below(300)); /* its limit is 1 ms */
  CHECK_OK(podkeep_context_ready(ctx));
  (void)p;
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  return 0;
}

TEST(race_ready_and_its_timeout) {
  for (int round = 0; round < rounds(150); round++) {
    probe *p = probe_new("edgy");
    p->options.ready = PODKEEP_READY_NOTIFY;
    p->options.ready_timeout_ms = 1;
    p->run.does = ready_at_the_edge;
    podkeep_pod *pod = probe_start(p);
    podkeep_status ready = podkeep_pod_wait_ready(pod, LIMIT_MS);
    if (ready == PODKEEP_OK) {
      CHECK(!ctx_cancelled(p));
      CHECK_OK(podkeep_pod_close(pod));
    } else {
      CHECK_STATUS(ready, PODKEEP_ERR_FAILED);
      CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    }
    probe_free(p);
  }
}

/* A ready that came just before its timeout leaves nothing of that timeout behind: long after, a cancel finds its grace whole. */
TEST(race_ready_and_its_timeout_leave_the_grace_whole) {
  enum { PODS = 80 };
  for (int round = 0; round < rounds(6); round++) {
    probe *p[PODS];
    for (int i = 0; i < PODS; i++) {
      p[i] = probe_new("edgy");
      p[i]->options.ready = PODKEEP_READY_NOTIFY;
      p[i]->options.ready_timeout_ms = 1;
      p[i]->options.grace_ms = slow_ms(400);
      p[i]->no_hook = true;
      p[i]->run.does = ready_at_the_edge;
      probe_start(p[i]);
    }
    pass_ms(slow_ms(420)); /* a grace that began at the start would be over */
    for (int i = 0; i < PODS; i++) {
      if (podkeep_pod_wait_ready(p[i]->pod, LIMIT_MS) == PODKEEP_OK) {
        CHECK_INT(ctx_time_left(p[i]), -1);
        uint64_t from = now_ns();
        podkeep_status closed = podkeep_pod_close(p[i]->pod);
        if (closed != PODKEEP_OK) { /* whole it was; the machine has let it pass */
          CHECK_STATUS(closed, forced_status());
          CHECK(now_ns() - from >= (uint64_t)p[i]->options.grace_ms * 1000000u);
          p[i]->s_may_die = S_is_elsewhere();
        }
      } else {
        p[i]->s_may_die = S_is_elsewhere(); /* of 80 at a time a child may begin when its grace is over */
        CHECK_STATUS(podkeep_pod_join(p[i]->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
      }
      probe_free(p[i]);
    }
  }
}

/* S ends from inside while the hook is about to be called: it comes while run is entered or not at all, and it is over before the
 * config is dropped (probes_check). */
static int32_t exits_after_cancel(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  pass_us((long)random_below(20));
  return does_exit(p, ctx);
}

static int32_t takes_a_moment(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  pass_us(200); /* so that an overlap shows */
  return 0;
}

TEST(race_S_ended_from_inside_and_its_hook) {
  for (int round = 0; round < rounds(300); round++) {
    probe *p = probe_new("leaving");
    p->s_may_die = true;
    p->run.does = exits_after_cancel;
    p->hook.does = takes_a_moment;
    probe_running(p);
    if (round % 2) CHECK_OK(podkeep_pod_cancel(p->pod));
    probe_free(p);
  }
}

/* Monitors come and go while a pod lives through its states; each, and the one that was there before, hears of the end. */
static void watch_again_and_again(void *arg) {
  life *l = arg;
  podkeep_pod *pod = l->pod;
  while (!LOAD(l->ended)) {
    podkeep_monitor *m = watch(pod);
    podkeep_event e = NEXT_EVENT(m);
    CHECK_INT(e.from, e.to);
    podkeep_state first = e.to;
    if (random_below(4) == 0 && order_of(first) >= order_of(PODKEEP_STATE_STOPPING)) {
      while (e.to != PODKEEP_STATE_STOPPED) e = NEXT_EVENT(m);
      CHECK_MONITOR_ENDED(m);
    }
    CHECK_OK(podkeep_monitor_free(m));
  }
}

TEST(race_monitors_made_while_a_pod_ends) {
  for (int round = 0; round < rounds(150); round++) {
    probe *p = probe_new("observed");
    p->no_hook = round % 2;
    podkeep_monitor *there = watch(probe_make(p));
    probe_running(p);
    life *l = world_alloc(sizeof *l);
    l->pod = p->pod;
    worker w[2];
    for (int i = 0; i < 2; i++) worker_start(&w[i], watch_again_and_again, l);
    pass_us((long)random_below(200));
    CHECK_OK(podkeep_pod_cancel(p->pod));
    follow(there, PODKEEP_STATE_STOPPED);
    ADD(l->ended, 1u);
    for (int i = 0; i < 2; i++) worker_join(&w[i]);
    CHECK_OK(podkeep_monitor_free(there));
    probe_free(p);
  }
}

/* A monitor that was made while the pod ended and was freed has the pod's end to tell, and ENDED. */
static void watch_if_there(void *arg) {
  life *l = arg;
  barrier_wait(&l->all, 3);
  pass_us((long)random_below(40));
  podkeep_monitor *m = NULL;
  podkeep_status status = podkeep_monitor_new(l->pod, &m);
  if (status == PODKEEP_OK) {
    podkeep_state last = -1;
    podkeep_event e = PODKEEP_EVENT_INIT;
    while ((status = podkeep_monitor_next(m, &e, LIMIT_MS)) == PODKEEP_OK) last = e.to;
    CHECK_STATUS(status, PODKEEP_ERR_ENDED);
    CHECK_INT(last, PODKEEP_STATE_STOPPED);
    CHECK_OK(podkeep_monitor_free(m));
  } else {
    CHECK_STATUS(status, PODKEEP_ERR_INVALID_HANDLE);
  }
}

TEST(race_monitor_and_free) {
  for (int round = 0; round < rounds(300); round++) {
    probe *p = probe_new("going");
    life *l = world_alloc(sizeof *l);
    l->pod = round % 3 ? probe_running(p) : probe_make(p);
    if (round % 3 == 1) CHECK_OK(podkeep_pod_close(p->pod));
    worker w[2];
    for (int i = 0; i < 2; i++) worker_start(&w[i], watch_if_there, l);
    barrier_wait(&l->all, 3);
    pass_us((long)random_below(40));
    probe_free(p);
    for (int i = 0; i < 2; i++) worker_join(&w[i]);
  }
}

/* jthread's dtor case: ten pods, each let go by free alone; all come to their teardown. */
TEST(race_ten_pods_let_go) {
  for (int round = 0; round < rounds(20); round++) {
    probe *p[10];
    for (int i = 0; i < 10; i++) {
      p[i] = probe_new("let go");
      p[i]->no_hook = i % 2;
      probe_running(p[i]);
    }
    for (int i = 0; i < 10; i++) probe_free(p[i]);
    for (int i = 0; i < 10; i++) CHECK_INT(p[i]->teardown.count, 1);
  }
}
