/* Contract section 4: what the library leaves alone in its host, and what its threads look like. Each case lives through
 * everything there is (hook, monitor, descriptor, log, failure, kick, abandonment) and looks at the world before and after. */
#include "check.h"
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int hooked, release_stuck;
static int32_t run_with_all(podkeep_context *ctx, void *state) {
  struct pollfd p = { -1, POLLIN, 0 };
  (void)state;
  p.fd = podkeep_context_fd(ctx);
  CHECK(p.fd >= 0);
  podkeep_context_status(ctx, "at work");
  podkeep_context_heartbeat(ctx);
  EQ(poll(&p, 1, slow(10000)), 1);
  while (!LOAD(hooked)) nap();
  return podkeep_context_fail(ctx, 3, "on purpose");
}
static void hook(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  STORE(hooked, 1);
}
static int32_t run_stuck(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  while (!LOAD(release_stuck)) nap();
  return 0;
}
static void on_log(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)pod, (void)message, (void)user_data;
}
static podkeep_pod *start_with_all(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  STORE(hooked, 0);
  spec.name = "all-there-is";
  spec.run_forever = run_with_all;
  spec.cancel = hook;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  pod = make_running(runtime);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  return pod;
}
static void live_through_everything(void) {
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod, *stuck;
  podkeep_monitor *monitor;
  podkeep_event event = PODKEEP_EVENT_INIT;
  int fd;
  IS(podkeep_set_log(on_log, 4, NULL, NULL), PODKEEP_OK);
  IS(podkeep_monitor_new(NULL, &monitor), PODKEEP_OK);
  IS(podkeep_monitor_fd(monitor, &fd), PODKEEP_OK);
  pod = start_with_all();
  IS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  IS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  options.grace_ms = 1;
  STORE(release_stuck, 0);
  runtime = make_runtime("stuck", run_stuck);
  IS(podkeep_pod_new(runtime, &options, &stuck), PODKEEP_OK);
  IS(podkeep_pod_start(stuck), PODKEEP_OK);
  IS(podkeep_pod_wait_ready(stuck, slow(10000)), PODKEEP_OK);
  IS(podkeep_pod_close(stuck), PODKEEP_ERR_TIMEOUT);
  STORE(release_stuck, 1);
  IS(podkeep_pod_join(stuck, slow(10000)), PODKEEP_ERR_FAILED);
  IS(podkeep_pod_free(stuck), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  while (podkeep_monitor_next(monitor, &event, 0) == PODKEEP_OK) {}
  IS(podkeep_monitor_free(monitor), PODKEEP_OK);
  IS(podkeep_set_log(NULL, 0, NULL, NULL), PODKEEP_OK);
}

static int same_action(const struct sigaction *a, const struct sigaction *b) {
  return a->sa_handler == b->sa_handler && (a->sa_flags & SA_RESTART) == (b->sa_flags & SA_RESTART);
}
static void some_handler(int number) { (void)number; }
static void no_signal_is_touched(void) {
  struct sigaction before[65], after, own;
  sigset_t mask_before, mask_after;
  int number;
  memset(&own, 0, sizeof own);
  own.sa_handler = some_handler;
  own.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &own, NULL);
  signal(SIGPIPE, SIG_IGN);
  sigemptyset(&mask_before);
  sigaddset(&mask_before, SIGUSR2);
  sigprocmask(SIG_SETMASK, &mask_before, NULL);
  for (number = 1; number < 65; number++) sigaction(number, NULL, &before[number]);
  live_through_everything();
  for (number = 1; number < 65; number++) {
    if (sigaction(number, NULL, &after) != 0) continue;
    if (!same_action(&before[number], &after)) EQ(number, 0);
  }
  sigprocmask(SIG_SETMASK, NULL, &mask_after);
  for (number = 1; number < 65; number++) EQ(sigismember(&mask_after, number), sigismember(&mask_before, number));
}

