/* Handles used by some threads while another frees them; calls in flight while the object goes; signal handlers that
 * cut into every call. A call answers as before the free or as after it, and nothing else. */
#include "check.h"
#include "world.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

static uintptr_t shared; /* the handle of this round; 0: the end */
static int using_it;

/* --- Users beside a free ------------------------------------------------------------------------------------------ */

static void one_of(podkeep_status s, podkeep_status a, podkeep_status b, podkeep_status c) {
  if (s != a && s != b && s != c && s != PODKEEP_ERR_INVALID_HANDLE) IS(s, PODKEEP_ERR_INVALID_HANDLE);
}
static void use_pod(podkeep_pod *pod) {
  podkeep_state state;
  const char *name;
  int64_t id;
  uint32_t n;
  podkeep_failure *failure = NULL;
  podkeep_monitor *monitor = NULL;
  podkeep_status s;
  one_of(podkeep_pod_start(pod), PODKEEP_OK, PODKEEP_ERR_INVALID_STATE, PODKEEP_OK);
  one_of(podkeep_pod_state(pod, &state), PODKEEP_OK, PODKEEP_OK, PODKEEP_OK);
  if (podkeep_pod_name(pod, &name) == PODKEEP_OK) STR(name, "raced"); /* names live as long as the process */
  one_of(podkeep_pod_id(pod, &id), PODKEEP_OK, PODKEEP_OK, PODKEEP_OK);
  one_of(podkeep_pod_restarts(pod, &n), PODKEEP_OK, PODKEEP_OK, PODKEEP_OK);
  /* INVALID_STATE: the start that came first, in another thread, has not got so far */
  s = podkeep_pod_wait_ready(pod, 0);
  if (s != PODKEEP_ERR_INVALID_STATE) one_of(s, PODKEEP_OK, PODKEEP_ERR_TIMEOUT, PODKEEP_ERR_ENDED);
  one_of(podkeep_pod_failure(pod, &failure), PODKEEP_OK, PODKEEP_OK, PODKEEP_OK);
  CHECK(failure == NULL);
  if (podkeep_monitor_new(pod, &monitor) == PODKEEP_OK) {
    podkeep_event event = PODKEEP_EVENT_INIT;
    one_of(podkeep_monitor_next(monitor, &event, 0), PODKEEP_OK, PODKEEP_OK, PODKEEP_OK);
    IS(podkeep_monitor_free(monitor), PODKEEP_OK);
  }
  one_of(podkeep_pod_cancel(pod), PODKEEP_OK, PODKEEP_OK, PODKEEP_OK);
  one_of(podkeep_pod_join(pod, slow(10000)), PODKEEP_OK, PODKEEP_OK, PODKEEP_OK);
  one_of(podkeep_pod_close(pod), PODKEEP_OK, PODKEEP_OK, PODKEEP_OK);
}
static void use_runtime(podkeep_runtime *runtime) {
  podkeep_pod *pod = NULL;
  podkeep_status s = podkeep_pod_new(runtime, NULL, &pod);
  one_of(s, PODKEEP_OK, PODKEEP_OK, PODKEEP_OK);
  if (s == PODKEEP_OK) IS(podkeep_pod_free(pod), PODKEEP_OK);
}
static void use_monitor(podkeep_monitor *monitor) {
  podkeep_event event = PODKEEP_EVENT_INIT;
  int fd;
  one_of(podkeep_monitor_next(monitor, &event, 0), PODKEEP_OK, PODKEEP_ERR_TIMEOUT, PODKEEP_ERR_ENDED);
  one_of(podkeep_monitor_fd(monitor, &fd), PODKEEP_OK, PODKEEP_OK, PODKEEP_OK);
  one_of(podkeep_monitor_next(monitor, &event, 1), PODKEEP_OK, PODKEEP_ERR_TIMEOUT, PODKEEP_ERR_ENDED);
}
static void use_failure(podkeep_failure *failure) {
  int32_t code = podkeep_failure_code(failure), kind = podkeep_failure_kind(failure);
  uint32_t incarnation = podkeep_failure_incarnation(failure);
  CHECK(code == 7 || code == -2);
  CHECK(kind == PODKEEP_KIND_RETURNED || kind == -2);
  CHECK(incarnation == 0 || incarnation == (uint32_t)-2);
  CHECK(podkeep_failure_secondary(failure) == NULL);
}

