/* together.c: many at a time, at odd moments, from odd places; and how long a life takes. */
#include "actor.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- Time -------------------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }
TEST(S4_a_life_takes_milliseconds) { /* figures; the limit is far above: it is for a poll or a timer in the way */
  enum { TIMES = 50 };
  double up[TIMES], down[TIMES];
  for (int kind = 0; kind < 2; kind++) {
    for (int i = 0; i < TIMES; i++) {
      actor *a = actor_new("timed");
      uint64_t begun = now_ns();
      podkeep_pod *pod = kind ? shell_start("timed", "exec sleep 1000", NULL) : actor_start(a);
      CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
      up[i] = (double)(now_ns() - begun) / 1e6;
      begun = now_ns();
      CHECK_OK(podkeep_pod_close(pod));
      down[i] = (double)(now_ns() - begun) / 1e6;
      CHECK_OK(podkeep_pod_free(pod));
    }
    qsort(up, TIMES, sizeof up[0], by_size);
    qsort(down, TIMES, sizeof down[0], by_size);
    note("%s: start to ready %.2f ms, cancel to reaped %.2f ms (medians)", kind ? "a command" : "callbacks", up[TIMES / 2], down[TIMES / 2]);
    CHECK_BELOW((int64_t)up[TIMES / 2], slow_ms(100));
    CHECK_BELOW((int64_t)down[TIMES / 2], slow_ms(100));
  }
}

/* --- At odd moments ------------------------------------------------------------------------------------------------------ */

TEST(L2_cancelled_at_any_moment_init_and_teardown_pair) {
  random_seed(11);
  int reached[3] = {0};
  for (int i = 0; i < 150; i++) {
    actor *a = actor_new("cancelled-anywhere");
    actor_start(a);
    pass_us(random_below(2500)); /* the random moment is the subject */
    CHECK_OK(podkeep_pod_cancel(a->pod));
    CHECK_OK(podkeep_pod_join(a->pod, LIMIT_MS));
    CHECK_NO_FAILURE(a->pod);
    CHECK_STATE(a->pod, STOPPED);
    CHECK(a->init.count <= 1 && a->run.count <= a->init.count && a->hook.count <= a->run.count);
    CHECK_INT(a->teardown.count, a->init.count);
    reached[a->run.count ? 2 : a->init.count ? 1 : 0]++;
    actor_free(a);
  }
  note("ended before init %d, before run_forever %d, after it %d", reached[0], reached[1], reached[2]);
}
TEST(L2_killed_at_any_moment) {
  random_seed(12);
  for (int i = 0; i < 100; i++) {
    actor *a = actor_new("killed-anywhere");
    actor_start(a);
    pid_t pid = pod_pid(a->pod);
    pass_us(random_below(2500));
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    podkeep_failure *f;
    CHECK_OK(podkeep_pod_failure(a->pod, &f));
    CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_SIGNAL);
    CHECK_INT(podkeep_failure_code(f), SIGKILL);
    /* Not earlier than what was seen of it, at most one step later. */
    CHECK(podkeep_failure_phase(f) <= PODKEEP_PHASE_RUN);
    if (a->run.count) CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_RUN);
    CHECK(podkeep_failure_secondary(f) == NULL);
    CHECK_OK(podkeep_failure_free(f));
    actor_free(a);
  }
}
TEST(S1_every_state_is_told_in_order) {
  actor *a = actor_new("told");
  podkeep_monitor *m;
  podkeep_event event = PODKEEP_EVENT_INIT;
  static const int want[][2] = {{PODKEEP_STATE_NEW, PODKEEP_STATE_NEW}, {PODKEEP_STATE_NEW, PODKEEP_STATE_STARTING},
                                {PODKEEP_STATE_STARTING, PODKEEP_STATE_RUNNING}, {PODKEEP_STATE_RUNNING, PODKEEP_STATE_STOPPING},
                                {PODKEEP_STATE_STOPPING, PODKEEP_STATE_STOPPED}};
  actor_make(a);
  CHECK_OK(podkeep_monitor_new(a->pod, &m));
  for (int i = 0; i < 5; i++) { /* one by one, so that none is merged */
    if (i == 1) actor_start(a);
    if (i == 3) CHECK_OK(podkeep_pod_cancel(a->pod));
    CHECK_OK(podkeep_monitor_next(m, &event, LIMIT_MS));
    CHECK_INT(event.from, want[i][0]);
    CHECK_INT(event.to, want[i][1]);
    CHECK_INT(event.missed, 0);
    CHECK(event.failure == NULL);
  }
  CHECK_STATUS(podkeep_monitor_next(m, &event, LIMIT_MS), PODKEEP_ERR_ENDED);
  CHECK_OK(podkeep_monitor_free(m));
  actor_free(a);
}

