/* Each thing the library asks the system for fails once, one after the other: threads, event descriptors, and, when
 * PODKEEP_INJECT_MEMORY is set, allocations. The call says RESOURCES (or does without), nothing is left behind, and the same call works the next time.
 * The functions are replaced in this program, so the library meets these. */
#include "check.h"
#include "world.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Counts down in calls that this thread makes of the library; the one that gets to zero fails. */
enum what { NOTHING_FAILS, MEMORY, THREADS, EVENTS };
static __thread enum what failing;
static __thread int countdown;
static __thread int failed;
static int now_fails(enum what what) {
  if (failing != what || --countdown != 0) return 0;
  failed = 1;
  return 1;
}

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void *malloc(size_t size) { return now_fails(MEMORY) ? (errno = ENOMEM, NULL) : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return now_fails(MEMORY) ? (errno = ENOMEM, NULL) : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return now_fails(MEMORY) ? (errno = ENOMEM, NULL) : __libc_realloc(old, size); }
int posix_memalign(void **out, size_t alignment, size_t size) {
  if (now_fails(MEMORY)) return ENOMEM;
  *out = __libc_memalign(alignment, size);
  return *out ? 0 : ENOMEM;
}
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*f)(void *), void *argument) {
  static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  if (now_fails(THREADS)) return EAGAIN;
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
  return real(thread, attr, f, argument);
}
int eventfd(unsigned count, int flags) {
  static int (*real)(unsigned, int);
  if (now_fails(EVENTS)) return errno = EMFILE, -1;
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "eventfd");
  return real(count, flags);
}

static int hooked;
static void hook(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  STORE(hooked, 1);
}
static int32_t run(podkeep_context *ctx, void *state) {
  (void)state;
  while (!LOAD(hooked)) nap();
  return podkeep_context_fail(ctx, 5, "on purpose");
}
static int drops;
static void drop(void *config) {
  (void)config;
  ADD(drops, 1);
}

/* Makes the call with the n-th request failing; if that was felt, once more without. A status other than OK and
 * RESOURCES, or RESOURCES again, is an error. Gives whether the failure was reached. */
#define TRY(call)                                                                                                     \
  do {                                                                                                                \
    podkeep_status try_;                                                                                              \
    failing = what;                                                                                                   \
    try_ = (call);                                                                                                    \
    failing = NOTHING_FAILS;                                                                                          \
    if (try_ != PODKEEP_OK) {                                                                                         \
      IS(try_, PODKEEP_ERR_RESOURCES);                                                                                \
      CHECK(podkeep_last_error()[0] != 0);                                                                            \
      IS(call, PODKEEP_OK);                                                                                           \
    }                                                                                                                 \
  } while (0)

static void life(enum what what, int n) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_monitor *monitor, *all;
  podkeep_failure *failure;
  podkeep_event event = PODKEEP_EVENT_INIT;
  int refused = 0, fd;
  podkeep_status s;
  spec.name = "injected";
  spec.run_forever = run;
  spec.cancel = hook;
  spec.drop = drop;
  options.name = "injected pod";
  options.args = "four";
  options.args_len = 4;
  countdown = n;
  failing = what;
  s = podkeep_runtime_new(&spec, &runtime);
  failing = NOTHING_FAILS;
  if (s != PODKEEP_OK) {
    IS(s, PODKEEP_ERR_RESOURCES);
    EQ(LOAD(drops), 1); /* before the call returned (L3) */
    refused = 1;
    IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  }
  TRY(podkeep_pod_new(runtime, &options, &pod));
  TRY(podkeep_monitor_new(pod, &monitor));
  TRY(podkeep_monitor_new(NULL, &all));
  TRY(podkeep_monitor_fd(monitor, &fd));
  TRY(podkeep_pod_start(pod));
  IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
  failing = what;
  s = podkeep_pod_join(pod, 0); /* a sentence that cannot be made is not a reason for another status */
  failing = NOTHING_FAILS;
  IS(s, PODKEEP_ERR_TIMEOUT);
  failing = what;
  s = podkeep_pod_start(NULL);
  failing = NOTHING_FAILS;
  IS(s, PODKEEP_ERR_INVALID_HANDLE);
  TRY(podkeep_pod_cancel(pod));
  IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_ERR_FAILED);
  TRY(podkeep_pod_failure(pod, &failure));
  EQ(podkeep_failure_code(failure), 5);
  do { /* ENDED, and every event before it */
    failing = what;
    s = podkeep_monitor_next(monitor, &event, slow(10000));
    failing = NOTHING_FAILS;
    if (s == PODKEEP_ERR_RESOURCES) s = PODKEEP_OK;
  } while (s == PODKEEP_OK);
  IS(s, PODKEEP_ERR_ENDED);
  EQ(event.to, PODKEEP_STATE_FAILED);
  TRY(podkeep_failure_free(failure));
  TRY(podkeep_monitor_free(monitor));
  TRY(podkeep_monitor_free(all));
  TRY(podkeep_pod_free(pod));
  TRY(podkeep_runtime_free(runtime));
  UNTIL(LOAD(drops) == 1 + refused);
  _exit(failed ? 0 : 40); /* 40: that many requests are not made */
}

struct nth { enum what what; int n; };
static void one_life(void *nth) { life(((struct nth *)nth)->what, ((struct nth *)nth)->n); }
static void each_fails_once(enum what what) {
  struct nth nth;
  int code = 0, wrong = 0;
  nth.what = what;
  for (nth.n = 1; nth.n < 500 && code != 40; nth.n++) {
    code = in_child(one_life, &nth, slow(15000));
    if (code != 0 && code != 40) {
      fprintf(stderr, "    with request %d failing: %s %d\n", nth.n, code > 128 ? "killed by signal" : "exit code",
              code > 128 ? code - 128 : code);
      wrong++;
    }
  }
  EQ(code, 40);
  CHECK(nth.n > 2); /* something was asked for */
  CHECK(wrong == 0);
}
static void each_allocation_of_a_call(void) {
  if (!getenv("PODKEEP_INJECT_MEMORY")) skip("an allocation of some bytes that fails ends the process, as Rust has it; large ones do not");
  each_fails_once(MEMORY);
}
static void each_thread(void) { each_fails_once(THREADS); }
static void each_event_descriptor(void) { each_fails_once(EVENTS); }

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE_LIMIT(each_allocation_of_a_call, 120), CASE_LIMIT(each_thread, 60), CASE_LIMIT(each_event_descriptor, 60),
  };
  return RUN(all);
}
