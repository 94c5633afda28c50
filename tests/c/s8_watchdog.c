/* Section 8: the watchdog: armed by ready, fed only by heartbeats of the incarnation it watches; what a missed one means, and what
 * it must not be taken for. */
#include "lives.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS UINT64_C(1000000)

static probe *watched(const char *name, int64_t interval_ms) {
  probe *p = probe_new(name);
  p->options.watchdog_ms = interval_ms;
  p->no_hook = true;
  return p;
}

static void check_missed(podkeep_pod *pod, uint32_t incarnation) {
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE_IN(f, incarnation, PODKEEP_PHASE_RUN, PODKEEP_KIND_WATCHDOG, 0, NULL);
  CHECK_OK(podkeep_failure_free(f));
}

/* So often that one who is kept from running for a while has not been silent. */
static int32_t heartbeats(probe *p, podkeep_context *ctx) {
  while (podkeep_context_wait(ctx, p->options.watchdog_ms / 16) == PODKEEP_ERR_TIMEOUT) CHECK_OK(podkeep_context_heartbeat(ctx));
  return 0;
}

/* --- Missed ---------------------------------------------------------------------------------------------------------- */

static int32_t spins(probe *p, podkeep_context *ctx) {
  (void)p;
  while (!podkeep_context_cancelled(ctx)) {}
  return 0;
}

/* "caught within 1.5 intervals", and not before one is over. In one of some tries: the keeper that comes late itself takes that for
 * a stall, and gives a fresh interval. */
static bool caught(int32_t (*run)(probe *, podkeep_context *)) {
  probe *p = watched("spinner", slow_ms(400));
  p->run.does = run;
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  uint64_t running = next_to(m, PODKEEP_STATE_RUNNING).time_ns;
  podkeep_event e = NEXT_EVENT(m);
  CHECK_INT(e.to, PODKEEP_STATE_STOPPING);
  uint64_t after = e.time_ns - running, interval = (uint64_t)p->options.watchdog_ms * MS;
  CHECK(after + MS >= interval);
  CHECK_EVENT(m, STOPPING, FAILED);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  check_missed(pod, 0);
  CHECK_STR(history_text(&p->called), "init run teardown");
  probe_free(p);
  return after <= interval * 3 / 2;
}

static bool one_that_spins(void) { return caught(spins); }
static bool one_that_sleeps(void) { return caught(NULL); }
TEST(S8_watchdog__catches_one_that_spins) { in_time_once(one_that_spins); }
TEST(S8_watchdog__catches_one_that_sleeps) { in_time_once(one_that_sleeps); }

/* Fed for a while: the interval counts from the last heartbeat. */
typedef struct last_beat {
  uint64_t at;
} last_beat;

static int32_t falls_silent(probe *p, podkeep_context *ctx) {
  for (int i = 0; i < 20; i++) { /* for longer than an interval */
    CHECK_STATUS(podkeep_context_wait(ctx, p->options.watchdog_ms / 16), PODKEEP_ERR_TIMEOUT);
    STORE(((last_beat *)p->data)->at, now_ns());
    CHECK_OK(podkeep_context_heartbeat(ctx));
  }
  return podkeep_context_wait(ctx, PODKEEP_FOREVER);
}

static bool from_the_last_heartbeat(void) {
  probe *p = watched("fading", slow_ms(600));
  p->data = world_alloc(sizeof(last_beat));
  p->run.does = falls_silent;
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  podkeep_event e = next_to(m, PODKEEP_STATE_STOPPING);
  uint64_t after = e.time_ns - ((last_beat *)p->data)->at, interval = (uint64_t)p->options.watchdog_ms * MS;
  CHECK(after >= interval);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  check_missed(pod, 0);
  probe_free(p);
  return after <= interval * 3 / 2;
}

TEST(S8_watchdog__counts_from_the_last_heartbeat) { in_time_once(from_the_last_heartbeat); }