static enum takes kind;
static void *users(void *unused) {
  uintptr_t last = 1, handle;
  (void)unused;
  while ((handle = LOAD(shared)) != 0) {
    if (handle == last || handle == 1) {
      sched_yield();
      continue;
    }
    ADD(using_it, 1);
    if (kind == POD) use_pod((podkeep_pod *)handle);
    else if (kind == RUNTIME) use_runtime((podkeep_runtime *)handle);
    else if (kind == MONITOR) use_monitor((podkeep_monitor *)handle);
    else use_failure((podkeep_failure *)handle);
    last = handle;
  }
  return NULL;
}

static void race(enum takes what, int rounds) {
  void *threads[3];
  podkeep_runtime *failing = make_runtime("failing", run_and_fail), *runtime = make_runtime("raced", NULL);
  podkeep_pod *failed = make_pod(failing), *still = make_running(runtime);
  int i;
  IS(podkeep_pod_start(failed), PODKEEP_OK);
  IS(podkeep_pod_join(failed, slow(10000)), PODKEEP_ERR_FAILED);
  kind = what;
  STORE(shared, 1);
  for (i = 0; i < 3; i++) threads[i] = start_thread(users, NULL);
  for (i = 0; i < rounds; i++) {
    podkeep_monitor *monitor;
    podkeep_failure *failure;
    podkeep_runtime *one;
    podkeep_pod *pod;
    int spin, users_now = LOAD(using_it);
    switch (what) {
    case POD:
      pod = make_pod(runtime);
      STORE(shared, (uintptr_t)pod);
      break;
    case RUNTIME:
      one = make_runtime("one", NULL);
      STORE(shared, (uintptr_t)one);
      break;
    case MONITOR:
      IS(podkeep_monitor_new(still, &monitor), PODKEEP_OK);
      STORE(shared, (uintptr_t)monitor);
      break;
    default:
      IS(podkeep_pod_failure(failed, &failure), PODKEEP_OK);
      STORE(shared, (uintptr_t)failure);
    }
    while (i % 4 && LOAD(using_it) == users_now) sched_yield(); /* three of four: free once somebody is at it */
    for (spin = 0; spin < i % 256; spin++) (void)LOAD(using_it);
    switch (what) {
    case POD: IS(podkeep_pod_free((podkeep_pod *)LOAD(shared)), PODKEEP_OK); break;
    case RUNTIME: IS(podkeep_runtime_free((podkeep_runtime *)LOAD(shared)), PODKEEP_OK); break;
    case MONITOR: IS(podkeep_monitor_free((podkeep_monitor *)LOAD(shared)), PODKEEP_OK); break;
    default: IS(podkeep_failure_free((podkeep_failure *)LOAD(shared)), PODKEEP_OK);
    }
  }
  STORE(shared, 0);
  for (i = 0; i < 3; i++) join_thread(threads[i]);
  IS(podkeep_pod_close(still), PODKEEP_OK);
  IS(podkeep_pod_free(still), PODKEEP_OK);
  IS(podkeep_pod_free(failed), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  IS(podkeep_runtime_free(failing), PODKEEP_OK);
  IS(podkeep_shutdown(slow(10000), NULL), PODKEEP_OK);
}
static void pod_freed_under_use(void) { race(POD, fewer(2000)); }
static void runtime_freed_under_use(void) { race(RUNTIME, fewer(4000)); }
static void monitor_freed_under_use(void) { race(MONITOR, fewer(2000)); }
static void failure_freed_under_use(void) { race(FAILURE, fewer(10000)); }

/* Of many threads that free one handle, one succeeds. */
static int freed_ok;
static pthread_barrier_t barrier;
static void *free_it(void *unused) {
  int i, n = fewer(1000);
  (void)unused;
  for (i = 0; i < n; i++) {
    pthread_barrier_wait(&barrier);
    if (podkeep_pod_free((podkeep_pod *)LOAD(shared)) == PODKEEP_OK) ADD(freed_ok, 1);
    pthread_barrier_wait(&barrier);
  }
  return NULL;
}
static void one_of_many_frees_succeeds(void) {
  podkeep_runtime *runtime = make_runtime("raced", NULL);
  void *threads[3];
  int i, n = fewer(1000);
  pthread_barrier_init(&barrier, NULL, 4);
  for (i = 0; i < 3; i++) threads[i] = start_thread(free_it, NULL);
  for (i = 0; i < n; i++) {
    STORE(shared, (uintptr_t)(i % 2 ? make_pod(runtime) : make_running(runtime)));
    STORE(freed_ok, 0);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    EQ(LOAD(freed_ok), 1);
  }
  for (i = 0; i < 3; i++) join_thread(threads[i]);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

/* --- Calls in flight ----------------------------------------------------------------------------------------------- */

static int waiters[3]; /* the kernel's ids */
static int too_late;
/* A thread whose sleep cannot be seen may come when the handle is gone: the case is weaker, nothing is wrong. */
static void is_or_gone(int line, const char *call, podkeep_status got, podkeep_status want) {
  if (got == PODKEEP_ERR_INVALID_HANDLE) ADD(too_late, 1);
  else check_status(__FILE__, line, call, got, want);
}
#define IS_OR_GONE(call, status) is_or_gone(__LINE__, #call, (call), (status))
static void *waits_ready(void *pod) {
  STORE(waiters[0], own_tid());
  IS_OR_GONE(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), PODKEEP_ERR_ENDED);
  return NULL;
}
static void *joins(void *pod) {
  STORE(waiters[1], own_tid());
  IS_OR_GONE(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_OK);
  return NULL;
}
static void *joins_a_while(void *pod) {
  STORE(waiters[2], own_tid());
  IS_OR_GONE(podkeep_pod_join(pod, slow(10000)), PODKEEP_OK);
  return NULL;
}
/* Each has said that it comes, and sleeps inside its call. */
static void until_asleep(int count) {
  int i;
  for (i = 0; i < count; i++) UNTIL(LOAD(waiters[i]) != 0 && thread_waits(LOAD(waiters[i])));
}
static void waiters_survive_the_free(void) {
  int i, n = fewer(20);
  for (i = 0; i < n; i++) {
    podkeep_runtime *runtime = make_runtime("never ready", NULL);
    podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
    podkeep_pod *pod;
    void *threads[3];
    options.ready = PODKEEP_READY_NOTIFY;
    IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
    IS(podkeep_pod_start(pod), PODKEEP_OK);
    memset(waiters, 0, sizeof waiters);
    threads[0] = start_thread(waits_ready, pod);
    threads[1] = start_thread(joins, pod);
    threads[2] = start_thread(joins_a_while, pod);
    until_asleep(3);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
    IS(podkeep_runtime_free(runtime), PODKEEP_OK);
    IS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_ERR_INVALID_HANDLE);
    join_thread(threads[0]);
    join_thread(threads[1]);
    join_thread(threads[2]);
  }
  CHECK(too_late <= n / 2);
}

