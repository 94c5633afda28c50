/* inherit.c: what a child gets from its host, and what not (contract, section 4). */
#include "actor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

/* --- A program that tells how it was started ----------------------------------------------------------------------- */

static void tell(const char *format, const char *a, const char *b) {
  size_t used = strlen(B->text);
  snprintf(B->text + used, sizeof B->text - used, format, a, b);
}
static void tell_number(const char *name, long long n) {
  char text[32];
  snprintf(text, sizeof text, "%lld", n);
  tell("%s=%s\n", name, text);
}
static void look_at_self(void) {
  char text[4096], path[300];
  B->text[0] = '\0';
  tell_number("pid", getpid()), tell_number("parent", getppid()), tell_number("group", getpgrp());
  tell("%s=%s\n", "cwd", getcwd(text, sizeof text));
  for (int i = 0; arg_list[i] != NULL; i++) tell("%s=[%s]\n", "arg", arg_list[i]);
  DIR *d = opendir("/proc/self/fd");
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(d)) continue;
    snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
    ssize_t n = readlink(path, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    tell("fd %s=%s\n", e->d_name, text);
  }
  closedir(d);
  read_file("/proc/self/status", text, sizeof text);
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
    if (strncmp(line, "Sig", 3) == 0 || strncmp(line, "Shd", 3) == 0) tell("%s%s\n", line, "");
  for (char **e = environ; *e; e++) tell("env %s%s\n", *e, "");
}
PROGRAM(look) {
  look_at_self();
  event_set(&B->events[0]);
  for (;;) pause();
}
static int32_t act_look(actor *a, podkeep_context *ctx) {
  static char *nothing[] = {NULL};
  arg_list = nothing;
  look_at_self();
  event_set(&B->events[0]);
  return act_wait(a, ctx);
}
static void looked(void) {
  event_wait(&B->events[0]);
  STORE(B->events[0].set, 0u);
}
static int told(const char *start) { /* how many lines begin so */
  int n = 0;
  for (const char *line = B->text; line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, start, strlen(start)) == 0) n++;
  }
  return n;
}
static podkeep_pod *look_start(const podkeep_pod_options *options) {
  podkeep_pod *pod = program_start("looking", "look", options);
  looked();
  return pod;
}

/* --- Signals ---------------------------------------------------------------------------------------------------------------- */

static void *start_with_all_blocked(void *pod) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  CHECK_OK(podkeep_pod_start(pod));
  return NULL;
}
static void signals_are_reset(void) {
  CHECK_HAS(B->text, "SigBlk:\t0000000000000000");
  CHECK_HAS(B->text, "SigIgn:\t0000000000000000");
  CHECK_HAS(B->text, "ShdPnd:\t0000000000000000");
}
TEST(S4_mask_and_dispositions_are_reset) {
  sigset_t all, before;
  pthread_t thread;
  const char *const argv[] = {self_path(), "--do", "look", NULL};
  for (int s = 1; s < NSIG; s++)
    if (s != SIGKILL && s != SIGSTOP) signal(s, SIG_IGN);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  podkeep_pod *pod = command_make("looking", argv, NULL);
  CHECK(pthread_create(&thread, NULL, start_with_all_blocked, pod) == 0);
  pthread_join(thread, NULL);
  looked();
  signals_are_reset();
  pod_close(pod, PODKEEP_ERR_FAILED); /* LOST: SIGCHLD is ignored here, so the kernel takes the status */
  actor *a = actor_like("looking-too", act_look);
  actor_running(a);
  looked();
  CHECK_HAS(B->text, "SigBlk:\t0000000000000000");
  CHECK_HAS(B->text, "SigIgn:\t0000000000000000");
  actor_close(a, PODKEEP_OK);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}
static void on_signal(int number) { (void)number; }
TEST(S4_the_hosts_handlers_and_mask_are_left_alone) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, now;
  sigset_t mask, mask_now;
  sigaction(SIGCHLD, &action, NULL), sigaction(SIGTERM, &action, NULL), sigaction(SIGPIPE, &action, NULL);
  pthread_sigmask(SIG_SETMASK, NULL, &mask);
  pod_close(look_start(NULL), PODKEEP_OK);
  signals_are_reset();
  static const int numbers[] = {SIGCHLD, SIGTERM, SIGPIPE};
  for (int i = 0; i < 3; i++) {
    sigaction(numbers[i], NULL, &now);
    CHECK(now.sa_handler == on_signal && (now.sa_flags & SA_RESTART));
  }
  pthread_sigmask(SIG_SETMASK, NULL, &mask_now);
  CHECK(memcmp(&mask, &mask_now, sizeof mask) == 0 || sigismember(&mask_now, SIGTERM) == sigismember(&mask, SIGTERM));
}

/* --- Descriptors ------------------------------------------------------------------------------------------------------- */

