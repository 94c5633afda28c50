/* force.c: close comes back within grace + kill_after whatever the child does, and nothing of it is left (L12). */
#include "actor.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { GRACE = 300, KILL_AFTER = 300 };
enum { LONG_GRACE = 2000 }; /* for what the child does or says within it */

static actor *stubborn(const char *name, act run) {
  actor *a = actor_like(name, run);
  a->options.grace_ms = slow_ms(GRACE);
  a->options.kill_after_ms = slow_ms(KILL_AFTER);
  return a;
}
/* Closes, and looks at how long that took and at what is left. */
static void forced(actor *a, podkeep_phase phase, int64_t at_least) {
  pid_t pid = pod_pid(a->pod);
  int64_t begun = now_ms();
  CHECK_STATUS(podkeep_pod_close(a->pod), PODKEEP_ERR_FAILED);
  int64_t took = now_ms() - begun;
  note("closed after %lld ms (grace %lld, kill_after %d)", (long long)took, (long long)a->options.grace_ms, KILL_AFTER);
  CHECK_BELOW(took, a->options.grace_ms + slow_ms(KILL_AFTER + SLACK));
  CHECK_BELOW(at_least, took);
  CHECK_STATE(a->pod, FAILED);
  check_failure_at(__FILE__, __LINE__, a->pod, phase, PODKEEP_KIND_TIMEOUT, TIMED_OUT, NULL);
  CHECK_HAS(failure_message(a->pod), a->name); /* L14: the sentence says who, and where it is stuck */
  CHECK_INT(process_letter(pid), 0);
  UNTIL(!group_alive(pid)); /* killed before the child was reaped; the kernel takes its time with fifty */
  uint32_t abandoned = 99;
  CHECK_OK(podkeep_abandoned(&abandoned));
  CHECK_INT(abandoned, 0);
  actor_free(a);
}

TEST(L12_deaf_but_polite) { /* SIGTERM ends it: no need to wait for kill_after */
  actor *a = stubborn("polite", act_deaf);
  a->options.kill_after_ms = slow_ms(30000);
  actor_running(a);
  forced(a, PODKEEP_PHASE_RUN, slow_ms(GRACE) - 2);
}
TEST(L12_ignores_sigterm) {
  actor *a = stubborn("ignores-sigterm", act_ignore_term);
  actor_running(a);
  event_wait(&a->events[0]);
  forced(a, PODKEEP_PHASE_RUN, slow_ms(GRACE + KILL_AFTER) - 2);
}
TEST(L12_blocks_every_signal) {
  actor *a = stubborn("blocks-all", act_block_all);
  actor_running(a);
  event_wait(&a->events[0]);
  forced(a, PODKEEP_PHASE_RUN, 0);
}
TEST(L12_stopped_by_itself) {
  actor *a = stubborn("stopped", act_stop_self);
  actor_running(a);
  UNTIL(process_letter(a->pid) == 'T');
  CHECK_STATE(a->pod, RUNNING);
  forced(a, PODKEEP_PHASE_RUN, 0);
}
TEST(L12_stopped_by_a_stranger_while_it_waits) {
  actor *a = stubborn("frozen", act_wait);
  actor_running(a);
  CHECK(kill(a->pid, SIGSTOP) == 0);
  UNTIL(process_letter(a->pid) == 'T');
  pid_t pid = a->pid;
  int64_t begun = now_ms();
  /* SIGCONT comes with the polite signal; whether its cancel or SIGTERM is then first is the child's affair. */
  CHECK_STATUS(podkeep_pod_close(a->pod), PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(GRACE + KILL_AFTER + SLACK));
  CHECK_TIMED_OUT(a->pod, RUN);
  CHECK_INT(process_letter(pid), 0);
  actor_free(a);
}
static int32_t act_sleep_60(actor *a, podkeep_context *ctx) {
  (void)ctx;
  event_set(&a->events[0]);
  pass_ms(60000); /* time is the subject: an init that takes a minute */
  return 0;
}
TEST(L12_in_a_60_s_init) {
  actor *a = stubborn("slow-init", act_wait);
  DOES(a->init, act_sleep_60);
  actor_start(a);
  event_wait(&a->events[0]);
  forced(a, PODKEEP_PHASE_INIT, slow_ms(GRACE) - 2);
  CHECK_INT(a->run.count, 0);
  CHECK_INT(a->teardown.count, 0);
}
TEST(L12_in_a_60_s_teardown) {
  actor *a = stubborn("slow-teardown", act_wait);
  a->options.grace_ms = slow_ms(LONG_GRACE);
  DOES(a->teardown, act_sleep_60);
  actor_running(a);
  forced(a, PODKEEP_PHASE_TEARDOWN, slow_ms(LONG_GRACE) - 2);
}
static int32_t act_hang_here(actor *a, podkeep_context *ctx) {
  (void)ctx;
  event_set(&a->events[3]);
  for (;;) pause();
  return 0;
}
static int32_t act_wait_for_the_hook(actor *a, podkeep_context *ctx) {
  (void)ctx;
  event_wait(&a->events[3]);
  return 0;
}
TEST(L12_a_hanging_hook) {
  actor *a = stubborn("slow-hook", act_wait);
  a->options.grace_ms = slow_ms(LONG_GRACE);
  DOES(a->hook, act_hang_here);
  DOES(a->run, act_wait_for_the_hook); /* a hook is begun beside run_forever only */
  actor_running(a);
  forced(a, PODKEEP_PHASE_CANCEL, slow_ms(LONG_GRACE) - 2);
}

