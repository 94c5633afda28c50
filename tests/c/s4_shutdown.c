/* Sections 1 and 4: podkeep_shutdown, each case in a process that has no use for the library afterwards. */
#include "probe.h"

#include <stdio.h>

/* After shutdown nothing new begins. */
static void nothing_new(void) {
  probe *p = probe_new("after shutdown");
  podkeep_runtime_spec spec = probe_spec(p);
  podkeep_runtime *runtime = NULL;
  podkeep_status status = podkeep_runtime_new(&spec, &runtime);
  if (status == PODKEEP_OK) { /* a recipe may still be written; a pod may not be made of it */
    podkeep_pod *pod = NULL;
    CHECK_STATUS(podkeep_pod_new(runtime, NULL, &pod), PODKEEP_ERR_INVALID_STATE);
    CHECK(pod == NULL);
    CHECK_HAS(podkeep_last_error(), "shutdown");
    CHECK_OK(podkeep_runtime_free(runtime));
  } else {
    CHECK_STATUS(status, PODKEEP_ERR_INVALID_STATE);
  }
  event_wait(&p->drop.left);
  CHECK_STR(history_text(&p->called), "drop");
}

TEST(S4_shutdown__without_a_pod) {
  uint32_t left = 99;
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  CHECK_OK(podkeep_shutdown(0, NULL)); /* repeatable; left may be NULL */
  nothing_new();
}

/* All are cancelled at once, hooks and teardowns run, and it waits for the slowest, not for the sum. */
TEST(S4_shutdown__cancels_all_and_waits) {
  enum { N = 5 };
  probe *p[N];
  for (int i = 0; i < N; i++) {
    p[i] = probe_new("one of many");
    p[i]->run.does = does_wait_for_hook;
    probe_running(p[i]);
  }
  uint32_t left = 99;
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  for (int i = 0; i < N; i++) {
    CHECK_STATE(p[i]->pod, PODKEEP_STATE_STOPPED);
    CHECK_OK(podkeep_pod_join(p[i]->pod, 0));
    CHECK_STR(history_text(&p[i]->called), "init run cancel teardown");
    probe_free(p[i]);
  }
  nothing_new();
}

TEST(S4_shutdown__of_new_ones) {
  probe *p = probe_new("never started");
  podkeep_pod *pod = probe_make(p);
  uint32_t left = 99;
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE);
  probe_free(p);
  CHECK_STR(history_text(&p->called), "drop");
}

TEST(S4_shutdown__of_freed_ones) {
  probe *p = probe_new("let go");
  p->teardown.held = true;
  probe_running(p);
  CHECK_OK(podkeep_pod_free(p->pod));
  p->pod = NULL;
  event_wait(&p->teardown.entered); /* begun before the shutdown, so it may end */
  uint32_t left = 99;
  CHECK_STATUS(podkeep_shutdown(0, &left), PODKEEP_ERR_TIMEOUT);
  CHECK_INT(left, 1);
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  probe_free(p);
}

/* Within its limit a failing pod is no reason to say TIMEOUT. */
TEST(S4_shutdown__a_failed_pod_has_ended) {
  probe *p = probe_new("failing");
  p->run.returns = 1;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_shutdown(LIMIT_MS, NULL));
  CHECK_STATE(pod, PODKEEP_STATE_FAILED);
  probe_free(p);
}

TEST(S4_shutdown__negative_times_are_invalid) {
  probe *p = probe_new("untouched");
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_shutdown(-2, NULL), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING); /* and nothing was shut down */
  probe_close(p, PODKEEP_OK);
}

