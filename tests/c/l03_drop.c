/* L3: drop of a config is called exactly once, on every path; L4, L5: cancel before the start and during init. */
#include "probe.h"

#include <string.h>

TEST(L3_drop_once__runtime_freed_without_a_pod) {
  probe *p = probe_new("lonely");
  probe_make_runtime(p);
  CHECK_INT(p->drop.count, 0);
  probe_free(p);
  CHECK_INT(p->drop.count, 1);
}

/* "before a failing runtime_new returns (whenever its field could be read)": the count is read at once, nothing is waited for. */
static void refused(podkeep_runtime_spec spec, probe *p, podkeep_status want) {
  podkeep_runtime *runtime = NULL;
  CHECK_STATUS(podkeep_runtime_new(&spec, &runtime), want);
  CHECK(runtime == NULL);
  CHECK_INT(p->drop.count, 1);
  CHECK(strlen(podkeep_last_error()) > 0);
}

TEST(L3_drop_once__new_refused_without_run_forever) {
  probe *p = probe_new("refused");
  podkeep_runtime_spec spec = probe_spec(p);
  spec.run_forever = NULL;
  refused(spec, p, PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_HAS(podkeep_last_error(), "run_forever");
}

TEST(L3_drop_once__new_refused_without_a_name) {
  probe *p = probe_new("refused");
  podkeep_runtime_spec spec = probe_spec(p);
  spec.name = NULL;
  refused(spec, p, PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_HAS(podkeep_last_error(), "name");
}

TEST(L3_drop_once__new_refused_with_an_empty_name) {
  probe *p = probe_new("refused");
  podkeep_runtime_spec spec = probe_spec(p);
  spec.name = "";
  refused(spec, p, PODKEEP_ERR_INVALID_ARGUMENT);
}

TEST(L3_drop_once__new_refused_with_a_name_too_long) {
  char name[257];
  memset(name, 'n', 256);
  name[256] = '\0';
  probe *p = probe_new("refused");
  podkeep_runtime_spec spec = probe_spec(p);
  spec.name = name;
  refused(spec, p, PODKEEP_ERR_INVALID_ARGUMENT);
}

TEST(L3_drop_once__new_refused_without_a_place_for_the_handle) {
  probe *p = probe_new("refused");
  podkeep_runtime_spec spec = probe_spec(p);
  CHECK_STATUS(podkeep_runtime_new(&spec, NULL), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_INT(p->drop.count, 1);
}

/* A tail that this version does not know must be zero; the fields before it can be read. */
TEST(L3_drop_once__new_refused_for_an_unknown_tail) {
  struct {
    podkeep_runtime_spec spec;
    uint64_t tail;
  } longer;
  probe *p = probe_new("refused");
  longer.spec = probe_spec(p);
  longer.spec.struct_size = sizeof longer;
  longer.tail = 1;
  podkeep_runtime *runtime = NULL;
  CHECK_STATUS(podkeep_runtime_new(&longer.spec, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_INT(p->drop.count, 1);
}

/* In a struct too short for it there is no drop to be called. */
TEST(L3_no_drop__new_refused_for_a_short_struct) {
  probe *p = probe_new("refused");
  podkeep_runtime_spec spec = probe_spec(p);
  podkeep_runtime *runtime = NULL;
  spec.struct_size = offsetof(podkeep_runtime_spec, drop);
  CHECK_STATUS(podkeep_runtime_new(&spec, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  spec.struct_size = 0;
  CHECK_STATUS(podkeep_runtime_new(&spec, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_runtime_new(NULL, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK(runtime == NULL);
  CHECK_INT(p->drop.count, 0);
}

TEST(L3_drop_once__no_drop_given) {
  probe *p = probe_new("no drop");
  p->no_drop = true;
  probe_running(p);
  probe_close(p, PODKEEP_OK);
}

TEST(L3_drop_once__pod_freed_while_new) {
  probe *p = probe_new("never started");
  probe_make(p);
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->runtime = NULL;
  CHECK_INT(p->drop.count, 0);
  probe_free(p);
  CHECK_STR(history_text(&p->called), "drop");
}

TEST(L3_drop_once__pod_cancelled_while_new) {
  probe *p = probe_new("cancelled early");
  podkeep_pod *pod = probe_make(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  CHECK_OK(podkeep_runtime_free(p->runtime)); /* the last that kept it: the pod is final */
  p->runtime = NULL;
  event_wait(&p->drop.left);
  probe_free(p);
}

TEST(L3_drop_once__runtime_freed_first) {
  probe *p = probe_new("runtime first");
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->runtime = NULL;
  CHECK_INT(p->drop.count, 0); /* the pod still needs it */
  CHECK_OK(podkeep_pod_close(pod));
  event_wait(&p->drop.left); /* the pod is final; its handle need not be freed */
  probe_free(p);
}

/* By the time a join has returned, a runtime freed earlier has been dropped. */
TEST(L3_drop_before_join_returns) {
  for (int i = 0; i < rounds(50); i++) {
    probe *p = probe_new("dropped by then");
    p->run.does = does_return;
    podkeep_pod *pod = probe_make(p);
    CHECK_OK(podkeep_runtime_free(p->runtime));
    p->runtime = NULL;
    CHECK_OK(start_pod(pod));
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    CHECK_INT(p->drop.count, 1);
    probe_free(p);
  }
}

TEST(L3_drop_once__pod_freed_while_running) {
  probe *p = probe_new("let go");
  p->teardown.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_free(pod));
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->pod = NULL;
  p->runtime = NULL;
  event_wait(&p->teardown.entered);
  CHECK_INT(p->drop.count, 0); /* teardown still uses the config */
  event_set(&p->teardown.go);
  event_wait(&p->drop.left);
  CHECK(p->teardown.left_at < p->drop.entered_at);
}

TEST(L3_drop_once__two_pods_of_one_runtime) {
  probe *p = probe_new("shared");
  p->no_hook = true;
  probe_make_runtime(p);
  podkeep_pod *first, *second;
  CHECK_OK(podkeep_pod_new(p->runtime, &p->options, &first));
  CHECK_OK(podkeep_pod_new(p->runtime, &p->options, &second));
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->runtime = NULL;
  CHECK_OK(podkeep_pod_free(first));
  CHECK_INT(p->drop.count, 0);
  CHECK_OK(start_pod(second));
  event_wait(&p->run.entered);
  CHECK_OK(podkeep_pod_close(second));
  CHECK_OK(podkeep_pod_free(second));
  event_wait(&p->drop.left);
  CHECK_STR(history_text(&p->called), "init run teardown drop");
}

TEST(L3_drop_once__after_init_failed) {
  probe *p = probe_new("failed");
  p->init.returns = 1;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
  CHECK_INT(p->drop.count, 1);
}

TEST(L3_drop_once__after_S_ended_from_inside) {
  probe *p = probe_new("died");
  p->run.does = does_exit;
  p->s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

TEST_WITH(L3_drop_not_before_an_abandoned_thread_is_back, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("abandoned");
  p->options.grace_ms = 1;
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_TIMEOUT);
  CHECK_OK(podkeep_pod_free(pod));
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->pod = NULL;
  p->runtime = NULL;
  CHECK(!event_wait_for(&p->drop.entered, SHORT_MS));
  event_set(&p->run.go);
  event_wait(&p->drop.left);
  CHECK(p->teardown.left_at < p->drop.entered_at);
}

/* --- L4 ------------------------------------------------------------------------------------------------------------- */

TEST(L4_cancel_before_start) {
  probe *p = probe_new("never");
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, NEW, NEW);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  CHECK_EVENT(m, NEW, STOPPED); /* the history of Guava's testManualServiceStopWhileNew */
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE);
  CHECK_OK(podkeep_pod_join(pod, 0));
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_ENDED);
  CHECK_NO_FAILURE(pod);
  probe_free(p);
  CHECK_STR(history_text(&p->called), "drop");
}

TEST(L4_close_before_start) {
  probe *p = probe_new("closed");
  podkeep_pod *pod = probe_make(p);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE);
  probe_free(p);
  CHECK_STR(history_text(&p->called), "drop");
}

TEST(L4_starts_once) {
  probe *p = probe_new("once");
  p->init.held = p->teardown.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE); /* STARTING */
  event_set(&p->init.go);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE); /* RUNNING */
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->teardown.entered);
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE); /* STOPPING */
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE); /* STOPPED */
  probe_free(p);
}

typedef struct starters {
  podkeep_pod *pod;
  barrier all;
  uint32_t ok, refused;
} starters;

static void start_it(void *arg) {
  starters *s = arg;
  barrier_wait(&s->all, 8);
  podkeep_status status = start_pod(s->pod);
  if (status == PODKEEP_OK) ADD(s->ok, 1u);
  if (status == PODKEEP_ERR_INVALID_STATE) ADD(s->refused, 1u);
}

TEST(L4_starts_once__eight_at_a_time) {
  for (int round = 0; round < rounds(30); round++) {
    probe *p = probe_new("contended");
    starters *s = world_alloc(sizeof *s);
    s->pod = probe_make(p);
    worker w[8];
    for (int i = 0; i < 8; i++) worker_start(&w[i], start_it, s);
    for (int i = 0; i < 8; i++) worker_join(&w[i]);
    CHECK_INT(s->ok, 1);
    CHECK_INT(s->refused, 7);
    event_wait(&p->run.entered);
    probe_close(p, PODKEEP_OK);
  }
}

/* --- L5 ------------------------------------------------------------------------------------------------------------- */

static int32_t init_waits_for_cancel(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  CHECK(podkeep_context_cancelled(ctx));
  return p->init.returns;
}

/* Guava testStopWhileStarting_runNotCalled and testManualServiceStopWhileStarting. */
TEST(L5_cancel_during_init) {
  probe *p = probe_new("hasty");
  p->init.held = p->teardown.held = true;
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, NEW, NEW);
  probe_start(p);
  event_wait(&p->init.entered);
  CHECK_EVENT(m, NEW, STARTING);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING); /* at once */
  CHECK_EVENT(m, STARTING, STOPPING);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_ENDED);
  event_set(&p->init.go);
  event_wait(&p->teardown.entered);
  event_set(&p->teardown.go);
  CHECK_EVENT(m, STOPPING, STOPPED);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STR(history_text(&p->called), "init teardown");
  CHECK_NO_FAILURE(pod);
  probe_free(p);
}

TEST(L5_init_sees_the_cancel) {
  probe *p = probe_new("attentive");
  p->init.does = init_waits_for_cancel;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STR(history_text(&p->called), "init teardown");
  probe_free(p);
}

TEST(L5_init_failed_after_cancel) {
  probe *p = probe_new("broken");
  p->init.does = init_waits_for_cancel;
  p->init.returns = 12;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_INIT, PODKEEP_KIND_RETURNED, 12, NULL);
  CHECK_STR(history_text(&p->called), "init");
  probe_free(p);
}

/* A cancel right behind the start: init and teardown, or nothing at all; run only with both; always STOPPED. */
TEST(L5_cancel_right_behind_start) {
  for (int i = 0; i < rounds(300); i++) {
    probe *p = probe_new("chased");
    podkeep_pod *pod = probe_start(p);
    pass_us((long)random_below(60));
    CHECK_OK(podkeep_pod_cancel(pod));
    podkeep_state state;
    CHECK_OK(podkeep_pod_state(pod, &state));
    CHECK(state == PODKEEP_STATE_STOPPING || state == PODKEEP_STATE_STOPPED);
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
    CHECK_INT(p->teardown.count, p->init.count);
    CHECK(p->run.count <= p->init.count);
    probe_free(p);
  }
}
