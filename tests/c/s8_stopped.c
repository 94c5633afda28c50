/* Section 8: what a user stopped is never restarted, whatever the policy, the moment and the way it ends. */
#include "probe.h"

#include <signal.h>
#include <string.h>

static step *init_of(incarnation *l) { return &l->init; }
static step *run_of(incarnation *l) { return &l->run; }
static step *teardown_of(incarnation *l) { return &l->teardown; }
static step *hook_of(incarnation *l) { return &l->hook; }

static probe *eager(const char *name, podkeep_restart policy) {
  probe *p = probe_new(name);
  p->options.restart = policy;
  p->options.backoff_ms = 1;
  return p;
}

static void never_again(probe *p, podkeep_status want) {
  uint32_t restarts = 99;
  CHECK_STATUS(podkeep_pod_join(p->pod, LIMIT_MS), want);
  CHECK_STATE(p->pod, want == PODKEEP_OK ? PODKEEP_STATE_STOPPED : PODKEEP_STATE_FAILED);
  CHECK_OK(podkeep_pod_restarts(p->pod, &restarts));
  CHECK_INT(restarts, 0);
  CHECK_INT(p->lives[1].init.count, 0);
  CHECK_OK(podkeep_pod_cancel(p->pod));
  CHECK_STATUS(podkeep_pod_join(p->pod, 0), want);
}

/* Cancelled while S is in that callback, which returns this. */
static void cancelled_in(step *(*of)(incarnation *), int32_t returns, podkeep_status want) {
  for (podkeep_restart policy = PODKEEP_RESTART_NEVER; policy <= PODKEEP_RESTART_ALWAYS; policy++) {
    probe *p = eager("stopped", policy);
    incarnation *lives = probe_lives(p, 2);
    step *s = of(&lives[0]);
    s->held = true;
    s->returns = returns;
    if (s == &lives[0].teardown) lives[0].run.does = does_return;
    podkeep_pod *pod = probe_start(p);
    event_wait(&s->entered);
    CHECK_OK(podkeep_pod_cancel(pod));
    event_set(&s->go);
    never_again(p, want);
    probe_free(p);
  }
}

TEST(S8_stopped__in_init) { cancelled_in(init_of, 0, PODKEEP_OK); }
TEST(S8_stopped__in_init_which_fails) { cancelled_in(init_of, 4, PODKEEP_ERR_FAILED); }
TEST(S8_stopped__in_init_which_says_cancelled) { cancelled_in(init_of, PODKEEP_CANCELLED, PODKEEP_OK); }
TEST(S8_stopped__in_run) { cancelled_in(run_of, 0, PODKEEP_OK); }
TEST(S8_stopped__in_run_which_fails) { cancelled_in(run_of, 4, PODKEEP_ERR_FAILED); }
TEST(S8_stopped__in_run_which_says_cancelled) { cancelled_in(run_of, PODKEEP_CANCELLED, PODKEEP_OK); }
TEST(S8_stopped__in_teardown_of_a_natural_return) { cancelled_in(teardown_of, 0, PODKEEP_OK); }
TEST(S8_stopped__in_teardown_of_a_natural_return_which_fails) { cancelled_in(teardown_of, 4, PODKEEP_ERR_FAILED); }

/* It had failed before anybody asked: FAILED, and no more. */
TEST(S8_stopped__in_teardown_of_a_failed_run) {
  probe *p = eager("stopped late", PODKEEP_RESTART_ALWAYS);
  incarnation *lives = probe_lives(p, 2);
  lives[0].run.does = does_return;
  lives[0].run.returns = 3;
  lives[0].teardown.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&lives[0].teardown.entered);
  CHECK_TOLD_STATE(pod, PODKEEP_STATE_STOPPING);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_set(&lives[0].teardown.go);
  never_again(p, PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 3, NULL);
  probe_free(p);
}

