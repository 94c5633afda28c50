/* orphans.c: children die with their host, whatever killed it, and so does all of their process groups (contract, section 4). */
#include "actor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* numbers[0]: how the host ends; [1]: how many copies of itself it forks before; [10...]: what has to die with it. */
enum { BY_CASE, SEGFAULT, EXIT, QUICK_EXIT, ABORT, RETURN, KILL_SELF };
enum { FIRST = 10, CHILDREN = 5, GRANDCHILDREN = 4, COPIES = 20 };

static int32_t act_with_grandchildren(actor *a, podkeep_context *ctx) { /* deaf to all that can be ignored */
  for (int s = 1; s < NSIG; s++) signal(s, SIG_IGN);
  for (int i = 0; i < 2; i++) {
    pid_t pid = fork();
    if (pid == 0)
      for (;;) pause();
    a->numbers[i] = pid;
  }
  event_set(&a->events[0]);
  return act_deaf(a, ctx);
}
HOST(family) {
  int at = FIRST;
  actor *waiting = actor_new("waiting"), *deaf = actor_like("deaf", act_with_grandchildren), *in_init = actor_new("in-init");
  actor_running(waiting);
  actor_running(deaf);
  event_wait(&deaf->events[0]);
  in_init->init.held = true;
  actor_start(in_init);
  event_wait(&in_init->init.entered);
  podkeep_pod *plain = shell_start("plain", "exec sleep 1000", NULL);
  char script[600];
  snprintf(script, sizeof script, "trap '' TERM HUP INT; sleep 1000 & echo $! >%s; sleep 1000 & echo $! >%s; : >%s; while :; do wait; done",
           world_path("one"), world_path("two"), world_path("both"));
  podkeep_pod *shell = shell_start("shell", script, NULL);
  UNTIL(access(world_path("both"), F_OK) == 0);
  char text[32];
  const pid_t children[CHILDREN] = {waiting->pid, deaf->pid, in_init->pid, pod_pid(plain), pod_pid(shell)};
  for (int i = 0; i < CHILDREN; i++) B->numbers[at++] = children[i];
  B->numbers[at++] = deaf->numbers[0], B->numbers[at++] = deaf->numbers[1];
  read_file(world_path("one"), text, sizeof text), B->numbers[at++] = atoi(text);
  read_file(world_path("two"), text, sizeof text), B->numbers[at++] = atoi(text);
  for (int i = 0; i < B->numbers[1]; i++) { /* copies that live on with every descriptor of the host */
    pid_t copy = fork();
    if (copy == 0) {
      setsid();
      for (;;) pause();
    }
    B->numbers[FIRST + COPIES + i] = copy;
  }
  event_set(&B->events[0]);
  event_wait(&B->events[1]);
  switch (B->numbers[0]) {
    case SEGFAULT: act_segfault(NULL, NULL); break;
    case EXIT: exit(0);
    case QUICK_EXIT: _exit(0);
    case ABORT: abort();
    case RETURN: return;
    case KILL_SELF: kill(getpid(), SIGKILL); break;
    default: break;
  }
  for (;;) pause();
}
static pid_t family_start(int end, int copies) {
  B->numbers[0] = end, B->numbers[1] = copies;
  pid_t host = start_self("host", "family", NULL);
  event_wait(&B->events[0]);
  for (int i = 0; i < CHILDREN + GRANDCHILDREN; i++) CHECK(B->numbers[FIRST + i] > 1 && alive((pid_t)B->numbers[FIRST + i]));
  return host;
}
static void family_is_gone(int copies) {
  int64_t begun = now_ms();
  for (int i = 0; i < CHILDREN; i++) UNTIL(!group_alive((pid_t)B->numbers[FIRST + i]));
  for (int i = 0; i < CHILDREN + GRANDCHILDREN; i++) UNTIL(!alive((pid_t)B->numbers[FIRST + i]));
  note("all of the family were gone %lld ms after their host", (long long)(now_ms() - begun));
  for (int i = 0; i < copies; i++) {
    pid_t copy = (pid_t)B->numbers[FIRST + COPIES + i];
    CHECK(alive(copy)); /* it has outlived them, with every descriptor */
    CHECK(kill(copy, SIGKILL) == 0);
  }
}
static void family_ends(int end, int signal_number, int code, int copies) {
  pid_t host = family_start(end, copies);
  event_set(&B->events[1]);
  if (signal_number) CHECK(kill(host, signal_number) == 0);
  CHECK_INT(wait_code(host, LIMIT_MS), code);
  family_is_gone(copies);
}
TEST_WITH(S4_no_orphans__host_sigkill, COLD, 60) { family_ends(BY_CASE, SIGKILL, 128 + SIGKILL, 0); }
TEST_WITH(S4_no_orphans__host_sigterm, COLD, 60) { family_ends(BY_CASE, SIGTERM, 128 + SIGTERM, 0); }
TEST_WITH(S4_no_orphans__host_sighup, COLD, 60) { family_ends(BY_CASE, SIGHUP, 128 + SIGHUP, 0); }
TEST_WITH(S4_no_orphans__host_segfault, COLD, 60) { family_ends(SEGFAULT, 0, 128 + SIGSEGV, 0); }
TEST_WITH(S4_no_orphans__host_exit, COLD, 60) { family_ends(EXIT, 0, 0, 0); }
TEST_WITH(S4_no_orphans__host_returns_from_main, COLD, 60) { family_ends(RETURN, 0, 0, 0); }
TEST_WITH(S4_no_orphans__host_quick_exit, COLD, 60) { family_ends(QUICK_EXIT, 0, 0, 0); }
TEST_WITH(S4_no_orphans__host_abort, COLD, 60) { family_ends(ABORT, 0, 128 + SIGABRT, 0); }
TEST_WITH(S4_no_orphans__host_kills_itself, COLD, 60) { family_ends(KILL_SELF, 0, 128 + SIGKILL, 0); }
TEST_WITH(S4_no_orphans__host_was_forked, COLD, 60) { family_ends(BY_CASE, SIGKILL, 128 + SIGKILL, 2); }
TEST_WITH(S4_no_orphans__host_was_forked_and_exits, COLD, 60) { family_ends(EXIT, 0, 0, 2); }
TEST_WITH(S4_no_orphans__host_was_stopped, COLD, 60) {
  pid_t host = family_start(BY_CASE, 0);
  CHECK(kill(host, SIGSTOP) == 0);
  UNTIL(process_letter(host) == 'T');
  for (int i = 0; i < CHILDREN; i++) CHECK(alive((pid_t)B->numbers[FIRST + i])); /* stopped is not dead */
  CHECK(kill(host, SIGKILL) == 0);
  CHECK_INT(wait_code(host, LIMIT_MS), 128 + SIGKILL);
  family_is_gone(0);
}

