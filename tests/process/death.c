/* death.c: a child that dies: known at once, in every phase, with the reason (contract, section 2). */
#include "actor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- SIGKILL from outside, in every phase ---------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }

/* Brings a pod to where it shall die, kills it, and measures until join has answered. */
static void killed_100_times(const char *where, actor *(*bring)(void), podkeep_phase phase) {
  enum { TIMES = 100 };
  double ms[TIMES];
  for (int i = 0; i < TIMES; i++) {
    actor *a = bring();
    uint64_t begun = now_ns();
    CHECK(kill(a->pid, SIGKILL) == 0);
    CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    ms[i] = (double)(now_ns() - begun) / 1e6;
    CHECK_STATE(a->pod, FAILED);
    check_failure_at(__FILE__, __LINE__, a->pod, phase, PODKEEP_KIND_SIGNAL, SIGKILL, "killed by signal 9 (SIGKILL)");
    CHECK_INT(process_letter(a->pid), 0);
    actor_free(a);
  }
  qsort(ms, TIMES, sizeof ms[0], by_size);
  note("SIGKILL %s to join: median %.2f ms, worst %.2f ms", where, ms[TIMES / 2], ms[TIMES - 1]);
  CHECK_BELOW((int64_t)ms[TIMES / 2], slow_ms(50));
}

static actor *bring_ready(void) {
  actor *a = actor_new("killed-ready");
  actor_running(a);
  return a;
}
TEST(S2_sigkill_is_known_at_once__ready) { killed_100_times("when ready", bring_ready, PODKEEP_PHASE_RUN); }

static actor *bring_init(void) {
  actor *a = actor_new("killed-init");
  a->init.held = true;
  actor_start(a);
  event_wait(&a->init.entered);
  CHECK_STATE(a->pod, STARTING);
  return a;
}
TEST(S2_sigkill_is_known_at_once__init) { killed_100_times("in init", bring_init, PODKEEP_PHASE_INIT); }

static actor *bring_teardown(void) {
  actor *a = actor_new("killed-teardown");
  a->teardown.held = true;
  actor_running(a);
  CHECK_OK(podkeep_pod_cancel(a->pod));
  event_wait(&a->teardown.entered);
  CHECK_STATE(a->pod, STOPPING);
  return a;
}
TEST(S2_sigkill_is_known_at_once__teardown) { killed_100_times("in teardown", bring_teardown, PODKEEP_PHASE_TEARDOWN); }

static actor *bring_grace(void) {
  actor *a = actor_like("killed-grace", act_deaf);
  actor_running(a);
  CHECK_OK(podkeep_pod_cancel(a->pod));
  event_wait(&a->hook.left);
  CHECK_STATE(a->pod, STOPPING);
  return a;
}
TEST(S2_sigkill_is_known_at_once__grace) { killed_100_times("in its grace", bring_grace, PODKEEP_PHASE_RUN); }

