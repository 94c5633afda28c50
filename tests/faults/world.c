#include "world.h"

#include <pthread.h>
#include <stdlib.h>

int32_t run_until_cancelled(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_wait(ctx, PODKEEP_FOREVER) == PODKEEP_OK ? PODKEEP_CANCELLED : 1;
}
int32_t run_and_fail(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_fail(ctx, 7, "as it should");
}
static int32_t fail_too(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_fail(ctx, 8, "again");
}
static int32_t keep_context(podkeep_context *ctx, void *config, void **state) {
  struct world *w = config;
  w->ctx = ctx;
  *state = config;
  return 0;
}

podkeep_runtime *make_runtime(const char *name, int32_t (*run)(podkeep_context *, void *)) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  spec.name = name;
  spec.run_forever = run ? run : run_until_cancelled;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  return runtime;
}
podkeep_pod *make_pod(podkeep_runtime *runtime) {
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_pod *pod;
  options.grace_ms = slow(5000); /* the default */
  IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
  return pod;
}
podkeep_pod *make_running(podkeep_runtime *runtime) {
  podkeep_pod *pod = make_pod(runtime);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
  return pod;
}

podkeep_context *world_over;
void world_make(struct world *w) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *failed;
  struct world of_failed;
  spec.name = "failing";
  spec.init = keep_context;
  spec.config = &of_failed;
  spec.run_forever = run_and_fail;
  spec.teardown = fail_too;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  failed = make_pod(runtime);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  IS(podkeep_pod_start(failed), PODKEEP_OK);
  IS(podkeep_pod_join(failed, slow(10000)), PODKEEP_ERR_FAILED);
  IS(podkeep_pod_failure(failed, &w->failure), PODKEEP_OK);
  IS(podkeep_pod_free(failed), PODKEEP_OK);
  world_over = of_failed.ctx;
  spec.name = "running";
  spec.run_forever = run_until_cancelled;
  spec.teardown = NULL;
  spec.config = w;
  IS(podkeep_runtime_new(&spec, &w->runtime), PODKEEP_OK);
  w->pod = make_running(w->runtime);
  w->other = make_pod(w->runtime);
  IS(podkeep_monitor_new(w->pod, &w->monitor), PODKEEP_OK);
  IS(podkeep_group_new(NULL, &w->group), PODKEEP_OK);
  IS(podkeep_control_serve(NULL, &w->control), PODKEEP_OK);
}

void world_free(struct world *w) {
  podkeep_event event = PODKEEP_EVENT_INIT;
  podkeep_state state;
  IS(podkeep_pod_state(w->pod, &state), PODKEEP_OK);
  EQ(state, PODKEEP_STATE_RUNNING);
  CHECK(!podkeep_context_cancelled(w->ctx));
  EQ(podkeep_failure_code(w->failure), 7);
  EQ(podkeep_failure_code(podkeep_failure_secondary(w->failure)), 8);
  IS(podkeep_pod_close(w->pod), PODKEEP_OK);
  CHECK(podkeep_context_cancelled(w->ctx));
  while (podkeep_monitor_next(w->monitor, &event, slow(10000)) == PODKEEP_OK) state = event.to;
  EQ(state, PODKEEP_STATE_STOPPED);
  IS(podkeep_pod_state(w->other, &state), PODKEEP_OK);
  EQ(state, PODKEEP_STATE_NEW);
  IS(podkeep_monitor_free(w->monitor), PODKEEP_OK);
  IS(podkeep_group_free(w->group), PODKEEP_OK);
  IS(podkeep_control_free(w->control), PODKEEP_OK);
  IS(podkeep_failure_free(w->failure), PODKEEP_OK);
  IS(podkeep_pod_free(w->pod), PODKEEP_OK);
  IS(podkeep_pod_free(w->other), PODKEEP_OK);
  IS(podkeep_runtime_free(w->runtime), PODKEEP_OK);
}

void *start_thread(void *(*f)(void *), void *argument) {
  pthread_t *thread = malloc(sizeof *thread);
  CHECK(thread && pthread_create(thread, NULL, f, argument) == 0);
  return thread;
}
void join_thread(void *thread) {
  CHECK(pthread_join(*(pthread_t *)thread, NULL) == 0);
  free(thread);
}
