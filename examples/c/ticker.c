/* ticker: the smallest whole program. A pod that says "tick" every second, closed after five.
 *
 *     cc -std=c99 ticker.c $(pkg-config --cflags --libs podkeep) -o ticker
 */
#define _POSIX_C_SOURCE 200809L /* sleep, under -std=c99 */
#include <podkeep.h>
#include <stdio.h>
#include <unistd.h>

static int32_t run(podkeep_context *ctx, void *state) {
  (void)state;
  while (podkeep_context_wait(ctx, 1000) == PODKEEP_ERR_TIMEOUT) puts("tick");
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
  sleep(5);
  return podkeep_pod_close(pod) != PODKEEP_OK;
}
