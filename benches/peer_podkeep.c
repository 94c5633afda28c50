/* podkeep: a runtime once a process, a pod a life. The second peer has a cancel hook as well: what it costs to have one. */
#include "peers.h"
#include <podkeep.h>
#include <stdio.h>
#include <stdlib.h>

static podkeep_runtime *runtime;
static podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;

static void must(podkeep_status status, const char *call) {
  if (status == PODKEEP_OK) return;
  fprintf(stderr, "%s: %s\n", call, podkeep_last_error());
  die(call);
}

static int32_t hosted(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  note_wake();
  return 0;
}

static void hook(podkeep_context *ctx, void *state) {
  (void)ctx;
  (void)state;
}

static void prepare_with(size_t stack_size, void (*cancel_hook)(podkeep_context *, void *)) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "bench";
  spec.run_forever = hosted;
  spec.cancel = cancel_hook;
  options.stack_size = stack_size;
  must(podkeep_runtime_new(&spec, &runtime), "podkeep_runtime_new");
}
static void prepare(size_t stack_size) { prepare_with(stack_size, NULL); }
static void prepare_hook(size_t stack_size) { prepare_with(stack_size, hook); }

static void *make(void) {
  podkeep_pod *pod;
  must(podkeep_pod_new(runtime, &options, &pod), "podkeep_pod_new");
  return pod;
}

static void start(void *pod) { must(podkeep_pod_start(pod), "podkeep_pod_start"); }

static void wait_ready(void *pod) { must(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), "podkeep_pod_wait_ready"); }

static void cancel(void *pod) { must(podkeep_pod_cancel(pod), "podkeep_pod_cancel"); }

static void join(void *pod) {
  must(podkeep_pod_join(pod, PODKEEP_FOREVER), "podkeep_pod_join");
  must(podkeep_pod_free(pod), "podkeep_pod_free");
}

const struct peer peer_podkeep = {"podkeep", prepare, make, start, wait_ready, cancel, join};
const struct peer peer_podkeep_hook = {"podkeep, with a cancel hook", prepare_hook, make, start,
                                       wait_ready,     cancel, join};

/* The flag is looked at where it is looked at in life: inside run_forever, with the context in hand. */
struct looking {
  long count;
  double ns;
};

static int32_t look(podkeep_context *ctx, void *state) {
  struct looking *looking = state;
  looking->ns = look_cost((look_fn)(void (*)(void))podkeep_context_cancelled, ctx, looking->count);
  return 0;
}

double flag_podkeep(long count) {
  struct looking looking = {count, 0};
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *looker;
  podkeep_pod *pod;
  spec.name = "looker";
  spec.run_forever = look;
  spec.config = &looking;
  must(podkeep_runtime_new(&spec, &looker), "podkeep_runtime_new");
  must(podkeep_pod_new(looker, NULL, &pod), "podkeep_pod_new");
  must(podkeep_pod_start(pod), "podkeep_pod_start");
  join(pod);
  must(podkeep_runtime_free(looker), "podkeep_runtime_free");
  return looking.ns;
}
