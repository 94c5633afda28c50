/* The C program of the guide, with shorter times. */
#include <podkeep.h>
#include <stdio.h>
#include <unistd.h>

static int32_t run(podkeep_context *ctx, void *state) {
  (void)state;
  while (podkeep_context_wait(ctx, 100) == PODKEEP_ERR_TIMEOUT) puts("tick");
  return 0;
}
int main(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "ticker";
  spec.run_forever = run;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  if (podkeep_runtime_new(&spec, &runtime) || podkeep_pod_new(runtime, NULL, &pod) || podkeep_pod_start(pod))
    return fprintf(stderr, "%s\n", podkeep_last_error()), 1;
  sleep(1);
  return podkeep_pod_close(pod) != PODKEEP_OK;
}
