/* L9: the cancel hook. A run_forever here is mostly deaf (held): only the case's `go` ends it, as a blocking call would. */
#include "probe.h"

#include <signal.h>
#include <time.h>

TEST(L9_called_once__cancelled_many_times) {
  probe *p = probe_new("many");
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  for (int i = 0; i < 20; i++) CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->hook.left);
  for (int i = 0; i < 20; i++) CHECK_OK(podkeep_pod_cancel(pod));
  event_set(&p->run.go);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_INT(p->hook.count, 1);
  probe_free(p);
}

/* It runs beside run_forever, on a thread of the library: not S, not the caller's. */
TEST(L9_beside_run_on_another_thread) {
  probe *p = probe_new("beside");
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->hook.left);
  CHECK(!event_is_set(&p->run.left));
  CHECK(p->hook.tid != p->run.tid);
  CHECK(p->hook.tid != own_tid());
  event_set(&p->run.go);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_STR(history_text(&p->called), "init run cancel teardown");
  probe_free(p);
}

TEST(L9_never_inside_the_callers_cancel) {
  probe *p = probe_new("outside");
  p->run.held = p->hook.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod)); /* returns, though the hook cannot end before the next lines */
  event_wait(&p->hook.entered);
  event_set(&p->hook.go);
  event_set(&p->run.go);
  probe_close(p, PODKEEP_OK);
}

/* It runs without the library's locks: everything that does not wait for the pod's end answers meanwhile. */
TEST(L9_the_pod_answers_while_the_hook_hangs) {
  probe *p = probe_new("answering");
  p->run.held = p->hook.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->hook.entered);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_OK(podkeep_pod_wait_ready(pod, 1)); /* it has been ready and has not failed */
  CHECK_NO_FAILURE(pod);
  CHECK(ctx_time_left(p) > 0);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, STOPPING, STOPPING);
  CHECK_OK(podkeep_monitor_free(m));
  event_set(&p->hook.go);
  event_set(&p->run.go);
  probe_close(p, PODKEEP_OK);
}

