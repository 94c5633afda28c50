/* podkeep: a process pod of this program's own callbacks, and pods of a command. A program of its own, so that its child,
 * which is this program again, loads what a user's would: libpodkeep and nothing else.
 *
 *     bench-pods life|big|many own|notify|on-run NUMBER SIZE
 */
#include "processes.h"
#include <podkeep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static podkeep_runtime *callbacks, *runtime;
static podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;

static void must(podkeep_status status, const char *call) {
  if (status == PODKEEP_OK) return;
  fprintf(stderr, "%s: %s\n", call, podkeep_last_error());
  die(call);
}

static int32_t hosted(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return 0;
}

static void prepare_own(void) { runtime = callbacks; }

static void prepare_command(const char *word) {
  const char *argv[] = {beside("child-static"), word, NULL};
  must(podkeep_runtime_from_command("bench", argv, &runtime), "podkeep_runtime_from_command");
}
static void prepare_notify(void) {
  options.ready = PODKEEP_READY_NOTIFY;
  prepare_command("notify");
}
static void prepare_on_run(void) { prepare_command("pause"); }

static void *begin(void) {
  podkeep_pod *pod;
  must(podkeep_pod_new(runtime, &options, &pod), "podkeep_pod_new");
  must(podkeep_pod_start(pod), "podkeep_pod_start");
  must(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), "podkeep_pod_wait_ready");
  return pod;
}

static void end(void *pod) {
  must(podkeep_pod_cancel(pod), "podkeep_pod_cancel");
  must(podkeep_pod_join(pod, PODKEEP_FOREVER), "podkeep_pod_join");
  must(podkeep_pod_free(pod), "podkeep_pod_free");
}

static pid_t child(void *pod) {
  int64_t id = 0;
  must(podkeep_pod_id(pod, &id), "podkeep_pod_id");
  return (pid_t)id;
}

const struct process_peer peer_own_callbacks = {prepare_own, begin, end, child};
const struct process_peer peer_command_notify = {prepare_notify, begin, end, child};
const struct process_peer peer_command_on_run = {prepare_on_run, begin, end, child};

int main(int argc, char **argv) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  int32_t code;
  spec.name = "bench";
  spec.run_forever = hosted;
  must(podkeep_runtime_new(&spec, &callbacks), "podkeep_runtime_new");
  must(podkeep_export(callbacks), "podkeep_export");
  if (podkeep_child_run(&code) == PODKEEP_OK) return code;

  if (argc != 5) return fprintf(stderr, "usage: bench-pods life|big|many own|notify|on-run NUMBER SIZE\n"), 2;
  options.host = PODKEEP_HOST_PROCESS;
  options.grace_ms = PODKEEP_FOREVER;
  const struct process_peer *peer = strcmp(argv[2], "own") == 0      ? &peer_own_callbacks
                                    : strcmp(argv[2], "notify") == 0 ? &peer_command_notify
                                                                     : &peer_command_on_run;
  return measure_process(argv[1], peer, atoi(argv[3]), atol(argv[4]));
}
