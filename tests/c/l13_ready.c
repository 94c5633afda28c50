/* L13, L15: ready is the pod's own word; what wait_ready answers in each state. */
#include "probe.h"

/* --- L13 ------------------------------------------------------------------------------------------------------------ */

TEST(L13_ready_on_run__when_run_is_entered) {
  probe *p = probe_new("on run");
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_STATE(pod, PODKEEP_STATE_STARTING);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 0), PODKEEP_ERR_TIMEOUT);
  event_set(&p->init.go);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  event_wait(&p->run.entered);
  probe_close(p, PODKEEP_OK);
}

static int32_t says_ready(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_OK(podkeep_context_ready(ctx));
  return 0;
}

static int32_t says_ready_when_told(probe *p, podkeep_context *ctx) {
  event *told = p->data;
  event_wait(told);
  CHECK_OK(podkeep_context_ready(ctx));
  CHECK_OK(podkeep_context_ready(ctx)); /* again: no effect */
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  return 0;
}

/* READY_NOTIFY: STARTING lasts until the pod says so, though run_forever is long entered. */
TEST(L13_ready_notify__in_run) {
  probe *p = probe_new("notifying");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->data = world_alloc(sizeof(event));
  p->run.does = says_ready_when_told;
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, NEW, NEW);
  probe_start(p);
  CHECK_EVENT(m, NEW, STARTING);
  event_wait(&p->run.entered);
  CHECK_STATE(pod, PODKEEP_STATE_STARTING);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  event_set(p->data);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_EVENT(m, STARTING, RUNNING);
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  CHECK_OK(podkeep_monitor_free(m));
  probe_close(p, PODKEEP_OK);
}

/* "said inside init: held until init succeeded" */
static int32_t says_ready_and_lingers(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_ready(ctx));
  event_set(p->data);
  event_wait(&p->teardown.go); /* used here as "init may end" */
  return p->init.returns;
}

static void said_in_init(podkeep_ready_mode mode, int32_t init_returns) {
  probe *p = probe_new("eager");
  p->options.ready = mode;
  p->data = world_alloc(sizeof(event));
  p->init.does = says_ready_and_lingers;
  p->init.returns = init_returns;
  podkeep_pod *pod = probe_start(p);
  event_wait(p->data);
  CHECK_STATE(pod, PODKEEP_STATE_STARTING);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  event_set(&p->teardown.go);
  if (init_returns == 0) {
    CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
    event_wait(&p->run.entered);
    probe_close(p, PODKEEP_OK);
  } else {
    CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    probe_free(p);
  }
}

TEST(L13_ready_said_in_init__notify) { said_in_init(PODKEEP_READY_NOTIFY, 0); }
TEST(L13_ready_said_in_init__on_run) { said_in_init(PODKEEP_READY_ON_RUN, 0); }
TEST(L13_ready_said_in_init__init_fails) { said_in_init(PODKEEP_READY_NOTIFY, 9); }

/* Another thread of S may say it. */
static void says_ready_aside(void *arg) { CHECK_OK(podkeep_context_ready(((probe *)arg)->ctx)); }

static int32_t lets_a_helper_say_it(probe *p, podkeep_context *ctx) {
  worker w;
  worker_start(&w, says_ready_aside, p);
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  worker_join(&w);
  return 0;
}

TEST(L13_ready_said_by_another_thread) {
  probe *p = probe_new("delegating");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->run.does = lets_a_helper_say_it;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  probe_close(p, PODKEEP_OK);
}

/* Guava testNotifyStartedWhenNotStarting: outside its state it changes nothing. */
TEST(L13_ready_outside_its_state_is_ignored) {
  probe *p = probe_new("beside the point");
  p->teardown.held = true;
  p->teardown.does = says_ready;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(ctx_ready(p)); /* RUNNING, on run */
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->teardown.entered);
  CHECK_OK(ctx_ready(p)); /* STOPPING */
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  if (!S_is_elsewhere()) CHECK_STATUS(podkeep_context_ready(p->ctx), PODKEEP_ERR_INVALID_STATE); /* over */
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  probe_free(p);
}

/* A word that comes after the stop does not make the pod ready any more. */
TEST(L13_ready_after_a_cancel_is_too_late) {
  probe *p = probe_new("too late");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->run.held = p->teardown.held = true;
  p->run.does = says_ready;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->run.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_set(&p->run.go);
  event_wait(&p->teardown.entered);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_ENDED);
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_ENDED);
  probe_free(p);
}

