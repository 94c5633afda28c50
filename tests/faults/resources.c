/* Nothing to be had: no thread, no descriptor, no memory. The answer is RESOURCES, nothing is left behind, the state is
 * what it was, and the same call works once there is something again. */
#include "check.h"
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* --- Threads --------------------------------------------------------------------------------------------------------- */

/* Root may have as many threads as it likes: become somebody else. */
static void become_nobody_in_particular(void) {
  if (getuid() != 0) return;
  if (setgroups(0, NULL) != 0 || setresgid(54321, 54321, 54321) != 0 || setresuid(54321, 54321, 54321) != 0)
    skip("no other user id can be taken here");
  prctl(PR_SET_DUMPABLE, 1); /* /proc/self stays readable */
}
static void limit(int resource, rlim_t soft) {
  struct rlimit l;
  CHECK(getrlimit((__rlimit_resource_t)resource, &l) == 0);
  l.rlim_cur = soft < l.rlim_max ? soft : l.rlim_max;
  CHECK(setrlimit((__rlimit_resource_t)resource, &l) == 0);
}
static void no_more_threads(void) { limit(RLIMIT_NPROC, 1); } /* this process is one already */
static void threads_again(void) { limit(RLIMIT_NPROC, RLIM_INFINITY); }

/* The library's threads and descriptors in rest, and no pod's. */
static int threads_at_rest, descriptors_at_rest;
static void note_rest(void) {
  threads_at_rest = count_threads();
  descriptors_at_rest = count_descriptors();
}
static void at_rest(void) {
  UNTIL(count_threads() <= threads_at_rest);
  EQ(count_descriptors(), descriptors_at_rest);
}
static void warm_up(podkeep_runtime *runtime) {
  podkeep_pod *pod = make_running(runtime);
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
}
static void is_new(podkeep_pod *pod) {
  podkeep_state state;
  podkeep_failure *failure;
  int64_t id;
  IS(podkeep_pod_state(pod, &state), PODKEEP_OK);
  EQ(state, PODKEEP_STATE_NEW);
  IS(podkeep_pod_failure(pod, &failure), PODKEEP_OK);
  CHECK(failure == NULL);
  IS(podkeep_pod_id(pod, &id), PODKEEP_OK);
  EQ(id, 0);
  IS(podkeep_pod_join(pod, 0), PODKEEP_ERR_INVALID_STATE);
}
static void starts_and_closes(podkeep_pod *pod) {
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
}