static void *nexts(void *monitor) {
  podkeep_event event = PODKEEP_EVENT_INIT;
  IS(podkeep_monitor_next(monitor, &event, PODKEEP_FOREVER), PODKEEP_OK);
  STORE(waiters[0], own_tid());
  IS_OR_GONE(podkeep_monitor_next(monitor, &event, PODKEEP_FOREVER), PODKEEP_ERR_ENDED);
  return NULL;
}
static void monitor_free_ends_a_wait_in_next(void) {
  int i, n = fewer(20);
  for (i = 0; i < n; i++) {
    podkeep_runtime *runtime = make_runtime("r", NULL);
    podkeep_pod *pod = make_running(runtime);
    podkeep_monitor *monitor;
    void *thread;
    IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
    STORE(waiters[0], 0);
    thread = start_thread(nexts, monitor);
    until_asleep(1);
    IS(podkeep_monitor_free(monitor), PODKEEP_OK);
    join_thread(thread);
    IS(podkeep_pod_close(pod), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
    IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  }
  CHECK(too_late <= n / 2);
}

/* --- Signal handlers ------------------------------------------------------------------------------------------------ */

static podkeep_pod *signalled;
static podkeep_context *signalled_ctx;
static volatile sig_atomic_t hits, bad_errno;
static void on_alarm(int number) {
  int before = errno;
  (void)number;
  errno = 4711;
  (void)podkeep_pod_cancel(signalled);
  (void)podkeep_context_cancelled(signalled_ctx);
  (void)podkeep_pod_cancel((podkeep_pod *)(uintptr_t)0x1235);
  (void)podkeep_pod_cancel(NULL);
  if (errno != 4711) bad_errno = 1;
  errno = before;
  hits = hits + 1;
}
static int32_t keep(podkeep_context *ctx, void *config, void **state) {
  (void)config, (void)state;
  signalled_ctx = ctx;
  return 0;
}
/* Cancel and the flag cut into whatever the thread is just doing in the library, thousands of times. */
static void cancel_in_a_handler_amid_every_call(void) {
  struct itimerval fast = { { 0, 100 }, { 0, 100 } }, off = { { 0, 0 }, { 0, 0 } };
  struct sigaction action;
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  int i, n = fewer(2000);
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  sigaction(SIGALRM, &action, NULL);
  if (under_tool()) fast.it_interval.tv_usec = fast.it_value.tv_usec = 5000;
  setitimer(ITIMER_REAL, &fast, NULL);
  for (i = 0; i < n || hits < 10; i++) {
    podkeep_runtime *runtime;
    podkeep_monitor *monitor;
    podkeep_event event = PODKEEP_EVENT_INIT;
    podkeep_status s;
    int spin;
    char before[300];
    spec.name = "signalled";
    spec.init = keep;
    spec.run_forever = run_until_cancelled;
    IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
    IS(podkeep_pod_new(runtime, NULL, &signalled), PODKEEP_OK);
    IS(podkeep_monitor_new(signalled, &monitor), PODKEEP_OK);
    s = podkeep_pod_start(signalled);
    if (s != PODKEEP_OK) IS(s, PODKEEP_ERR_INVALID_STATE); /* cancelled before */
    IS(podkeep_pod_free((podkeep_pod *)(uintptr_t)0x77), PODKEEP_ERR_INVALID_HANDLE);
    snprintf(before, sizeof before, "%s", podkeep_last_error());
    for (spin = 0; spin < 10; spin++) STR(podkeep_last_error(), before); /* cancel does not write it */
    IS(podkeep_pod_close(signalled), PODKEEP_OK);
    while (podkeep_monitor_next(monitor, &event, PODKEEP_FOREVER) == PODKEEP_OK) {}
    IS(podkeep_monitor_free(monitor), PODKEEP_OK);
    IS(podkeep_pod_free(signalled), PODKEEP_OK);
    IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  }
  setitimer(ITIMER_REAL, &off, NULL);
  CHECK(!bad_errno);
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE_LIMIT(pod_freed_under_use, 60), CASE_LIMIT(runtime_freed_under_use, 60),
    CASE_LIMIT(monitor_freed_under_use, 60), CASE_LIMIT(failure_freed_under_use, 60),
    CASE_LIMIT(one_of_many_frees_succeeds, 60), CASE(waiters_survive_the_free), CASE(monitor_free_ends_a_wait_in_next),
    CASE_LIMIT(cancel_in_a_handler_amid_every_call, 60),
  };
  return RUN(all);
}