/* The timeout is a failure (READY, TIMEOUT) and stops the pod as a cancel does. */
static void times_out(probe *p, step *in, const char *called) {
  p->options.ready_timeout_ms = slow_ms(500); /* the step must be entered by then */
  p->teardown.held = true;
  in->held = true;
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, NEW, NEW);
  uint64_t start = now_ns();
  probe_start(p);
  event_wait(&in->entered);
  CHECK_EVENT(m, NEW, STARTING);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK(now_ns() - start >= (uint64_t)p->options.ready_timeout_ms * 1000000u);
  CHECK_HAS(podkeep_last_error(), p->name);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  CHECK_EVENT(m, STARTING, STOPPING);
  CHECK_OK(ctx_wait(p, 0));
  CHECK(ctx_cancelled(p));
  CHECK(ctx_time_left(p) > 0); /* its grace has begun */
  event_set(&in->go);
  event_wait(&p->teardown.entered);
  CHECK(p->teardown.saw_cancelled);
  event_set(&p->teardown.go);
  CHECK_EVENT(m, STOPPING, FAILED);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_READY);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
  CHECK(podkeep_failure_secondary(f) == NULL);
  CHECK_OK(podkeep_failure_free(f));
  CHECK_STR(history_text(&p->called), called);
  probe_free(p);
}

TEST(L13_ready_timeout__in_init) {
  probe *p = probe_new("slow init");
  times_out(p, &p->init, "init teardown");
}

TEST(L13_ready_timeout__in_run) {
  probe *p = probe_new("silent run");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->no_hook = true;
  times_out(p, &p->run, "init run teardown");
}

/* No limit on the way to ready unless asked for; none after ready. */
TEST(L13_ready_timeout_ends_with_ready) {
  probe *p = probe_new("in time");
  p->options.ready_timeout_ms = slow_ms(500);
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_join(pod, slow_ms(1000)), PODKEEP_ERR_TIMEOUT); /* twice the limit, and nothing comes of it */
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  CHECK(!ctx_cancelled(p));
  probe_close(p, PODKEEP_OK);
}

TEST(L13_ready_timeout_does_not_outlive_a_cancel) {
  probe *p = probe_new("cancelled first");
  p->options.ready_timeout_ms = slow_ms(500); /* the cancel must come before */
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATUS(podkeep_pod_join(pod, slow_ms(600)), PODKEEP_ERR_TIMEOUT); /* past the ready limit */
  event_set(&p->init.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_NO_FAILURE(pod);
  probe_free(p);
}

/* ready falls the moment S dies. */
TEST(L13_ready_falls_with_S) {
  probe *p = probe_new("falling");
  p->s_may_die = true;
  p->run.held = true;
  p->run.does = does_exit;
  podkeep_pod *pod = probe_running(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, RUNNING, RUNNING);
  CHECK_OK(podkeep_pod_wait_ready(pod, 0));
  event_set(&p->run.go);
  CHECK_EVENT(m, RUNNING, FAILED); /* S died: straight to the end */
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* --- L15: wait_ready, by state -------------------------------------------------------------------------------------- */

TEST(L15_wait_ready__new) {
  probe *p = probe_new("new");
  podkeep_pod *pod = probe_make(p);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 0), PODKEEP_ERR_INVALID_STATE);
  probe_free(p);
}

TEST(L15_wait_ready__stopped_before_start) {
  probe *p = probe_new("stopped");
  podkeep_pod *pod = probe_make(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATUS(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), PODKEEP_ERR_ENDED);
  CHECK_HAS(podkeep_last_error(), "stopped");
  probe_free(p);
}

/* Ready once, not failed: OK, whatever the pod does now. */
TEST(L15_wait_ready__was_ready) {
  probe *p = probe_new("was ready");
  p->teardown.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_wait_ready(pod, 0));
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->teardown.entered);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  CHECK_OK(podkeep_pod_wait_ready(pod, 0));
  CHECK_OK(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER));
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  CHECK_OK(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER));
  probe_free(p);
}

TEST(L15_wait_ready__was_ready_and_returned) {
  probe *p = probe_new("was ready, returned");
  p->run.held = p->teardown.held = true;
  podkeep_pod *pod = probe_running(p);
  event_set(&p->run.go);
  event_wait(&p->teardown.entered);
  CHECK_OK(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER));
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_OK(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER));
  probe_free(p);
}

TEST(L15_wait_ready__was_ready_and_failed) {
  probe *p = probe_new("was ready, failed");
  p->run.held = p->teardown.held = true;
  p->run.returns = 1;
  podkeep_pod *pod = probe_running(p);
  event_set(&p->run.go);
  event_wait(&p->teardown.entered);
  CHECK_TOLD_STATE(pod, PODKEEP_STATE_STOPPING);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), PODKEEP_ERR_FAILED); /* at once: no restart can follow */
  event_set(&p->teardown.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), PODKEEP_ERR_FAILED);
  probe_free(p);
}

TEST(L15_wait_ready__stopping_and_never_ready) {
  probe *p = probe_new("never ready");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->run.does = does_return;
  p->teardown.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->teardown.entered);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), PODKEEP_ERR_ENDED);
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), PODKEEP_ERR_ENDED);
  CHECK_NO_FAILURE(pod);
  probe_free(p);
}

/* A teardown that fails turns an OK of before into FAILED: it has failed now. */
TEST(L15_wait_ready__teardown_failed) {
  probe *p = probe_new("failed at last");
  p->teardown.returns = 1;
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), PODKEEP_ERR_FAILED);
  probe_free(p);
}
