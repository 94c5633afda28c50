/* L12: grace is one budget from STOPPING on; a thread that overdraws it is let go, kept, counted, and may come back late. */
#include "probe.h"

static uint32_t abandoned(void) {
  uint32_t n = UINT32_MAX;
  CHECK_OK(podkeep_abandoned(&n));
  return n;
}

/* A pod that hangs in `s` is abandoned in `phase`, and comes to FAILED once it is let go on. */
static void hangs(probe *p, step *s, bool cancel, podkeep_phase phase, const char *called) {
  p->options.grace_ms = s == &p->teardown ? slow_ms(1000) : SHORT_MS; /* S must be in that phase when it is spent */
  s->held = true;
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  probe_start(p);
  if (phase == PODKEEP_PHASE_TEARDOWN && cancel) {
    CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    CHECK_OK(podkeep_pod_cancel(pod));
  }
  event_wait(&s->entered);
  if (cancel) CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATUS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, PODKEEP_STATE_ABANDONED);
  CHECK_INT(abandoned(), 1);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_INT(podkeep_failure_phase(f), phase);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
  CHECK_OK(podkeep_failure_free(f));

  /* ABANDONED: what each call answers. */
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_TIMEOUT);
  CHECK_STATUS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_ERR_TIMEOUT);
  CHECK_STATUS(podkeep_pod_join(pod, 0), PODKEEP_ERR_TIMEOUT);
  uint64_t start = now_ns();
  CHECK_STATUS(podkeep_pod_join(pod, 20), PODKEEP_ERR_TIMEOUT);
  CHECK(now_ns() - start >= 20000000u); /* a finite join waits its time */
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATE(pod, PODKEEP_STATE_ABANDONED);
  CHECK_INT(p->drop.count, 0);

  event_set(&s->go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED); /* however clean the late return is */
  CHECK_STATE(pod, PODKEEP_STATE_FAILED);
  CHECK_INT(abandoned(), 0);
  podkeep_state to = PODKEEP_STATE_NEW;
  for (podkeep_event e = PODKEEP_EVENT_INIT; podkeep_monitor_next(m, &e, LIMIT_MS) == PODKEEP_OK; to = e.to) CHECK_INT(e.from, to);
  CHECK_INT(to, PODKEEP_STATE_FAILED);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STR(history_text(&p->called), called);
  f = FAILURE_OF(pod);
  CHECK_INT(podkeep_failure_phase(f), phase);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
  CHECK(podkeep_failure_secondary(f) == NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

TEST_WITH(L12_spent__in_init, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("hung init");
  hangs(p, &p->init, true, PODKEEP_PHASE_INIT, "init teardown"); /* the late success is torn down, run stays skipped */
}

TEST_WITH(L12_spent__in_run, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("hung run");
  p->no_hook = true;
  hangs(p, &p->run, true, PODKEEP_PHASE_RUN, "init run teardown");
}

TEST_WITH(L12_spent__in_teardown, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("hung teardown");
  p->no_hook = true;
  hangs(p, &p->teardown, true, PODKEEP_PHASE_TEARDOWN, "init run teardown");
}

/* "for any reason": a pod that ends by itself has the same budget for its teardown. */
TEST_WITH(L12_spent__in_teardown_after_a_natural_return, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("natural, then hung");
  p->run.does = does_return;
  hangs(p, &p->teardown, false, PODKEEP_PHASE_TEARDOWN, "init run teardown");
}

/* The late ends: each callback's word still counts, behind the timeout. */
static void late_end(probe *p, step *s, podkeep_phase phase, int32_t code, bool dies, const char *called) {
  p->options.grace_ms = s == &p->teardown ? slow_ms(1000) : 1; /* S must be in that phase when it is spent */
  p->no_hook = true;
  s->held = true;
  podkeep_pod *pod = probe_start(p);
  if (s == &p->teardown) {
    CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    CHECK_OK(podkeep_pod_cancel(pod));
  }
  event_wait(&s->entered);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_TIMEOUT);
  event_set(&s->go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
  CHECK_INT(podkeep_failure_phase(f), phase);
  const podkeep_failure *second = podkeep_failure_secondary(f);
  if (dies) CHECK_FAILURE(second, phase, PODKEEP_KIND_EXIT, 0, NULL);
  else if (code != 0) CHECK_FAILURE(second, phase, PODKEEP_KIND_RETURNED, code, NULL);
  else CHECK(second == NULL);
  CHECK_OK(podkeep_failure_free(f));
  CHECK_STR(history_text(&p->called), called);
  CHECK_INT(abandoned(), 0);
  probe_free(p);
}

TEST_WITH(L12_late_return__init_failed, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("late");
  p->init.returns = 8;
  late_end(p, &p->init, PODKEEP_PHASE_INIT, 8, false, "init");
}

TEST_WITH(L12_late_return__init_said_cancelled, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("late");
  p->init.returns = PODKEEP_CANCELLED;
  late_end(p, &p->init, PODKEEP_PHASE_INIT, 0, false, "init");
}

TEST_WITH(L12_late_return__run_failed, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("late");
  p->run.returns = 8;
  late_end(p, &p->run, PODKEEP_PHASE_RUN, 8, false, "init run teardown");
}

TEST_WITH(L12_late_return__run_said_cancelled, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("late");
  p->run.returns = PODKEEP_CANCELLED;
  late_end(p, &p->run, PODKEEP_PHASE_RUN, 0, false, "init run teardown");
}

TEST_WITH(L12_late_return__teardown_failed, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("late");
  p->teardown.returns = 8;
  late_end(p, &p->teardown, PODKEEP_PHASE_TEARDOWN, 8, false, "init run teardown");
}

TEST_WITH(L12_late_return__thread_ended_from_inside, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("late");
  p->s_may_die = true;
  p->run.does = does_exit;
  late_end(p, &p->run, PODKEEP_PHASE_RUN, 0, true, "init run");
}

/* --- One budget ----------------------------------------------------------------------------------------------------- */

/* Spends three quarters of the budget by looking at what is left of it. */
static int32_t spends_most(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  while (podkeep_context_time_left(ctx) > p->options.grace_ms / 4) pass_ms(1); /* time is what is to be spent */
  return 0;
}

static uint64_t overdraw(probe *p, void (*meanwhile)(podkeep_pod *)) {
  podkeep_pod *pod = p->pod ? p->pod : probe_make(p);
  podkeep_monitor *m = watch(pod);
  probe_running(p);
  uint64_t start = now_ns();
  CHECK_OK(podkeep_pod_cancel(pod));
  podkeep_event e = PODKEEP_EVENT_INIT;
  while (e.to != forced_state()) {
    if (meanwhile) meanwhile(pod);
    podkeep_status status = podkeep_monitor_next(m, &e, meanwhile ? 1 : LIMIT_MS);
    if (!meanwhile) CHECK_OK(status);
    CHECK(now_ns() - start < (uint64_t)LIMIT_MS * 1000000u);
  }
  CHECK_OK(podkeep_monitor_free(m));
  return e.time_ns - start;
}

static bool one_budget(void) {
  probe *p = probe_new("spending");
  p->options.grace_ms = slow_ms(1200);
  p->run.does = spends_most;
  p->teardown.held = true;
  p->s_may_die = true;
  uint64_t took = overdraw(p, NULL);
  CHECK(took >= (uint64_t)p->options.grace_ms * 1000000u);
  event_set(&p->teardown.go);
  CHECK_STATUS(podkeep_pod_join(p->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  bool in_time = took < (uint64_t)p->options.grace_ms * 1700000u; /* a fresh budget for teardown would have made it 1.75 */
  probe_free(p);
  return in_time;
}

TEST_WITH(L12_one_budget_for_run_and_teardown, NOT_MAIN(EXIT)) { in_time_once(one_budget); }

static void cancel_again(podkeep_pod *pod) { CHECK_OK(podkeep_pod_cancel(pod)); }

TEST_WITH(L12_cancelling_again_does_not_renew, NOT_MAIN(EXIT)) {
  probe *p = probe_new("pressed");
  p->options.grace_ms = slow_ms(200);
  p->run.held = true;
  p->s_may_die = true;
  uint64_t took = overdraw(p, cancel_again);
  CHECK(took >= (uint64_t)p->options.grace_ms * 1000000u);
  event_set(&p->run.go);
  CHECK_STATUS(podkeep_pod_join(p->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

TEST_WITH(L12_close_is_bounded_by_grace, NOT_MAIN(EXIT)) {
  probe *p = probe_new("bounded");
  p->options.grace_ms = SHORT_MS;
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  p->s_may_die = true;
  CHECK_STATUS(podkeep_pod_close(pod), forced_status());
  CHECK_HAS(podkeep_last_error(), "bounded");
  CHECK_STATE(pod, forced_state());
  event_set(&p->run.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  probe_free(p);
}

TEST_WITH(L12_time_left_comes_to_0, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("counting");
  p->options.grace_ms = SHORT_MS;
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_INT(ctx_time_left(p), -1); /* not cancelled */
  CHECK_OK(podkeep_pod_cancel(pod));
  for (int64_t before = p->options.grace_ms, left; before != 0; before = left) {
    left = ctx_time_left(p);
    CHECK(left >= 0 && left <= before);
    pass_ms(1); /* time is the subject */
  }
  CHECK_STATUS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_ERR_TIMEOUT);
  CHECK_INT(ctx_time_left(p), 0);
  event_set(&p->run.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* FOREVER: never force. There is no limit to be read, and close waits as long as it takes. */
static void close_it(void *arg) { CHECK_OK(podkeep_pod_close(((probe *)arg)->pod)); }

TEST(L12_forever_never_forces) {
  probe *p = probe_new("endless");
  p->options.grace_ms = PODKEEP_FOREVER;
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  worker w;
  worker_start(&w, close_it, p);
  CHECK_OK(ctx_wait(p, LIMIT_MS));
  CHECK_INT(ctx_time_left(p), -1);
  CHECK(!event_wait_for(&w.done, SHORT_MS));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  event_set(&p->run.go);
  worker_join(&w);
  probe_free(p);
}

/* A budget that no clock can reach saturates; it does not wrap to one already spent. */
TEST(L12_the_longest_grace_saturates) {
  probe *p = probe_new("nearly endless");
  p->options.grace_ms = INT64_MAX;
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATUS(podkeep_pod_join(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  event_set(&p->run.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

TEST(L12_default_grace_is_5_seconds) {
  probe *p = probe_new("default");
  p->options.grace_ms = 0;
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  int64_t left = ctx_time_left(p);
  CHECK(left > 0 && left <= 5000);
  event_set(&p->run.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* Abandoned threads are counted, each, and one pod's fate is not another's. */
TEST_WITH(L12_abandoned_counts_each, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p[3];
  CHECK_INT(abandoned(), 0);
  for (int i = 0; i < 3; i++) {
    p[i] = probe_new("one of three");
    p[i]->options.grace_ms = 1;
    p[i]->run.held = true;
    probe_running(p[i]);
    CHECK_STATUS(podkeep_pod_close(p[i]->pod), PODKEEP_ERR_TIMEOUT);
    CHECK_INT(abandoned(), i + 1);
  }
  CHECK_OK(podkeep_pod_free(p[0]->pod)); /* still counted without its handle */
  p[0]->pod = NULL;
  CHECK_INT(abandoned(), 3);
  probe *sound = probe_new("sound");
  probe_running(sound);
  probe_close(sound, PODKEEP_OK);
  for (int i = 0; i < 3; i++) {
    event_set(&p[i]->run.go);
    UNTIL(abandoned() == (uint32_t)(2 - i));
    probe_free(p[i]);
  }
  CHECK_STATUS(podkeep_abandoned(NULL), PODKEEP_ERR_INVALID_ARGUMENT);
}
