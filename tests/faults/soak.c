/* Many lives, one after the other: descriptors, threads and resident memory stay where they were after the first
 * thousand. PODKEEP_SOAK=n divides the counts. */
#include "check.h"
#include "world.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

static int lives(int count) {
  const char *text = getenv("PODKEEP_SOAK");
  int by = text ? atoi(text) : 1;
  return by > 1 ? count / by : count;
}

static int hooks;
static int32_t run_for_hook(podkeep_context *ctx, void *state) {
  (void)state;
  while (!LOAD(hooks)) podkeep_context_wait(ctx, 0);
  return PODKEEP_CANCELLED;
}
static void hook(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  STORE(hooks, 1);
}
static int32_t run_on_descriptor(podkeep_context *ctx, void *state) {
  struct pollfd p = { -1, POLLIN, 0 };
  (void)state;
  p.fd = podkeep_context_fd(ctx);
  CHECK(p.fd >= 0);
  EQ(poll(&p, 1, slow(10000)), 1);
  return 0;
}
static int32_t run_on_flag(podkeep_context *ctx, void *state) {
  (void)state;
  while (!podkeep_context_cancelled(ctx)) podkeep_context_wait(ctx, 1);
  return 0;
}
static int32_t fail_teardown(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_fail(ctx, 2, "in teardown, too");
}

enum shape { PLAIN, WITH_HOOK, WITH_MONITOR, WITH_DESCRIPTOR, FAILING, NEW_RUNTIME, FREED_RUNNING, CANCELLED_EARLY, TIMED_OUT };
static podkeep_runtime *runtime_for(enum shape shape) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  spec.name = "soaked";
  spec.run_forever = shape == WITH_HOOK         ? run_for_hook
                     : shape == WITH_DESCRIPTOR ? run_on_descriptor
                     : shape == FAILING         ? run_and_fail
                     : shape == TIMED_OUT       ? run_on_flag
                                                : run_until_cancelled;
  if (shape == WITH_HOOK) spec.cancel = hook;
  if (shape == FAILING) spec.teardown = fail_teardown;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  return runtime;
}

static void one_life(enum shape shape, podkeep_runtime *runtime) {
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_monitor *monitor = NULL;
  podkeep_failure *failure;
  podkeep_event event = PODKEEP_EVENT_INIT;
  podkeep_pod *pod;
  int fd;
  options.args = "some bytes";
  options.args_len = 10;
  IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
  if (shape == WITH_MONITOR) {
    IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
    IS(podkeep_monitor_fd(monitor, &fd), PODKEEP_OK);
  }
  STORE(hooks, 0);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  if (shape == FREED_RUNNING) {
    IS(podkeep_pod_free(pod), PODKEEP_OK);
    return;
  }
  if (shape == FAILING) {
    IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_ERR_FAILED);
    IS(podkeep_pod_failure(pod, &failure), PODKEEP_OK);
    CHECK(podkeep_failure_secondary(failure) != NULL);
    IS(podkeep_failure_free(failure), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
    return;
  }
  if (shape != CANCELLED_EARLY) IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
  if (shape == TIMED_OUT) IS(podkeep_pod_join(pod, 0), PODKEEP_ERR_TIMEOUT);
  IS(podkeep_pod_cancel(pod), PODKEEP_OK);
  IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_OK);
  if (monitor) {
    while (podkeep_monitor_next(monitor, &event, slow(10000)) == PODKEEP_OK) {}
    IS(podkeep_monitor_free(monitor), PODKEEP_OK);
  }
  IS(podkeep_pod_free(pod), PODKEEP_OK);
}

/* All of the pods are gone, and the hooks' spare threads (they go after a second of rest). */
static void settle(int threads) { UNTIL(threads < 0 || count_threads() <= threads); }

static void soak(enum shape shape, int count) {
  podkeep_runtime *runtime = runtime_for(shape);
  int i, n = lives(count), threads = 0, descriptors = 0, running = 0;
  long resident = 0, after;
  podkeep_monitor *all = NULL;
  podkeep_event event = PODKEEP_EVENT_INIT;
  if (shape == FREED_RUNNING) IS(podkeep_monitor_new(NULL, &all), PODKEEP_OK);
  for (i = 0; i < n + 1000; i++) {
    if (shape == NEW_RUNTIME) {
      IS(podkeep_runtime_free(runtime), PODKEEP_OK);
      runtime = runtime_for(shape);
    }
    one_life(shape, runtime);
    /* Nobody waits for these. Eight side by side at any time, or the stacks of more would count as lost memory. */
    for (running += all != NULL; running > (i == 999 ? 0 : 8); running -= event.to == PODKEEP_STATE_STOPPED)
      IS(podkeep_monitor_next(all, &event, slow(10000)), PODKEEP_OK);
    if (i == 999) {
      int waited = 0;
      while (thread_named("soaked") && waited++ < 10000) nap();
      threads = count_threads(), descriptors = count_descriptors();
      resident_kib(), resident = resident_kib(); /* the first look brings pages of its own */
    }
  }
  settle(threads);
  EQ(count_descriptors(), descriptors);
  after = resident_kib();
  fprintf(stderr, "    %d lives: %d threads, %d descriptors, %ld KiB resident after the first 1000, %ld KiB in the end\n", n,
          count_threads(), descriptors, resident, after);
  CHECK(after <= resident + 256); /* 100 000 lives that each lost four bytes would show */
  if (all) IS(podkeep_monitor_free(all), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

static void plain(void) { soak(PLAIN, 100000); }
static void with_hook(void) { soak(WITH_HOOK, 20000); }
static void with_monitor(void) { soak(WITH_MONITOR, 20000); }
static void with_descriptor(void) { soak(WITH_DESCRIPTOR, 20000); }
static void failing_each_time(void) { soak(FAILING, 20000); }
static void with_a_new_runtime_each_time(void) { soak(NEW_RUNTIME, 20000); }
static void freed_while_running(void) { soak(FREED_RUNNING, 20000); }
static void cancelled_while_starting(void) { soak(CANCELLED_EARLY, 20000); }
static void with_a_timed_out_wait(void) { soak(TIMED_OUT, 5000); }

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE_LIMIT(plain, 300), CASE_LIMIT(with_hook, 120), CASE_LIMIT(with_monitor, 120), CASE_LIMIT(with_descriptor, 120),
    CASE_LIMIT(failing_each_time, 120), CASE_LIMIT(with_a_new_runtime_each_time, 120),
    CASE_LIMIT(freed_while_running, 120), CASE_LIMIT(cancelled_while_starting, 120), CASE_LIMIT(with_a_timed_out_wait, 120),
  };
  return RUN(all);
}
