/* Section 8: when another life begins, how many there may be, and what that costs. */
#include "lives.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

/* Of n lives each returns 1 at once, but the last, which waits for the cancel. */
static probe *failing(const char *name, uint32_t n) {
  probe *p = probe_new(name);
  p->options.restart = PODKEEP_RESTART_ON_FAILURE;
  p->options.max_restarts = UINT32_MAX;
  p->no_hook = true;
  p->run.does = does_return;
  p->run.returns = 1;
  incarnation *lives = probe_lives(p, n);
  lives[n - 1].run.does = NULL;
  lives[n - 1].run.returns = 0;
  return p;
}

/* From the next RESTARTING to the STARTING after it. It counts from the moment of the decision, which comes before RESTARTING is
 * shown and after the STOPPING before it: since that 75 % of the whole have passed at least. */
static uint64_t next_delay(podkeep_monitor *m, int64_t whole_ms) {
  uint64_t stopping = next_to(m, PODKEEP_STATE_STOPPING).time_ns;
  uint64_t from = next_to(m, PODKEEP_STATE_RESTARTING).time_ns;
  podkeep_event e = NEXT_EVENT(m);
  CHECK_INT(e.to, PODKEEP_STATE_STARTING);
  if (e.time_ns - stopping < (uint64_t)whole_ms * MS * 3 / 4)
    check_failed(__FILE__, __LINE__, "a delay of less than 75 %% of %lld ms", (long long)whole_ms);
  return e.time_ns - from;
}

/* --- The delay ------------------------------------------------------------------------------------------------------- */

/* It doubles up to the cap. That it is not longer than that, by 20 ms at the first, is seen in one of some tries. */
static bool double_up_to_the_cap(void) {
  static const int64_t whole[] = {40, 80, 160, 200, 200, 200};
  enum { N = sizeof whole / sizeof whole[0] };
  probe *p = failing("doubling", N + 1);
  p->options.backoff_ms = 40;
  p->options.backoff_max_ms = 200;
  podkeep_monitor *m = watch(probe_make(p));
  probe_start(p);
  bool on_time = true;
  for (int i = 0; i < N; i++) {
    uint64_t delay = next_delay(m, whole[i]);
    on_time = on_time && delay <= (uint64_t)whole[i] * MS * 3 / 2;
  }
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_OK(podkeep_pod_wait_ready(p->pod, LIMIT_MS));
  probe_close(p, PODKEEP_OK);
  return on_time;
}

TEST(S8_delays__double_up_to_the_cap) { in_time_once(double_up_to_the_cap); }

/* "each drawn from 75 to 100 % of it": soon a short one and a long one have come, and none that is shorter than that. */
TEST(S8_delays__are_drawn) {
  enum { MOST = 400 };
  probe *p = failing("drawn", MOST);
  p->options.backoff_ms = p->options.backoff_max_ms = 40;
  podkeep_monitor *m = watch(probe_make(p));
  probe_start(p);
  bool is_short = false, is_long = false;
  for (int i = 0; i + 1 < MOST && !(is_short && is_long); i++) {
    uint64_t delay = next_delay(m, 40);
    is_short = is_short || delay < 36 * MS;
    is_long = is_long || delay > 37 * MS;
  }
  CHECK(is_short && is_long);
  CHECK_OK(podkeep_monitor_free(m));
  podkeep_status status = podkeep_pod_close(p->pod); /* in whatever moment: clean in the delay, a failure in run */
  CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* A backoff beyond its own maximum is the maximum. */
TEST(S8_delays__the_cap_is_below_the_first) {
  probe *p = failing("capped", 3);
  p->options.backoff_ms = INT64_MAX;
  p->options.backoff_max_ms = 1;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[2].run.entered);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  probe_close(p, PODKEEP_OK);
}

/* Far beyond any clock: it waits, and a cancel ends it. */
TEST(S8_delays__absurdly_long) {
  probe *p = failing("never", 2);
  p->options.backoff_ms = p->options.backoff_max_ms = INT64_MAX;
  p->options.restart_window_ms = INT64_MAX;
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  next_to(m, PODKEEP_STATE_RESTARTING);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, PODKEEP_STATE_RESTARTING);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_EVENT(m, RESTARTING, STOPPED);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* RUNNING for one window, and the delay begins anew: after three failures it would be 8 times as long. */
static int32_t fails_when_told(probe *p, podkeep_context *ctx) {
  event_wait(p->data);
  return podkeep_context_fail(ctx, 2, "told to");
}