/* As a Python program does that has left a thread behind: main returns, and the process stays. */
static void stay_here(void) {
  for (;;) pause();
}
static int32_t act_fail_and_stay(actor *a, podkeep_context *ctx) {
  atexit(stay_here);
  return act_fail(a, ctx);
}
static void failed_init_stays(bool again) { /* one grace from its end, which no stop began, and then force */
  actor *a = stubborn("lingering", act_wait);
  DOES(a->init, act_fail_and_stay);
  a->numbers[0] = 7;
  if (again) a->options.restart = PODKEEP_RESTART_ON_FAILURE, a->options.max_restarts = 1, a->options.backoff_ms = 1;
  int64_t begun = now_ms();
  actor_start(a);
  CHECK_STATUS(podkeep_pod_wait_ready(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(GRACE + KILL_AFTER + SLACK) * (again ? 2 : 1));
  CHECK_STATE(a->pod, FAILED);
  CHECK_INT(a->init.count, again ? 2 : 1);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(a->pod, &f));
  CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_INIT);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_RETURNED);
  CHECK_INT(podkeep_failure_code(f), 7);
  const podkeep_failure *force = podkeep_failure_secondary(f);
  CHECK(force != NULL);
  CHECK_INT(podkeep_failure_kind(force), PODKEEP_KIND_TIMEOUT);
  CHECK_INT(podkeep_failure_phase(force), PODKEEP_PHASE_INIT);
  CHECK(podkeep_failure_secondary(force) == NULL);
  CHECK_OK(podkeep_failure_free(f));
  CHECK_INT(process_letter(a->pid), 0);
  actor_free(a);
}
TEST(L12_a_failed_init_whose_process_stays) { failed_init_stays(false); }
TEST(L12_a_failed_init_whose_process_stays__restarted) { failed_init_stays(true); }

