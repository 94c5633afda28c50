/* Procedures for `podkeep run --library`: each symbol gives a runtime that does one thing. What it does is said on
 * stdout, a line at a time; "up" means that run_forever is entered. */
#define _GNU_SOURCE
#include <errno.h>
#include <podkeep.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* One write a line, so that lines of several processes stay whole. */
static void say(const char *format, ...) {
  char text[512];
  va_list rest;
  va_start(rest, format);
  int length = vsnprintf(text, sizeof text - 1, format, rest);
  va_end(rest);
  if (length < 0) return;
  if ((size_t)length > sizeof text - 2) length = (int)sizeof text - 2;
  text[length++] = '\n';
  if (write(STDOUT_FILENO, text, (size_t)length) != length) abort();
}

/* The number in the pod's arguments. */
static int number(podkeep_context *ctx) {
  char text[32] = "";
  size_t length = 0;
  const void *args = podkeep_context_args(ctx, &length);
  if (args != NULL) memcpy(text, args, length < sizeof text ? length : sizeof text - 1);
  return atoi(text);
}

#define RUNTIME(symbol, ...)                            \
  const podkeep_runtime_spec *symbol(void);             \
  const podkeep_runtime_spec *symbol(void) {            \
    static podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT; \
    const podkeep_runtime_spec made = {.struct_size = sizeof made, .name = #symbol, __VA_ARGS__}; \
    spec = made;                                        \
    return &spec;                                       \
  }

/* --- polite: tells what it sees and stops when asked ------------------------------------------------------------- */

static int32_t polite_init(podkeep_context *ctx, void *config, void **state) {
  size_t length = 0;
  char cwd[256] = "?";
  const char *variable = getenv("PODKEEP_TEST_WORD");
  const void *args = podkeep_context_args(ctx, &length);
  (void)config, (void)state;
  if (getcwd(cwd, sizeof cwd) == NULL) return 1;
  say("init name=%s cwd=%s word=%s args=%zu:%.*s main=%d sigpipe=%d", podkeep_context_name(ctx), cwd,
      variable ? variable : "-", length, (int)length, args ? (const char *)args : "", getpid() == gettid(),
      signal(SIGPIPE, SIG_DFL) == SIG_DFL);
  return 0;
}

static int32_t polite_run(podkeep_context *ctx, void *state) {
  (void)state;
  say("up %d", (int)getpid());
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  say("asked");
  return PODKEEP_CANCELLED;
}

static int32_t polite_teardown(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  say("teardown");
  return 0;
}

RUNTIME(polite, .init = polite_init, .run_forever = polite_run, .teardown = polite_teardown)

/* --- told: ready when it says so --------------------------------------------------------------------------------- */

static int32_t told_run(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_status(ctx, "warming up");
  say("up %d", (int)getpid());
  podkeep_context_ready(ctx);
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return 0;
}

RUNTIME(told, .run_forever = told_run)

/* --- ends in several ways ---------------------------------------------------------------------------------------- */

static int32_t returns_run(podkeep_context *ctx, void *state) {
  (void)state;
  return number(ctx);
}
RUNTIME(returns, .run_forever = returns_run)

static int32_t fails_run(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_fail(ctx, number(ctx), "the first thing\nand its second line");
}
static int32_t fails_teardown(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_fail(ctx, 4, "the last thing");
}
RUNTIME(fails, .run_forever = fails_run, .teardown = fails_teardown)

static int32_t no_init(podkeep_context *ctx, void *config, void **state) {
  (void)config, (void)state;
  return podkeep_context_fail(ctx, number(ctx), "not today");
}
RUNTIME(refuses, .init = no_init, .run_forever = returns_run)

static int32_t leaves_run(podkeep_context *ctx, void *state) {
  (void)state;
  _exit(number(ctx));
}
RUNTIME(leaves, .run_forever = leaves_run)

static int32_t crashes_run(podkeep_context *ctx, void *state) {
  (void)state;
  signal(number(ctx), SIG_DFL);
  raise(number(ctx));
  return 0;
}
RUNTIME(crashes, .run_forever = crashes_run)

/* Hears no cancel, and blocks what it can. */
static int32_t deaf_run(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  say("up %d", (int)getpid());
  while (pause() != 0) continue; /* it never answers anything else */
  return 0;
}
RUNTIME(deaf, .run_forever = deaf_run)

/* Never ready, and deaf. */
static int32_t deaf_init(podkeep_context *ctx, void *config, void **state) {
  (void)ctx, (void)config, (void)state;
  say("init");
  while (pause() != 0) continue; /* it never answers anything else */
  return 0;
}
RUNTIME(stuck, .init = deaf_init, .run_forever = deaf_run)

/* --- parent: has children of its own, and waits for them itself ---------------------------------------------------- */

static pid_t child_that_exits(int code) {
  const pid_t pid = fork();
  if (pid == 0) _exit(code);
  return pid;
}

/* A process whose parent ends at once: it becomes the first process's, a stranger's zombie. */
static void make_stranger(void) {
  const pid_t middle = fork();
  int status;
  if (middle == 0) {
    child_that_exits(0);
    _exit(0);
  }
  if (middle > 0) waitpid(middle, &status, 0);
}

/* 200 children, each left to be a zombie for a moment, while strangers come in between: is any status lost? */
static int32_t parent_run(podkeep_context *ctx, void *state) {
  int lost = 0;
  (void)state;
  say("up %d", (int)getpid());
  for (int n = 0; n < 200 && !podkeep_context_cancelled(ctx); n++) {
    const int code = n % 256;
    int status = -1;
    const pid_t pid = child_that_exits(code);
    siginfo_t info;
    if (pid < 0) continue;
    if (n % 10 == 0) make_stranger();
    /* Ended, and still a zombie: here a reaper of everything would take it. */
    memset(&info, 0, sizeof info);
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) != 0) lost++;
    if (n % 20 == 0) podkeep_context_wait(ctx, 20); /* time for somebody to take it */
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != code) lost++;
  }
  say("lost %d", lost);
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return 0;
}
RUNTIME(parent, .run_forever = parent_run)

/* A symbol that gives nothing. */
const podkeep_runtime_spec *nothing(void);
const podkeep_runtime_spec *nothing(void) { return NULL; }
