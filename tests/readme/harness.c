/* harness.c: keeps a runtime out of the docs in a pod. run.sh compiles it behind the example, with HAS_INIT, HAS_CANCEL,
 * HAS_TEARDOWN for the functions that the example has, KICK_SIGNAL and NOTIFY for what stands in its `test:` line.
 *
 * The runtime must end cleanly when it is cancelled at once after the start, and when it is cancelled while it sleeps.
 */
#include <poll.h>
#include <stdio.h>

/* Until the pod's thread sleeps in the kernel. A runtime that only looks at the flag never does: 200 ms are enough then. */
static void until_asleep(podkeep_pod *pod) {
  int tries;
  for (tries = 0; tries < 200; tries++) {
    int64_t id = 0;
    char path[64], state = '?';
    FILE *file;
    podkeep_pod_id(pod, &id);
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)id);
    file = fopen(path, "r");
    if (file) {
      if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = '?';
      fclose(file);
    }
    if (state == 'S') return;
    poll(NULL, 0, 1); /* the kernel tells nobody that a thread fell asleep */
  }
}

static int life(podkeep_runtime *runtime, int asleep) {
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_pod *pod = NULL;
  podkeep_status status;
#ifdef KICK_SIGNAL
  options.kick_signal = KICK_SIGNAL;
#endif
#ifdef NOTIFY
  options.ready = PODKEEP_READY_NOTIFY;
#endif
  options.grace_ms = 20000;
  status = podkeep_pod_new(runtime, &options, &pod);
  if (status == PODKEEP_OK) status = podkeep_pod_start(pod);
  if (status == PODKEEP_OK) status = podkeep_pod_wait_ready(pod, 20000);
  if (status == PODKEEP_OK && asleep) until_asleep(pod);
  if (status == PODKEEP_OK) status = podkeep_pod_close(pod);
  if (status != PODKEEP_OK) fprintf(stderr, "%s: %s\n", podkeep_status_name(status), podkeep_last_error());
  podkeep_pod_free(pod);
  return status == PODKEEP_OK;
}

int main(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime = NULL;
  int good;
  spec.name = "example";
  spec.run_forever = run_forever;
#ifdef HAS_INIT
  spec.init = init;
#endif
#ifdef HAS_CANCEL
  spec.cancel = cancel;
#endif
#ifdef HAS_TEARDOWN
  spec.teardown = teardown;
#endif
  if (podkeep_runtime_new(&spec, &runtime) != PODKEEP_OK) return fprintf(stderr, "%s\n", podkeep_last_error()), 1;
  good = life(runtime, 0) && life(runtime, 1);
  podkeep_runtime_free(runtime);
  return !good;
}