enum { BOMB = 50 };
/* Each forks the next, deaf and of the same group, until all are there. */
static int32_t act_bomb(actor *a, podkeep_context *ctx) {
  signal(SIGTERM, SIG_IGN);
  int64_t at;
  do {
    at = ADD(a->numbers[0], 1);
    STORE(a->numbers[1], getpid());
  } while (at < BOMB && fork() == 0);
  if (at >= BOMB) event_set(&a->events[0]);
  return act_deaf(a, ctx);
}
TEST(L12_a_fork_bomb_of_50) {
  actor *a = stubborn("bomb", act_bomb);
  actor_running(a);
  event_wait(&a->events[0]);
  pid_t last = (pid_t)a->numbers[1];
  CHECK(alive(last) && getpgid(last) == a->pid);
  forced(a, PODKEEP_PHASE_RUN, 0);
  CHECK(!alive(last));
}
/* It never stops: each process makes the next and dies, so that the group's members change faster than they can be read. */
static int32_t act_hydra(actor *a, podkeep_context *ctx) {
  signal(SIGTERM, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  event_set(&a->events[0]);
  if (fork() == 0)
    for (;;) {
      if (fork() > 0) _exit(0);
      STORE(a->numbers[1], getpid());
      sched_yield();
    }
  return act_deaf(a, ctx);
}
TEST(L12_a_bomb_that_never_stops) {
  actor *a = stubborn("hydra", act_hydra);
  actor_running(a);
  event_wait(&a->events[0]);
  forced(a, PODKEEP_PHASE_RUN, 0);
}
TEST(L12_every_pod_at_a_time) { /* the slowest, not the sum: they are closed by as many threads */
  enum { PODS = 8 };
  actor *all[PODS];
  int64_t begun;
  for (int i = 0; i < PODS; i++) {
    all[i] = stubborn("one-of-many", act_ignore_term);
    actor_running(all[i]);
    event_wait(&all[i]->events[0]);
  }
  begun = now_ms();
  for (int i = 0; i < PODS; i++) CHECK_OK(podkeep_pod_cancel(all[i]->pod));
  for (int i = 0; i < PODS; i++) {
    CHECK_STATUS(podkeep_pod_join(all[i]->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_TIMED_OUT(all[i]->pod, RUN);
    actor_free(all[i]);
  }
  CHECK_BELOW(now_ms() - begun, slow_ms(GRACE + KILL_AFTER + SLACK));
}
TEST(L12_cancelling_again_renews_nothing) {
  actor *a = stubborn("again", act_ignore_term);
  actor_running(a);
  event_wait(&a->events[0]);
  int64_t begun = now_ms();
  CHECK_OK(podkeep_pod_cancel(a->pod));
  while (podkeep_pod_join(a->pod, 10) == PODKEEP_ERR_TIMEOUT) CHECK_OK(podkeep_pod_cancel(a->pod));
  CHECK_BELOW(now_ms() - begun, slow_ms(GRACE + KILL_AFTER + SLACK));
  CHECK_STATE(a->pod, FAILED);
  actor_free(a);
}
TEST(L12_stays_stopping_until_reaped) { /* never ABANDONED, and not FAILED while the process is still there */
  actor *a = stubborn("watched", act_ignore_term);
  actor_running(a);
  event_wait(&a->events[0]);
  pid_t pid = a->pid;
  podkeep_monitor *m;
  podkeep_event event = PODKEEP_EVENT_INIT;
  CHECK_OK(podkeep_monitor_new(a->pod, &m));
  CHECK_OK(podkeep_monitor_next(m, &event, LIMIT_MS));
  CHECK_OK(podkeep_pod_cancel(a->pod));
  CHECK_OK(podkeep_monitor_next(m, &event, LIMIT_MS));
  CHECK_INT(event.to, PODKEEP_STATE_STOPPING);
  for (podkeep_state s; (s = state_of(a->pod)) != PODKEEP_STATE_FAILED; pass_ms(1)) CHECK_INT(s, PODKEEP_STATE_STOPPING);
  CHECK_INT(process_letter(pid), 0);
  CHECK_OK(podkeep_monitor_next(m, &event, LIMIT_MS));
  CHECK_INT(event.to, PODKEEP_STATE_FAILED);
  CHECK_STATUS(podkeep_monitor_next(m, &event, LIMIT_MS), PODKEEP_ERR_ENDED);
  CHECK_OK(podkeep_monitor_free(m));
  actor_free(a);
}
TEST(L12_a_forever_grace_never_forces) {
  actor *a = stubborn("unforced", act_ignore_term);
  a->options.grace_ms = PODKEEP_FOREVER;
  actor_running(a);
  event_wait(&a->events[0]);
  CHECK_OK(podkeep_pod_cancel(a->pod));
  CHECK_STATUS(podkeep_pod_join(a->pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "unforced");
  CHECK(alive(a->pid));
  CHECK_STATE(a->pod, STOPPING);
  CHECK(kill(a->pid, SIGKILL) == 0);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, RUN, SIGNAL, SIGKILL, NULL);
  actor_free(a);
}
static int32_t act_extend(actor *a, podkeep_context *ctx) {
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  a->numbers[0] = podkeep_context_time_left(ctx);
  podkeep_context_extend(ctx, slow_ms(40000)); /* far beyond what it takes */
  a->numbers[1] = podkeep_context_time_left(ctx);
  pass_ms(slow_ms(LONG_GRACE + 500)); /* beyond the first grace: the time itself is the subject */
  return 0;
}
TEST(L12_extended_from_the_child) {
  actor *a = stubborn("extending", act_extend);
  a->options.grace_ms = slow_ms(LONG_GRACE);
  actor_running(a);
  CHECK_OK(podkeep_pod_close(a->pod));
  CHECK(a->numbers[0] > 0 && a->numbers[0] <= slow_ms(LONG_GRACE));
  CHECK(a->numbers[1] > slow_ms(LONG_GRACE));
  actor_free(a);
}

/* --- What is left of the group ------------------------------------------------------------------------------------------ */

static int32_t act_leave_some(actor *a, podkeep_context *ctx) { /* grandchildren that ignore everything, then numbers[0] */
  for (int i = 0; i < 5; i++)
    if (fork() == 0) {
      signal(SIGTERM, SIG_IGN);
      signal(SIGHUP, SIG_IGN);
      prctl(PR_SET_PDEATHSIG, 0);
      STORE(a->numbers[2], getpid());
      if (ADD(a->numbers[1], 1) == 5) event_set(&a->events[0]);
      for (;;) pause();
    }
  event_wait(&a->events[0]);
  if (a->numbers[0]) _exit((int)a->numbers[0]);
  return podkeep_context_wait(ctx, PODKEEP_FOREVER) == PODKEEP_OK ? PODKEEP_CANCELLED : 1;
}
TEST(L12_the_rest_of_the_group_goes_with_it__clean_end) {
  actor *a = actor_like("leaving", act_leave_some);
  actor_running(a);
  event_wait(&a->events[0]);
  pid_t pid = a->pid, last = (pid_t)a->numbers[2];
  CHECK(alive(last));
  CHECK_OK(podkeep_pod_close(a->pod));
  UNTIL(!group_alive(pid));
  CHECK(!alive(last));
  actor_free(a);
}
TEST(L12_the_rest_of_the_group_goes_with_it__died) {
  actor *a = actor_like("leaving", act_leave_some);
  a->numbers[0] = 3;
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  UNTIL(!group_alive(a->pid));
  CHECK(!alive((pid_t)a->numbers[2]));
  actor_free(a);
}
TEST(L12_the_rest_of_the_group_goes_with_it__status_unknown) { /* no zombie holds the group's number then */
  signal(SIGCHLD, SIG_IGN);
  actor *a = actor_like("leaving", act_leave_some);
  a->numbers[0] = 3;
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  UNTIL(!group_alive(a->pid));
  CHECK(!alive((pid_t)a->numbers[2]));
  actor_free(a);
}
TEST(L12_free_lets_go_and_still_ends_it) { /* free cancels and never blocks; the library sees it through */
  actor *a = stubborn("let-go", act_ignore_term);
  a->options.grace_ms = slow_ms(LONG_GRACE);
  actor_running(a);
  event_wait(&a->events[0]);
  int64_t begun = now_ms();
  actor_free(a);
  CHECK_BELOW(now_ms() - begun, slow_ms(LONG_GRACE)); /* had it waited for the end: that, and kill_after */
  UNTIL(!group_alive(a->pid));
}
TEST(L12_shutdown_ends_all) {
  actor *all[4];
  for (int i = 0; i < 4; i++) {
    all[i] = i % 2 ? stubborn("shut-down", act_ignore_term) : actor_like("shut-down", act_wait);
    actor_running(all[i]);
    if (i % 2) event_wait(&all[i]->events[0]);
  }
  uint32_t left = 99;
  int64_t begun = now_ms();
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  CHECK_BELOW(now_ms() - begun, slow_ms(GRACE + KILL_AFTER + SLACK));
  for (int i = 0; i < 4; i++) {
    CHECK_INT(state_of(all[i]->pod), i % 2 ? PODKEEP_STATE_FAILED : PODKEEP_STATE_STOPPED);
    CHECK_INT(process_letter(all[i]->pid), 0);
    actor_free(all[i]);
  }
}
