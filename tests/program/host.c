/* A process that serves its pods: host ADDRESS [REDIS-SOCKET]. It says its address when all of them are as they should be, and
 * ends at the end of its stdin. */
#include <podkeep.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST(call)                                                                            \
  do {                                                                                        \
    podkeep_status status_ = (call);                                                          \
    if (status_ != PODKEEP_OK) {                                                              \
      fprintf(stderr, "%s: %s: %s\n", #call, podkeep_status_name(status_), podkeep_last_error()); \
      exit(1);                                                                                \
    }                                                                                         \
  } while (0)

/* Counts who has said its words: RUNNING is shown before. */
static sem_t serving;

static int32_t polite(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_status(ctx, "serving \x1b[31m\xe6\xbc\xa2\xe5\xad\x97\nand more");
  sem_post(&serving);
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return PODKEEP_CANCELLED;
}

static int32_t fails_at_the_end(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return podkeep_context_fail(ctx, 4, "not flushed");
}

static int32_t fails_again(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_fail(ctx, 5, "nor closed");
}

static int32_t fails_at_once(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_fail(ctx, 3, "no such luck");
}

/* Until the process ends: its thread has to be let go. */
static int32_t hears_nothing(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  for (;;) pause();
  return PODKEEP_CANCELLED;
}

typedef int32_t body(podkeep_context *, void *);

static podkeep_pod *make(const char *name, body *run, body *teardown, int64_t grace_ms) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  spec.name = name;
  spec.run_forever = run;
  spec.teardown = teardown;
  options.grace_ms = grace_ms;
  MUST(podkeep_runtime_new(&spec, &runtime));
  MUST(podkeep_pod_new(runtime, &options, &pod));
  return pod;
}

static void start(podkeep_pod *pod) {
  MUST(podkeep_pod_start(pod));
  MUST(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER));
}

static void redis(const char *socket) {
  const char *argv[] = {"redis-server", "--port", "0", "--save", "", "--unixsocket", socket, NULL};
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  options.host = PODKEEP_HOST_PROCESS;
  MUST(podkeep_runtime_from_command("redis", argv, &runtime));
  MUST(podkeep_pod_new(runtime, &options, &pod));
  start(pod);
}

int main(int argc, char **argv) {
  podkeep_control_options options = PODKEEP_CONTROL_OPTIONS_INIT;
  podkeep_control *control;
  podkeep_group_options named = PODKEEP_GROUP_OPTIONS_INIT;
  podkeep_group *pair;
  podkeep_pod *broken;
  const char *address;
  char byte;
  int n;

  if (argc < 2) return 2;
  if (sem_init(&serving, 0, 0) != 0) return 1;
  options.address = argv[1];
  MUST(podkeep_control_serve(&options, &control));
  start(make("web", polite, NULL, 0));
  start(make("late", fails_at_the_end, fails_again, 0));
  start(make("deaf", hears_nothing, NULL, 200));
  start(make("stubborn", hears_nothing, NULL, PODKEEP_FOREVER));
  broken = make("broken", fails_at_once, NULL, 0);
  MUST(podkeep_pod_start(broken));
  if (podkeep_pod_join(broken, PODKEEP_FOREVER) != PODKEEP_ERR_FAILED) return 1;
  make("fresh", polite, NULL, 0);
  named.name = "pair";
  MUST(podkeep_group_new(&named, &pair));
  MUST(podkeep_group_add(pair, make("one", polite, NULL, 0), NULL));
  MUST(podkeep_group_add(pair, make("two", polite, NULL, 0), NULL));
  MUST(podkeep_group_start(pair));
  MUST(podkeep_group_wait_ready(pair, PODKEEP_FOREVER));
  for (n = 0; n < 3; n++) /* web, one and two */
    if (sem_wait(&serving) != 0) return 1;
  if (argc > 2) redis(argv[2]);
  MUST(podkeep_control_address(control, &address));
  printf("%s\n", address);
  fflush(stdout);
  while (read(STDIN_FILENO, &byte, 1) > 0) {}
  _exit(0);
}