static void no_thread_for_a_start(void) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_monitor *monitor;
  podkeep_event event = PODKEEP_EVENT_INIT;
  int i;
  become_nobody_in_particular();
  runtime = make_runtime("threadless", NULL);
  warm_up(runtime);
  pod = make_pod(runtime);
  IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
  IS(podkeep_monitor_next(monitor, &event, 0), PODKEEP_OK);
  note_rest();
  no_more_threads();
  for (i = 0; i < 100; i++) {
    IS(podkeep_pod_start(pod), PODKEEP_ERR_RESOURCES);
    SAYS("thread");
    is_new(pod);
  }
  IS(podkeep_monitor_next(monitor, &event, 0), PODKEEP_ERR_TIMEOUT); /* STARTING was never shown */
  threads_again();
  at_rest();
  starts_and_closes(pod);
  IS(podkeep_monitor_next(monitor, &event, slow(10000)), PODKEEP_OK);
  EQ(event.from, PODKEEP_STATE_NEW);
  IS(podkeep_monitor_free(monitor), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

static void *cancels_and_joins(void *pod) {
  UNTIL(podkeep_pod_wait_ready(pod, slow(10000)) == PODKEEP_OK); /* NEW until then */
  IS(podkeep_pod_cancel(pod), PODKEEP_OK);
  IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_OK);
  return NULL;
}
static void *keeps(void *pod) {
  int32_t code = -1;
  IS(podkeep_pod_run(pod, &code), PODKEEP_OK);
  EQ(code, 0);
  return NULL;
}
/* Nothing is left in the pod of the thread that it did not get: another one is its S, and whoever joins waits for that. */
static void no_thread_for_a_start_but_the_callers(void) {
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  void *joiner, *keeper;
  become_nobody_in_particular();
  runtime = make_runtime("threadless", NULL);
  warm_up(runtime);
  note_rest();
  options.stack_size = 64 << 20; /* the C library keeps no stack of that size for later */
  IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
  no_more_threads();
  IS(podkeep_pod_start(pod), PODKEEP_ERR_RESOURCES);
  threads_again();
  joiner = start_thread(cancels_and_joins, pod);
  keeper = start_thread(keeps, pod);
  join_thread(joiner);
  join_thread(keeper);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  at_rest();
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

static void no_thread_for_the_first_pod(void) {
  podkeep_runtime *runtime;
  podkeep_pod *pod = NULL;
  podkeep_status s;
  become_nobody_in_particular();
  runtime = make_runtime("threadless", NULL);
  note_rest();
  no_more_threads();
  s = podkeep_pod_new(runtime, NULL, &pod); /* the library's own thread is had here */
  if (s == PODKEEP_OK) {
    podkeep_monitor *monitor = NULL; /* nobody would tell it of a cancel in a signal handler */
    IS(podkeep_monitor_new(pod, &monitor), PODKEEP_ERR_RESOURCES);
    CHECK(monitor == NULL);
    IS(podkeep_pod_start(pod), PODKEEP_ERR_RESOURCES);
  } else {
    IS(s, PODKEEP_ERR_RESOURCES);
  }
  EQ(count_threads(), threads_at_rest);
  EQ(count_descriptors(), descriptors_at_rest);
  threads_again();
  if (!pod) pod = make_pod(runtime);
  is_new(pod);
  starts_and_closes(pod);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

static int hooks_run, hooks_wanted, hold_hooks;
static void hook(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  ADD(hooks_run, 1);
  while (LOAD(hold_hooks)) nap();
}
static int32_t run_until_hooked(podkeep_context *ctx, void *state) { /* a hook comes only while this has not returned */
  (void)state;
  while (LOAD(hooks_run) < LOAD(hooks_wanted)) nap();
  return podkeep_context_wait(ctx, PODKEEP_FOREVER);
}
static podkeep_runtime *hooked(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  spec.name = "hooked";
  spec.run_forever = run_until_hooked;
  spec.cancel = hook;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  return runtime;
}
static void no_thread_for_a_start_with_a_hook(void) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  int i;
  become_nobody_in_particular();
  runtime = hooked();
  pod = make_pod(runtime);
  note_rest();
  no_more_threads();
  for (i = 0; i < 20; i++) {
    IS(podkeep_pod_start(pod), PODKEEP_ERR_RESOURCES);
    is_new(pod);
  }
  threads_again();
  at_rest();
  STORE(hooks_wanted, 1);
  starts_and_closes(pod);
  EQ(LOAD(hooks_run), 1);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}
/* L9: every hook of every running pod, all hanging at one time, without one new thread. */
static void hooks_run_without_a_new_thread(void) {
  enum { PODS = 8 };
  podkeep_runtime *runtime;
  podkeep_pod *pods[PODS], *plain;
  int i;
  become_nobody_in_particular();
  runtime = hooked();
  STORE(hold_hooks, 1);
  STORE(hooks_wanted, PODS);
  for (i = 0; i < PODS; i++) pods[i] = make_running(runtime);
  plain = make_running(make_runtime("plain", NULL));
  no_more_threads();
  for (i = 0; i < PODS; i++) IS(podkeep_pod_cancel(pods[i]), PODKEEP_OK);
  UNTIL(LOAD(hooks_run) == PODS);
  IS(podkeep_pod_close(plain), PODKEEP_OK); /* nobody else is held up */
  for (i = 0; i < PODS; i++) IS(podkeep_pod_join(pods[i], 0), PODKEEP_ERR_TIMEOUT);
  STORE(hold_hooks, 0);
  for (i = 0; i < PODS; i++) IS(podkeep_pod_join(pods[i], slow(10000)), PODKEEP_OK);
  for (i = 0; i < PODS; i++) IS(podkeep_pod_free(pods[i]), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  IS(podkeep_shutdown(slow(10000), NULL), PODKEEP_OK);
}

/* A stack that no address space holds. */
static void a_stack_too_large(void) {
  static const size_t sizes[] = { (size_t)1 << 46, (size_t)1 << 60, SIZE_MAX };
  podkeep_runtime *runtime = make_runtime("large", NULL);
  size_t i;
  warm_up(runtime);
  note_rest();
  for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
    podkeep_pod *pod;
    options.stack_size = sizes[i];
    if (sizes[i] > PTRDIFF_MAX) { /* not even whole pages of it can be counted */
      IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_ERR_RESOURCES);
      SAYS("stack");
      continue;
    }
    IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
    IS(podkeep_pod_start(pod), PODKEEP_ERR_RESOURCES);
    SAYS("stack");
    is_new(pod);
    IS(podkeep_pod_close(pod), PODKEEP_OK);
    IS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
  }
  at_rest();
  warm_up(runtime);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

/* --- Memory ------------------------------------------------------------------------------------------------------------ */

static rlim_t address_space(void) {
  unsigned long pages = 0;
  FILE *f = fopen("/proc/self/statm", "re");
  CHECK(f && fscanf(f, "%lu", &pages) == 1);
  fclose(f);
  return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}
static void no_address_space_for_a_stack(void) {
  podkeep_runtime *runtime = make_runtime("r", NULL);
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_pod *pod;
  int i;
  if (under_tool()) skip("the tool needs address space of its own");
  warm_up(runtime);
  options.stack_size = 256u << 20; /* no cached stack is as large */
  IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
  note_rest();
  limit(RLIMIT_AS, address_space() + (16 << 20));
  for (i = 0; i < 100; i++) {
    IS(podkeep_pod_start(pod), PODKEEP_ERR_RESOURCES);
    is_new(pod);
  }
  limit(RLIMIT_AS, RLIM_INFINITY);
  at_rest();
  starts_and_closes(pod);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}
static void no_memory_for_arguments(void) {
  enum { PODS = 200, SIZE = 4 << 20 };
  podkeep_runtime *runtime = make_runtime("r", NULL);
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_pod *pods[PODS];
  char *bytes;
  podkeep_status s = PODKEEP_OK;
  int n = 0, round;
  if (under_tool()) skip("the tool needs address space of its own");
  bytes = calloc(1, SIZE);
  warm_up(runtime);
  CHECK(bytes != NULL);
  options.args = bytes;
  options.args_len = SIZE;
  limit(RLIMIT_AS, address_space() + (40 << 20));
  for (round = 0; round < 3; round++) { /* what a refusal left behind would show in the next round */
    int had = n;
    for (n = 0; n < PODS && (s = podkeep_pod_new(runtime, &options, &pods[n])) == PODKEEP_OK; n++) {}
    IS(s, PODKEEP_ERR_RESOURCES);
    CHECK(n > 3);
    if (round) EQ(n, had);
    while (n) IS(podkeep_pod_free(pods[--n]), PODKEEP_OK);
    for (n = 0; n < PODS && podkeep_pod_new(runtime, &options, &pods[n]) == PODKEEP_OK; n++) {}
    had = n;
    while (n) IS(podkeep_pod_free(pods[--n]), PODKEEP_OK);
    n = had;
  }
  limit(RLIMIT_AS, RLIM_INFINITY);
  warm_up(runtime);
  free(bytes);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

/* --- Descriptors --------------------------------------------------------------------------------------------------------- */

static void no_more_descriptors(void) {
  int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
  CHECK(next >= 0);
  close(next);
  limit(RLIMIT_NOFILE, (rlim_t)next);
  CHECK(open("/dev/null", O_RDONLY | O_CLOEXEC) < 0 && errno == EMFILE);
}
static struct rlimit before;
static void keep_descriptors(void) { getrlimit(RLIMIT_NOFILE, &before); }
static void descriptors_again(void) { setrlimit(RLIMIT_NOFILE, &before); }

static int polled, readable;
static int32_t run_without_descriptors(podkeep_context *ctx, void *state) {
  (void)state;
  EQ(podkeep_context_fd(ctx), -1);
  IS(podkeep_context_wait(ctx, 1), PODKEEP_ERR_TIMEOUT);
  STORE(polled, 1);
  while (!podkeep_context_cancelled(ctx)) {
    EQ(podkeep_context_fd(ctx), -1); /* still none, and asking again is harmless */
    (void)podkeep_context_wait(ctx, 1);
  }
  EQ(podkeep_context_fd(ctx), -1);
  IS(podkeep_context_wait(ctx, 0), PODKEEP_OK);
  IS(podkeep_context_wait(ctx, PODKEEP_FOREVER), PODKEEP_OK);
  return PODKEEP_CANCELLED;
}
static int32_t run_with_descriptors_again(podkeep_context *ctx, void *state) {
  struct pollfd p = { -1, POLLIN, 0 };
  (void)state;
  EQ(podkeep_context_fd(ctx), -1);
  STORE(polled, 1);
  while (LOAD(polled) != 2) nap();
  p.fd = podkeep_context_fd(ctx); /* one can be had now */
  CHECK(p.fd >= 0);
  EQ(poll(&p, 1, 0), 0);
  STORE(polled, 3);
  EQ(poll(&p, 1, slow(10000)), 1);
  STORE(readable, 1);
  return 0;
}
static void a_whole_life_without_descriptors(void) {
  podkeep_runtime *runtime = make_runtime("bare", run_without_descriptors), *warm = make_runtime("warm", NULL);
  podkeep_pod *pod, *held;
  podkeep_monitor *monitor;
  podkeep_event event = PODKEEP_EVENT_INIT;
  int fd, i;
  warm_up(warm);
  note_rest();
  keep_descriptors();
  no_more_descriptors();
  for (i = 0; i < 20; i++) {
    STORE(polled, 0);
    pod = make_pod(runtime);
    IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
    IS(podkeep_monitor_fd(monitor, &fd), PODKEEP_ERR_RESOURCES);
    SAYS("descriptor");
    IS(podkeep_pod_start(pod), PODKEEP_OK);
    IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
    IS(podkeep_pod_join(pod, 20), PODKEEP_ERR_TIMEOUT); /* its sentence would like to read /proc */
    SAYS("bare");
    UNTIL(LOAD(polled) == 1);
    IS(podkeep_pod_cancel(pod), PODKEEP_OK);
    IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_OK);
    while (podkeep_monitor_next(monitor, &event, slow(10000)) == PODKEEP_OK) {}
    EQ(event.to, PODKEEP_STATE_STOPPED);
    IS(podkeep_monitor_fd(monitor, &fd), PODKEEP_ERR_RESOURCES);
    IS(podkeep_monitor_free(monitor), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
  }
  STORE(polled, 0);
  held = make_running(make_runtime("held", run_with_descriptors_again));
  IS(podkeep_monitor_new(held, &monitor), PODKEEP_OK);
  IS(podkeep_monitor_fd(monitor, &fd), PODKEEP_ERR_RESOURCES);
  UNTIL(LOAD(polled) == 1);
  descriptors_again();
  IS(podkeep_monitor_fd(monitor, &fd), PODKEEP_OK);
  STORE(polled, 2);
  UNTIL(LOAD(polled) == 3);
  IS(podkeep_pod_close(held), PODKEEP_OK);
  EQ(LOAD(readable), 1);
  IS(podkeep_monitor_free(monitor), PODKEEP_OK);
  IS(podkeep_pod_free(held), PODKEEP_OK);
  UNTIL(count_descriptors() == descriptors_at_rest);
  IS(podkeep_shutdown(slow(10000), NULL), PODKEEP_OK);
}
static void no_descriptor_for_the_first_pod(void) {
  podkeep_runtime *runtime;
  podkeep_pod *pod = NULL;
  podkeep_status s;
  int threads = count_threads(), descriptors = count_descriptors();
  keep_descriptors();
  no_more_descriptors();
  runtime = make_runtime("first", NULL);
  s = podkeep_pod_new(runtime, NULL, &pod);
  if (s != PODKEEP_OK) {
    IS(s, PODKEEP_ERR_RESOURCES);
    SAYS("descriptor");
    CHECK(pod == NULL);
    descriptors_again();
    EQ(count_threads(), threads);
    EQ(count_descriptors(), descriptors);
    pod = make_pod(runtime);
  }
  starts_and_closes(pod);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}
static void a_hook_without_descriptors(void) {
  podkeep_runtime *runtime = hooked();
  podkeep_pod *pod;
  STORE(hooks_wanted, 1);
  pod = make_running(runtime);
  keep_descriptors();
  no_more_descriptors();
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  EQ(LOAD(hooks_run), 1);
  STORE(hooks_wanted, 2);
  pod = make_pod(runtime);
  starts_and_closes(pod);
  EQ(LOAD(hooks_run), 2);
  descriptors_again();
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(no_thread_for_a_start), CASE(no_thread_for_a_start_but_the_callers),
    CASE(no_thread_for_the_first_pod), CASE(no_thread_for_a_start_with_a_hook),
    CASE(hooks_run_without_a_new_thread), CASE(a_stack_too_large), CASE(no_address_space_for_a_stack),
    CASE(no_memory_for_arguments), CASE(a_whole_life_without_descriptors), CASE(no_descriptor_for_the_first_pod),
    CASE(a_hook_without_descriptors),
  };
  return RUN(all);
}