/* --- The guardian itself ---------------------------------------------------------------------------------------------------- */

/* A cold case starts no process pod itself, so that the only guardian below the case's parent is its host's. */
static pid_t find_guardian(void) { return child_of(getppid(), "__guard"); }
TEST_WITH(S4_guardian__is_apart_and_small, COLD, 60) {
  pid_t host = family_start(BY_CASE, 0), guardian = find_guardian();
  char path[64], text[4096];
  CHECK(guardian > 0);
  CHECK(getsid(guardian) != getsid(host) && getpgid(guardian) != getpgid(host)); /* no terminal's Ctrl-C reaches it */
  for (int fd = 0; fd < 3; fd++) {
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)guardian, fd);
    ssize_t n = readlink(path, text, sizeof text - 1);
    CHECK(n > 0);
    text[n] = '\0';
    CHECK_STR(text, "/dev/null");
  }
  snprintf(path, sizeof path, "/proc/%d/status", (int)guardian);
  read_file(path, text, sizeof text);
  const char *rss = strstr(text, "VmRSS:");
  CHECK(rss != NULL);
  note("the guardian has %d kB resident", atoi(rss + 6));
  event_set(&B->events[1]);
  CHECK(kill(host, SIGKILL) == 0);
  CHECK_INT(wait_code(host, LIMIT_MS), 128 + SIGKILL);
  family_is_gone(0);
  UNTIL(!alive(guardian)); /* and it ends with its host */
}
TEST_WITH(S4_guardian__killed_and_replaced, COLD, 60) {
  pid_t host = family_start(BY_CASE, 0), first = find_guardian(), second = 0;
  CHECK(first > 0 && kill(first, SIGKILL) == 0);
  UNTIL(!alive(first));
  UNTIL((second = find_guardian()) > 0 && second != first);
  for (int i = 0; i < CHILDREN; i++) CHECK(alive((pid_t)B->numbers[FIRST + i]));
  UNTIL(process_letter(second) == 'S'); /* it has begun to watch */
  CHECK(kill(host, SIGKILL) == 0);
  CHECK_INT(wait_code(host, LIMIT_MS), 128 + SIGKILL);
  family_is_gone(0);
}
TEST_WITH(S4_guardian__killed_often, COLD, 120) {
  pid_t host = family_start(BY_CASE, 1), last = 0;
  for (int i = 0; i < 40; i++) { /* some of them before their host has taken hold of them */
    pid_t next;
    int64_t until = now_ms() + LIMIT_MS;
    while (((next = find_guardian()) == 0 || next == last) && now_ms() < until) {} /* at once: no pause between the looks */
    CHECK(next > 0 && next != last);
    CHECK(kill(next, SIGKILL) == 0);
    last = next;
  }
  pid_t present;
  UNTIL((present = find_guardian()) > 0 && present != last);
  UNTIL(process_letter(present) == 'S');
  CHECK(kill(host, SIGKILL) == 0);
  CHECK_INT(wait_code(host, LIMIT_MS), 128 + SIGKILL);
  family_is_gone(1);
}
static int lines_of(const char *path) {
  FILE *file = fopen(path, "r");
  int lines = 0, c;
  while (file && (c = getc(file)) != EOF) lines += c == '\n';
  if (file) fclose(file);
  return lines;
}
TEST_WITH(S4_guardian__that_never_stays_is_not_started_again_and_again, COLD, 120) { /* another program in its place */
  char text[600], begun[300];
  snprintf(begun, sizeof begun, "%s", world_path("begun"));
  snprintf(text, sizeof text, "#!/bin/sh\necho >>%s\nsleep 0.02\n", begun);
  int fd = open(world_path("podkeep"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
  CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
  podkeep_pod *pod = shell_start("plain", "exec sleep 1000", NULL);
  pid_t guardian = 0;
  UNTIL((guardian = find_guardian()) > 0 && process_letter(guardian) == 'S'); /* it is on its way when the pod has begun */
  setenv("PODKEEP_PROGRAM", world_path("podkeep"), 1);
  CHECK(kill(guardian, SIGKILL) == 0);
  UNTIL(lines_of(begun) >= 63); /* they and the real one; from now on it is one a second */
  pass_ms(1000);
  int before = lines_of(begun);
  int64_t from = now_ms();
  pass_ms(2500);
  int more = lines_of(begun) - before;
  CHECK_BELOW(more, (now_ms() - from) / 1000 + 3);
  unsetenv("PODKEEP_PROGRAM");
  UNTIL(find_guardian() > 0); /* and at last there is one */
  pod_close(pod, PODKEEP_OK);
}
TEST_WITH(S4_guardian__polite_signals_do_not_end_it, COLD, 60) {
  static const int polite[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM};
  pid_t host = family_start(BY_CASE, 0), guardian = find_guardian();
  CHECK(guardian > 0);
  UNTIL(process_letter(guardian) == 'S');
  for (size_t i = 0; i < sizeof polite / sizeof polite[0]; i++) CHECK(kill(guardian, polite[i]) == 0);
  CHECK(kill(host, SIGKILL) == 0);
  CHECK_INT(wait_code(host, LIMIT_MS), 128 + SIGKILL);
  family_is_gone(0);
}
TEST_WITH(S4_guardian__of_an_ended_child_is_forgotten, COLD, 60) { /* a number that has become a stranger's is not killed */
  actor *a = actor_new("ended");
  actor_running(a);
  pid_t pid = a->pid;
  actor_close(a, PODKEEP_OK);
  UNTIL(!group_alive(pid));
}

/* --- Killed at any moment ----------------------------------------------------------------------------------------------------- */

HOST(starter) { /* starts and ends pods without end; every command bears the case's mark */
  const char *const argv[] = {"/bin/sh", "-c", "sleep 1000 & wait", B->text, NULL};
  podkeep_pod *pods[8] = {NULL};
  event_set(&B->events[0]);
  for (unsigned i = 0;; i++) {
    unsigned at = i % 8;
    if (pods[at]) pod_close(pods[at], PODKEEP_OK);
    pods[at] = command_start("restless", argv, NULL);
  }
}
TEST_WITH(S4_no_orphans__host_killed_at_any_moment, COLD, 120) {
  int rounds = (int)(40 / slow_factor()) + 3;
  random_seed((uint32_t)getpid());
  for (int i = 0; i < rounds; i++) {
    STORE(B->events[0].set, 0u);
    snprintf(B->text, 100, "mark-%d-%d", (int)getpid(), i);
    pid_t host = start_self("host", "starter", NULL);
    event_wait(&B->events[0]);
    pass_us(random_below(30000)); /* a random moment is the subject */
    CHECK(kill(host, SIGKILL) == 0);
    CHECK_INT(wait_code(host, LIMIT_MS), 128 + SIGKILL);
    UNTIL(processes_with(B->text) == 0);
  }
}
