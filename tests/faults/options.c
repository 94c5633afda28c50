/* podkeep_pod_options field by field: what is refused and how, what is accepted at its limits. */
#include "check.h"
#include "world.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

static podkeep_runtime *runtime;
static podkeep_pod_options options;
static void fresh(void) {
  podkeep_pod_options none = PODKEEP_POD_OPTIONS_INIT;
  options = none;
  if (!runtime) runtime = make_runtime("options", NULL);
}
static void refused(podkeep_status status, const char *field, const char *value) {
  podkeep_pod *pod = NULL;
  IS(podkeep_pod_new(runtime, &options, &pod), status);
  SAYS(field);
  if (value) SAYS(value);
  CHECK(pod == NULL);
  fresh();
}
/* A pod with these options lives: started, ready, closed. */
static void lives(void) {
  podkeep_pod *pod;
  IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  fresh();
}
static void done(void) {
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  IS(podkeep_shutdown(slow(10000), NULL), PODKEEP_OK);
}

static void null_options_are_the_defaults(void) {
  podkeep_pod *pod;
  fresh();
  lives();
  IS(podkeep_pod_new(runtime, NULL, &pod), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  done();
}

static void struct_size_of_the_options(void) {
  struct { podkeep_pod_options options; unsigned char tail[200]; } longer;
  podkeep_pod *pod = NULL;
  size_t size;
  fresh();
  for (size = 0; size < sizeof options; size++) {
    options.struct_size = size;
    refused(PODKEEP_ERR_INVALID_ARGUMENT, "struct_size", NULL);
  }
  for (size = sizeof options + 1; size <= sizeof longer; size += 3) {
    memset(&longer, 0, sizeof longer);
    memset(longer.tail + (size - sizeof options), 0xff, sizeof longer - size);
    longer.options = options;
    longer.options.struct_size = size;
    IS(podkeep_pod_new(runtime, &longer.options, &pod), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
    longer.tail[size - sizeof options - 1] = 0x80;
    pod = NULL;
    IS(podkeep_pod_new(runtime, &longer.options, &pod), PODKEEP_ERR_INVALID_ARGUMENT);
    SAYS("options"), SAYS("byte");
    CHECK(pod == NULL);
  }
  done();
}

static void name_of_a_pod(void) {
  static const char *const bad[] = { "\xff", "ab\x80", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "x\xc3(y", "\xf0\x9f\x92" };
  char too_long[257];
  size_t i;
  fresh();
  memset(too_long, 'p', 256), too_long[256] = 0;
  options.name = "";
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "name", NULL);
  options.name = too_long;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "name", "256");
  for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    options.name = bad[i];
    refused(PODKEEP_ERR_INVALID_ARGUMENT, "name", "UTF-8");
  }
  too_long[255] = 0;
  options.name = too_long;
  lives();
  done();
}

/* The kernel has room for 15 bytes of a thread's name; everywhere else the name is whole. */
static char kernel_name[17];
static int32_t read_names(podkeep_context *ctx, void *state) {
  (void)state;
  prctl(PR_GET_NAME, kernel_name);
  return podkeep_context_fail(ctx, 1, podkeep_context_name(ctx));
}
static void a_long_name_is_whole_but_for_the_kernel(void) {
  static const char *const names[] = { "exactly-fifteen", "sixteen-or-so-16", "a pod whose name is far longer than a kernel has room for",
                                       "caf\xc3\xa9-caf\xc3\xa9-caf\xc3\xa9-caf\xc3\xa9" };
  size_t i;
  fresh();
  runtime = make_runtime("names", read_names);
  for (i = 0; i < sizeof names / sizeof names[0]; i++) {
    podkeep_pod *pod;
    podkeep_failure *failure;
    podkeep_monitor *monitor;
    podkeep_event event = PODKEEP_EVENT_INIT;
    const char *name;
    char copy[100];
    snprintf(copy, sizeof copy, "%s", names[i]);
    options.name = copy;
    IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
    memset(copy, 'X', sizeof copy - 1); /* it was copied */
    IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
    IS(podkeep_pod_start(pod), PODKEEP_OK);
    IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_ERR_FAILED);
    SAYS(names[i]);
    EQ(strlen(kernel_name), 15);
    CHECK(strncmp(kernel_name, names[i], 15) == 0);
    IS(podkeep_pod_name(pod, &name), PODKEEP_OK);
    STR(name, names[i]);
    IS(podkeep_pod_failure(pod, &failure), PODKEEP_OK);
    STR(podkeep_failure_pod_name(failure), names[i]);
    STR(podkeep_failure_message(failure), names[i]); /* what podkeep_context_name said */
    IS(podkeep_monitor_next(monitor, &event, 0), PODKEEP_OK);
    STR(event.name, names[i]);
    IS(podkeep_failure_free(failure), PODKEEP_OK);
    IS(podkeep_monitor_free(monitor), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
    STR(name, names[i]); /* names live as long as the process */
    fresh();
  }
  done();
}