/* "afterwards no callback but a drop starts": a run that comes back after the limit gets no teardown. */
TEST(S4_shutdown__late_return_gets_no_teardown) {
  probe *p = probe_new("too late");
  p->s_may_die = true;
  p->no_hook = true;
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  uint32_t left = 99;
  CHECK_STATUS(podkeep_shutdown(SHORT_MS, &left), PODKEEP_ERR_TIMEOUT);
  CHECK_INT(left, 1);
  CHECK(ctx_cancelled(p));
  CHECK_STATUS(podkeep_shutdown(0, &left), PODKEEP_ERR_TIMEOUT); /* repeatable: what is left now */
  CHECK_INT(left, 1);
  event_set(&p->run.go);
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  CHECK_INT(p->teardown.count, 0);
  podkeep_status status = podkeep_pod_join(pod, LIMIT_MS);
  CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
  probe_free(p); /* the drop comes all the same */
  CHECK_STR(history_text(&p->called), "init run drop");
}

TEST(S4_shutdown__late_init_gets_neither_run_nor_teardown) {
  probe *p = probe_new("too late");
  p->s_may_die = true;
  p->init.held = true;
  probe_start(p);
  event_wait(&p->init.entered);
  uint32_t left = 99;
  CHECK_STATUS(podkeep_shutdown(SHORT_MS, &left), PODKEEP_ERR_TIMEOUT);
  CHECK_INT(left, 1);
  event_set(&p->init.go);
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  probe_free(p);
  CHECK_STR(history_text(&p->called), "init drop");
}

/* Abandoned ones: a wait without end answers at once; they are among those left, and counted. */
TEST_WITH(S4_shutdown__abandoned_ones, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("abandoned");
  p->s_may_die = true;
  p->no_hook = true;
  p->options.grace_ms = 1;
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  uint32_t left = 99, abandoned = 99;
  CHECK_STATUS(podkeep_shutdown(PODKEEP_FOREVER, &left), PODKEEP_ERR_TIMEOUT);
  CHECK_INT(left, 1);
  CHECK_OK(podkeep_abandoned(&abandoned));
  CHECK_INT(abandoned, 1);
  CHECK_STATE(pod, PODKEEP_STATE_ABANDONED);
  event_set(&p->run.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_INT(p->teardown.count, 0); /* it comes back after shutdown's limit */
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  CHECK_OK(podkeep_abandoned(&abandoned));
  CHECK_INT(abandoned, 0);
  probe_free(p);
}

/* Several threads may shut down at one moment, while others start, cancel and close pods: each start is OK or INVALID_STATE,
 * and in the end nothing runs. */
typedef struct turmoil {
  barrier all;
  uint32_t started;
} turmoil;

static void shut_down(void *arg) {
  turmoil *t = arg;
  barrier_wait(&t->all, 4);
  uint32_t left = 99;
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
}

static int32_t stays(podkeep_context *ctx, void *state) {
  (void)state;
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  return 0;
}

static void start_many(void *arg) {
  turmoil *t = arg;
  recipe *r = world_alloc(sizeof *r);
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  char name[32];
  snprintf(name, sizeof name, "turmoil %u", (unsigned)tick());
  spec.name = name;
  spec.run_forever = stays;
  recipe_keep(r, &spec);
  recipe_options(r, &options);
  podkeep_runtime *runtime = recipe_runtime(r);
  barrier_wait(&t->all, 4);
  for (int i = 0; i < rounds(100); i++) {
    podkeep_pod *pod;
    podkeep_status status = podkeep_pod_new(runtime, &options, &pod);
    if (status != PODKEEP_OK) {
      CHECK_STATUS(status, PODKEEP_ERR_INVALID_STATE);
      break;
    }
    status = podkeep_pod_start(pod);
    CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_INVALID_STATE);
    ADD(t->started, 1u);
    if (i % 3 == 0) CHECK_OK(podkeep_pod_close(pod));
    CHECK_OK(podkeep_pod_free(pod));
  }
  CHECK_OK(podkeep_runtime_free(runtime));
}

TEST(S4_shutdown__in_a_turmoil) {
  turmoil *t = world_alloc(sizeof *t);
  worker w[4];
  worker_start(&w[0], shut_down, t);
  worker_start(&w[1], shut_down, t);
  worker_start(&w[2], start_many, t);
  worker_start(&w[3], start_many, t);
  for (int i = 0; i < 4; i++) worker_join(&w[i]);
  nothing_new();
}