/* The hook of the stop is under way when the user asks, too. */
TEST(S8_stopped__in_the_hook_of_a_ready_timeout) {
  probe *p = eager("stopped twice", PODKEEP_RESTART_ALWAYS);
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(500); /* run must be entered by then */
  incarnation *lives = probe_lives(p, 2);
  step *s = hook_of(&lives[0]);
  s->held = true;
  lives[0].run.does = does_wait_for_hook;
  podkeep_pod *pod = probe_start(p);
  event_wait(&s->entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_set(&s->go);
  never_again(p, PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_READY, PODKEEP_KIND_TIMEOUT, podkeep_failure_code(f), NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

TEST(S8_stopped__in_the_stop_of_a_missed_heartbeat) {
  probe *p = eager("stopped twice", PODKEEP_RESTART_ALWAYS);
  p->options.watchdog_ms = slow_ms(100);
  p->no_hook = true;
  incarnation *lives = probe_lives(p, 2);
  lives[0].teardown.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&lives[0].teardown.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_set(&lives[0].teardown.go);
  never_again(p, PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_WATCHDOG, 0, NULL);
  probe_free(p);
}

/* S dies after the cancel. */
TEST_WITH(S8_stopped__then_ended_from_inside, NOT_MAIN(LIBRARYS_S)) {
  probe *p = eager("dies stopped", PODKEEP_RESTART_ALWAYS);
  p->no_hook = true;
  incarnation *lives = probe_lives(p, 2);
  lives[0].s_may_die = true;
  lives[0].run.held = true;
  lives[0].run.does = does_exit;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_set(&lives[0].run.go);
  never_again(p, PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_EXIT, 0, NULL);
  probe_free(p);
}

TEST_PROCESS(S8_stopped__then_killed_by_a_stranger) {
  probe *p = eager("killed stopped", PODKEEP_RESTART_ALWAYS);
  p->no_hook = true;
  incarnation *lives = probe_lives(p, 2);
  lives[0].s_may_die = true;
  lives[0].run.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_INT(kill((pid_t)lives[0].pid, SIGKILL), 0);
  never_again(p, PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_SIGNAL, SIGKILL, NULL);
  probe_free(p);
}

TEST_PROCESS(S8_stopped__then_killed_when_the_grace_is_spent) {
  probe *p = eager("forced", PODKEEP_RESTART_ALWAYS);
  p->no_hook = true;
  p->options.grace_ms = p->options.kill_after_ms = SHORT_MS;
  incarnation *lives = probe_lives(p, 2);
  lives[0].s_may_die = true;
  lives[0].run.held = true;
  probe_running(p);
  CHECK_STATUS(podkeep_pod_close(p->pod), PODKEEP_ERR_FAILED);
  never_again(p, PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* --- The other ways to ask ------------------------------------------------------------------------------------------- */

TEST(S8_stopped__by_close) {
  probe *p = eager("closed", PODKEEP_RESTART_ALWAYS);
  incarnation *lives = probe_lives(p, 2);
  lives[0].run.returns = 6; /* a failure on the way does not change it */
  probe_running(p);
  CHECK_STATUS(podkeep_pod_close(p->pod), PODKEEP_ERR_FAILED);
  never_again(p, PODKEEP_ERR_FAILED);
  probe_free(p);
}

TEST(S8_stopped__by_free) {
  probe *p = eager("freed", PODKEEP_RESTART_ALWAYS);
  incarnation *lives = probe_lives(p, 2);
  podkeep_pod *pod = probe_running(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, RUNNING, RUNNING);
  CHECK_OK(podkeep_pod_free(pod));
  p->pod = NULL;
  CHECK_EVENT(m, RUNNING, STOPPING);
  CHECK_EVENT(m, STOPPING, STOPPED);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
  CHECK_INT(lives[1].init.count, 0);
}

TEST(S8_stopped__by_shutdown) {
  probe *p = eager("shut down", PODKEEP_RESTART_ALWAYS);
  probe_lives(p, 2)[0].run.returns = 2;
  probe_running(p);
  uint32_t left = 99;
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  never_again(p, PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* A clean end that nobody asked for, at a time when nothing new may begin. */
TEST_WITH(S8_stopped__ends_by_itself_after_a_shutdown, NOT_PROCESS(ABANDONED)) {
  probe *p = eager("late", PODKEEP_RESTART_ALWAYS);
  incarnation *lives = probe_lives(p, 2);
  p->s_may_die = true;
  lives[0].run.held = true;
  p->no_hook = true;
  p->options.grace_ms = PODKEEP_FOREVER;
  podkeep_pod *pod = probe_running(p);
  uint32_t left = 99;
  CHECK_STATUS(podkeep_shutdown(0, &left), PODKEEP_ERR_TIMEOUT);
  CHECK_INT(left, 1);
  event_set(&lives[0].run.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED); /* no teardown any more */
  CHECK_INT(lives[1].init.count + lives[0].teardown.count, 0);
  probe_free(p);
}

/* --- In the delay ---------------------------------------------------------------------------------------------------- */

/* A pod whose first life has ended, and whose second is a minute away. */
static probe *waiting(podkeep_restart policy, int32_t returned) {
  probe *p = eager("between two lives", policy);
  p->options.backoff_ms = p->options.backoff_max_ms = 60000;
  incarnation *lives = probe_lives(p, 2);
  lives[0].run.does = does_return;
  lives[0].run.returns = returned;
  probe_start(p);
  UNTIL((CHECK_OK(podkeep_pod_state(p->pod, &lives[0].run.saw_state)), lives[0].run.saw_state == PODKEEP_STATE_RESTARTING));
  return p;
}

static void join_ok(void *arg) { CHECK_OK(podkeep_pod_join(((probe *)arg)->pod, PODKEEP_FOREVER)); }
static void wait_ready_ended(void *arg) {
  CHECK_STATUS(podkeep_pod_wait_ready(((probe *)arg)->pod, PODKEEP_FOREVER), PODKEEP_ERR_ENDED);
}

/* Ends the delay at once: STOPPED; join OK, wait_ready ENDED, for those who wait already, too; the failure is kept. */
static void cancelled_in_the_delay(int32_t returned) {
  probe *p = waiting(PODKEEP_RESTART_ALWAYS, returned);
  podkeep_monitor *m = watch(p->pod);
  worker joiner, waiter;
  worker_start(&joiner, join_ok, p);
  worker_start(&waiter, wait_ready_ended, p);
  worker_asleep(&joiner);
  worker_asleep(&waiter);
  uint64_t start = now_ns();
  CHECK_OK(podkeep_pod_cancel(p->pod));
  CHECK_STATE(p->pod, PODKEEP_STATE_STOPPED); /* when cancel returns */
  worker_join(&joiner);
  worker_join(&waiter);
  CHECK(now_ns() - start < (uint64_t)LIMIT_MS * 1000000u);
  podkeep_event e = NEXT_EVENT(m);
  CHECK_INT(e.to, PODKEEP_STATE_RESTARTING);
  e = NEXT_EVENT(m);
  CHECK_INT(e.from, PODKEEP_STATE_RESTARTING);
  CHECK_INT(e.to, PODKEEP_STATE_STOPPED);
  CHECK_INT(e.incarnation, 0);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  never_again(p, PODKEEP_OK);
  CHECK_STATUS(podkeep_pod_wait_ready(p->pod, 0), PODKEEP_ERR_ENDED);
  if (returned != 0) CHECK_ONLY_FAILURE(p->pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, returned, NULL);
  else CHECK_NO_FAILURE(p->pod);
  CHECK_STATUS(podkeep_pod_start(p->pod), PODKEEP_ERR_INVALID_STATE);
  CHECK_OK(podkeep_pod_close(p->pod));
  probe_free(p);
}

TEST(S8_stopped__in_the_delay_after_a_failure) { cancelled_in_the_delay(5); }
TEST(S8_stopped__in_the_delay_after_a_clean_end) { cancelled_in_the_delay(0); }

TEST(S8_stopped__in_the_delay_by_close) {
  probe *p = waiting(PODKEEP_RESTART_ON_FAILURE, 5);
  CHECK_OK(podkeep_pod_close(p->pod));
  never_again(p, PODKEEP_OK);
  probe_free(p);
}

TEST(S8_stopped__in_the_delay_by_free) {
  probe *p = waiting(PODKEEP_RESTART_ON_FAILURE, 5);
  podkeep_monitor *m = watch(p->pod);
  CHECK_EVENT(m, RESTARTING, RESTARTING);
  probe_free(p); /* waits for the drop */
  CHECK_EVENT(m, RESTARTING, STOPPED);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
}

/* The delay ends at once: also a shutdown that waits for nothing leaves none behind. */
TEST(S8_stopped__in_the_delay_by_a_shutdown_without_a_wait) {
  probe *p = waiting(PODKEEP_RESTART_ALWAYS, 5);
  uint32_t left = 99;
  CHECK_OK(podkeep_shutdown(0, &left));
  CHECK_INT(left, 0);
  never_again(p, PODKEEP_OK);
  probe_free(p);
}

TEST(S8_stopped__in_the_delay_by_shutdown) {
  probe *p = waiting(PODKEEP_RESTART_ALWAYS, 5);
  uint32_t left = 99;
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  never_again(p, PODKEEP_OK);
  probe_free(p);
}

/* --- In the second life ---------------------------------------------------------------------------------------------- */

static void second_life_cancelled_in(step *(*of)(incarnation *), podkeep_state shown, const char *called) {
  probe *p = eager("stopped later", PODKEEP_RESTART_ALWAYS);
  incarnation *lives = probe_lives(p, 2);
  lives[0].run.does = does_return;
  lives[0].run.returns = 8;
  step *s = of(&lives[1]);
  s->held = true;
  if (s == &lives[1].teardown) lives[1].run.does = does_return;
  podkeep_pod *pod = probe_start(p);
  event_wait(&s->entered);
  CHECK_TOLD_STATE(pod, shown);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  if (s == &lives[1].run) event_wait(&lives[1].hook.left);
  event_set(&s->go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_NO_FAILURE(pod); /* the first life's is forgotten */
  uint32_t restarts = 99;
  CHECK_OK(podkeep_pod_restarts(pod, &restarts));
  CHECK_INT(restarts, 1);
  CHECK_STR(history_text(&p->called), called);
  probe_free(p);
}

TEST(S8_stopped__in_the_second_init) {
  second_life_cancelled_in(init_of, PODKEEP_STATE_STARTING, "init run teardown init teardown");
}
TEST(S8_stopped__in_the_second_run) {
  second_life_cancelled_in(run_of, PODKEEP_STATE_RUNNING, "init run teardown init run cancel teardown");
}
TEST(S8_stopped__in_the_second_teardown) {
  second_life_cancelled_in(teardown_of, PODKEEP_STATE_STOPPING, "init run teardown init run teardown");
}