TEST(L13_never_running_when_dead) {
  int64_t worst = 0;
  for (int i = 0; i < 50; i++) {
    actor *a = bring_ready();
    CHECK_STATE(a->pod, RUNNING);
    CHECK(kill(a->pid, SIGKILL) == 0);
    while (alive(a->pid)) {}
    int64_t dead = now_ms();
    while (state_of(a->pod) == PODKEEP_STATE_RUNNING) CHECK_BELOW(now_ms() - dead, slow_ms(2000));
    if (now_ms() - dead > worst) worst = now_ms() - dead;
    CHECK_STATUS(podkeep_pod_wait_ready(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    actor_free(a);
  }
  note("dead and still RUNNING: at most %lld ms of 50 deaths", (long long)worst);
}

TEST(S2_a_monitor_hears_of_the_death) {
  actor *a = bring_ready();
  podkeep_monitor *m;
  podkeep_event event = PODKEEP_EVENT_INIT;
  CHECK_OK(podkeep_monitor_new(a->pod, &m));
  CHECK_OK(podkeep_monitor_next(m, &event, LIMIT_MS));
  CHECK_INT(event.to, PODKEEP_STATE_RUNNING);
  CHECK(kill(a->pid, SIGKILL) == 0);
  CHECK_OK(podkeep_monitor_next(m, &event, LIMIT_MS));
  CHECK_INT(event.from, PODKEEP_STATE_RUNNING);
  CHECK_INT(event.to, PODKEEP_STATE_FAILED);
  CHECK_INT(podkeep_failure_code(event.failure), SIGKILL);
  CHECK_STATUS(podkeep_monitor_next(m, &event, LIMIT_MS), PODKEEP_ERR_ENDED);
  CHECK_OK(podkeep_monitor_free(m));
  actor_free(a);
}

/* --- Ends from inside --------------------------------------------------------------------------------------------------- */

static void dies(actor *a, podkeep_phase phase, podkeep_kind kind, int32_t code, const char *sentence) {
  actor_start(a);
  if (phase == PODKEEP_PHASE_TEARDOWN || phase == PODKEEP_PHASE_CANCEL) {
    CHECK_OK(podkeep_pod_wait_ready(a->pod, LIMIT_MS));
    event_wait(&a->run.entered);
    CHECK_OK(podkeep_pod_cancel(a->pod));
  }
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATE(a->pod, FAILED);
  check_failure_at(__FILE__, __LINE__, a->pod, phase, kind, code, sentence);
  actor_free(a);
}
static actor *dying(step *(*where)(actor *), act how, int code) {
  actor *a = actor_new("dying");
  DOES(*where(a), how);
  a->numbers[0] = code;
  return a;
}
static step *in_init(actor *a) { return &a->init; }
static step *in_run(actor *a) { return &a->run; }
static step *in_teardown(actor *a) { return &a->teardown; }
static step *in_hook(actor *a) { return &a->hook; }

TEST(S2_exit_3_is_kind_exit) {
  dies(dying(in_init, act_exit, 3), PODKEEP_PHASE_INIT, PODKEEP_KIND_EXIT, 3, "exited with code 3");
  dies(dying(in_run, act_exit, 3), PODKEEP_PHASE_RUN, PODKEEP_KIND_EXIT, 3, "exited with code 3");
  dies(dying(in_teardown, act_exit, 3), PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_EXIT, 3, "exited with code 3");
}
TEST(L6_exit_0_in_a_callback_is_kind_exit) {
  dies(dying(in_init, act_exit, 0), PODKEEP_PHASE_INIT, PODKEEP_KIND_EXIT, 0, "exited with code 0");
  dies(dying(in_run, act_exit, 0), PODKEEP_PHASE_RUN, PODKEEP_KIND_EXIT, 0, "exited with code 0");
  dies(dying(in_teardown, act_exit, 0), PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_EXIT, 0, "exited with code 0");
}
TEST(L6_exit_in_the_hook_is_kind_exit) {
  actor *a = dying(in_hook, act_exit, 0);
  DOES(a->run, act_deaf);
  actor_running(a);
  CHECK_STATUS(podkeep_pod_close(a->pod), PODKEEP_ERR_FAILED);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(a->pod, &f)); /* S was in run_forever while its hook ran: either phase is true */
  CHECK(podkeep_failure_phase(f) == PODKEEP_PHASE_RUN || podkeep_failure_phase(f) == PODKEEP_PHASE_CANCEL);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_EXIT);
  CHECK_INT(podkeep_failure_code(f), 0);
  CHECK_OK(podkeep_failure_free(f));
  actor_free(a);
}
TEST(S2_segfault_and_abort) {
  dies(dying(in_init, act_segfault, 0), PODKEEP_PHASE_INIT, PODKEEP_KIND_SIGNAL, SIGSEGV, "killed by signal 11 (SIGSEGV)");
  dies(dying(in_run, act_segfault, 0), PODKEEP_PHASE_RUN, PODKEEP_KIND_SIGNAL, SIGSEGV, "killed by signal 11 (SIGSEGV)");
  dies(dying(in_teardown, act_segfault, 0), PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_SIGNAL, SIGSEGV, "SIGSEGV");
  dies(dying(in_run, act_abort, 0), PODKEEP_PHASE_RUN, PODKEEP_KIND_SIGNAL, SIGABRT, "killed by signal 6 (SIGABRT)");
}
TEST(S2_no_core_no_word_of_it) { /* the soft limit is 0 here */
  actor *a = actor_like("coreless", act_segfault);
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_HASNT(failure_message(a->pod), "core");
  actor_free(a);
}
TEST(S2_core_dumped_is_told) {
  struct rlimit core;
  CHECK(getrlimit(RLIMIT_CORE, &core) == 0);
  core.rlim_cur = core.rlim_max;
  CHECK(setrlimit(RLIMIT_CORE, &core) == 0 && chdir(world_directory()) == 0);
  int status; /* whether this system writes cores is asked of it, not of the library */
  pid_t pid = fork();
  if (pid == 0) act_segfault(NULL, NULL);
  CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
  if (!WCOREDUMP(status)) skip("this system writes no cores");
  actor *a = actor_like("with-core", act_segfault);
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, RUN, SIGNAL, SIGSEGV, "core dumped");
  actor_free(a);
}
static int32_t act_raise(actor *a, podkeep_context *ctx) {
  raise((int)a->numbers[0]);
  return act_deaf(a, ctx);
}
TEST(S2_signals_keep_their_default_in_the_child) {
  static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGALRM, SIGQUIT};
  signal(SIGPIPE, SIG_IGN); /* the host's own */
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
    dies(dying(in_run, act_raise, signals[i]), PODKEEP_PHASE_RUN, PODKEEP_KIND_SIGNAL, signals[i], "killed by signal");
}
TEST(S2_a_strangers_sigterm_is_a_failure) {
  actor *a = bring_ready();
  CHECK(kill(a->pid, SIGTERM) == 0);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, RUN, SIGNAL, SIGTERM, "killed by signal 15 (SIGTERM)");
  actor_free(a);
}
static int32_t act_exit_late(actor *a, podkeep_context *ctx);
static void exit_as_told(void) { _exit(5); }
static int32_t act_exit_late(actor *a, podkeep_context *ctx) {
  (void)a, (void)ctx;
  atexit(exit_as_told);
  return 0;
}
TEST(S2_an_end_after_the_librarys_word_is_a_failure_of_teardown) {
  actor *a = actor_like("late", act_exit_late);
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, TEARDOWN, EXIT, 5, "5");
  actor_free(a);
}