/* --- Many at a time ------------------------------------------------------------------------------------------------------- */

static void *lives_in_a_row(void *nothing) {
  (void)nothing;
  for (int i = 0; i < 15; i++) {
    actor *a = actor_new("from-a-thread");
    actor_running(a);
    podkeep_pod *command = shell_start("from-a-thread-too", "sleep 1000", NULL);
    if (i % 3 == 0) {
      CHECK(kill(a->pid, SIGKILL) == 0);
      CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
      actor_free(a);
    } else {
      actor_close(a, PODKEEP_OK);
    }
    pod_close(command, PODKEEP_OK);
  }
  return NULL;
}
TEST_WITH(S3_from_eight_threads, PLAIN, 120) {
  pthread_t threads[8];
  for (int i = 0; i < 8; i++) CHECK(pthread_create(&threads[i], NULL, lives_in_a_row, NULL) == 0);
  for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
}
static void *joins(void *pod) {
  static int64_t right;
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  ADD(right, 1);
  return NULL;
}
TEST(L10_every_waiter_hears_of_the_death) {
  actor *a = actor_new("awaited");
  actor_running(a);
  pthread_t threads[16];
  for (int i = 0; i < 16; i++) CHECK(pthread_create(&threads[i], NULL, joins, a->pod) == 0);
  CHECK(kill(a->pid, SIGKILL) == 0);
  for (int i = 0; i < 16; i++) pthread_join(threads[i], NULL);
  actor_free(a);
}
TEST_WITH(S3_a_hundred_children_at_a_time, PLAIN, 120) {
  enum { PODS = 100 };
  actor *all[PODS];
  int before = open_descriptors();
  for (int i = 0; i < PODS; i++) all[i] = actor_new("one-of-100"), actor_start(all[i]);
  for (int i = 0; i < PODS; i++) CHECK_OK(podkeep_pod_wait_ready(all[i]->pod, LIMIT_MS));
  note("%.1f descriptors a child in the host", (double)(open_descriptors() - before) / PODS);
  for (int i = 0; i < PODS; i++) CHECK_STATE(all[i]->pod, RUNNING);
  for (int i = 0; i < PODS; i++) CHECK_OK(podkeep_pod_cancel(all[i]->pod));
  for (int i = 0; i < PODS; i++) actor_close(all[i], PODKEEP_OK);
}

/* --- From odd places ------------------------------------------------------------------------------------------------------ */

static podkeep_pod *from_log;
static event logged;
static void log_starts(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)user_data;
  if (strcmp(pod, "the-speaker") != 0 || strstr(message, "now") == NULL) return;
  const char *const argv[] = {"/bin/sh", "-c", "sleep 1000", NULL};
  from_log = command_make("from-the-log", argv, NULL);
  CHECK_OK(podkeep_pod_start(from_log));
  CHECK_STATUS(podkeep_pod_join(from_log, PODKEEP_FOREVER), PODKEEP_ERR_DEADLOCK);
  CHECK_OK(podkeep_pod_cancel(from_log));
  event_set(&logged);
}
TEST(L11_a_log_callback_starts_a_pod) {
  CHECK_OK(podkeep_set_log(log_starts, 3, NULL, NULL));
  podkeep_pod *pod = shell_start("the-speaker", "echo now >&2", NULL);
  pod_join(pod, PODKEEP_OK);
  event_wait(&logged);
  pod_join(from_log, PODKEEP_OK);
  log_drop();
}
static int32_t thread_run(podkeep_context *ctx, void *state) { /* a thread pod that keeps a process pod */
  (void)state;
  actor *a = actor_new("kept-by-a-thread");
  actor_running(a);
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  actor_close(a, PODKEEP_OK);
  return 0;
}
TEST(L11_a_thread_pod_keeps_a_process_pod) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  spec.name = "thread", spec.run_forever = thread_run;
  CHECK_OK(podkeep_runtime_new(&spec, &runtime));
  CHECK_OK(podkeep_pod_new(runtime, NULL, &pod));
  CHECK_OK(podkeep_runtime_free(runtime));
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  pod_close(pod, PODKEEP_OK);
}
TEST(S3_freed_while_others_wait) {
  actor *a = actor_new("freed");
  actor_running(a);
  pid_t pid = a->pid;
  actor_free(a); /* cancelled and let go */
  UNTIL(!group_alive(pid));
  UNTIL(LOAD(a->teardown.count) == 1);
}

