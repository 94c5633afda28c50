#include <podkeep.h>
#include <stdio.h>

static int32_t run(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return 0;
}

int main(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  spec.name = "installed";
  spec.run_forever = run;
  if (podkeep_runtime_new(&spec, &runtime) || podkeep_pod_new(runtime, NULL, &pod) || podkeep_pod_start(pod))
    return fprintf(stderr, "%s\n", podkeep_last_error()), 1;
  if (podkeep_pod_close(pod) != PODKEEP_OK) return 1;
  printf("podkeep %s works\n", podkeep_version());
  return 0;
}