static void times(void) {
  static const struct { const char *name; size_t at; int forever; } fields[] = {
    { "ready_timeout_ms", offsetof(podkeep_pod_options, ready_timeout_ms), 0 },
    { "grace_ms", offsetof(podkeep_pod_options, grace_ms), 1 },
    { "kill_after_ms", offsetof(podkeep_pod_options, kill_after_ms), 0 },
    { "extend_max_ms", offsetof(podkeep_pod_options, extend_max_ms), 0 },
    { "restart_window_ms", offsetof(podkeep_pod_options, restart_window_ms), 0 },
    { "backoff_ms", offsetof(podkeep_pod_options, backoff_ms), 0 },
    { "backoff_max_ms", offsetof(podkeep_pod_options, backoff_max_ms), 0 },
    { "watchdog_ms", offsetof(podkeep_pod_options, watchdog_ms), 0 },
  };
  static const int64_t bad[] = { PODKEEP_FOREVER, -2, INT64_MIN };
  const int64_t good[] = { 1, slow(10000), INT64_MAX - 1, INT64_MAX };
  size_t f, i;
  fresh();
  for (f = 0; f < sizeof fields / sizeof fields[0]; f++) {
    for (i = 0; i < 3; i++) {
      char number[32];
      if (bad[i] == PODKEEP_FOREVER && fields[f].forever) continue;
      snprintf(number, sizeof number, "%lld", (long long)bad[i]);
      memcpy((char *)&options + fields[f].at, &bad[i], sizeof bad[i]);
      refused(PODKEEP_ERR_INVALID_ARGUMENT, fields[f].name, number);
    }
    for (i = 0; i < 4; i++) {
      memcpy((char *)&options + fields[f].at, &good[i], sizeof good[i]);
      if (good[i] > 1) lives(); /* a limit of 1 ms is a good one, too, but nothing need live within it */
      else fresh();
    }
  }
  options.grace_ms = PODKEEP_FOREVER;
  lives();
  options.grace_ms = INT64_MAX; /* sums saturate */
  options.ready_timeout_ms = INT64_MAX;
  options.extend_max_ms = INT64_MAX;
  lives();
  done();
}

/* What would have no effect on such a pod is refused, not ignored. */
static void what_is_for_another_kind_of_pod(void) {
  static const char *const env[] = { "A=1", NULL }, *const odd[] = { "A=1", "none", NULL }, *const own[] = { "PODKEEP_CHILD=1", NULL };
  fresh();
  options.ready = PODKEEP_READY_PORT;
  options.ready_port = 80;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "ready", NULL);
  options.stop_signal = SIGTERM;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "stop_signal", NULL);
  options.env = env;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "env", NULL);
  options.cwd = "/";
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "cwd", NULL);
  options.host = PODKEEP_HOST_PROCESS;
  options.stack_size = 1 << 20;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "stack_size", NULL);
  options.host = PODKEEP_HOST_PROCESS;
  options.kick_signal = SIGUSR1;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "kick_signal", NULL);
  options.host = PODKEEP_HOST_PROCESS; /* of callbacks: no command */
  options.stop_signal = SIGTERM;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "stop_signal", NULL);
  options.ready = PODKEEP_READY_PORT; /* which? */
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "ready_port", NULL);
  options.ready_port = 80; /* what for? */
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "ready_port", "80");
  options.host = PODKEEP_HOST_PROCESS;
  options.env = odd;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "env[1]", "none");
  options.host = PODKEEP_HOST_PROCESS;
  options.env = own;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "PODKEEP_CHILD", NULL);
  done();
}

static void restarts(void) {
  static const uint32_t most[] = { 1, 8, UINT32_MAX };
  size_t i;
  fresh();
  for (i = 0; i < 3; i++) {
    options.restart = (podkeep_restart)(i % 2 + 1);
    options.max_restarts = most[i];
    options.backoff_ms = options.backoff_max_ms = INT64_MAX;
    lives();
  }
  options.restart = 3;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "restart", "3");
  options.restart = -1;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "restart", "-1");
  done();
}

static void numbers_that_mean_nothing(void) {
  static const int32_t strange[] = { -1, 3, 99, INT32_MAX, INT32_MIN };
  size_t i;
  char number[32];
  fresh();
  for (i = 0; i < sizeof strange / sizeof strange[0]; i++) {
    snprintf(number, sizeof number, "%d", strange[i]);
    options.host = strange[i];
    refused(PODKEEP_ERR_INVALID_ARGUMENT, "host", number);
    options.ready = strange[i];
    refused(PODKEEP_ERR_INVALID_ARGUMENT, "ready", number);
    options.reserved = strange[i];
    refused(PODKEEP_ERR_INVALID_ARGUMENT, "reserved", number);
  }
  options.reserved = 1;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "reserved", "1");
  done();
}