static bool begins_anew(void) {
  probe *p = failing("recovered", 6);
  p->options.backoff_ms = slow_ms(100);
  p->options.backoff_max_ms = slow_ms(60000);
  p->options.restart_window_ms = slow_ms(2000); /* one that returns at once must have done so by then */
  p->data = world_alloc(sizeof(event));
  p->lives[3].run.does = fails_when_told;
  podkeep_monitor *m = watch(probe_make(p));
  probe_start(p);
  for (int i = 0; i < 3; i++) next_delay(m, p->options.backoff_ms << i);
  next_to(m, PODKEEP_STATE_RUNNING);
  event_wait(&p->lives[3].run.entered);
  pass_ms(p->options.restart_window_ms + 20); /* health is nothing but time */
  event_set(p->data);
  uint64_t delay = next_delay(m, p->options.backoff_ms);
  bool in_time = delay < 6 * (uint64_t)p->options.backoff_ms * MS; /* 8 times it would have been, 6 at least */
  next_delay(m, 2 * p->options.backoff_ms);
  CHECK_OK(podkeep_monitor_free(m));
  event_wait(&p->lives[5].run.entered);
  probe_close(p, PODKEEP_OK);
  return in_time;
}

TEST(S8_delays__begin_anew_after_a_healthy_stretch) { in_time_once(begins_anew); }

/* To be alive without being RUNNING is no health. */
TEST(S8_delays__a_long_way_to_ready_is_no_health) {
  probe *p = failing("sickly", 5);
  p->options.backoff_ms = 60;
  p->options.backoff_max_ms = 60000;
  p->options.restart_window_ms = 200;
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->data = world_alloc(sizeof(event));
  p->lives[2].run.does = fails_when_told;
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  for (int i = 0; i < 2; i++) next_delay(m, 60 << i);
  event_wait(&p->lives[2].run.entered);
  pass_ms(p->options.restart_window_ms + 20);
  event_set(p->data);
  next_delay(m, 240);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_monitor_free(m));
  podkeep_status status = podkeep_pod_join(pod, LIMIT_MS);
  CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* --- The limit ------------------------------------------------------------------------------------------------------- */

static void no_room(uint32_t max_restarts, uint32_t restarts, bool clean) {
  char text[64];
  probe *p = failing("bounded", restarts + 2);
  p->options.restart = clean ? PODKEEP_RESTART_ALWAYS : PODKEEP_RESTART_ON_FAILURE;
  p->options.max_restarts = max_restarts;
  p->options.backoff_ms = p->options.backoff_max_ms = 1;
  for (uint32_t i = 0; i <= restarts; i++) p->lives[i].run.returns = clean ? 0 : (int32_t)i + 10;
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATE(pod, PODKEEP_STATE_FAILED);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE);
  uint32_t lives = 99;
  CHECK_OK(podkeep_pod_restarts(pod, &lives));
  CHECK_INT(lives, restarts);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE_IN(f, restarts, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, clean ? 0 : (int32_t)restarts + 10, NULL);
  CHECK(podkeep_failure_secondary(f) == NULL);
  snprintf(text, sizeof text, "ended %u times in 60", (unsigned)restarts + 1);
  if (clean) CHECK_HAS(podkeep_failure_message(f), text);
  CHECK_OK(podkeep_failure_free(f));
  podkeep_event e = next_to(m, PODKEEP_STATE_FAILED);
  CHECK_INT(e.from, PODKEEP_STATE_STOPPING);
  CHECK_FAILURE_IN(e.failure, restarts, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, clean ? 0 : (int32_t)restarts + 10, NULL);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

TEST(S8_window__no_room_after_failures) { no_room(2, 2, false); }
TEST(S8_window__no_room_after_clean_ends) { no_room(2, 2, true); }
TEST(S8_window__one) { no_room(1, 1, false); }
TEST(S8_window__eight_when_nothing_is_said) { no_room(0, 8, false); }
TEST(S8_window__eight_clean_ends_when_nothing_is_said) { no_room(0, 8, true); }

/* No limit at all: far more than eight in a window. */
TEST(S8_window__no_limit) {
  enum { N = 60 };
  probe *p = failing("boundless", N);
  p->options.backoff_ms = p->options.backoff_max_ms = 1;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[N - 1].run.entered);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  probe_close(p, PODKEEP_OK);
}