/* --- The status taken away ------------------------------------------------------------------------------------------------ */

static void status_is_unknown(void) {
  actor *a = bring_ready();
  CHECK(kill(a->pid, SIGKILL) == 0);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, RUN, LOST, 0, "status unknown");
  actor_free(a);
  podkeep_pod *command = shell_start("command", "exit 3", NULL);
  CHECK_STATUS(podkeep_pod_join(command, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(command, RUN, LOST, 0, "status unknown");
  CHECK_OK(podkeep_pod_free(command));
}
static void words_still_count(void) {
  actor *a = bring_ready();
  actor_close(a, PODKEEP_OK); /* a clean end, by the library's word */
  a = actor_like("failing", act_fail);
  a->numbers[0] = 7;
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, RUN, RETURNED, 7, "as it was told");
  actor_free(a);
}
TEST(S2_status_unknown__sigchld_ignored) {
  signal(SIGCHLD, SIG_IGN);
  status_is_unknown();
  words_still_count();
}
TEST(S2_status_unknown__no_cldwait) {
  struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
  sigaction(SIGCHLD, &action, NULL);
  status_is_unknown();
  words_still_count();
}
static void *reap_all(void *stop) {
  while (!event_is_set(stop))
    if (waitpid(-1, NULL, WNOHANG) <= 0) sched_yield(); /* a host's own loop, and a greedy one */
  return NULL;
}
TEST(S2_status_unknown__the_host_reaps_everything) {
  /* Who is first is a race that the library may win: then it knows. What must not be is a hang or a wrong word. */
  pthread_t thread;
  event *stop = world_alloc(sizeof *stop);
  CHECK(pthread_create(&thread, NULL, reap_all, stop) == 0);
  int known = 0, unknown = 0;
  for (int i = 0; i < 30; i++) {
    actor *a = bring_ready();
    CHECK(kill(a->pid, SIGKILL) == 0);
    CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    podkeep_failure *f;
    CHECK_OK(podkeep_pod_failure(a->pod, &f));
    CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_RUN);
    if (podkeep_failure_kind(f) == PODKEEP_KIND_SIGNAL) {
      CHECK_INT(podkeep_failure_code(f), SIGKILL);
      known++;
    } else {
      CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_LOST);
      CHECK_INT(podkeep_failure_code(f), 0);
      CHECK_HAS(podkeep_failure_message(f), "status unknown");
      unknown++;
    }
    CHECK_OK(podkeep_failure_free(f));
    actor_free(a);
    words_still_count();
  }
  note("a host that reaps everything: %d statuses known, %d unknown", known, unknown);
  event_set(stop);
  pthread_join(thread, NULL);
}
TEST(S4_the_hosts_own_children_are_left_alone) {
  pid_t own = fork(); /* a child of the host's, ended while pods come and go: its status is the host's to read */
  if (own == 0) _exit(42);
  UNTIL(process_letter(own) == 'Z');
  for (int i = 0; i < 5; i++) actor_close(bring_ready(), PODKEEP_OK);
  int status = 0;
  CHECK(waitpid(own, &status, 0) == own && WIFEXITED(status));
  CHECK_INT(WEXITSTATUS(status), 42);
}

/* --- Under a debugger ------------------------------------------------------------------------------------------------- */

TEST(S4_traced_child_that_has_died_holds_up_nobody) { /* its tracer is told first, and may take its time */
  actor *traced = actor_new("traced"), *other = actor_new("other");
  actor_running(traced);
  actor_running(other);
  pid_t tracer = fork();
  if (tracer == 0) {
    if (ptrace(PTRACE_SEIZE, (pid_t)traced->pid, NULL, NULL) != 0) _exit(77);
    event_set(&B->events[0]);
    for (;;) pause();
  }
  while (!event_wait_for(&B->events[0], 10))
    if (waitpid(tracer, NULL, WNOHANG) == tracer) skip("nobody may trace here");
  CHECK(kill((pid_t)traced->pid, SIGKILL) == 0);
  UNTIL(process_letter((pid_t)traced->pid) == 'Z');
  CHECK_OK(podkeep_pod_cancel(traced->pod)); /* so that each of the library's threads has to do with it */
  actor_close(other, PODKEEP_OK);
  actor *third = actor_new("third");
  actor_running(third);
  actor_close(third, PODKEEP_OK);
  CHECK(kill(tracer, SIGKILL) == 0);
  CHECK_INT(wait_code(tracer, LIMIT_MS), 128 + SIGKILL);
  CHECK_STATUS(podkeep_pod_join(traced->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(traced->pod, RUN, SIGNAL, SIGKILL, NULL);
  actor_free(traced);
}
