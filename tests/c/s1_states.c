/* Section 1: the state table, cell by cell, as histories a monitor tells. What is said there of a cell's callbacks is checked
 * with the promise concerned (L2, L4, L5, L6, L12, L13); what each call answers in each state, here. */
#include "probe.h"

static uint32_t abandoned(void) {
  uint32_t n = UINT32_MAX;
  CHECK_OK(podkeep_abandoned(&n));
  return n;
}

/* What start, join, wait_ready (all polling) and failure say in a state. */
static void answers(podkeep_pod *pod, podkeep_status join, podkeep_status ready, bool failure) {
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_pod_join(pod, 0), join);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 0), ready);
  podkeep_failure *f = NULL;
  CHECK_OK(podkeep_pod_failure(pod, &f));
  CHECK((f != NULL) == failure);
  CHECK_OK(podkeep_failure_free(f));
}

/* --- NEW ------------------------------------------------------------------------------------------------------------ */

TEST(S1_new__start_is_starting) {
  probe *p = probe_new("new");
  p->init.held = true;
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  CHECK_STATE(pod, PODKEEP_STATE_NEW);
  CHECK_EVENT(m, NEW, NEW);
  CHECK_OK(start_pod(pod));
  CHECK_STATE(pod, PODKEEP_STATE_STARTING); /* when start returns, and as long as init lasts */
  CHECK_EVENT(m, NEW, STARTING);
  event_wait(&p->init.entered);
  answers(pod, PODKEEP_ERR_TIMEOUT, PODKEEP_ERR_TIMEOUT, false);
  event_set(&p->init.go);
  CHECK_OK(podkeep_monitor_free(m));
  probe_close(p, PODKEEP_OK);
}

