/* podkeep: pods that are restarted for ever, after the least delay or at a cap of 100 ms, and supervised pods that have
 * nothing to do. A program of its own, because the child of its own callbacks is this program again.
 *
 *     bench-supervised fail|capped|idle|fed thread|own|command|group COUNT
 */
#include "observe.h"
#include "processes.h"
#include <podkeep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { WATCHDOG_MS = 3000, FED_MS = 1000, CAP_MS = 100 };

static podkeep_pod **pods;
static long count;

static void must(podkeep_status status, const char *call) {
  if (status == PODKEEP_OK) return;
  fprintf(stderr, "%s: %s\n", call, podkeep_last_error());
  die(call);
}

static int32_t fail(podkeep_context *ctx, void *state) {
  (void)ctx;
  (void)state;
  return 1;
}

static int32_t fail_in_1_ms(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, 1);
  return 1;
}

static int32_t idle(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return 0;
}

static int32_t fed(podkeep_context *ctx, void *state) {
  (void)state;
  while (podkeep_context_wait(ctx, FED_MS) == PODKEEP_ERR_TIMEOUT) podkeep_context_heartbeat(ctx);
  return 0;
}

static const struct kind {
  const char *name;
  int32_t (*run_forever)(podkeep_context *, void *);
} kinds[] = {{"fail", fail}, {"capped", fail_in_1_ms}, {"idle", idle}, {"fed", fed}};
enum { FAIL, CAPPED, IDLE, FED, KINDS };

static podkeep_runtime *own_runtime(const struct kind *kind) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  spec.name = kind->name;
  spec.run_forever = kind->run_forever;
  must(podkeep_runtime_new(&spec, &runtime), "podkeep_runtime_new");
  return runtime;
}

static podkeep_runtime *command(int kind) {
  const char *argv[] = {beside("child-static"), kind == FAIL || kind == CAPPED ? "fail" : "pause", NULL};
  podkeep_runtime *runtime;
  must(podkeep_runtime_from_command("command", argv, &runtime), "podkeep_runtime_from_command");
  return runtime;
}

static void make(podkeep_runtime *runtime, const podkeep_pod_options *options) {
  podkeep_pod_options named = *options;
  char name[32];
  snprintf(name, sizeof name, "pod-%ld", count);
  named.name = name;
  must(podkeep_pod_new(runtime, &named, &pods[count++]), "podkeep_pod_new");
}

/* The first one fails, and takes all others along. */
static void start_group(podkeep_runtime *sleeper, const podkeep_pod_options *options, long wanted) {
  podkeep_group_options together = PODKEEP_GROUP_OPTIONS_INIT;
  podkeep_group *group;
  together.strategy = PODKEEP_ONE_FOR_ALL;
  must(podkeep_group_new(&together, &group), "podkeep_group_new");
  while (count < wanted) make(sleeper, options);
  for (long i = 0; i < count; i++) must(podkeep_group_add(group, pods[i], NULL), "podkeep_group_add");
  must(podkeep_group_start(group), "podkeep_group_start");
}

static uint64_t restarts(void) {
  uint64_t sum = 0;
  for (long i = 0; i < count; i++) {
    uint32_t of_one = 0;
    must(podkeep_pod_restarts(pods[i], &of_one), "podkeep_pod_restarts");
    sum += of_one;
  }
  return sum;
}

int main(int argc, char **argv) {
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtimes[KINDS];
  struct rlimit files;
  int32_t code;
  for (int kind = 0; kind < KINDS; kind++) {
    runtimes[kind] = own_runtime(&kinds[kind]);
    must(podkeep_export(runtimes[kind]), "podkeep_export");
  }
  if (podkeep_child_run(&code) == PODKEEP_OK) return code;

  int kind = 0;
  if (argc != 4) return fprintf(stderr, "usage: bench-supervised fail|capped|idle|fed WORD COUNT\n"), 2;
  while (kind < KINDS - 1 && strcmp(argv[1], kinds[kind].name) != 0) kind++;
  const long wanted = atol(argv[3]);
  const int in_a_thread = strcmp(argv[2], "thread") == 0 || strcmp(argv[2], "group") == 0;
  podkeep_runtime *runtime = strcmp(argv[2], "command") == 0 ? command(kind) : runtimes[kind];
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* a command takes four descriptors */
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  options.host = in_a_thread ? PODKEEP_HOST_THREAD : PODKEEP_HOST_PROCESS;
  options.stack_size = in_a_thread ? 64 * 1024 : 0;
  options.restart = PODKEEP_RESTART_ON_FAILURE;
  options.max_restarts = UINT32_MAX;
  options.backoff_ms = 1; /* the least there is: 0.75 to 1 ms */
  options.backoff_max_ms = kind == CAPPED ? CAP_MS : 1;
  options.watchdog_ms = kind == FED ? WATCHDOG_MS : 0;
  pods = calloc((size_t)wanted, sizeof(podkeep_pod *));
  if (pods == NULL) die("calloc");
  if (strcmp(argv[2], "group") == 0) {
    make(runtime, &options);
    start_group(runtimes[IDLE], &options, wanted);
  } else {
    while (count < wanted) make(runtime, &options);
    for (long i = 0; i < count; i++) must(podkeep_pod_start(pods[i]), "podkeep_pod_start");
    for (long i = 0; i < count && kind >= IDLE; i++) must(podkeep_pod_wait_ready(pods[i], 60000), "podkeep_pod_wait_ready");
  }
  answer(restarts);
  must(podkeep_shutdown(PODKEEP_FOREVER, NULL), "podkeep_shutdown");
  return 0;
}