/* It is a stop like any other: flag, time left, hook, teardown. */
static int32_t looks_around(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  CHECK(podkeep_context_cancelled(ctx));
  int64_t left = podkeep_context_time_left(ctx);
  CHECK(left > 0 && left <= p->options.grace_ms);
  event_wait(&p->hook.left);
  return 0;
}

TEST(S8_watchdog__is_a_stop_with_hook_and_grace) {
  probe *p = watched("hooked", slow_ms(100));
  p->no_hook = false;
  p->run.does = looks_around;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  check_missed(pod, 0);
  CHECK_STR(history_text(&p->called), "init run cancel teardown");
  probe_free(p);
}

/* What comes later hangs on it: it is the first failure. */
TEST(S8_watchdog__is_the_first_of_a_chain) {
  probe *p = watched("chained", slow_ms(100));
  p->run.returns = 7;
  p->teardown.returns = 8;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_WATCHDOG, 0, NULL);
  const podkeep_failure *second = podkeep_failure_secondary(f);
  CHECK_FAILURE(second, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 7, NULL);
  const podkeep_failure *third = podkeep_failure_secondary(second);
  CHECK_FAILURE(third, PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_RETURNED, 8, NULL);
  CHECK(podkeep_failure_secondary(third) == NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* Deaf, too: a thread is let go, and a child is made to end. */
TEST_WITH(S8_watchdog__then_force, NOT_MAIN(EXIT)) {
  probe *p = watched("deaf", slow_ms(100));
  p->options.grace_ms = p->options.kill_after_ms = SHORT_MS;
  p->options.restart = PODKEEP_RESTART_NEVER;
  p->run.held = p->s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, PODKEEP_FOREVER), forced_status());
  CHECK_STATE(pod, forced_state());
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_WATCHDOG, 0, NULL);
  const podkeep_failure *second = podkeep_failure_secondary(f);
  CHECK_FAILURE(second, PODKEEP_PHASE_RUN, PODKEEP_KIND_TIMEOUT, podkeep_failure_code(second), NULL);
  CHECK_OK(podkeep_failure_free(f));
  event_set(&p->run.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* L14: the failure says why. */
static int32_t says_what_it_does(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_OK(podkeep_context_status(ctx, "sorting 7 piles"));
  CHECK_OK(podkeep_context_heartbeat(ctx));
  return podkeep_context_wait(ctx, PODKEEP_FOREVER);
}

TEST(S8_watchdog__says_why) {
  for (int told = 0; told < 2; told++) {
    probe *p = watched("Sorter", slow_ms(200));
    if (told) p->run.does = says_what_it_does;
    podkeep_pod *pod = probe_start(p);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_HAS(podkeep_last_error(), "no heartbeat for ");
    podkeep_failure *f = FAILURE_OF(pod);
    const char *text = podkeep_failure_message(f);
    CHECK_HAS(text, "no heartbeat for ");
    CHECK_HAS(text, "pod \"Sorter\" is RUNNING, in phase run for ");
    CHECK_HAS(text, told ? "sorting 7 piles" : "no status");
    CHECK_HAS(text, told ? "last heartbeat " : "; no heartbeat;");
    CHECK_HAS(text, S_is_elsewhere() ? "process " : "thread ");
    CHECK_OK(podkeep_failure_free(f));
    probe_free(p);
  }
}

/* --- Fed ------------------------------------------------------------------------------------------------------------- */

TEST(S8_watchdog__is_fed) {
  probe *p = watched("lively", slow_ms(800));
  p->run.does = heartbeats;
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_join(pod, p->options.watchdog_ms * 3 / 2), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "last heartbeat ");
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  CHECK_NO_FAILURE(pod);
  probe_close(p, PODKEEP_OK);
}

/* By whatever thread of S's process. */
static void feeds(void *arg) { CHECK_OK(podkeep_context_heartbeat(((probe *)arg)->ctx)); }