/* "nothing to be had → RESOURCES, stays NEW": a stack that no address space holds. Nothing was shown, nothing was called. */
TEST_WITH(S1_new__start_without_resources_stays_new, NOT_PROCESS(OWN_THREADS), NOT_MAIN(LIBRARYS_S)) {
  probe *p = probe_new("greedy");
  p->options.stack_size = (size_t)1 << 47;
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, NEW, NEW);
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_RESOURCES);
  CHECK_HAS(podkeep_last_error(), "greedy");
  CHECK_STATE(pod, PODKEEP_STATE_NEW);
  podkeep_event e = PODKEEP_EVENT_INIT;
  CHECK_STATUS(podkeep_monitor_next(m, &e, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_NO_FAILURE(pod);
  CHECK_STATUS(podkeep_pod_join(pod, 0), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_RESOURCES); /* it has not started; it may be tried again */
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  CHECK_EVENT(m, NEW, STOPPED);
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
  CHECK_STR(history_text(&p->called), "drop");
}

TEST(S1_new__cancel_is_stopped) {
  probe *p = probe_new("new");
  podkeep_pod *pod = probe_make(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  answers(pod, PODKEEP_OK, PODKEEP_ERR_ENDED, false);
  probe_free(p);
}

/* --- STARTING ------------------------------------------------------------------------------------------------------- */

/* A pod that is watched from NEW on and is inside a held init. */
static podkeep_monitor *in_init(probe *p) {
  p->init.held = true;
  podkeep_monitor *m = watch(probe_make(p));
  CHECK_EVENT(m, NEW, NEW);
  probe_start(p);
  event_wait(&p->init.entered);
  CHECK_EVENT(m, NEW, STARTING);
  return m;
}

static void let_go(probe *p, podkeep_monitor *m, podkeep_status want) {
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_join(p->pod, LIMIT_MS), want);
  probe_free(p);
}

TEST(S1_starting__init_succeeded_is_running) {
  probe *p = probe_new("starting");
  p->teardown.held = true;
  podkeep_monitor *m = in_init(p);
  event_set(&p->init.go);
  CHECK_EVENT(m, STARTING, RUNNING);
  event_wait(&p->run.entered);
  answers(p->pod, PODKEEP_ERR_TIMEOUT, PODKEEP_OK, false);
  CHECK_OK(podkeep_pod_cancel(p->pod));
  CHECK_EVENT(m, RUNNING, STOPPING);
  event_wait(&p->teardown.entered);
  answers(p->pod, PODKEEP_ERR_TIMEOUT, PODKEEP_OK, false);
  event_set(&p->teardown.go);
  CHECK_EVENT(m, STOPPING, STOPPED);
  answers(p->pod, PODKEEP_OK, PODKEEP_OK, false);
  let_go(p, m, PODKEEP_OK);
}

static int32_t says_ready_when_told(probe *p, podkeep_context *ctx) {
  event_wait(p->data);
  CHECK_OK(podkeep_context_ready(ctx));
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  return 0;
}

TEST(S1_starting__notify_stays_until_ready) {
  probe *p = probe_new("notify");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->run.does = says_ready_when_told;
  p->data = world_alloc(sizeof(event));
  podkeep_monitor *m = in_init(p);
  event_set(&p->init.go);
  event_wait(&p->run.entered);
  CHECK_STATE(p->pod, PODKEEP_STATE_STARTING);
  podkeep_event e = PODKEEP_EVENT_INIT;
  CHECK_STATUS(podkeep_monitor_next(m, &e, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  event_set(p->data);
  CHECK_EVENT(m, STARTING, RUNNING);
  CHECK_OK(podkeep_monitor_free(m));
  probe_close(p, PODKEEP_OK);
}

/* Guava testManualServiceFailWhileStarting. */
TEST(S1_starting__init_failed_is_the_end) {
  probe *p = probe_new("starting");
  p->init.returns = 1;
  podkeep_monitor *m = in_init(p);
  event_set(&p->init.go);
  CHECK_EVENT(m, STARTING, FAILED);
  answers(p->pod, PODKEEP_ERR_FAILED, PODKEEP_ERR_FAILED, true);
  let_go(p, m, PODKEEP_ERR_FAILED);
}

TEST(S1_starting__S_died_is_the_end) {
  probe *p = probe_new("starting");
  p->init.does = does_exit;
  podkeep_monitor *m = in_init(p);
  event_set(&p->init.go);
  CHECK_EVENT(m, STARTING, FAILED);
  answers(p->pod, PODKEEP_ERR_FAILED, PODKEEP_ERR_FAILED, true);
  let_go(p, m, PODKEEP_ERR_FAILED);
}

TEST(S1_starting__cancel_is_stopping) {
  probe *p = probe_new("starting");
  podkeep_monitor *m = in_init(p);
  CHECK_OK(podkeep_pod_cancel(p->pod));
  CHECK_STATE(p->pod, PODKEEP_STATE_STOPPING);
  CHECK_EVENT(m, STARTING, STOPPING);
  answers(p->pod, PODKEEP_ERR_TIMEOUT, PODKEEP_ERR_ENDED, false);
  event_set(&p->init.go);
  CHECK_EVENT(m, STOPPING, STOPPED);
  answers(p->pod, PODKEEP_OK, PODKEEP_ERR_ENDED, false);
  let_go(p, m, PODKEEP_OK);
}

TEST(S1_starting__ready_timeout_is_stopping) {
  probe *p = probe_new("starting");
  p->options.ready_timeout_ms = slow_ms(500);
  podkeep_monitor *m = in_init(p);
  CHECK_EVENT(m, STARTING, STOPPING);
  answers(p->pod, PODKEEP_ERR_TIMEOUT, PODKEEP_ERR_FAILED, true);
  event_set(&p->init.go);
  CHECK_EVENT(m, STOPPING, FAILED);
  let_go(p, m, PODKEEP_ERR_FAILED);
}

TEST(S1_starting__run_returned_is_stopping) {
  probe *p = probe_new("starting");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->run.does = does_return;
  p->teardown.held = true;
  podkeep_monitor *m = in_init(p);
  event_set(&p->init.go);
  CHECK_EVENT(m, STARTING, STOPPING);
  event_wait(&p->teardown.entered);
  answers(p->pod, PODKEEP_ERR_TIMEOUT, PODKEEP_ERR_ENDED, false);
  event_set(&p->teardown.go);
  CHECK_EVENT(m, STOPPING, STOPPED);
  let_go(p, m, PODKEEP_OK);
}

/* --- RUNNING -------------------------------------------------------------------------------------------------------- */

/* Watched and RUNNING, in a held run. */
static podkeep_monitor *in_run(probe *p) {
  p->run.held = true;
  p->no_hook = true;
  probe_running(p);
  podkeep_monitor *m = watch(p->pod);
  CHECK_EVENT(m, RUNNING, RUNNING);
  return m;
}

TEST(S1_running__cancel_is_stopping) {
  probe *p = probe_new("running");
  podkeep_monitor *m = in_run(p);
  CHECK_OK(podkeep_pod_cancel(p->pod));
  CHECK_STATE(p->pod, PODKEEP_STATE_STOPPING);
  CHECK_EVENT(m, RUNNING, STOPPING);
  answers(p->pod, PODKEEP_ERR_TIMEOUT, PODKEEP_OK, false);
  event_set(&p->run.go);
  CHECK_EVENT(m, STOPPING, STOPPED);
  let_go(p, m, PODKEEP_OK);
}

TEST(S1_running__run_returned_is_stopping) {
  probe *p = probe_new("running");
  p->teardown.held = true;
  podkeep_monitor *m = in_run(p);
  event_set(&p->run.go);
  CHECK_EVENT(m, RUNNING, STOPPING);
  event_wait(&p->teardown.entered);
  CHECK_STATE(p->pod, PODKEEP_STATE_STOPPING);
  event_set(&p->teardown.go);
  CHECK_EVENT(m, STOPPING, STOPPED);
  let_go(p, m, PODKEEP_OK);
}

/* Guava testManualServiceFailWhileRunning: the failure is there while teardown is still at work. */
TEST(S1_running__run_failed_is_stopping_then_failed) {
  probe *p = probe_new("running");
  p->run.returns = 1;
  p->teardown.held = true;
  podkeep_monitor *m = in_run(p);
  event_set(&p->run.go);
  CHECK_EVENT(m, RUNNING, STOPPING);
  event_wait(&p->teardown.entered);
  CHECK(!p->teardown.saw_cancelled); /* it ended by itself: nobody had asked */
  answers(p->pod, PODKEEP_ERR_TIMEOUT, PODKEEP_ERR_FAILED, true);
  event_set(&p->teardown.go);
  CHECK_EVENT(m, STOPPING, FAILED);
  let_go(p, m, PODKEEP_ERR_FAILED);
}

TEST(S1_running__S_died_is_the_end) {
  probe *p = probe_new("running");
  p->s_may_die = true;
  p->run.does = does_exit;
  podkeep_monitor *m = in_run(p);
  event_set(&p->run.go);
  CHECK_EVENT(m, RUNNING, FAILED);
  let_go(p, m, PODKEEP_ERR_FAILED);
}

/* "Once RUNNING is shown run_forever is entered, whatever is asked meanwhile." Here the cancel comes at the earliest moment at
 * which anybody can know of RUNNING. */
TEST(S1_running_shown_means_run_is_entered) {
  for (int i = 0; i < rounds(300); i++) {
    probe *p = probe_new("shown");
    podkeep_pod *pod = probe_start(p);
    podkeep_state state = PODKEEP_STATE_STARTING;
    if (i % 2) CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    else
      while (state == PODKEEP_STATE_STARTING) CHECK_OK(podkeep_pod_state(pod, &state));
    CHECK_OK(podkeep_pod_cancel(pod));
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    CHECK_INT(p->run.count, 1);
    probe_free(p);
  }
}

/* --- STOPPING ------------------------------------------------------------------------------------------------------- */

/* Guava testManualServiceFailWhileStopping. */
TEST(S1_stopping__run_failed_after_cancel_is_failed) {
  probe *p = probe_new("stopping");
  p->run.returns = 1;
  podkeep_monitor *m = in_run(p);
  CHECK_OK(podkeep_pod_cancel(p->pod));
  CHECK_EVENT(m, RUNNING, STOPPING);
  event_set(&p->run.go);
  CHECK_EVENT(m, STOPPING, FAILED);
  let_go(p, m, PODKEEP_ERR_FAILED);
}

TEST(S1_stopping__S_died_is_failed) {
  probe *p = probe_new("stopping");
  p->s_may_die = true;
  p->run.does = does_exit;
  podkeep_monitor *m = in_run(p);
  CHECK_OK(podkeep_pod_cancel(p->pod));
  CHECK_EVENT(m, RUNNING, STOPPING);
  event_set(&p->run.go);
  CHECK_EVENT(m, STOPPING, FAILED);
  let_go(p, m, PODKEEP_ERR_FAILED);
}

TEST(S1_stopping__cancel_changes_nothing) {
  probe *p = probe_new("stopping");
  podkeep_monitor *m = in_run(p);
  for (int i = 0; i < 5; i++) {
    CHECK_OK(podkeep_pod_cancel(p->pod));
    CHECK_STATE(p->pod, PODKEEP_STATE_STOPPING);
  }
  CHECK_EVENT(m, RUNNING, STOPPING);
  podkeep_event e = PODKEEP_EVENT_INIT;
  CHECK_STATUS(podkeep_monitor_next(m, &e, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  event_set(&p->run.go);
  CHECK_EVENT(m, STOPPING, STOPPED);
  let_go(p, m, PODKEEP_OK);
}

/* --- ABANDONED ------------------------------------------------------------------------------------------------------ */

TEST_WITH(S1_stopping__grace_spent_is_abandoned_then_failed, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("abandoned");
  p->options.grace_ms = SHORT_MS;
  p->teardown.held = true;
  podkeep_monitor *m = in_run(p);
  CHECK_OK(podkeep_pod_cancel(p->pod));
  CHECK_EVENT(m, RUNNING, STOPPING);
  CHECK_EVENT(m, STOPPING, ABANDONED);
  CHECK_INT(abandoned(), 1);
  answers(p->pod, PODKEEP_ERR_TIMEOUT, PODKEEP_ERR_FAILED, true);
  event_set(&p->run.go);
  event_wait(&p->teardown.entered); /* the teardown that is due, still ABANDONED */
  CHECK_STATE(p->pod, PODKEEP_STATE_ABANDONED);
  event_set(&p->teardown.go);
  CHECK_EVENT(m, ABANDONED, FAILED);
  CHECK_INT(abandoned(), 0);
  answers(p->pod, PODKEEP_ERR_FAILED, PODKEEP_ERR_FAILED, true);
  let_go(p, m, PODKEEP_ERR_FAILED);
}

/* --- Final, and free in every state --------------------------------------------------------------------------------- */

TEST(S1_final__nothing_changes_it) {
  probe *good = probe_new("stopped"), *bad = probe_new("failed");
  bad->init.returns = 1;
  probe_running(good);
  CHECK_OK(podkeep_pod_close(good->pod));
  probe_start(bad);
  CHECK_STATUS(podkeep_pod_join(bad->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  for (int i = 0; i < 3; i++) {
    CHECK_OK(podkeep_pod_cancel(good->pod));
    CHECK_OK(podkeep_pod_cancel(bad->pod));
    answers(good->pod, PODKEEP_OK, PODKEEP_OK, false);
    answers(bad->pod, PODKEEP_ERR_FAILED, PODKEEP_ERR_FAILED, true);
    CHECK_OK(podkeep_pod_close(good->pod));
    CHECK_STATUS(podkeep_pod_close(bad->pod), PODKEEP_ERR_FAILED);
    CHECK_STATE(good->pod, PODKEEP_STATE_STOPPED);
    CHECK_STATE(bad->pod, PODKEEP_STATE_FAILED);
  }
  probe_free(good);
  probe_free(bad);
}

static void freed_in(step *held, bool cancel, const char *called, probe *p) {
  if (held) held->held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(held ? &held->entered : &p->run.entered);
  if (cancel) CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_free(pod));
  p->pod = NULL;
  podkeep_state state;
  CHECK_STATUS(podkeep_pod_state(pod, &state), PODKEEP_ERR_INVALID_HANDLE);
  CHECK_STATUS(podkeep_pod_free(pod), PODKEEP_ERR_INVALID_HANDLE);
  if (held) event_set(&held->go);
  probe_free(p);
  CHECK_STR(history_text(&p->called), called);
}

TEST(S1_free__starting) {
  probe *p = probe_new("freed");
  freed_in(&p->init, false, "init teardown drop", p);
}

TEST(S1_free__running) {
  probe *p = probe_new("freed");
  p->no_hook = true;
  freed_in(NULL, false, "init run teardown drop", p);
}

TEST(S1_free__stopping) {
  probe *p = probe_new("freed");
  p->no_hook = true;
  freed_in(&p->run, true, "init run teardown drop", p);
}

TEST_WITH(S1_free__abandoned, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("freed");
  p->no_hook = true;
  p->run.held = true;
  p->options.grace_ms = 1;
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_TIMEOUT);
  CHECK_OK(podkeep_pod_free(pod));
  p->pod = NULL;
  CHECK_INT(abandoned(), 1);
  event_set(&p->run.go);
  probe_free(p);
  UNTIL(abandoned() == 0);
  CHECK_STR(history_text(&p->called), "init run teardown drop");
}