/* The kick: asked for, so a handler comes, but only where there was none, and only for that signal. */
static void a_kick_signal_with_a_handler_keeps_it(void) {
  podkeep_runtime *runtime = make_runtime("kicked", NULL);
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_pod *pod;
  struct sigaction own, after, before[65];
  int number;
  memset(&own, 0, sizeof own);
  own.sa_handler = some_handler;
  sigaction(SIGUSR1, &own, NULL);
  for (number = 1; number < 65; number++) sigaction(number, NULL, &before[number]);
  options.kick_signal = SIGUSR1;
  IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  for (number = 1; number < 65; number++)
    if (sigaction(number, NULL, &after) == 0 && !same_action(&before[number], &after)) EQ(number, 0);
  options.kick_signal = SIGUSR2;
  IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  for (number = 1; number < 65; number++) {
    if (sigaction(number, NULL, &after) != 0) continue;
    if (number == SIGUSR2) CHECK(after.sa_handler != SIG_DFL && after.sa_handler != SIG_IGN && !(after.sa_flags & SA_RESTART));
    else if (!same_action(&before[number], &after)) EQ(number, 0);
  }
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

/* The blocked signals and the name of a thread: 1 right, 0 not, -1 it is gone. */
static int is_right(const char *id, const char *const *allowed, const char *kicked_name, int kick, int say) {
  static const int free_ones[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP }, never_blocked[] = { SIGKILL, SIGSTOP, 32, 33 };
  char path[300], line[200], name[32] = "";
  unsigned long long blocked = 0, want = ~0ull;
  int i, known = 0, read = 0;
  FILE *f;
  snprintf(path, sizeof path, "/proc/self/task/%s/status", id);
  f = fopen(path, "re");
  if (!f) return -1;
  while (!read && fgets(line, sizeof line, f)) {
    if (sscanf(line, "Name:\t%31[^\n]", name) == 1) continue;
    read = sscanf(line, "SigBlk: %llx", &blocked) == 1;
  }
  fclose(f);
  if (!read) return -1;
  for (i = 0; i < 5; i++) want &= ~(1ull << (free_ones[i] - 1));
  if (kick && strcmp(name, kicked_name) == 0) want &= ~(1ull << (kick - 1));
  for (i = 0; i < 4; i++) blocked |= 1ull << (never_blocked[i] - 1);
  if (under_tool()) blocked |= 1ull << 63; /* valgrind keeps the last one to itself */
  for (i = 0; allowed[i]; i++) known |= strcmp(allowed[i], name) == 0;
  if (say && blocked != want)
    fprintf(stderr, "    thread \"%s\" blocks %#llx, not %#llx\n", name, blocked, want), check_failed(__FILE__, __LINE__, "mask");
  if (say && !known) fprintf(stderr, "    a thread is called \"%s\"\n", name), check_failed(__FILE__, __LINE__, "name");
  return blocked == want && known;
}
/* Each thread but the caller's own; gives how many. The C library blocks all signals in one that ends, so that one which is
 * not right is looked at again until it is, or is gone. */
static int look_at_threads(const char *const *allowed, const char *kicked_name, int kick) {
  DIR *dir = opendir("/proc/self/task");
  struct dirent *e;
  int n = 0;
  CHECK(dir != NULL);
  while ((e = readdir(dir))) {
    int64_t until = now_ms() + slow(5000);
    int right;
    if (e->d_name[0] == '.' || atoi(e->d_name) == (int)getpid()) continue;
    while ((right = is_right(e->d_name, allowed, kicked_name, kick, now_ms() > until)) == 0) nap();
    n += right > 0;
  }
  closedir(dir);
  return n;
}
static void threads_have_names_and_block_signals(void) {
  static const char *const names[] = { "podkeep", "podkeep-hook", "podkeep-log", "all-there-is", "kicked", NULL };
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime = make_runtime("kicked", NULL);
  podkeep_pod *pod, *kicked;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL); /* what the host blocks or not makes no difference */
  IS(podkeep_set_log(on_log, 4, NULL, NULL), PODKEEP_OK);
  pod = start_with_all();
  options.kick_signal = SIGURG;
  IS(podkeep_pod_new(runtime, &options, &kicked), PODKEEP_OK);
  IS(podkeep_pod_start(kicked), PODKEEP_OK);
  IS(podkeep_pod_wait_ready(kicked, slow(10000)), PODKEEP_OK);
  /* Each names itself as it begins, once its signals are what they will be. */
  UNTIL(thread_named("podkeep") && thread_named("podkeep-hook") && thread_named("podkeep-log"));
  UNTIL(thread_named("all-there-is") && thread_named("kicked"));
  CHECK(look_at_threads(names, "kicked", SIGURG) >= 5);
  IS(podkeep_pod_close(kicked), PODKEEP_OK);
  IS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  UNTIL(!thread_named("kicked") && !thread_named("all-there-is")); /* a pod has ended before its thread is gone */
  look_at_threads(names, "", 0);
  IS(podkeep_shutdown(slow(10000), NULL), PODKEEP_OK);
}