static int extra_descriptors(void) {
  CHECK_HASNT(B->text, "leaky");
  CHECK_HAS(B->text, "fd 0=/dev/null\n");
  CHECK_INT(told("fd 1="), 1); /* 10, 11 ... would be counted, too */
  CHECK_INT(told("fd 2=pipe:"), 1);
  return told("fd ") - 3;
}
static void open_leaky(int fds[20]) {
  for (int i = 0; i < 20; i++) {
    char name[32];
    snprintf(name, sizeof name, "leaky-%d", i);
    fds[i] = open(world_path(name), O_RDWR | O_CREAT, 0600); /* no O_CLOEXEC, as careless hosts do */
    CHECK(fds[i] > 2);
  }
}
TEST(S4_only_the_meant_descriptors_are_inherited) {
  int fds[20], pair[2];
  open_leaky(fds);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  podkeep_pod *pod = look_start(NULL);
  int extra = extra_descriptors();
  note("a command has %d descriptors beside 0, 1 and 2", extra);
  if (extra > 3) check_failed(__FILE__, __LINE__, "more than the channel, its memory and what is asked:\n%.1000s", strstr(B->text, "fd 0"));
  pod_close(pod, PODKEEP_OK);
  actor *a = actor_like("looking-too", act_look);
  actor_running(a);
  looked();
  extra = extra_descriptors();
  note("a child of callbacks has %d descriptors beside 0, 1 and 2", extra);
  CHECK(extra <= 4); /* the channel, its memory, and what the library opens for itself in there */
  actor_close(a, PODKEEP_OK);
  for (int i = 0; i < 20; i++) close(fds[i]);
  close(pair[0]), close(pair[1]);
}
TEST(S4_not_those_of_other_pods) {
  podkeep_pod *first = look_start(NULL);
  int alone = extra_descriptors();
  podkeep_pod *more[5];
  for (int i = 0; i < 5; i++) {
    more[i] = look_start(NULL);
    CHECK_INT(extra_descriptors(), alone);
  }
  actor *a = actor_new("another");
  actor_running(a);
  podkeep_pod *last = look_start(NULL);
  CHECK_INT(extra_descriptors(), alone);
  actor_close(a, PODKEEP_OK);
  pod_close(first, PODKEEP_OK), pod_close(last, PODKEEP_OK);
  for (int i = 0; i < 5; i++) pod_close(more[i], PODKEEP_OK);
}
TEST(S4_standard_descriptors_closed_in_the_host) { /* what the library opens may then be 0, 1 or 2 itself */
  int kept = fcntl(1, F_DUPFD_CLOEXEC, 10);
  close(0), close(1), close(2);
  podkeep_pod *pod = look_start(NULL);
  CHECK_HAS(B->text, "fd 0=/dev/null\n");
  CHECK_INT(told("fd 2=pipe:"), 1);
  pod_close(pod, PODKEEP_OK);
  actor *a = actor_like("looking-too", act_look);
  actor_running(a);
  looked();
  CHECK_HAS(B->text, "fd 0=/dev/null\n");
  actor_close(a, PODKEEP_OK);
  for (int fd = 0; fd < 3; fd++) { /* nothing of the library's has taken their place */
    char path[32], target[200];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n >= 0) check_failed(__FILE__, __LINE__, "descriptor %d is %.*s", fd, (int)n, target);
  }
  CHECK(open("/dev/null", O_RDONLY) == 0 && dup2(kept, 1) == 1 && dup2(kept, 2) == 2);
  close(kept);
}

/* --- Group, directory, words, environment ------------------------------------------------------------------------------ */