TEST(S8_watchdog__is_fed_by_another_thread) {
  probe *p = watched("nursed", slow_ms(400));
  podkeep_pod *pod = probe_running(p);
  for (int i = 0; i < 12; i++) {
    pass_ms(p->options.watchdog_ms / 6); /* the pace is the subject */
    in_S(&p->recipe, feeds, p);
  }
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  probe_close(p, PODKEEP_OK);
}

/* "a flood of them costs nothing more" than an atomic store and the look at a clock, whatever that costs here. The median of
 * many batches: where a virtual machine is kept from running, that is CPU time of whoever was to run. */
enum { BATCHES = 100, A_BATCH = 10000 };
typedef struct flood {
  uint64_t beats[BATCHES], looks[BATCHES]; /* ns a batch */
} flood;

static uint64_t cpu_time(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static uint64_t median_of_one(uint64_t *batches) {
  qsort(batches, BATCHES, sizeof *batches, by_size);
  return batches[BATCHES / 2] / A_BATCH;
}

static int32_t floods(probe *p, podkeep_context *ctx) {
  flood *f = p->data;
  for (int batch = 0; batch < BATCHES; batch++) {
    uint64_t from = cpu_time();
    for (int i = 0; i < A_BATCH; i++)
      if (podkeep_context_heartbeat(ctx) != PODKEEP_OK) return 1;
    uint64_t between = cpu_time();
    for (int i = 0; i < A_BATCH; i++) now_ns();
    f->beats[batch] = between - from;
    f->looks[batch] = cpu_time() - between;
  }
  event_set(&p->init.go);
  return heartbeats(p, ctx);
}

TEST(S8_watchdog__a_flood) {
  probe *p = watched("flooding", slow_ms(10000));
  flood *f = p->data = world_alloc(sizeof *f);
  p->run.does = floods;
  podkeep_pod *pod = probe_running(p);
  event_wait(&p->init.go);
  uint64_t beat = median_of_one(f->beats), look = median_of_one(f->looks);
  fprintf(stderr, "%llu ns a heartbeat, %llu ns a look at the clock\n", (unsigned long long)beat, (unsigned long long)look);
  CHECK(beat <= (500 + 3 * look) * (uint64_t)slow_factor());
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  probe_close(p, PODKEEP_OK);
}

/* --- Armed by ready, disarmed by the stop ------------------------------------------------------------------------------ */

static int32_t beats_and_waits(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_heartbeat(ctx)); /* ignored: OK, and of no effect on what is not armed yet */
  event_wait(p->data);
  CHECK_OK(podkeep_context_heartbeat(ctx));
  return 0;
}

TEST(S8_watchdog__not_before_ready) {
  probe *p = watched("slow to start", slow_ms(150));
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->data = world_alloc(sizeof(event));
  p->init.does = beats_and_waits;
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  pass_ms(2 * p->options.watchdog_ms); /* no news is what is waited for */
  CHECK_STATE(pod, PODKEEP_STATE_STARTING);
  event_set(p->data);
  event_wait(&p->run.entered);
  in_S(&p->recipe, feeds, p); /* STARTING still */
  pass_ms(2 * p->options.watchdog_ms);
  CHECK_STATE(pod, PODKEEP_STATE_STARTING);
  CHECK_OK(ctx_ready(p));
  uint64_t running = next_to(m, PODKEEP_STATE_RUNNING).time_ns;
  uint64_t stopping = next_to(m, PODKEEP_STATE_STOPPING).time_ns;
  CHECK(stopping - running + MS >= (uint64_t)p->options.watchdog_ms * MS);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  check_missed(pod, 0);
  probe_free(p);
}

static int32_t lingers(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_heartbeat(ctx));
  event_wait(p->data);
  CHECK_OK(podkeep_context_heartbeat(ctx));
  return 0;
}