/* --- A child that plays with its process ------------------------------------------------------------------------------- */

static int32_t act_change_group(actor *a, podkeep_context *ctx) { /* into the host's own group, deaf to SIGTERM */
  signal(SIGTERM, SIG_IGN);
  a->numbers[0] = setpgid(0, getpgid(getppid()));
  event_set(&a->events[0]);
  return act_deaf(a, ctx);
}
TEST(L12_a_child_that_changes_its_group_is_forced) { /* the direct child ends with close, wherever it went; nobody else does */
  actor *a = actor_like("defector", act_change_group);
  a->options.grace_ms = slow_ms(300), a->options.kill_after_ms = slow_ms(300);
  actor_running(a);
  event_wait(&a->events[0]);
  CHECK_INT(a->numbers[0], 0);
  CHECK_INT(getpgid(a->pid), getpgrp());
  int64_t begun = now_ms();
  CHECK_OK(podkeep_pod_cancel(a->pod));
  podkeep_status status = podkeep_pod_join(a->pod, slow_ms(300 + 300 + SLACK));
  if (status == PODKEEP_ERR_TIMEOUT) kill(a->pid, SIGKILL); /* so that the case ends */
  CHECK_STATUS(status, PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(300 + 300 + SLACK));
  CHECK_TIMED_OUT(a->pod, RUN);
  actor_free(a);
}
HOST(defectors_host) {
  actor *a = actor_like("defector", act_change_group);
  actor_running(a);
  event_wait(&a->events[0]);
  B->numbers[0] = a->pid;
  event_set(&B->events[0]);
  for (;;) pause();
}
TEST_WITH(S4_no_orphans__a_child_that_changed_its_group, COLD, 60) {
  pid_t host = start_self("host", "defectors_host", NULL);
  event_wait(&B->events[0]);
  CHECK(kill(host, SIGKILL) == 0);
  CHECK_INT(wait_code(host, LIMIT_MS), 128 + SIGKILL);
  UNTIL(!alive((pid_t)B->numbers[0]));
}
static int32_t act_run_twice(actor *a, podkeep_context *ctx) {
  int32_t code = 77;
  a->numbers[0] = podkeep_child_run(&code);
  return act_wait(a, ctx);
}
TEST(S3_child_run_within_a_child_is_a_deadlock) {
  actor *a = actor_like("twice", act_run_twice);
  actor_running(a);
  actor_close(a, PODKEEP_OK);
  CHECK_INT(a->numbers[0], PODKEEP_ERR_DEADLOCK);
}
TEST_WITH(S4_a_host_that_reaps_strangers, COLD, 60) { /* a subreaper, as many container mains are */
  CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
  actor *a = actor_new("kept");
  actor_running(a);
  char script[600];
  const char *go = world_path("go");
  snprintf(script, sizeof script, "(sleep 1000 & sleep 1000 &) ; while ! test -e %s; do :; done; exit 0", go);
  podkeep_pod *leaver = shell_start("leaver", script, NULL);
  pid_t group = pod_pid(leaver); /* it has one until it ends */
  write_file(go, "");
  CHECK_OK(podkeep_pod_join(leaver, LIMIT_MS));
  CHECK_OK(podkeep_pod_free(leaver));
  UNTIL(!group_alive(group));
  CHECK(kill(a->pid, SIGKILL) == 0);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, RUN, SIGNAL, SIGKILL, NULL);
  actor_free(a);
  CHECK(prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
  siginfo_t info;
  UNTIL((info.si_pid = 0, waitid(P_ALL, 0, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)); /* the leaver's are ours now */
  CHECK_OK(podkeep_shutdown(LIMIT_MS, NULL));
  _exit(0); /* the guardian, whose parent this process made itself, ends with it: no look at children */
}
