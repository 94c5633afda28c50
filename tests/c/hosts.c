/* hosts.c: see hosts.h. */
#include "hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECIPE_PLACE "PODKEEP_TEST_RECIPE"

void recipe_keep(recipe *r, const podkeep_runtime_spec *spec) {
  r->spec = *spec;
  snprintf(r->name, sizeof r->name, "%s", spec->name);
  r->spec.name = r->name;
  snprintf(r->place, sizeof r->place, RECIPE_PLACE "=%p", (void *)r);
  r->env[0] = r->place;
}

podkeep_runtime *recipe_runtime(recipe *r) {
  podkeep_runtime *runtime = NULL;
  CHECK_OK(podkeep_runtime_new(&r->spec, &runtime));
  recipe_export(runtime);
  return runtime;
}

void recipe_export(podkeep_runtime *runtime) {
  if (world_host() == IN_PROCESS) CHECK_OK(podkeep_export(runtime));
}

void recipe_options(recipe *r, podkeep_pod_options *options) {
  if (world_host() != IN_PROCESS) return;
  options->host = PODKEEP_HOST_PROCESS;
  options->env = r->env;
}

podkeep_pod *recipe_pod(recipe *r, podkeep_runtime *runtime) {
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_pod *pod = NULL;
  recipe_options(r, &options);
  CHECK_OK(podkeep_pod_new(runtime, &options, &pod));
  return pod;
}

/* --- The main pod --------------------------------------------------------------------------------------------------- */

typedef struct main_run {
  podkeep_pod *pod;
  podkeep_status status;
  int64_t tid;
  event over; /* the call has returned, or its thread was ended inside it */
} main_run;

static main_run *latest;

/* Section 10: 0 only for a clean end; 124 for a timeout; a failure's code if 1 to 255, else 1. */
static void check_exit_code(podkeep_pod *pod, int32_t got) {
  podkeep_failure *f = NULL;
  podkeep_state state;
  if (podkeep_pod_failure(pod, &f) != PODKEEP_OK) return; /* the handle is gone */
  bool is_gone = podkeep_pod_state(pod, &state) != PODKEEP_OK; /* the handle, meanwhile */
  /* Cancelled between two lives: STOPPED, and the failure of the last one is kept. */
  uint32_t restarts = 0;
  bool was_between_lives = f != NULL && !is_gone && state == PODKEEP_STATE_STOPPED &&
                           (podkeep_pod_restarts(pod, &restarts) != PODKEEP_OK || podkeep_failure_incarnation(f) == restarts);
  if (is_gone && got == 0) was_between_lives = true;
  if (!is_gone && !was_between_lives) CHECK_INT(state, f ? PODKEEP_STATE_FAILED : PODKEEP_STATE_STOPPED);
  int32_t want = 0;
  if (f != NULL && !was_between_lives) {
    int32_t code = podkeep_failure_code(f);
    want = podkeep_failure_kind(f) == PODKEEP_KIND_TIMEOUT ? 124 : code >= 1 && code <= 255 ? code : 1;
  }
  podkeep_failure_free(f);
  CHECK_INT(got, want);
}

static void run_is_over(void *arg) { event_set(&((main_run *)arg)->over); }

static void *run_main(void *arg) {
  main_run *run = arg;
  pthread_cleanup_push(run_is_over, run);
  int32_t exit_code = -4711;
  STORE(run->tid, own_tid());
  run->status = podkeep_pod_run(run->pod, &exit_code);
  if (run->status == PODKEEP_OK) check_exit_code(run->pod, exit_code);
  pthread_cleanup_pop(1);
  return NULL;
}

static bool is_over(podkeep_pod *pod) {
  podkeep_state state = PODKEEP_STATE_STOPPED; /* of a handle that is dead */
  podkeep_pod_state(pod, &state);
  return state == PODKEEP_STATE_STOPPED || state == PODKEEP_STATE_FAILED;
}

static podkeep_status start_main(podkeep_pod *pod) {
  main_run *before = LOAD(latest);
  if (before != NULL && !is_over(before->pod)) return podkeep_pod_start(pod);
  if (before != NULL) event_wait(&before->over); /* the end is shown a moment before the call returns */
  main_run *run = world_alloc(sizeof *run);
  run->pod = pod;
  run->status = PODKEEP_ERR_INTERNAL;
  if (!__atomic_compare_exchange_n(&latest, &before, run, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return podkeep_pod_start(pod);
  pthread_t thread;
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  CHECK_INT(pthread_create(&thread, &detached, run_main, run), 0);
  pthread_attr_destroy(&detached);
  for (;;) { /* that S is our thread has no event */
    int64_t id = 0;
    if (event_is_set(&run->over)) return run->status == PODKEEP_ERR_INTERNAL ? PODKEEP_OK : run->status;
    if (podkeep_pod_id(pod, &id) != PODKEEP_OK || (id != 0 && id == LOAD(run->tid))) return PODKEEP_OK;
    pass_us(20);
  }
}

podkeep_status start_pod(podkeep_pod *pod) { return world_host() == IN_MAIN ? start_main(pod) : podkeep_pod_start(pod); }

/* --- S -------------------------------------------------------------------------------------------------------------- */

void in_S(recipe *r, void (*does)(void *), void *arg) {
  if (world_host() != IN_PROCESS) {
    does(arg);
    return;
  }
  r->does = does;
  r->arg = arg;
  event_clear(&r->answered);
  event_set(&r->asked);
  event_wait(&r->answered);
}

/* The thread of a child that does what in_S asks for; it ends with the process. */
static void *answer(void *arg) {
  recipe *r = arg;
  for (;;) {
    while (!event_wait_for(&r->asked, LIMIT_MS)) {}
    event_clear(&r->asked);
    r->does(r->arg);
    event_set(&r->answered);
  }
  return NULL;
}

bool S_is_elsewhere(void) { return world_host() == IN_PROCESS; }

void end_S(void) {
  if (world_is_child()) _exit(0);
  pthread_exit(NULL);
}

podkeep_status forced_status(void) { return world_host() == IN_PROCESS ? PODKEEP_ERR_FAILED : PODKEEP_ERR_TIMEOUT; }

podkeep_state forced_state(void) { return world_host() == IN_PROCESS ? PODKEEP_STATE_FAILED : PODKEEP_STATE_ABANDONED; }

bool child_main(bool has_children, int32_t *exit_code) {
  const char *place = getenv(RECIPE_PLACE);
  if (place == NULL) {
    if (has_children) CHECK_STATUS(podkeep_child_run(exit_code), PODKEEP_ERR_ENDED);
    return false;
  }
  world_enter();
  recipe *r = (recipe *)(uintptr_t)strtoull(place, NULL, 16);
  podkeep_runtime *runtime = NULL;
  podkeep_runtime_spec spec = r->spec;
  spec.drop = NULL;
  CHECK_OK(podkeep_runtime_new(&spec, &runtime));
  CHECK_OK(podkeep_export(runtime));
  pthread_t thread;
  CHECK_INT(pthread_create(&thread, NULL, answer, r), 0);
  CHECK_OK(podkeep_child_run(exit_code));
  if (r->after != NULL) *exit_code = r->after(r->spec.config, *exit_code);
  return true;
}