static long long number_told(const char *name) {
  const char *at = strstr(B->text, name);
  CHECK(at != NULL);
  return atoll(at + strlen(name));
}
TEST(S4_a_child_of_the_host_in_a_group_of_its_own) {
  podkeep_pod *pod = look_start(NULL);
  CHECK_INT(number_told("pid="), pod_pid(pod));
  CHECK_INT(number_told("parent="), getpid());
  CHECK_INT(number_told("group="), pod_pid(pod));
  pod_close(pod, PODKEEP_OK);
  actor *a = actor_like("looking-too", act_look);
  actor_running(a);
  looked();
  CHECK_INT(number_told("pid="), pod_pid(a->pod));
  CHECK_INT(number_told("parent="), getpid());
  CHECK_INT(number_told("group="), pod_pid(a->pod));
  actor_close(a, PODKEEP_OK);
}
TEST(S4_cwd) {
  char here[4096], want[4200];
  CHECK(getcwd(here, sizeof here) != NULL);
  podkeep_pod_options o = process_options();
  o.cwd = world_directory();
  podkeep_pod *pod = look_start(&o);
  snprintf(want, sizeof want, "cwd=%s\n", world_directory());
  CHECK_HAS(B->text, want);
  pod_close(pod, PODKEEP_OK);
  pod = look_start(NULL);
  snprintf(want, sizeof want, "cwd=%s\n", here);
  CHECK_HAS(B->text, want);
  pod_close(pod, PODKEEP_OK);
  char now[4096];
  CHECK_STR(getcwd(now, sizeof now), here);
}
TEST(S4_words_are_bytes_and_copied) {
  char words[6][64] = {"two words", "a \"quoted\" $HOME `x` * \\", "", "line\nbreak\ttab", "\xc3\xa9\xe2\x82\xac", "\xff\xfe\x01"};
  const char *argv[10] = {self_path(), "--do", "look"};
  char want[500] = "";
  for (int i = 0; i < 6; i++) {
    argv[3 + i] = words[i];
    snprintf(want + strlen(want), sizeof want - strlen(want), "arg=[%s]\n", words[i]);
  }
  podkeep_pod *pod = command_make("odd-words", argv, NULL);
  memset(words, 'x', sizeof words); /* the caller's memory is the caller's again */
  memset(argv, 0, sizeof argv);
  CHECK_OK(podkeep_pod_start(pod));
  looked();
  CHECK(strstr(B->text, want) != NULL);
  pod_close(pod, PODKEEP_OK);
}
TEST(S4_many_and_long_words) {
  static char big[100000];
  memset(big, 'w', sizeof big - 1);
  const char *argv[204] = {"/bin/sh", "-c", "test $# = 199 || exit 1; test ${#1} = 99999 || exit 2", "sh", big};
  for (int i = 5; i < 203; i++) argv[i] = "w";
  pod_join(command_start("many-words", argv, NULL), PODKEEP_OK);
}
TEST(S4_the_program_is_searched_in_path) {
  const char *const argv[] = {"sh", "-c", "exit 0", NULL};
  pod_join(command_start("from-path", argv, NULL), PODKEEP_OK);
}
TEST(S4_env_is_laid_over_the_inherited_one) { /* Jina's test_pod_runtime_env_setting, and its parent's key that was lost */
  setenv("KEY_PARENT", "value3", 1);
  setenv("KEY_BOTH", "parent", 1);
  char first[] = "KEY1=value1";
  const char *env[] = {first, "KEY_BOTH=child", "KEY_EMPTY=", "KEY_EQUALS=a=b", NULL};
  podkeep_pod_options o = process_options();
  o.env = env;
  const char *const argv[] = {self_path(), "--do", "look", NULL};
  podkeep_pod *pod = command_make("with-env", argv, &o);
  first[5] = 'X', env[1] = NULL; /* copied */
  CHECK_OK(podkeep_pod_start(pod));
  looked();
  CHECK_HAS(B->text, "env KEY1=value1\n");
  CHECK_HAS(B->text, "env KEY_BOTH=child\n");
  CHECK_INT(told("env KEY_BOTH="), 1);
  CHECK_HAS(B->text, "env KEY_EMPTY=\n");
  CHECK_HAS(B->text, "env KEY_EQUALS=a=b\n");
  CHECK_HAS(B->text, "env KEY_PARENT=value3\n");
  CHECK(getenv("KEY1") == NULL && getenv("KEY_EMPTY") == NULL && getenv("KEY_EQUALS") == NULL);
  CHECK_STR(getenv("KEY_BOTH"), "parent");
  CHECK_STR(getenv("KEY_PARENT"), "value3");
  pod_close(pod, PODKEEP_OK);
  CHECK_STR(getenv("KEY_BOTH"), "parent");
}
TEST(S4_env_of_callbacks) {
  const char *const env[] = {"KEY1=value1", NULL};
  actor *a = actor_like("with-env", act_look);
  a->options.env = env;
  char **before = environ;
  actor_running(a);
  looked();
  CHECK_HAS(B->text, "env KEY1=value1\n");
  CHECK_HASNT(B->text, "env PODKEEP_CHILD="); /* claimed: what it starts is no pod's child */
  CHECK(environ == before && getenv("KEY1") == NULL && getenv("PODKEEP_CHILD") == NULL);
  actor_close(a, PODKEEP_OK);
}
TEST(S4_the_environment_at_the_time_of_the_start) {
  const char *const argv[] = {self_path(), "--do", "look", NULL};
  podkeep_pod *pod = command_make("late-env", argv, NULL);
  setenv("KEY_LATE", "yes", 1);
  CHECK_OK(podkeep_pod_start(pod));
  looked();
  CHECK_HAS(B->text, "env KEY_LATE=yes\n");
  pod_close(pod, PODKEEP_OK);
}
TEST(S4_what_concerns_the_host_alone_is_not_inherited) {
  setenv("NOTIFY_SOCKET", "/the/hosts/own", 1), setenv("WATCHDOG_USEC", "1000", 1), setenv("WATCHDOG_PID", "1", 1);
  setenv("LISTEN_FDS", "2", 1), setenv("LISTEN_PID", "1", 1), setenv("LISTEN_FDNAMES", "a:b", 1);
  podkeep_pod *pod = look_start(NULL);
  CHECK_HASNT(B->text, "/the/hosts/own");
  CHECK_INT(told("env NOTIFY_SOCKET=@"), 1); /* its own */
  CHECK_INT(told("env WATCHDOG_") + told("env LISTEN_"), 0);
  pod_close(pod, PODKEEP_OK);
  actor *a = actor_like("looking-too", act_look);
  actor_running(a);
  looked();
  CHECK_INT(told("env NOTIFY_SOCKET=") + told("env WATCHDOG_") + told("env LISTEN_"), 0);
  actor_close(a, PODKEEP_OK);
  CHECK_STR(getenv("NOTIFY_SOCKET"), "/the/hosts/own");
}
