/* Section 10: podkeep_pod_run, which makes a thread of the host's S, or waits for a child in its place. */
#include "probe.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

/* podkeep_pod_run on this very thread, and what it says. */
static int32_t run(podkeep_pod *pod) {
  int32_t exit_code = -4711;
  CHECK_OK(podkeep_pod_run(pod, &exit_code));
  return exit_code;
}

static probe *returning(int32_t code) {
  probe *p = probe_new("main");
  p->run.does = does_return;
  p->run.returns = code;
  probe_make(p);
  return p;
}

/* What must be said while run() blocks the case's own thread. */
static void after_run_is_entered(void *arg) {
  probe *p = arg;
  event_wait(&p->run.entered);
  CHECK_OK(podkeep_pod_wait_ready(p->pod, LIMIT_MS));
}

static void cancels(void *arg) {
  after_run_is_entered(arg);
  CHECK_OK(podkeep_pod_cancel(((probe *)arg)->pod));
}

static void sends(probe *p, int signal_number) {
  after_run_is_entered(p);
  CHECK_INT(kill(getpid(), signal_number), 0);
}
static void sends_term(void *arg) { sends(arg, SIGTERM); }
static void sends_int(void *arg) { sends(arg, SIGINT); }

static int32_t run_meanwhile(probe *p, void (*does)(void *)) {
  worker w;
  if (p->pod == NULL) probe_make(p);
  worker_start(&w, does, p);
  int32_t exit_code = run(p->pod);
  worker_join(&w);
  return exit_code;
}

/* --- In the calling thread ------------------------------------------------------------------------------------------ */

TEST_MAIN(S10_run__on_the_callers_thread) {
  probe *p = returning(0);
  CHECK_INT(run(p->pod), 0);
  CHECK_STATE(p->pod, PODKEEP_STATE_STOPPED);
  CHECK_INT(p->init.tid, own_tid());
  CHECK_INT(p->run.tid, own_tid());
  CHECK_INT(p->teardown.tid, own_tid());
  CHECK_STR(history_text(&p->called), "init run teardown");
  probe_free(p);
}

/* --- In either place ------------------------------------------------------------------------------------------------ */

static void *dispositions(void) {
  struct sigaction *all = world_alloc(65 * sizeof *all);
  for (int s = 1; s <= 64; s++) sigaction(s, NULL, &all[s]);
  return all;
}

#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000 /* the C library's own */
#endif

static void on_signal(int signal_number) { (void)signal_number; }

TEST_WITH(S10_run__handlers_are_put_back, NOT_THREAD(RUN)) {
  struct sigaction mine;
  memset(&mine, 0, sizeof mine);
  mine.sa_handler = on_signal;
  sigaddset(&mine.sa_mask, SIGUSR1);
  CHECK_INT(sigaction(SIGTERM, &mine, NULL), 0);
  const struct sigaction *before = dispositions();
  sigset_t mask_before, mask_after;
  pthread_sigmask(SIG_BLOCK, NULL, &mask_before);
  probe *p = returning(0);
  CHECK_INT(run(p->pod), 0);
  const struct sigaction *after = dispositions();
  for (int s = 1; s <= 64; s++) {
    CHECK(after[s].sa_handler == before[s].sa_handler);
    CHECK_INT(after[s].sa_flags & ~SA_RESTORER, before[s].sa_flags & ~SA_RESTORER);
    for (int k = 1; k <= 64; k++) CHECK_INT(sigismember(&after[s].sa_mask, k), sigismember(&before[s].sa_mask, k));
  }
  pthread_sigmask(SIG_BLOCK, NULL, &mask_after);
  for (int s = 1; s <= 64; s++) CHECK_INT(sigismember(&mask_after, s), sigismember(&mask_before, s));
  probe_free(p);
}

