/* The library by dlopen alone: this program is not linked to it. dlclose while pods run is harmless, and a second
 * dlopen finds the same pods. */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

static void *library;
static podkeep_status (*runtime_new)(const podkeep_runtime_spec *, podkeep_runtime **);
static podkeep_status (*runtime_free)(podkeep_runtime *);
static podkeep_status (*pod_new)(podkeep_runtime *, const podkeep_pod_options *, podkeep_pod **);
static podkeep_status (*pod_start)(podkeep_pod *);
static podkeep_status (*pod_cancel)(podkeep_pod *);
static podkeep_status (*pod_wait_ready)(podkeep_pod *, int64_t);
static podkeep_status (*pod_join)(podkeep_pod *, int64_t);
static podkeep_status (*pod_free)(podkeep_pod *);
static podkeep_status (*pod_state)(podkeep_pod *, podkeep_state *);
static podkeep_status (*context_wait)(podkeep_context *, int64_t);
static podkeep_status (*do_shutdown)(int64_t, uint32_t *);
static const char *(*last_error)(void);

static void *symbol(const char *name) {
  void *found = dlsym(library, name);
  if (!found) check_failed(__FILE__, __LINE__, name);
  return found;
}
#define BIND(variable, name) (*(void **)(&variable) = symbol(name)) /* as POSIX has it: a function out of a void * */
static void load(int flags) {
  const char *path = getenv("PODKEEP_LIBRARY");
  library = dlopen(path ? path : "libpodkeep.so.0", flags);
  if (!library) check_failed(__FILE__, __LINE__, dlerror());
  BIND(runtime_new, "podkeep_runtime_new");
  BIND(runtime_free, "podkeep_runtime_free");
  BIND(pod_new, "podkeep_pod_new");
  BIND(pod_start, "podkeep_pod_start");
  BIND(pod_cancel, "podkeep_pod_cancel");
  BIND(pod_wait_ready, "podkeep_pod_wait_ready");
  BIND(pod_join, "podkeep_pod_join");
  BIND(pod_free, "podkeep_pod_free");
  BIND(pod_state, "podkeep_pod_state");
  BIND(context_wait, "podkeep_context_wait");
  BIND(do_shutdown, "podkeep_shutdown");
  BIND(last_error, "podkeep_last_error");
}
static void unload(void) { CHECK(dlclose(library) == 0); }

static int ticks, torn_down;
static int32_t run(podkeep_context *ctx, void *state) {
  (void)state;
  while (context_wait(ctx, 1) == PODKEEP_ERR_TIMEOUT) __atomic_fetch_add(&ticks, 1, __ATOMIC_SEQ_CST);
  return 0;
}
static int32_t teardown(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  __atomic_fetch_add(&torn_down, 1, __ATOMIC_SEQ_CST);
  return 0;
}
static podkeep_pod *running(podkeep_runtime **runtime) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod *pod;
  spec.name = "loaded";
  spec.run_forever = run;
  spec.teardown = teardown;
  EQ(runtime_new(&spec, runtime), PODKEEP_OK);
  EQ(pod_new(*runtime, NULL, &pod), PODKEEP_OK);
  EQ(pod_start(pod), PODKEEP_OK);
  EQ(pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
  return pod;
}
static void end(podkeep_pod *pod, podkeep_runtime *runtime) {
  EQ(pod_cancel(pod), PODKEEP_OK);
  EQ(pod_join(pod, slow(10000)), PODKEEP_OK);
  EQ(pod_free(pod), PODKEEP_OK);
  EQ(runtime_free(runtime), PODKEEP_OK);
}

