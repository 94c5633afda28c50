#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

enum { SKIPPED = 77 };

static int number_from(const char *variable) {
  const char *text = getenv(variable);
  int n = text ? atoi(text) : 1;
  return n > 1 ? n : 1;
}
int slow(int amount) { return amount * number_from("PODKEEP_TEST_SLOW"); }
int fewer(int count) {
  int n = count / number_from("PODKEEP_TEST_FEWER");
  return n > 2 ? n : 2;
}
int under_tool(void) {
#ifdef __SANITIZE_ADDRESS__
  return 1;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
  return 1;
#endif
#endif
  return getenv("PODKEEP_TEST_TOOL") != NULL;
}

int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
void nap(void) {
  struct timespec t = { 0, 1000000 };
  nanosleep(&t, NULL);
}

/* One write a line: cases run alone, but their threads and children may speak at the same time. */
void check_say(const char *file, int line, const char *text, const char *more) {
  char buffer[2048];
  int n = snprintf(buffer, sizeof buffer, "    %s:%d: %s%s%s\n", file, line, text, more[0] ? ": " : "", more);
  if (n > (int)sizeof buffer - 1) n = (int)sizeof buffer - 1;
  if (write(STDERR_FILENO, buffer, (size_t)n) < 0) _exit(2);
}
void check_failed(const char *file, int line, const char *what) {
  check_say(file, line, what, "");
  _exit(1);
}
void check_eq(const char *file, int line, const char *what, long long got, long long want) {
  char more[80];
  if (got == want) return;
  snprintf(more, sizeof more, "got %lld, expected %lld", got, want);
  check_say(file, line, what, more);
  _exit(1);
}
void check_str(const char *file, int line, const char *what, const char *got, const char *want) {
  char more[1024];
  if (got && strcmp(got, want) == 0) return;
  snprintf(more, sizeof more, "got \"%s\", expected \"%s\"", got ? got : "(null)", want);
  check_say(file, line, what, more);
  _exit(1);
}
void skip(const char *why) {
  fprintf(stderr, "    skipped: %s\n", why);
  _exit(SKIPPED);
}