static void kick_signals(void) {
  static const int32_t bad[] = { -1, INT32_MIN, 65, INT32_MAX, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, 32, 33 };
  static const int32_t good[] = { 1, SIGUSR1, SIGUSR2, SIGURG, 34, 64 };
  size_t i;
  char number[32];
  fresh();
  for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    snprintf(number, sizeof number, "%d", bad[i]);
    options.kick_signal = bad[i];
    refused(PODKEEP_ERR_INVALID_ARGUMENT, "kick_signal", number);
  }
  for (i = 0; i < sizeof good / sizeof good[0]; i++) {
    if (good[i] == 64 && under_tool()) continue; /* valgrind keeps it to itself */
    options.kick_signal = good[i];
    lives();
  }
  done();
}

static void stack_sizes(void) {
  fresh();
  options.stack_size = 1;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "stack_size", "1");
  options.stack_size = PTHREAD_STACK_MIN / 2; /* sizes are rounded up to whole pages, so one byte less is enough */
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "stack_size", NULL);
  options.stack_size = 64 * 1024;
  lives();
  options.stack_size = 64 * 1024 + 1; /* no whole number of pages */
  lives();
  options.stack_size = 64 * 1024 * 1024;
  lives();
  done();
}

/* --- Arguments --------------------------------------------------------------------------------------------------------- */

static int32_t check_args(podkeep_context *ctx, void *state) {
  size_t len = 77;
  const char *args = podkeep_context_args(ctx, &len);
  (void)state;
  if (len == 5) CHECK((uintptr_t)args % 16 == 0 && memcmp(args, "hello", 5) == 0);
  else EQ(len, 0);
  if (len == 5) CHECK(podkeep_context_args(ctx, NULL) == args);
  return 0;
}
static void args_of_a_pod(void) {
  char bytes[5] = { 'h', 'e', 'l', 'l', 'o' };
  podkeep_pod *pod;
  size_t i;
  static const size_t huge[] = { SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 2 + 1, SIZE_MAX - 15, (size_t)1 << 50 };
  fresh();
  runtime = make_runtime("args", check_args);
  options.args_len = 5;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "args", "5");
  options.args_len = SIZE_MAX;
  refused(PODKEEP_ERR_INVALID_ARGUMENT, "args", NULL);
  for (i = 0; i < sizeof huge / sizeof huge[0]; i++) {
    options.args = bytes;
    options.args_len = huge[i]; /* no object is larger than half of what a size_t counts */
    refused(huge[i] > PTRDIFF_MAX ? PODKEEP_ERR_INVALID_ARGUMENT : PODKEEP_ERR_RESOURCES, "args_len", NULL);
  }
  for (i = 0; i < 3; i++) {
    options.args = i == 2 ? NULL : bytes;
    options.args_len = i ? 0 : 5;
    IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
    memset(bytes, 'x', sizeof bytes); /* they were copied */
    IS(podkeep_pod_start(pod), PODKEEP_OK);
    IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
    memcpy(bytes, "hello", sizeof bytes);
  }
  done();
}
/* A pod_new that fails does not drop the config, which the runtime still holds; one drop comes with the runtime's end. */
static int drops;
static void count_drop(void *config) {
  (void)config;
  ADD(drops, 1);
}
static void a_refused_pod_leaves_nothing(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  int i, threads, descriptors;
  spec.name = "dropped";
  spec.run_forever = run_until_cancelled;
  spec.drop = count_drop;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  fresh();
  lives();
  threads = count_threads(), descriptors = count_descriptors();
  for (i = 0; i < 1000; i++) {
    options.args = "xyz";
    options.args_len = 3;
    options.name = "refused for another field";
    options.reserved = 1;
    refused(PODKEEP_ERR_INVALID_ARGUMENT, "reserved", NULL);
  }
  UNTIL(count_threads() <= threads); /* the thread of the life before may have been leaving when they were counted */
  EQ(count_descriptors(), descriptors);
  EQ(LOAD(drops), 0);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  UNTIL(LOAD(drops) == 1);
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(null_options_are_the_defaults), CASE(struct_size_of_the_options), CASE(name_of_a_pod),
    CASE(a_long_name_is_whole_but_for_the_kernel), CASE(times), CASE(what_is_for_another_kind_of_pod),
    CASE(restarts),
    CASE(numbers_that_mean_nothing), CASE(kick_signals), CASE(stack_sizes), CASE(args_of_a_pod),
    CASE(a_refused_pod_leaves_nothing),
  };
  return RUN(all);
}