static void a_life_through_dlopen(void) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  load(RTLD_NOW | RTLD_LOCAL);
  pod = running(&runtime);
  end(pod, runtime);
  EQ(torn_down, 1);
  unload();
}
static void lazy_binding(void) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  load(RTLD_LAZY | RTLD_LOCAL);
  pod = running(&runtime);
  end(pod, runtime);
  unload();
}
static void pods_outlive_dlclose(void) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  int before;
  load(RTLD_NOW | RTLD_LOCAL);
  pod = running(&runtime);
  unload();
  before = __atomic_load_n(&ticks, __ATOMIC_SEQ_CST);
  UNTIL(__atomic_load_n(&ticks, __ATOMIC_SEQ_CST) > before + 20); /* its code is still there */
  load(RTLD_NOW | RTLD_LOCAL);
  {
    podkeep_state state;
    EQ(pod_state(pod, &state), PODKEEP_OK); /* and it is the same library, with the same pods */
    EQ(state, PODKEEP_STATE_RUNNING);
  }
  end(pod, runtime);
  EQ(torn_down, 1);
  unload();
}
static void loaded_twice_is_one_library(void) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_state state;
  void *first;
  load(RTLD_NOW | RTLD_LOCAL);
  first = library;
  pod = running(&runtime);
  load(RTLD_NOW | RTLD_LOCAL);
  CHECK(library == first);
  EQ(pod_state(pod, &state), PODKEEP_OK);
  EQ(state, PODKEEP_STATE_RUNNING);
  unload();
  EQ(pod_state(pod, &state), PODKEEP_OK);
  end(pod, runtime);
  unload();
}
static void many_times_open_and_close(void) {
  int i, n = fewer(200), threads = 0, descriptors = 0;
  for (i = 0; i < n; i++) {
    podkeep_runtime *runtime;
    podkeep_pod *pod;
    load(RTLD_NOW | RTLD_LOCAL);
    pod = running(&runtime);
    end(pod, runtime);
    unload();
    if (i == 0) threads = count_threads(), descriptors = count_descriptors();
  }
  UNTIL(count_threads() <= threads);
  EQ(count_descriptors(), descriptors);
}
/* A thread that has used the library ends after the dlclose: what the library keeps a thread is still cleared up. */
static void *use_and_end(void *unused) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  (void)unused;
  pod = running(&runtime);
  end(pod, runtime);
  EQ(pod_start(NULL), PODKEEP_ERR_INVALID_HANDLE);
  CHECK(last_error()[0] != 0);
  unload();
  return NULL;
}
static void a_thread_ends_after_dlclose(void) {
  int i;
  for (i = 0; i < fewer(50); i++) {
    pthread_t thread;
    load(RTLD_NOW | RTLD_LOCAL);
    CHECK(pthread_create(&thread, NULL, use_and_end, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
  }
}
static void *opener(void *unused) {
  (void)unused;
  load(RTLD_NOW | RTLD_LOCAL);
  return NULL;
}
static void first_use_from_a_thread_that_ends(void) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, opener, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  pod = running(&runtime);
  end(pod, runtime);
  unload();
}
/* exit() after dlclose with a pod alive, and without: its own code either way. */
static void close_and_exit(void *keep) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  load(RTLD_NOW | RTLD_LOCAL);
  pod = running(&runtime);
  if (!keep) end(pod, runtime);
  unload();
  exit(36);
}
static void exit_after_dlclose(void) {
  int i;
  for (i = 0; i < fewer(30); i++) {
    EQ(in_child(close_and_exit, NULL, slow(10000)), 36);
    EQ(in_child(close_and_exit, &ticks, slow(10000)), 36);
  }
}
static void reopen_after_shutdown(void) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  load(RTLD_NOW | RTLD_LOCAL);
  pod = running(&runtime);
  EQ(do_shutdown(slow(10000), NULL), PODKEEP_OK);
  EQ(pod_free(pod), PODKEEP_OK);
  unload();
  load(RTLD_NOW | RTLD_LOCAL);
  spec.name = "late";
  spec.run_forever = run;
  EQ(runtime_new(&spec, &runtime), PODKEEP_ERR_INVALID_STATE); /* it never left: shut is shut */
  unload();
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(a_life_through_dlopen), CASE(lazy_binding), CASE(pods_outlive_dlclose), CASE(loaded_twice_is_one_library),
    CASE(many_times_open_and_close), CASE(a_thread_ends_after_dlclose), CASE(first_use_from_a_thread_that_ends),
    CASE(exit_after_dlclose), CASE(reopen_after_shutdown),
  };
  return RUN(all);
}