static void environment_and_settings_are_untouched(void) {
  char **before = environ, **copy, name[32], name_after[32], here[4096], here_after[4096], *locale;
  struct itimerval timer;
  struct rlimit nofile, nofile_after;
  mode_t mask = umask(022);
  int n = 0, i, which;
  umask(mask);
  while (before[n]) n++;
  copy = calloc((size_t)n, sizeof *copy);
  CHECK(copy != NULL);
  for (i = 0; i < n; i++) copy[i] = strdup(before[i]);
  locale = strdup(setlocale(LC_ALL, NULL));
  prctl(PR_GET_NAME, name);
  CHECK(getcwd(here, sizeof here) != NULL);
  getrlimit(RLIMIT_NOFILE, &nofile);
  live_through_everything();
  CHECK(environ == before);
  for (i = 0; i < n; i++) STR(environ[i], copy[i]), free(copy[i]);
  CHECK(environ[n] == NULL);
  free(copy);
  STR(setlocale(LC_ALL, NULL), locale);
  free(locale);
  prctl(PR_GET_NAME, name_after);
  STR(name_after, name);
  CHECK(getcwd(here_after, sizeof here_after) != NULL);
  STR(here_after, here);
  EQ(umask(mask), mask);
  getrlimit(RLIMIT_NOFILE, &nofile_after);
  EQ(nofile.rlim_cur, nofile_after.rlim_cur);
  for (which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
    getitimer((__itimer_which_t)which, &timer);
    EQ(timer.it_value.tv_sec, 0);
    EQ(timer.it_value.tv_usec, 0);
  }
}

static void no_child_process(void) {
  live_through_everything();
  EQ(waitpid(-1, NULL, WNOHANG), -1);
  EQ(errno, ECHILD);
}

/* Nothing is printed, by whatever road, and stdio's buffers stay as they are. */
static void not_a_byte_on_stdout_or_stderr(void) {
  FILE *temporary = tmpfile();
  int file = temporary ? fileno(temporary) : -1, out = dup(1), err = dup(2);
  struct stat st;
  CHECK(file >= 0);
  fflush(NULL);
  CHECK(dup2(file, 1) == 1 && dup2(file, 2) == 2);
  printf("stays in its buffer");
  live_through_everything();
  CHECK(fstat(file, &st) == 0);
  CHECK(dup2(out, 1) == 1 && dup2(err, 2) == 2);
  __fpurge(stdout);
  EQ(st.st_size, 0);
  fclose(temporary);
}

/* With 0, 1 and 2 closed the library's own descriptors come there; nothing is written to them by mistake. */
static void standard_descriptors_closed(void *unused) {
  (void)unused;
  close(0), close(1), close(2);
  live_through_everything();
  _exit(37);
}
static void a_host_without_standard_descriptors(void) { EQ(in_child(standard_descriptors_closed, NULL, slow(10000)), 37); }

static void descriptors_are_close_on_exec(void) {
  int had[1024], fd;
  podkeep_monitor *monitor;
  podkeep_pod *pod;
  for (fd = 0; fd < 1024; fd++) had[fd] = fcntl(fd, F_GETFD) >= 0;
  IS(podkeep_set_log(on_log, 4, NULL, NULL), PODKEEP_OK);
  pod = start_with_all();
  IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
  IS(podkeep_monitor_fd(monitor, &fd), PODKEEP_OK);
  for (fd = 0; fd < 1024; fd++) {
    int flags = fcntl(fd, F_GETFD);
    if (flags >= 0 && !had[fd] && !(flags & FD_CLOEXEC)) EQ(fd, -1);
  }
  IS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  IS(podkeep_monitor_free(monitor), PODKEEP_OK);
}

/* Nothing runs at the end but what the program itself registered, in its order. */
static void last(void) { if (write(1, "last", 4) < 0) _exit(3); }
static void first(void) { if (write(1, "first ", 6) < 0) _exit(3); }
static void exits_with_order(void *fds) {
  dup2(((int *)fds)[1], 1);
  atexit(last);
  live_through_everything();
  atexit(first);
  exit(38);
}
static void atexit_keeps_its_order(void) {
  int ends[2];
  char text[64] = "";
  CHECK(pipe(ends) == 0);
  EQ(in_child(exits_with_order, ends, slow(10000)), 38);
  close(ends[1]);
  CHECK(read(ends[0], text, sizeof text - 1) > 0);
  STR(text, "first last");
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(no_signal_is_touched), CASE(a_kick_signal_with_a_handler_keeps_it), CASE(threads_have_names_and_block_signals),
    CASE(environment_and_settings_are_untouched), CASE(no_child_process), CASE(not_a_byte_on_stdout_or_stderr),
    CASE(a_host_without_standard_descriptors), CASE(descriptors_are_close_on_exec), CASE(atexit_keeps_its_order),
  };
  return RUN(all);
}