int child_code(pid_t pid, int limit_ms) {
  int status, fd = under_tool() ? -1 : (int)syscall(SYS_pidfd_open, pid, 0); /* valgrind 3.19 has none */
  struct pollfd p;
  int64_t end = now_ms() + limit_ms;
  int ready = 0;
  p.fd = fd;
  p.events = POLLIN;
  while (fd >= 0 && ready <= 0 && now_ms() < end) {
    ready = poll(&p, 1, (int)(end - now_ms()) + 1);
    if (ready < 0 && errno != EINTR) break;
  }
  if (fd < 0) { /* no descriptor to be had for the wait: poll, still by this one child's id */
    pid_t got = 0;
    while (now_ms() < end && (got = waitpid(pid, &status, WNOHANG)) == 0) nap();
    if (got < 0) return -2;
    if (got > 0) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  } else {
    close(fd);
  }
  if (ready <= 0) {
    if (getpgid(pid) == pid) kill(-pid, SIGKILL); /* with what it has forked, which holds our output open */
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return -1;
  }
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return -2;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int in_child(void (*f)(void *), void *argument, int limit_ms) {
  pid_t pid;
  fflush(NULL);
  pid = fork();
  if (pid == 0) {
    f(argument);
    _exit(0);
  }
  return pid < 0 ? -3 : child_code(pid, limit_ms);
}

int run_program(char *const argv[], char *out, size_t out_size, int limit_ms) {
  int ends[2] = { -1, -1 };
  pid_t pid;
  size_t have = 0;
  int code;
  fflush(NULL);
  if (out && pipe2(ends, O_CLOEXEC) != 0) return -3;
  pid = fork();
  if (pid == 0) {
    if (out) dup2(ends[1], STDOUT_FILENO);
    execvp(argv[0], argv);
    _exit(126);
  }
  if (out) {
    int64_t end = now_ms() + limit_ms;
    close(ends[1]);
    for (;;) {
      struct pollfd p = { 0, POLLIN, 0 };
      ssize_t n;
      p.fd = ends[0];
      if (now_ms() >= end || have + 1 >= out_size) break;
      if (poll(&p, 1, (int)(end - now_ms()) + 1) <= 0) continue;
      n = read(ends[0], out + have, out_size - 1 - have);
      if (n <= 0) break;
      have += (size_t)n;
    }
    out[have] = 0;
    close(ends[0]);
  }
  code = pid < 0 ? -3 : child_code(pid, limit_ms);
  return code;
}

static int count_entries(const char *directory) {
  DIR *dir = opendir(directory);
  int n = 0;
  if (!dir) return -1;
  while (readdir(dir)) n++;
  closedir(dir);
  return n - 2;
}
int count_threads(void) { return count_entries("/proc/self/task"); }
int count_descriptors(void) { return count_entries("/proc/self/fd") - 1; } /* without the directory's own */

int thread_named(const char *name) {
  DIR *dir = opendir("/proc/self/task");
  struct dirent *e;
  int found = 0;
  if (!dir) return 0;
  while (!found && (e = readdir(dir))) {
    char path[300], text[64] = "";
    FILE *f;
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
    f = fopen(path, "re");
    if (!f) continue;
    if (fgets(text, sizeof text, f)) text[strcspn(text, "\n")] = 0;
    fclose(f);
    if (strcmp(text, name) == 0) found = atoi(e->d_name);
  }
  closedir(dir);
  return found;
}

int own_tid(void) { return (int)syscall(SYS_gettid); }
int thread_waits(int tid) {
  char path[64], text[32] = "";
  FILE *f;
  snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
  f = fopen(path, "re");
  if (!f) return 1;
  if (!fgets(text, sizeof text, f)) text[0] = 0;
  fclose(f);
  return atoi(text) == SYS_futex; /* "running": in none */
}

/* VmRSS may be off by some pages a processor (Linux 6.2 to 6.15); what is counted from the mappings (Linux 4.14) is not. */
long resident_kib(void) {
  char line[400];
  long kib = -1;
  FILE *f = fopen("/proc/self/smaps_rollup", "re");
  if (!f) f = fopen("/proc/self/status", "re");
  if (!f) return -1;
  while (fgets(line, sizeof line, f))
    if (sscanf(line, "Rss: %ld", &kib) == 1 || sscanf(line, "VmRSS: %ld", &kib) == 1) break;
  fclose(f);
  return kib;
}

static int run_one(const struct test_case *c) {
  pid_t pid;
  fflush(NULL);
  pid = fork();
  if (pid == 0) {
    setpgid(0, 0);
    c->run();
    exit(0); /* not _exit: leak checkers look at the end of main */
  }
  if (pid > 0) setpgid(pid, pid); /* whoever of the two comes first */
  return pid < 0 ? -3 : child_code(pid, slow(c->limit_s) * 1000);
}

int run_cases(int argc, char **argv, const struct test_case *cases, int count) {
  int passed = 0, failed = 0, skipped = 0, i, j;
  const char *suite = strrchr(argv[0], '/');
  suite = suite ? suite + 1 : argv[0];
  for (i = 0; i < count; i++) {
    int64_t began = now_ms();
    int code, wanted = argc < 2;
    for (j = 1; j < argc; j++) {
      if (strcmp(argv[j], "-l") == 0) puts(cases[i].name);
      wanted |= strcmp(argv[j], cases[i].name) == 0;
    }
    if (!wanted) continue;
    code = run_one(&cases[i]);
    if (code == 0) passed++;
    else if (code == SKIPPED) skipped++;
    else failed++;
    printf("%s %s: %s (%lld ms)", code == 0 ? "ok  " : code == SKIPPED ? "skip" : "FAIL", suite, cases[i].name,
           (long long)(now_ms() - began));
    if (code == -1) printf(": no end within %d s", slow(cases[i].limit_s));
    else if (code > 128) printf(": killed by signal %d", code - 128);
    else if (code != 0 && code != SKIPPED) printf(": exit code %d", code);
    putchar('\n');
    fflush(stdout);
  }
  if (skipped) printf("%s: %d skipped\n", suite, skipped);
  printf("%s: %d passed, %d failed\n", suite, passed, failed);
  return failed != 0;
}
