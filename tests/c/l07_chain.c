/* L7: the first failure is the failure, later ones hang on it in order of time; a snapshot never changes. */
#include "probe.h"

/* Guava testServiceThrowOnRunAndThenAgainOnShutDown. */
TEST(L7_run_then_teardown) {
  probe *p = probe_new("twice");
  p->run.does = does_return;
  p->run.returns = 1;
  p->teardown.returns = 2;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 1, NULL);
  const podkeep_failure *second = podkeep_failure_secondary(f);
  CHECK_FAILURE(second, PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_RETURNED, 2, NULL);
  CHECK_STR(podkeep_failure_pod_name(second), "twice");
  CHECK(podkeep_failure_secondary(second) == NULL);
  CHECK_STATUS(podkeep_failure_free((podkeep_failure *)second), PODKEEP_ERR_INVALID_ARGUMENT); /* borrowed */
  CHECK_INT(podkeep_failure_code(second), 2);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

static bool has_failure(podkeep_pod *pod) {
  podkeep_failure *f = NULL;
  CHECK_OK(podkeep_pod_failure(pod, &f));
  CHECK_OK(podkeep_failure_free(f));
  return f != NULL;
}

static int32_t hook_fails(probe *p, podkeep_context *ctx) {
  podkeep_context_fail(ctx, 10, "hook");
  return p->hook.returns;
}