TEST(L9_not_called__cancel_during_init) {
  probe *p = probe_new("during init");
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK(!event_wait_for(&p->hook.entered, SHORT_MS));
  event_set(&p->init.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STR(history_text(&p->called), "init teardown");
  probe_free(p);
}

TEST(L9_not_called__ready_timeout_during_init) {
  probe *p = probe_new("late init");
  p->init.held = true;
  p->options.ready_timeout_ms = slow_ms(500); /* init must be entered by then */
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK(!event_wait_for(&p->hook.entered, SHORT_MS));
  event_set(&p->init.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STR(history_text(&p->called), "init teardown");
  probe_free(p);
}

TEST(L9_not_called__cancel_before_start) {
  probe *p = probe_new("before");
  podkeep_pod *pod = probe_make(p);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_INT(p->hook.count, 0);
  probe_free(p);
}

TEST(L9_not_called__run_returned_by_itself) {
  probe *p = probe_new("by itself");
  p->run.does = does_return;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STR(history_text(&p->called), "init run teardown");
  probe_free(p);
}

TEST(L9_not_called__cancel_during_teardown) {
  probe *p = probe_new("in teardown");
  p->run.does = does_return;
  p->teardown.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->teardown.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK(!event_wait_for(&p->hook.entered, SHORT_MS));
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_INT(p->hook.count, 0);
  probe_free(p);
}

/* "for whatever stop reason" */
TEST(L9_called__on_free) {
  probe *p = probe_new("freed");
  p->run.does = does_wait_for_hook;
  probe_running(p);
  probe_free(p);
  CHECK_STR(history_text(&p->called), "init run cancel teardown drop");
}

TEST(L9_called__on_ready_timeout) {
  probe *p = probe_new("not ready");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(500); /* run must be entered by then */
  p->run.does = does_wait_for_hook;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STR(history_text(&p->called), "init run cancel teardown");
  probe_free(p);
}

TEST(L9_called__on_close) {
  probe *p = probe_new("closed");
  p->run.does = does_wait_for_hook;
  probe_running(p);
  CHECK_OK(podkeep_pod_close(p->pod));
  CHECK_STR(history_text(&p->called), "init run cancel teardown");
  probe_free(p);
}

/* "S waits for it before teardown": run is long back. */
TEST(L9_teardown_waits_for_the_hook) {
  probe *p = probe_new("patient");
  p->run.held = p->hook.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->hook.entered);
  event_set(&p->run.go);
  event_wait(&p->run.left);
  CHECK(!event_wait_for(&p->teardown.entered, SHORT_MS));
  event_set(&p->hook.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK(p->hook.left_at < p->teardown.entered_at);
  probe_free(p);
}

/* The hook and the end of run race: it comes once or not at all, and never beside or after teardown (probes_check). */
static int32_t returns_when_told(probe *p, podkeep_context *ctx) {
  (void)ctx;
  barrier_wait(p->data, 2);
  pass_us((long)random_below(40));
  return 0;
}

TEST(L9_hook_races_with_the_return_of_run) {
  for (int i = 0; i < rounds(300); i++) {
    probe *p = probe_new("racing");
    p->data = world_alloc(sizeof(barrier));
    p->run.does = returns_when_told;
    podkeep_pod *pod = probe_running(p);
    barrier_wait(p->data, 2);
    pass_us((long)random_below(40));
    CHECK_OK(podkeep_pod_cancel(pod));
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    uint32_t at_the_end = p->hook.count;
    probe_free(p);
    CHECK_INT(p->hook.count, at_the_end);
  }
}

/* It may come before the loop inside run has begun: run is entered, and that is all it may count on. */
TEST(L9_may_come_as_soon_as_run_is_entered) {
  probe *p = probe_new("early");
  p->run.held = true;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->hook.left);
  event_wait(&p->run.entered);
  event_set(&p->run.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* --- A hook that hangs ---------------------------------------------------------------------------------------------- */

TEST_WITH(L9_hanging_hook_is_a_timeout_of_phase_cancel, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("hung hook");
  p->options.grace_ms = slow_ms(600); /* run must be back by then */
  p->run.held = p->hook.held = true;
  podkeep_pod *pod = probe_running(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, RUNNING, RUNNING);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->hook.entered);
  event_set(&p->run.go);
  CHECK_EVENT(m, RUNNING, STOPPING);
  CHECK_STATUS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_ERR_TIMEOUT);
  CHECK_EVENT(m, STOPPING, ABANDONED);
  CHECK_STATE(pod, PODKEEP_STATE_ABANDONED);
  CHECK_INT(p->teardown.count, 0); /* still waiting for the hook, without end */
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_CANCEL);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
  CHECK_OK(podkeep_failure_free(f));
  event_set(&p->hook.go);
  CHECK_EVENT(m, ABANDONED, FAILED);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_INT(p->teardown.count, 1);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* While run has not returned either, that is the phase S is in. */
TEST_WITH(L9_hanging_hook_and_run_is_a_timeout_of_phase_run, NOT_MAIN(EXIT)) {
  probe *p = probe_new("both hang");
  p->options.grace_ms = SHORT_MS;
  p->run.held = p->hook.held = true;
  podkeep_pod *pod = probe_running(p);
  p->s_may_die = true;
  CHECK_STATUS(podkeep_pod_close(pod), forced_status());
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_RUN);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
  CHECK_OK(podkeep_failure_free(f));
  if (!S_is_elsewhere()) event_wait(&p->hook.entered); /* a child may have been ended before its hook began */
  event_set(&p->hook.go);
  event_set(&p->run.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* Many hooks hang at once; another pod's hook, a ready timeout and a grace still come when they are due. */
TEST(L9_hanging_hooks_delay_only_their_own_pods) {
  enum { HUNG = 6 };
  probe *hung[HUNG];
  for (int i = 0; i < HUNG; i++) {
    hung[i] = probe_new("hanging");
    hung[i]->run.held = hung[i]->hook.held = true;
    hung[i]->options.grace_ms = PODKEEP_FOREVER;
    probe_running(hung[i]);
    CHECK_OK(podkeep_pod_cancel(hung[i]->pod));
  }
  for (int i = 0; i < HUNG; i++) event_wait(&hung[i]->hook.entered);

  probe *hooked = probe_new("hooked");
  hooked->run.does = does_wait_for_hook;
  probe_running(hooked);
  probe_close(hooked, PODKEEP_OK);

  probe *slow = probe_new("slow");
  slow->options.ready = PODKEEP_READY_NOTIFY;
  slow->options.ready_timeout_ms = 1;
  slow->run.does = does_wait_for_hook;
  probe_start(slow);
  CHECK_STATUS(podkeep_pod_wait_ready(slow->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_join(slow->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(slow);

  for (int i = 0; i < HUNG; i++) {
    CHECK_STATE(hung[i]->pod, PODKEEP_STATE_STOPPING);
    event_set(&hung[i]->hook.go);
    event_set(&hung[i]->run.go);
    CHECK_OK(podkeep_pod_join(hung[i]->pod, LIMIT_MS));
    probe_free(hung[i]);
  }
}

TEST(L9_hanging_hook_does_not_hold_up_another_pods_grace) {
  probe *a = probe_new("holding"), *b = probe_new("graceless");
  a->run.held = a->hook.held = true;
  a->options.grace_ms = PODKEEP_FOREVER;
  b->run.held = true;
  b->options.grace_ms = 1;
  b->s_may_die = true;
  probe_running(a);
  probe_running(b);
  CHECK_OK(podkeep_pod_cancel(a->pod));
  event_wait(&a->hook.entered);
  CHECK_STATUS(podkeep_pod_close(b->pod), forced_status());
  CHECK_STATE(b->pod, forced_state());
  event_set(&b->run.go);
  event_set(&a->run.go);
  event_set(&a->hook.go);
  probe_free(b);
  probe_close(a, PODKEEP_OK);
}

/* libstdc++ destroy.cc: a pod freed while its hook runs; what the hook uses is there until it is over. */
TEST(L9_freed_while_the_hook_runs) {
  probe *p = probe_new("kept");
  p->run.held = p->hook.held = true;
  probe_running(p);
  CHECK_OK(podkeep_pod_free(p->pod));
  p->pod = NULL;
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->runtime = NULL;
  event_wait(&p->hook.entered);
  event_set(&p->run.go);
  CHECK(!event_wait_for(&p->drop.entered, SHORT_MS));
  event_set(&p->hook.go);
  event_wait(&p->drop.left);
  CHECK(p->hook.left_at < p->drop.entered_at);
  CHECK_STR(history_text(&p->called), "init run cancel teardown drop");
}

/* A hook that ends its thread is over, and takes nothing with it: its pod ends, is kicked as long as need be, and later hooks
 * come. */
static int32_t sleeps_until_kicked(probe *p, podkeep_context *ctx) {
  (void)p;
  while (!podkeep_context_cancelled(ctx)) {
    struct timespec long_time = {3600, 0};
    nanosleep(&long_time, NULL);
  }
  return 0;
}

TEST_WITH(L9_hook_that_ends_its_thread, NOT_PROCESS(KICK)) {
  for (int i = 0; i < rounds(20); i++) {
    probe *p = probe_new("hook exits");
    p->hook.does = does_exit;
    p->run.does = sleeps_until_kicked;
    p->options.kick_signal = SIGUSR1;
    podkeep_pod *pod = probe_running(p);
    CHECK_OK(podkeep_pod_cancel(pod));
    podkeep_status status = podkeep_pod_join(pod, LIMIT_MS);
    CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
    CHECK_INT(p->teardown.count, 1);
    probe_free(p);
    probe *next = probe_new("hook comes");
    next->run.does = does_wait_for_hook;
    probe_running(next);
    probe_close(next, PODKEEP_OK);
  }
}

static int32_t ends_its_thread(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  pthread_exit(NULL);
}

static int32_t runs_until_the_hook_has_begun(probe *p, podkeep_context *ctx) {
  event_wait(&p->hook.entered);
  CHECK(podkeep_context_cancelled(ctx));
  return 0;
}

TEST(L9_hook_that_ends_its_thread__and_no_more) {
  probe *p = probe_new("hook exits");
  p->hook.does = ends_its_thread;
  p->run.does = runs_until_the_hook_has_begun;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  podkeep_status status = podkeep_pod_join(pod, LIMIT_MS);
  CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
  CHECK_STR(history_text(&p->called), "init run cancel teardown");
  probe_free(p);
}

/* The threads kept for hooks go again when no pod needs them. */
TEST_WITH(L9_threads_for_hooks_go_when_idle, NOT_PROCESS(OWN_THREADS)) {
  probe *p[8];
  for (int i = 0; i < 8; i++) {
    p[i] = probe_new("one of eight");
    p[i]->run.held = p[i]->hook.held = true;
    probe_running(p[i]);
    CHECK_OK(podkeep_pod_cancel(p[i]->pod));
  }
  for (int i = 0; i < 8; i++) event_wait(&p[i]->hook.entered); /* all eight at the same time */
  for (int i = 0; i < 8; i++) {
    event_set(&p[i]->hook.go);
    event_set(&p[i]->run.go);
    probe_close(p[i], PODKEEP_OK);
  }
  UNTIL(threads_named("podkeep-hook") <= 1);
}
