/* library.c: keeps a runtime of a shared library out of the docs, in a thread and in a child process.
 *
 *   library PATH SYMBOL
 */
#include <podkeep.h>
#include <stdio.h>

static int life(podkeep_runtime *runtime, podkeep_host host) {
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_pod *pod = NULL;
  options.host = host;
  options.grace_ms = 20000;
  podkeep_status status = podkeep_pod_new(runtime, &options, &pod);
  if (status == PODKEEP_OK) status = podkeep_pod_start(pod);
  if (status == PODKEEP_OK) status = podkeep_pod_wait_ready(pod, 20000);
  if (status == PODKEEP_OK) status = podkeep_pod_close(pod);
  if (status != PODKEEP_OK) fprintf(stderr, "%s: %s\n", podkeep_status_name(status), podkeep_last_error());
  podkeep_pod_free(pod);
  return status == PODKEEP_OK;
}

int main(int argc, char **argv) {
  podkeep_runtime *runtime = NULL;
  if (argc != 3) return 2;
  if (podkeep_runtime_from_library(argv[1], argv[2], &runtime) != PODKEEP_OK)
    return fprintf(stderr, "%s\n", podkeep_last_error()), 1;
  const int good = life(runtime, PODKEEP_HOST_PROCESS) && life(runtime, PODKEEP_HOST_THREAD);
  podkeep_runtime_free(runtime);
  return !good;
}