/* The hook fails while run still runs: it was first. */
TEST(L7_hook_then_run_then_teardown) {
  probe *p = probe_new("three");
  p->hook.does = hook_fails;
  p->run.held = true;
  p->run.returns = 20;
  p->teardown.returns = 30;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->hook.left);
  UNTIL(has_failure(pod)); /* recorded by the thread that came back from the callback, after its last step of ours */
  event_set(&p->run.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_CANCEL, PODKEEP_KIND_RETURNED, 10, "hook");
  const podkeep_failure *second = podkeep_failure_secondary(f);
  CHECK_FAILURE(second, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 20, NULL);
  const podkeep_failure *third = podkeep_failure_secondary(second);
  CHECK_FAILURE(third, PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_RETURNED, 30, NULL);
  CHECK(podkeep_failure_secondary(third) == NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* What S has stored for its own return is not disturbed by a record of the hook. */
static int32_t stores_then_waits_for_hook(probe *p, podkeep_context *ctx) {
  podkeep_context_fail(ctx, 7, "of S");
  event_set(p->data);
  event_wait(&p->hook.left);
  return 7;
}

TEST(L7_records_of_S_and_of_the_hook_are_kept_apart) {
  probe *p = probe_new("apart");
  p->data = world_alloc(sizeof(event));
  p->run.does = stores_then_waits_for_hook;
  p->hook.does = hook_fails;
  podkeep_pod *pod = probe_start(p);
  event_wait(p->data);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  bool hook_first = podkeep_failure_phase(f) == PODKEEP_PHASE_CANCEL; /* both are done at the same moment */
  const podkeep_failure *of_hook = hook_first ? f : podkeep_failure_secondary(f);
  const podkeep_failure *of_run = hook_first ? podkeep_failure_secondary(f) : f;
  CHECK_FAILURE(of_hook, PODKEEP_PHASE_CANCEL, PODKEEP_KIND_RETURNED, 10, "hook");
  CHECK_FAILURE(of_run, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 7, "of S");
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

static int32_t run_until_hook_begins(probe *p, podkeep_context *ctx) {
  (void)ctx;
  event_wait(&p->hook.entered);
  return p->run.returns;
}

/* Run fails while the hook still works: run was first. */
TEST(L7_run_then_hook_then_teardown) {
  probe *p = probe_new("other order");
  p->hook.held = true;
  p->hook.does = hook_fails;
  p->run.does = run_until_hook_begins;
  p->run.returns = 20;
  p->teardown.returns = 30;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->run.left);
  UNTIL(has_failure(pod)); /* recorded by the thread that came back from the callback, after its last step of ours */
  event_set(&p->hook.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 20, NULL);
  const podkeep_failure *second = podkeep_failure_secondary(f);
  CHECK_FAILURE(second, PODKEEP_PHASE_CANCEL, PODKEEP_KIND_RETURNED, 10, "hook");
  CHECK_FAILURE(podkeep_failure_secondary(second), PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_RETURNED, 30, NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

TEST(L7_ready_timeout_then_run_then_teardown) {
  probe *p = probe_new("slow");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(500); /* run must be entered by then */
  p->run.returns = 20;
  p->teardown.returns = 30;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_READY);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
  const podkeep_failure *second = podkeep_failure_secondary(f);
  CHECK_FAILURE(second, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 20, NULL);
  CHECK_FAILURE(podkeep_failure_secondary(second), PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_RETURNED, 30, NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* Ready timeout, then the grace: two limits passed, in this order, then what came of the late return. */
TEST_WITH(L7_ready_timeout_then_grace_then_late_failures, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("deaf");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(500); /* run must be entered by then */
  p->options.grace_ms = 1;
  p->run.held = true;
  p->run.returns = 20;
  p->teardown.returns = 30;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->run.entered);
  CHECK_STATUS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_ERR_TIMEOUT);
  event_set(&p->run.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_READY);
  const podkeep_failure *second = podkeep_failure_secondary(f);
  CHECK_INT(podkeep_failure_phase(second), PODKEEP_PHASE_RUN);
  CHECK_INT(podkeep_failure_kind(second), PODKEEP_KIND_TIMEOUT);
  const podkeep_failure *third = podkeep_failure_secondary(second);
  CHECK_FAILURE(third, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 20, NULL);
  CHECK_FAILURE(podkeep_failure_secondary(third), PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_RETURNED, 30, NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

TEST(L7_no_failure__before_during_and_after_a_clean_life) {
  probe *p = probe_new("sound");
  podkeep_pod *pod = probe_make(p);
  CHECK_NO_FAILURE(pod);
  probe_running(p);
  CHECK_NO_FAILURE(pod);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_NO_FAILURE(pod);
  probe_free(p);
}

/* It can be read as soon as it has happened, and a snapshot taken then is the caller's: it never changes, and outlives the pod. */
TEST(L7_a_snapshot_is_immutable) {
  probe *p = probe_new("photographed");
  p->run.does = does_return;
  p->run.returns = 1;
  p->teardown.held = true;
  p->teardown.returns = 2;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->teardown.entered);
  CHECK_TOLD_STATE(pod, PODKEEP_STATE_STOPPING);
  podkeep_failure *early = FAILURE_OF(pod);
  CHECK_FAILURE(early, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 1, NULL);
  const char *message = podkeep_failure_message(early);
  event_set(&p->teardown.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *late = FAILURE_OF(pod);
  CHECK(late != early);
  CHECK(podkeep_failure_secondary(early) == NULL);
  CHECK(podkeep_failure_secondary(late) != NULL);
  probe_free(p);
  CHECK_FAILURE(early, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 1, message);
  CHECK(podkeep_failure_message(early) == message);
  CHECK_STR(podkeep_failure_pod_name(early), "photographed");
  CHECK_FAILURE(podkeep_failure_secondary(late), PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_RETURNED, 2, NULL);
  CHECK_OK(podkeep_failure_free(early));
  CHECK_STATUS(podkeep_failure_free(early), PODKEEP_ERR_INVALID_HANDLE);
  CHECK_OK(podkeep_failure_free(late));
}

/* Each look is a snapshot of its own: freeing one leaves the others. */
TEST(L7_snapshots_are_independent) {
  probe *p = probe_new("album");
  p->init.returns = 4;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *a = FAILURE_OF(pod), *b = FAILURE_OF(pod);
  CHECK(a != b);
  CHECK_OK(podkeep_failure_free(a));
  CHECK_FAILURE(b, PODKEEP_PHASE_INIT, PODKEEP_KIND_RETURNED, 4, NULL);
  CHECK_OK(podkeep_failure_free(b));
  CHECK_OK(podkeep_failure_free(NULL));
  probe_free(p);
}

/* Guava testManualServiceFailureIdempotence: what comes later does not change what came first, whoever looks and asks meanwhile. */
TEST(L7_the_first_failure_stays) {
  probe *p = probe_new("firm");
  p->run.does = does_return;
  p->run.returns = 1;
  p->teardown.returns = 2;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  for (int i = 0; i < 3; i++) {
    CHECK_OK(podkeep_pod_cancel(pod));
    CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
    CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE);
    podkeep_failure *f = FAILURE_OF(pod);
    CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 1, NULL);
    CHECK_OK(podkeep_failure_free(f));
  }
  probe_free(p);
}

/* S ended from inside after it had failed: the death is the later one. */
static int32_t fails_then_exits(probe *p, podkeep_context *ctx) {
  podkeep_context_fail(ctx, 3, "said before");
  return does_exit(p, ctx);
}

TEST(L7_run_failed_then_S_ended_in_teardown) {
  probe *p = probe_new("late death");
  p->s_may_die = true;
  p->run.does = does_return;
  p->run.returns = 1;
  p->teardown.does = fails_then_exits;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 1, NULL);
  CHECK_FAILURE(podkeep_failure_secondary(f), PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_EXIT, 0, NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}