static void not_while_stopping(bool cancel) {
  probe *p = watched("slow to stop", slow_ms(800));
  p->data = world_alloc(sizeof(event));
  p->run.does = cancel ? heartbeats : does_return;
  p->teardown.does = lingers;
  podkeep_pod *pod = probe_start(p);
  if (cancel) {
    CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    CHECK_OK(podkeep_pod_cancel(pod));
  }
  event_wait(&p->teardown.entered);
  pass_ms(p->options.watchdog_ms * 5 / 4); /* no news is what is waited for */
  CHECK_TOLD_STATE(pod, PODKEEP_STATE_STOPPING);
  event_set(p->data);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_NO_FAILURE(pod);
  probe_free(p);
}

TEST(S8_watchdog__not_while_stopping) { not_while_stopping(true); }
TEST(S8_watchdog__not_in_teardown_of_a_natural_return) { not_while_stopping(false); }

/* --- Over several lives ------------------------------------------------------------------------------------------------ */

/* Restarted by policy; each life is watched anew, with its own incarnation in the record. */
TEST(S8_watchdog__each_life) {
  enum { N = 4 };
  probe *p = watched("again and again", slow_ms(300));
  p->options.restart = PODKEEP_RESTART_ON_FAILURE;
  p->options.backoff_ms = p->options.backoff_max_ms = 1;
  incarnation *lives = probe_lives(p, N);
  lives[N - 1].run.does = heartbeats;
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  for (uint32_t i = 0; i + 1 < N; i++) {
    uint64_t running = next_to(m, PODKEEP_STATE_RUNNING).time_ns;
    CHECK(NEXT_EVENT(m).time_ns - running + MS >= (uint64_t)p->options.watchdog_ms * MS);
    podkeep_event e = NEXT_EVENT(m);
    CHECK_INT(e.to, PODKEEP_STATE_RESTARTING);
    CHECK_FAILURE_IN(e.failure, i, PODKEEP_PHASE_RUN, PODKEEP_KIND_WATCHDOG, 0, NULL);
  }
  CHECK_OK(podkeep_monitor_free(m));
  event_wait(&lives[N - 1].run.entered);
  CHECK_STATUS(podkeep_pod_join(pod, 3 * p->options.watchdog_ms), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  probe_close(p, PODKEEP_OK);
}

/* Heartbeats of an earlier life feed nobody. */
TEST_WITH(S8_watchdog__not_fed_by_an_earlier_life, NOT_PROCESS(OWN_THREADS)) {
  probe *p = watched("haunted", slow_ms(200));
  p->options.restart = PODKEEP_RESTART_ALWAYS;
  p->options.max_restarts = 1;
  p->options.backoff_ms = 1;
  incarnation *lives = probe_lives(p, 2);
  lives[0].run.does = does_return;
  podkeep_pod *pod = probe_start(p);
  event_wait(&lives[1].run.entered);
  while (podkeep_pod_join(pod, p->options.watchdog_ms / 8) == PODKEEP_ERR_TIMEOUT)
    CHECK_STATUS(podkeep_context_heartbeat(lives[0].ctx), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATE(pod, PODKEEP_STATE_FAILED);
  check_missed(pod, 1);
  probe_free(p);
}

/* --- Extend ---------------------------------------------------------------------------------------------------------- */

static int32_t asks_for_more(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_extend(ctx, 3 * p->options.watchdog_ms));
  STORE(((last_beat *)p->data)[podkeep_context_incarnation(ctx)].at, now_ns());
  return podkeep_context_wait(ctx, PODKEEP_FOREVER);
}

/* Asked when that life is over: what was extended counts from RUNNING. False: S had no time before the limit was near, which
 * tells nothing. */
static bool asked_and_got(const probe *p, int life, uint64_t running, uint64_t stopping, int64_t intervals) {
  uint64_t interval = (uint64_t)p->options.watchdog_ms * MS;
  if (((last_beat *)p->data)[life].at > running + interval / 2) return false;
  CHECK(stopping - running + 5 * MS >= (uint64_t)intervals * interval);
  return true;
}

static bool extended(int64_t most, int64_t intervals) {
  probe *p = watched("busy", slow_ms(300));
  p->options.extend_max_ms = most * p->options.watchdog_ms;
  p->data = world_alloc(sizeof(last_beat));
  p->run.does = asks_for_more;
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  uint64_t running = next_to(m, PODKEEP_STATE_RUNNING).time_ns;
  uint64_t stopping = next_to(m, PODKEEP_STATE_STOPPING).time_ns;
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  check_missed(pod, 0);
  probe_free(p);
  uint64_t interval = (uint64_t)p->options.watchdog_ms * MS, asked = ((last_beat *)p->data)->at;
  return asked_and_got(p, 0, running, stopping, intervals) && stopping - asked <= ((uint64_t)intervals + 1) * interval;
}

static bool extended_by_three(void) { return extended(100, 3); }
/* The maximum bounds what is added to the limit that stands: one interval and one more. */
static bool extended_by_one(void) { return extended(1, 2); }
TEST(S8_watchdog__extended) { in_time_once(extended_by_three); }
TEST(S8_watchdog__extended_up_to_the_maximum) { in_time_once(extended_by_one); }

/* The sum is of one incarnation: the next may ask again. */
static bool extended_in_each_life(void) {
  enum { LIVES = 2 };
  probe *p = watched("busy twice", slow_ms(300));
  p->options.extend_max_ms = p->options.watchdog_ms;
  p->options.restart = PODKEEP_RESTART_ALWAYS;
  p->options.max_restarts = 1;
  p->options.backoff_ms = 1;
  p->data = world_alloc(LIVES * sizeof(last_beat));
  p->run.does = asks_for_more;
  probe_lives(p, LIVES);
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  uint64_t running[LIVES], stopping[LIVES];
  for (int i = 0; i < LIVES; i++) {
    running[i] = next_to(m, PODKEEP_STATE_RUNNING).time_ns;
    stopping[i] = next_to(m, PODKEEP_STATE_STOPPING).time_ns;
  }
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  check_missed(pod, 1);
  probe_free(p);
  bool in_time = true;
  for (int i = 0; i < LIVES; i++) in_time = asked_and_got(p, i, running[i], stopping[i], 2) && in_time;
  return in_time;
}

TEST(S8_watchdog__extended_in_each_life) { in_time_once(extended_in_each_life); }

/* --- Limits that make no sense ------------------------------------------------------------------------------------------ */

TEST(S8_watchdog__absurd_limits) {
  probe *p = watched("patient", INT64_MAX);
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_join(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  probe_close(p, PODKEEP_OK);

  p = watched("hasty", 1);
  podkeep_status status = podkeep_pod_join(probe_start(p), LIMIT_MS);
  CHECK_STATUS(status, PODKEEP_ERR_FAILED);
  check_missed(p->pod, 0);
  probe_free(p);
}

TEST(S8_options_that_are_refused) {
  static const struct {
    const char *field;
    podkeep_pod_options options;
  } bad[] = {
      {"watchdog_ms", {.watchdog_ms = -5}},       {"watchdog_ms", {.watchdog_ms = PODKEEP_FOREVER}},
      {"backoff_ms", {.backoff_ms = -5}},         {"backoff_ms", {.backoff_ms = PODKEEP_FOREVER}},
      {"backoff_max_ms", {.backoff_max_ms = -5}}, {"backoff_max_ms", {.backoff_max_ms = PODKEEP_FOREVER}},
      {"restart_window_ms", {.restart_window_ms = -5}}, {"restart_window_ms", {.restart_window_ms = PODKEEP_FOREVER}},
      {"restart", {.restart = -1}},               {"restart", {.restart = 3}},
  };
  probe *p = probe_new("refused");
  probe_make_runtime(p);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    podkeep_pod_options options = bad[i].options;
    podkeep_pod *pod = NULL;
    options.struct_size = sizeof options;
    recipe_options(&p->recipe, &options);
    CHECK_STATUS(podkeep_pod_new(p->runtime, &options, &pod), PODKEEP_ERR_INVALID_ARGUMENT);
    CHECK(pod == NULL);
    CHECK_HAS(podkeep_last_error(), bad[i].field);
  }
  probe_free(p);
}