/* Monitors that wait hear of the end; nobody hangs for ever on a process that shuts down. */
TEST(S4_shutdown__is_seen_by_monitors) {
  probe *p = probe_new("watched");
  p->teardown.held = true;
  podkeep_pod *pod = probe_running(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, RUNNING, RUNNING);
  uint32_t left;
  CHECK_STATUS(podkeep_shutdown(0, &left), PODKEEP_ERR_TIMEOUT);
  CHECK_INT(left, 1);
  CHECK_EVENT(m, RUNNING, STOPPING);
  event_wait(&p->run.left);
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  podkeep_event e = NEXT_EVENT(m);
  CHECK_INT(e.from, PODKEEP_STATE_STOPPING);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  p->s_may_die = true; /* shutdown(0) had its limit at once: this teardown may have come too late to start */
  probe_free(p);
}

/* "waits up to its limit": a drop that hangs is not waited for beyond it. */
static void shut_down_shortly(void *arg) {
  uint32_t left = 99;
  podkeep_status status = podkeep_shutdown(SHORT_MS, &left);
  CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_TIMEOUT);
  (void)arg;
}

static void shutdown_with_a_hanging_drop(bool started) {
  probe *p = probe_new("clinging");
  p->drop.held = true;
  podkeep_pod *pod = started ? probe_running(p) : probe_make(p);
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->runtime = NULL;
  worker w;
  worker_start(&w, shut_down_shortly, NULL);
  worker_join(&w);
  podkeep_state state;
  CHECK_OK(podkeep_pod_state(pod, &state));
  CHECK(started || state == PODKEEP_STATE_STOPPED);
  event_set(&p->drop.go);
  p->s_may_die = true;
  probe_free(p);
}

TEST(S4_shutdown__hanging_drop_of_a_new_pod) { shutdown_with_a_hanging_drop(false); }
TEST(S4_shutdown__hanging_drop_of_a_running_pod) { shutdown_with_a_hanging_drop(true); }

/* "afterwards no callback but a drop starts": the log is a callback, too. */
static void count_line(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)pod, (void)message;
  ADD(*(uint32_t *)user_data, 1u);
}

TEST(S4_shutdown__silences_the_log) {
  uint32_t *lines = world_alloc(sizeof *lines);
  CHECK_OK(podkeep_set_log(count_line, 4, lines, NULL));
  for (int i = 0; i < 20; i++) {
    probe *p = probe_new("noisy");
    p->run.does = does_return;
    p->run.returns = 1;
    probe_start(p);
    CHECK_STATUS(podkeep_pod_join(p->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    probe_free(p);
  }
  CHECK_OK(podkeep_shutdown(LIMIT_MS, NULL));
  uint32_t before = LOAD(*lines);
  pass_ms(SHORT_MS); /* nothing must come in it */
  CHECK_INT(LOAD(*lines), before);
}

/* A log callback that hangs is not waited for beyond the limit either. */
static void hold_the_log(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)pod, (void)message;
  event *pair = user_data;
  event_set(&pair[0]);
  event_wait(&pair[1]);
}

TEST(S4_shutdown__hanging_log_callback) {
  event *pair = world_alloc(2 * sizeof *pair);
  CHECK_OK(podkeep_set_log(hold_the_log, 4, pair, NULL));
  probe *p = probe_new("noisy");
  p->init.returns = 1;
  probe_start(p);
  event_wait(&pair[0]);
  worker w;
  worker_start(&w, shut_down_shortly, NULL);
  worker_join(&w);
  event_set(&pair[1]);
  probe_free(p);
}

/* The library's very first call may be this one. */
TEST_WITH(S4_shutdown__cold, .cold = true) {
  uint32_t left = 99;
  CHECK_OK(podkeep_shutdown(PODKEEP_FOREVER, &left));
  CHECK_INT(left, 0);
  nothing_new();
}