TEST_WITH(S10_run__exit_codes, NOT_THREAD(RUN)) {
  static const int32_t returned[] = {0, 1, 5, 255, 256, -1, INT32_MIN}, exits[] = {0, 1, 5, 255, 1, 1, 1};
  for (int i = 0; i < 7; i++) {
    probe *p = returning(returned[i]);
    CHECK_INT(run(p->pod), exits[i]);
    CHECK_STATE(p->pod, i ? PODKEEP_STATE_FAILED : PODKEEP_STATE_STOPPED);
    CHECK_STATUS(podkeep_pod_join(p->pod, 0), i ? PODKEEP_ERR_FAILED : PODKEEP_OK);
    if (i) CHECK_ONLY_FAILURE(p->pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, returned[i], NULL);
    probe_free(p);
  }
}

TEST_WITH(S10_run__exit_code_of_a_ready_timeout, NOT_THREAD(RUN)) {
  probe *p = probe_new("never ready");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(100);
  probe_make(p);
  CHECK_INT(run(p->pod), 124);
  CHECK_STATE(p->pod, PODKEEP_STATE_FAILED);
  probe_free(p);
}

static void kills_the_child(void *arg) {
  after_run_is_entered(arg);
  CHECK_INT(kill((pid_t)((probe *)arg)->run.tid, SIGKILL), 0);
}

TEST_PROCESS(S10_run__exit_code_of_a_killed_child) {
  probe *p = probe_new("mortal");
  p->s_may_die = true;
  CHECK_INT(run_meanwhile(p, kills_the_child), 128 + SIGKILL);
  CHECK_ONLY_FAILURE(p->pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_SIGNAL, SIGKILL, NULL);
  probe_free(p);
}

static void stops(void (*how)(void *)) {
  probe *p = probe_new("stopped");
  p->run.does = does_wait_for_hook;
  CHECK_INT(run_meanwhile(p, how), 0);
  CHECK_STATE(p->pod, PODKEEP_STATE_STOPPED);
  CHECK_INT(p->hook.count, 1);
  CHECK_INT(p->teardown.count, 1);
  CHECK(p->teardown.saw_cancelled);
  probe_free(p);
}

TEST_WITH(S10_run__cancelled, NOT_THREAD(RUN)) { stops(cancels); }
TEST_WITH(S10_run__SIGTERM_cancels, NOT_THREAD(RUN)) { stops(sends_term); }
TEST_WITH(S10_run__SIGINT_cancels, NOT_THREAD(RUN)) { stops(sends_int); }