/* It slides: restarts that it has left do not count, though the pod was never healthy. */
static int32_t init_fails_when_told(probe *p, podkeep_context *ctx) {
  event_wait(p->data);
  return podkeep_context_fail(ctx, 2, "told to");
}

TEST(S8_window__slides) {
  probe *p = failing("sliding", 6);
  p->options.max_restarts = 2;
  p->options.restart_window_ms = slow_ms(1500);
  p->options.backoff_ms = p->options.backoff_max_ms = 1;
  p->data = world_alloc(sizeof(event));
  p->lives[2].init.does = init_fails_when_told;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[2].init.entered); /* two in the window */
  pass_ms(p->options.restart_window_ms + 20); /* both have left it */
  event_set(p->data);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  uint32_t restarts = 99;
  CHECK_OK(podkeep_pod_restarts(pod, &restarts));
  CHECK_INT(restarts, 4); /* two more, and no room for a third */
  probe_free(p);
}

/* --- What it costs ---------------------------------------------------------------------------------------------------- */

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

/* Of this process and of its children that have ended. */
static double cpu_time(void) {
  double sum = 0;
  for (int who = 0; who < 2; who++) {
    struct rusage used;
    CHECK_INT(getrusage(who ? RUSAGE_CHILDREN : RUSAGE_SELF, &used), 0);
    sum += seconds(used.ru_utime) + seconds(used.ru_stime);
  }
  return sum;
}

static int32_t fails_in_1_ms(probe *p, podkeep_context *ctx) {
  (void)p;
  podkeep_context_wait(ctx, 1);
  return 1;
}

/* Fails in 1 ms, for ever and without a limit: under 1 % of a core at the cap of the delay. The cap is 30 s when nothing is said;
 * here it is far lower, so that something is seen at all. */
TEST(S8_cost__fails_for_ever) {
  enum { LIVES = 64 };
  double least = 1;
  for (int tries = 0; tries < 3 && least >= 0.01; tries++) {
    probe *p = failing("for ever", LIVES);
    p->options.backoff_ms = p->options.backoff_max_ms = S_is_elsewhere() ? 3000 : 100;
    for (int i = 0; i < LIVES; i++) p->lives[i].run.does = fails_in_1_ms;
    podkeep_monitor *m = watch(probe_make(p));
    probe_start(p);
    next_to(m, PODKEEP_STATE_RESTARTING);
    double used = cpu_time();
    uint64_t start = now_ns();
    for (int i = 0; i < (S_is_elsewhere() ? 1 : 20); i++) next_to(m, PODKEEP_STATE_RESTARTING);
    double share = (cpu_time() - used) / ((double)(now_ns() - start) / 1e9);
    if (share < least) least = share;
    CHECK_OK(podkeep_pod_cancel(p->pod));
    CHECK_OK(podkeep_monitor_free(m));
    podkeep_status status = podkeep_pod_join(p->pod, LIMIT_MS);
    CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
    probe_free(p);
  }
  fprintf(stderr, "%.3f %% of a core\n", least * 100);
  CHECK(least < 0.01 * slow_factor());
}

/* Idle pods that are supervised cost nothing: no thread of the library has to look after them. */
TEST(S8_cost__idle) {
  enum { MOST = 1000 };
  static probe *all[MOST];
  int n = S_is_elsewhere() ? 50 : slow_factor() > 1 ? 100 : MOST;
  for (int i = 0; i < n; i++) {
    probe *p = all[i] = probe_new("idle");
    p->no_hook = p->no_teardown = true;
    p->options.restart = PODKEEP_RESTART_ALWAYS;
    if (!S_is_elsewhere()) p->options.stack_size = 64 << 10;
    probe_start(p);
  }
  for (int i = 0; i < n; i++) CHECK_OK(podkeep_pod_wait_ready(all[i]->pod, LIMIT_MS));
  double least = 1;
  for (int tries = 0; tries < 3 && least >= 0.001; tries++) {
    double used = cpu_time();
    pass_ms(1000); /* what costs nothing is measured over some time */
    double share = cpu_time() - used;
    if (share < least) least = share;
  }
  fprintf(stderr, "%d pods: %.4f %% of a core\n", n, least * 100);
  CHECK(least < 0.001 * slow_factor());
  for (int i = 0; i < n; i++) CHECK_OK(podkeep_pod_cancel(all[i]->pod));
  for (int i = 0; i < n; i++) CHECK_OK(podkeep_pod_join(all[i]->pod, LIMIT_MS));
  for (int i = 0; i < n; i++) probe_free(all[i]);
}
