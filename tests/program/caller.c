/* podkeep_terminate and podkeep_query from C: in the process that serves, from threads and from the child of a fork. */
#include <dirent.h>
#include <podkeep.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                             \
  do {                                                                                               \
    if (!(condition)) {                                                                              \
      fprintf(stderr, "line %d: %s; last error: %s\n", __LINE__, #condition, podkeep_last_error()); \
      _exit(1);                                                                                      \
    }                                                                                                \
  } while (0)
#define SAYS(word) (strstr(podkeep_last_error(), word) != NULL)

static int32_t polite(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return PODKEEP_CANCELLED;
}

static int32_t fails(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return podkeep_context_fail(ctx, 4, "not flushed");
}

static int32_t slow(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  while (access((const char *)state, F_OK) != 0) usleep(1000);
  return PODKEEP_CANCELLED;
}

static podkeep_pod *begin(const char *name, int32_t (*run)(podkeep_context *, void *), void *config) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  spec.name = name;
  spec.run_forever = run;
  spec.config = config;
  options.grace_ms = PODKEEP_FOREVER;
  CHECK(podkeep_runtime_new(&spec, &runtime) == PODKEEP_OK);
  CHECK(podkeep_pod_new(runtime, &options, &pod) == PODKEEP_OK);
  CHECK(podkeep_pod_start(pod) == PODKEEP_OK);
  CHECK(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER) == PODKEEP_OK);
  return pod;
}

static int entries(const char *directory) {
  int count = 0;
  DIR *dir = opendir(directory);
  CHECK(dir != NULL);
  while (readdir(dir) != NULL) count++;
  closedir(dir);
  return count;
}

static const char *address;

static void *ask(void *unused) {
  podkeep_state state;
  int n;
  for (n = 0; n < 20; n++) CHECK(podkeep_query(address, "web", PODKEEP_FOREVER, &state) == PODKEEP_OK);
  return unused;
}

int main(int argc, char **argv) {
  podkeep_control *control;
  podkeep_pod *web;
  podkeep_state state = PODKEEP_STATE_NEW;
  pthread_t threads[4];
  pid_t child;
  int status, before, n;

  CHECK(argc == 2);
  CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
  web = begin("web", polite, NULL);
  begin("late", fails, NULL);
  begin("slow", slow, argv[1]);
  CHECK(podkeep_control_serve(NULL, &control) == PODKEEP_OK);
  CHECK(podkeep_control_address(control, &address) == PODKEEP_OK);

  CHECK(podkeep_query(address, "web", PODKEEP_FOREVER, &state) == PODKEEP_OK && state == PODKEEP_STATE_RUNNING);
  CHECK(podkeep_query(address, "web", 0, &state) == PODKEEP_OK && state == PODKEEP_STATE_RUNNING);
  before = entries("/proc/self/task");
  for (n = 0; n < 4; n++) CHECK(pthread_create(&threads[n], NULL, ask, NULL) == 0);
  for (n = 0; n < 4; n++) CHECK(pthread_join(threads[n], NULL) == 0);
  /* A thread that was joined may still be counted for a moment. */
  for (n = 0; n < 20000 && entries("/proc/self/task") != before; n++) usleep(1000);
  CHECK(entries("/proc/self/task") == before);

  CHECK(podkeep_query(address, "nobody", 30000, &state) == PODKEEP_ERR_NOT_FOUND && SAYS("nobody") && SAYS(address));
  CHECK(podkeep_terminate(address, "Web", 30000) == PODKEEP_ERR_NOT_FOUND);
  CHECK(podkeep_terminate(address, "", 30000) == PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK(podkeep_terminate(NULL, "web", 30000) == PODKEEP_ERR_INVALID_ARGUMENT && SAYS("address"));
  CHECK(podkeep_terminate("web.sock", "web", 30000) == PODKEEP_ERR_INVALID_ARGUMENT && SAYS("unix:PATH"));
  CHECK(podkeep_terminate(address, NULL, 30000) == PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK(podkeep_query(address, "web", -2, &state) == PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK(podkeep_terminate(address, "late", PODKEEP_FOREVER) == PODKEEP_ERR_FAILED);
  CHECK(SAYS("failed in run (returned, code 4): not flushed"));

  /* 0: it is asked, and not waited for. */
  CHECK(podkeep_terminate(address, "slow", 0) == PODKEEP_ERR_TIMEOUT);
  CHECK(podkeep_query(address, "slow", PODKEEP_FOREVER, &state) == PODKEEP_OK && state == PODKEEP_STATE_STOPPING);
  /* What it is stuck in is told, too, unless a busy machine has no time for that. */
  for (n = 0; n < 200; n++) {
    CHECK(podkeep_terminate(address, "slow", 50) == PODKEEP_ERR_TIMEOUT);
    if (SAYS("is STOPPING, in phase run")) break;
  }
  CHECK(n < 200);
  CHECK(fclose(fopen(argv[1], "w")) == 0);
  CHECK(podkeep_terminate(address, "slow", PODKEEP_FOREVER) == PODKEEP_OK);

  child = fork();
  if (child == 0) {
    CHECK(podkeep_query(address, "web", PODKEEP_FOREVER, &state) == PODKEEP_OK && state == PODKEEP_STATE_RUNNING);
    CHECK(podkeep_terminate(address, "web", PODKEEP_FOREVER) == PODKEEP_OK);
    _exit(0);
  }
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(podkeep_pod_state(web, &state) == PODKEEP_OK && state == PODKEEP_STATE_STOPPED);

  before = entries("/proc/self/fd");
  for (n = 0; n < 50; n++) CHECK(podkeep_query(address, "web", 10000, &state) == PODKEEP_OK);
  CHECK(podkeep_control_free(control) == PODKEEP_OK);
  /* The service's own descriptors are gone; no client has left one. */
  CHECK(entries("/proc/self/fd") < before);
  puts("done");
  return 0;
}