/* What is blocked in the caller comes through all the same: a container's main thread may have inherited any mask. */
TEST_WITH(S10_run__SIGTERM_blocked_by_the_caller_cancels, NOT_THREAD(RUN)) {
  sigset_t set, after;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  CHECK_INT(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
  stops(sends_term);
  CHECK_INT(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
  CHECK_INT(sigismember(&after, SIGTERM), 1);
}

/* It came before the call, and waited: there is nothing to run any more. */
TEST_WITH(S10_run__SIGTERM_pending_before_it_begins_cancels, NOT_THREAD(RUN)) {
  sigset_t set, pending;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  CHECK_INT(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
  CHECK_INT(raise(SIGTERM), 0);
  probe *p = returning(3);
  CHECK_INT(run(p->pod), 0);
  CHECK_STATE(p->pod, PODKEEP_STATE_STOPPED);
  CHECK_STATUS(podkeep_pod_join(p->pod, 0), PODKEEP_OK);
  CHECK_INT(p->init.count, 0);
  CHECK_INT(sigpending(&pending), 0);
  CHECK_INT(sigismember(&pending, SIGTERM), 0);
  probe_free(p);
}

static void frees_then_signals(void *arg) {
  probe *p = arg;
  after_run_is_entered(p);
  podkeep_pod *pod = p->pod;
  p->pod = NULL;
  CHECK_OK(podkeep_pod_free(pod)); /* which cancels */
  event_wait(&p->teardown.entered);
  CHECK_INT(kill(getpid(), SIGTERM), 0);
  event_set(&p->teardown.go);
}

TEST_MAIN(S10_run__the_first_SIGTERM_after_a_free_ends_nothing) {
  probe *p = probe_new("freed");
  p->teardown.held = true;
  CHECK_INT(run_meanwhile(p, frees_then_signals), 0);
  CHECK_INT(p->teardown.count, 1);
  probe_free(p);
}

static int cancel_state(void) {
  int state, mine;
  CHECK_INT(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state), 0);
  CHECK_INT(pthread_setcancelstate(state, &mine), 0);
  return state;
}

TEST_WITH(S10_run__the_cancel_state_is_the_callers_again, NOT_THREAD(RUN)) {
  static const int states[] = {PTHREAD_CANCEL_ENABLE, PTHREAD_CANCEL_DISABLE};
  for (int i = 0; i < 2; i++) {
    CHECK_INT(pthread_setcancelstate(states[i], NULL), 0);
    probe *p = returning(0);
    CHECK_INT(run(p->pod), 0);
    CHECK_INT(cancel_state(), states[i]);
    probe_free(p);
  }
  CHECK_INT(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL), 0);
}

/* --- Force: the program ends ---------------------------------------------------------------------------------------- */

static void until_stopping(probe *p) {
  podkeep_state state = PODKEEP_STATE_RUNNING;
  while (state != PODKEEP_STATE_STOPPING) {
    CHECK_OK(podkeep_pod_state(p->pod, &state));
    pass_ms(1); /* the handler's thread is at work; it has no event */
  }
}

static void sends_twice(probe *p, int first, int second) {
  sends(p, first);
  until_stopping(p);
  CHECK_INT(kill(getpid(), second), 0);
}
static void sends_term_twice(void *arg) { sends_twice(arg, SIGTERM, SIGTERM); }
static void sends_int_twice(void *arg) { sends_twice(arg, SIGINT, SIGINT); }
static void sends_int_then_term(void *arg) { sends_twice(arg, SIGINT, SIGTERM); }

static void does_not_come_back(int64_t grace_ms, void (*how)(void *)) {
  probe *p = probe_new("deaf");
  p->options.grace_ms = grace_ms;
  p->run.held = true;
  run_meanwhile(p, how);
}

static int32_t runs_until_the_hook_has_begun(probe *p, podkeep_context *ctx) {
  (void)ctx;
  event_wait(&p->hook.entered);
  return 0;
}

static void cancels_in_init(void *arg) {
  probe *p = arg;
  event_wait(&p->init.entered);
  CHECK_OK(podkeep_pod_cancel(p->pod));
}

static void hangs_in(step *(*of)(probe *), void (*how)(void *)) {
  probe *p = probe_new("deaf");
  p->options.grace_ms = slow_ms(200);
  of(p)->held = true;
  if (of(p) == &p->hook) p->run.does = runs_until_the_hook_has_begun;
  run_meanwhile(p, how);
}

static step *init_of(probe *p) { return &p->init; }
static step *hook_of(probe *p) { return &p->hook; }
static step *teardown_of(probe *p) { return &p->teardown; }

TEST_WITH(S10_run__a_second_SIGTERM_forces, NOT_THREAD(RUN), .exits = 128 + SIGTERM) {
  does_not_come_back(PODKEEP_FOREVER, sends_term_twice);
}
TEST_WITH(S10_run__a_second_SIGINT_forces, NOT_THREAD(RUN), .exits = 128 + SIGINT) {
  does_not_come_back(PODKEEP_FOREVER, sends_int_twice);
}
TEST_WITH(S10_run__SIGINT_then_SIGTERM_forces, NOT_THREAD(RUN), .exits = 128 + SIGTERM) {
  does_not_come_back(PODKEEP_FOREVER, sends_int_then_term);
}
#define TEST_MAIN_EXITS(name_, status) TEST_WITH(name_, NOT_THREAD(RUN), NOT_PROCESS(RUN), .exits = status)
TEST_MAIN_EXITS(S10_run__grace_spent_in_run, 124) { does_not_come_back(SHORT_MS, cancels); }
TEST_MAIN_EXITS(S10_run__grace_spent_in_init, 124) { hangs_in(init_of, cancels_in_init); }
TEST_MAIN_EXITS(S10_run__grace_spent_in_the_hook, 124) { hangs_in(hook_of, cancels); }
TEST_MAIN_EXITS(S10_run__grace_spent_in_teardown, 124) { hangs_in(teardown_of, cancels); }
TEST_MAIN_EXITS(S10_run__grace_spent_after_SIGTERM, 128 + SIGTERM) { does_not_come_back(SHORT_MS, sends_term); }

/* A child is forced instead, and the host learns of it. */
static void forced(void (*how)(void *), int32_t exit_code) {
  probe *p = probe_new("deaf");
  p->options.grace_ms = SHORT_MS;
  p->run.held = true;
  p->s_may_die = true;
  CHECK_INT(run_meanwhile(p, how), exit_code);
  podkeep_failure *f = FAILURE_OF(p->pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_TIMEOUT, podkeep_failure_code(f), NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

TEST_PROCESS(S10_run__grace_spent_by_a_child) { forced(cancels, 124); }
TEST_PROCESS(S10_run__grace_spent_by_a_child_after_SIGTERM) { forced(sends_term, 128 + SIGTERM); }

/* The process was the pod: nobody is left who could say how it ended, and no signal would reach the library's own threads. */
TEST_MAIN_EXITS(S10_run__the_first_thread_ended_from_inside, 1) {
  CHECK_INT(own_tid(), getpid());
  probe *p = probe_new("gone");
  p->s_may_die = true;
  p->run.does = does_exit;
  run(probe_make(p));
}

/* --- Refusals ------------------------------------------------------------------------------------------------------- */

static void refused(podkeep_pod *pod, podkeep_status want) {
  int32_t exit_code = -4711;
  CHECK_STATUS(podkeep_pod_run(pod, &exit_code), want);
  CHECK_INT(exit_code, -4711);
  CHECK(strlen(podkeep_last_error()) > 0);
}

TEST_WITH(S10_run__only_what_is_new, NOT_THREAD(RUN)) {
  probe *cancelled = probe_new("cancelled"), *started = probe_new("started");
  CHECK_OK(podkeep_pod_cancel(probe_make(cancelled)));
  refused(cancelled->pod, PODKEEP_ERR_INVALID_STATE);
  CHECK_OK(podkeep_pod_start(probe_make(started)));
  refused(started->pod, PODKEEP_ERR_INVALID_STATE);
  event_wait(&started->run.entered);
  CHECK_OK(podkeep_pod_close(started->pod));
  refused(started->pod, PODKEEP_ERR_INVALID_STATE);
  refused(NULL, PODKEEP_ERR_INVALID_HANDLE);
  podkeep_pod *freed = started->pod;
  probe_free(started);
  refused(freed, PODKEEP_ERR_INVALID_HANDLE);
  probe_free(cancelled);
  CHECK_STR(history_text(&cancelled->called), "drop");
}

TEST_MAIN(S10_run__a_kick_that_is_a_second_signal) {
  static const int signals[] = {SIGINT, SIGTERM};
  for (int i = 0; i < 2; i++) {
    probe *p = probe_new("kicked");
    p->options.kick_signal = signals[i];
    refused(probe_make(p), PODKEEP_ERR_INVALID_ARGUMENT);
    CHECK_STATE(p->pod, PODKEEP_STATE_NEW);
    probe_free(p);
  }
}

static void runs_another(void *arg) {
  probe *p = arg, *other = p->data;
  after_run_is_entered(p);
  refused(other->pod, PODKEEP_ERR_INVALID_STATE);
  CHECK_STATE(other->pod, PODKEEP_STATE_NEW);
  CHECK_OK(podkeep_pod_cancel(p->pod));
}

TEST_WITH(S10_run__one_at_a_time, NOT_THREAD(RUN)) {
  probe *p = probe_new("first"), *other = p->data = returning(7);
  CHECK_INT(run_meanwhile(p, runs_another), 0);
  CHECK_INT(run(other->pod), 7); /* its turn has come */
  probe_free(other);
  probe_free(p);
}
