/* L8: cancel from any thread, any number of times, at any moment, on any value, in a signal handler. */
#include "probe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

/* Guava testServiceStopIdempotence. */
TEST(L8_idempotent) {
  probe *p = probe_new("again");
  p->run.does = does_wait_for_hook;
  podkeep_pod *pod = probe_running(p);
  for (int i = 0; i < 3; i++) CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  for (int i = 0; i < 3; i++) CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, 0));
  CHECK_INT(p->hook.count, 1);
  CHECK_INT(p->teardown.count, 1);
  probe_free(p);
}

/* "it changes the state word itself": no thread of the library need run in between. */
TEST(L8_the_state_has_changed_when_cancel_returns) {
  for (int i = 0; i < rounds(100); i++) {
    probe *p = probe_new("prompt");
    p->teardown.held = true;
    podkeep_pod *pod = probe_running(p);
    CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
    CHECK_OK(podkeep_pod_cancel(pod));
    CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
    CHECK(ctx_cancelled(p));
    event_set(&p->teardown.go);
    probe_close(p, PODKEEP_OK);
  }
}

TEST(L8_any_handle_value) {
  probe *p = probe_new("freed");
  podkeep_pod *freed = probe_make(p);
  podkeep_runtime *runtime = p->runtime;
  CHECK_OK(podkeep_pod_free(freed));
  p->pod = NULL;
  podkeep_monitor *m = watch(NULL);
  podkeep_pod *bad[] = {NULL, freed, (podkeep_pod *)(uintptr_t)1, (podkeep_pod *)(uintptr_t)0xdeadbeef, (podkeep_pod *)UINTPTR_MAX,
                        (podkeep_pod *)runtime, (podkeep_pod *)m, (podkeep_pod *)p};
  CHECK_STATUS(podkeep_runtime_free(NULL), PODKEEP_OK);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) CHECK_STATUS(podkeep_pod_cancel(bad[i]), PODKEEP_ERR_INVALID_HANDLE);
  for (int i = 0; i < 1000; i++) {
    uintptr_t value = ((uintptr_t)random_below(UINT32_MAX) << 32) | random_below(UINT32_MAX);
    if (value != (uintptr_t)runtime) CHECK_STATUS(podkeep_pod_cancel((podkeep_pod *)value), PODKEEP_ERR_INVALID_HANDLE);
  }
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

TEST(L8_errno_and_last_error_are_untouched) {
  probe *p = probe_new("discreet");
  podkeep_pod *pod = probe_running(p);
  char before[1024];
  CHECK_STATUS(podkeep_pod_join(pod, -7), PODKEEP_ERR_INVALID_ARGUMENT);
  snprintf(before, sizeof before, "%s", podkeep_last_error());
  CHECK(strlen(before) > 0);
  errno = 4711;
  podkeep_status on_null = podkeep_pod_cancel(NULL);
  int errno_on_null = errno;
  podkeep_status on_pod = podkeep_pod_cancel(pod);
  int errno_on_pod = errno;
  CHECK_STR(podkeep_last_error(), before);
  CHECK_STATUS(on_null, PODKEEP_ERR_INVALID_HANDLE);
  CHECK_OK(on_pod);
  CHECK_INT(errno_on_null, 4711);
  CHECK_INT(errno_on_pod, 4711);
  probe_close(p, PODKEEP_OK);
}

/* C++ stop_source "should not be called multiple times": ten cancel at one moment; one hook, one teardown. */
typedef struct crowd {
  podkeep_pod *pod;
  barrier all;
  uint32_t ok;
} crowd;

static void cancel_it(void *arg) {
  crowd *c = arg;
  barrier_wait(&c->all, 10);
  if (podkeep_pod_cancel(c->pod) == PODKEEP_OK) ADD(c->ok, 1u);
}

TEST(L8_ten_threads_at_a_time) {
  for (int round = 0; round < rounds(40); round++) {
    probe *p = probe_new("crowded");
    p->run.does = does_wait_for_hook;
    crowd *c = world_alloc(sizeof *c);
    c->pod = probe_running(p);
    worker w[10];
    for (int i = 0; i < 10; i++) worker_start(&w[i], cancel_it, c);
    for (int i = 0; i < 10; i++) worker_join(&w[i]);
    CHECK_INT(c->ok, 10);
    CHECK_OK(podkeep_pod_join(c->pod, LIMIT_MS));
    CHECK_INT(p->hook.count, 1);
    CHECK_INT(p->teardown.count, 1);
    probe_free(p);
  }
}

/* It returns while everything it sets in motion stands still. */
TEST(L8_never_blocks) {
  probe *p = probe_new("stuck");
  p->run.held = p->hook.held = p->teardown.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->hook.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_set(&p->run.go);
  event_set(&p->hook.go);
  event_wait(&p->teardown.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_set(&p->teardown.go);
  probe_close(p, PODKEEP_OK);
}

static int32_t cancels_itself(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_pod_cancel(p->pod));
  CHECK(podkeep_context_cancelled(ctx));
  return 0;
}

TEST_WITH(L8_from_init, NOT_PROCESS(HANDLES)) {
  probe *p = probe_new("own init");
  p->init.does = cancels_itself;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STR(history_text(&p->called), "init teardown");
  probe_free(p);
}

TEST_WITH(L8_from_run, NOT_PROCESS(HANDLES)) {
  probe *p = probe_new("own run");
  p->run.does = cancels_itself;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_INT(p->teardown.count, 1);
  probe_free(p);
}

TEST_WITH(L8_from_hook, NOT_PROCESS(HANDLES)) {
  probe *p = probe_new("own hook");
  p->hook.does = cancels_itself;
  p->run.does = does_wait_for_hook;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_INT(p->hook.count, 1);
  probe_free(p);
}

/* The first stop request of a pod that is on its way out by itself: the flag turns true, the end stays clean. */
TEST_WITH(L8_from_teardown, NOT_PROCESS(HANDLES)) {
  probe *p = probe_new("own teardown");
  p->run.does = does_return;
  p->teardown.does = cancels_itself;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK(!p->teardown.saw_cancelled);
  probe_free(p);
}

static int32_t drop_cancels(probe *p, podkeep_context *ctx) {
  (void)ctx;
  CHECK_STATUS(podkeep_pod_cancel(p->pod), PODKEEP_OK);
  CHECK_STATUS(podkeep_pod_cancel(NULL), PODKEEP_ERR_INVALID_HANDLE);
  return 0;
}

TEST(L8_from_drop) {
  probe *p = probe_new("own drop");
  p->drop.does = drop_cancels;
  probe_make(p);
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->runtime = NULL;
  probe_start(p);
  event_wait(&p->run.entered);
  CHECK_OK(podkeep_pod_cancel(p->pod));
  event_wait(&p->drop.left);
  probe_free(p);
}

/* --- In a signal handler -------------------------------------------------------------------------------------------- */

static podkeep_pod *volatile target;
static volatile sig_atomic_t handled, handler_status, handler_errno;

static void on_signal(int signal_number) {
  (void)signal_number;
  int saved = errno;
  errno = 1234;
  handler_status = podkeep_pod_cancel(target);
  handler_errno = errno;
  handled++;
  errno = saved;
}

static void handle(int signal_number) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  CHECK_INT(sigaction(signal_number, &action, NULL), 0);
}

TEST(L8_in_a_signal_handler) {
  probe *p = probe_new("signalled");
  p->teardown.held = true;
  podkeep_pod *pod = probe_running(p);
  char before[1024];
  CHECK_STATUS(podkeep_pod_join(pod, -7), PODKEEP_ERR_INVALID_ARGUMENT);
  snprintf(before, sizeof before, "%s", podkeep_last_error());
  target = pod;
  handle(SIGUSR1);
  CHECK_INT(raise(SIGUSR1), 0);
  CHECK_INT(handled, 1);
  CHECK_INT(handler_status, PODKEEP_OK);
  CHECK_INT(handler_errno, 1234);
  CHECK_STR(podkeep_last_error(), before);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  event_set(&p->teardown.go);
  probe_close(p, PODKEEP_OK);
}

/* Ctrl-C while the main thread waits for this very pod: the handler cancels it, and the join sees its end. */
static void join_it(void *arg) {
  crowd *c = arg;
  CHECK_OK(podkeep_pod_join(c->pod, PODKEEP_FOREVER));
  ADD(c->ok, 1u);
}

TEST(L8_in_a_signal_handler__of_a_thread_that_joins) {
  probe *p = probe_new("interrupted");
  crowd *c = world_alloc(sizeof *c);
  c->pod = target = probe_running(p);
  handle(SIGUSR1);
  worker w;
  worker_start(&w, join_it, c);
  worker_asleep(&w);
  CHECK_INT(pthread_kill(w.thread, SIGUSR1), 0);
  worker_join(&w);
  CHECK_INT(c->ok, 1);
  CHECK_INT(handled, 1);
  probe_free(p);
}

/* The handler strikes wherever the library may be: no lock may be held against it, nothing may be half done. */
static void strike_often(int on) {
  struct itimerval often;
  memset(&often, 0, sizeof often);
  often.it_interval.tv_usec = often.it_value.tv_usec = on ? (suseconds_t)slow_ms(200) : 0; /* 200 us, stretched */
  CHECK_INT(setitimer(ITIMER_REAL, &often, NULL), 0);
}

TEST(L8_in_a_signal_handler__while_the_library_is_at_work) {
  handle(SIGALRM);
  for (int i = 0; i < rounds(400); i++) {
    probe *p = probe_new("under fire");
    podkeep_pod *pod = probe_make(p);
    podkeep_monitor *m = watch(pod);
    target = pod;
    strike_often(1);
    podkeep_status started = start_pod(pod);
    CHECK(started == PODKEEP_OK || started == PODKEEP_ERR_INVALID_STATE);
    podkeep_state state = -1;
    while (state != PODKEEP_STATE_STOPPED) {
      podkeep_event e = PODKEEP_EVENT_INIT;
      CHECK_OK(podkeep_monitor_next(m, &e, LIMIT_MS));
      state = e.to;
      podkeep_failure *f = NULL;
      CHECK_OK(podkeep_pod_failure(pod, &f));
      CHECK(f == NULL);
    }
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    strike_often(0);
    CHECK_OK(podkeep_monitor_free(m));
    probe_free(p);
  }
  CHECK_INT(handler_errno, 1234);
  CHECK_INT(handler_status, PODKEEP_OK);
}

/* Cancels fly at a handle while it is made, started, closed and freed: each answer is OK or INVALID_HANDLE. */
typedef struct volley {
  podkeep_pod *pod;
  uint32_t stop, other;
} volley;

static void fire(void *arg) {
  volley *v = arg;
  while (!LOAD(v->stop)) {
    podkeep_status status = podkeep_pod_cancel(LOAD(v->pod));
    if (status != PODKEEP_OK && status != PODKEEP_ERR_INVALID_HANDLE) ADD(v->other, 1u);
  }
}

TEST(L8_at_any_moment_of_a_handle) {
  volley *v = world_alloc(sizeof *v);
  worker w[3];
  for (int i = 0; i < 3; i++) worker_start(&w[i], fire, v);
  for (int i = 0; i < rounds(300); i++) {
    probe *p = probe_new("hunted");
    podkeep_pod *pod = probe_make(p);
    STORE(v->pod, pod);
    podkeep_status started = start_pod(pod);
    CHECK(started == PODKEEP_OK || started == PODKEEP_ERR_INVALID_STATE);
    if (i % 2) CHECK_OK(podkeep_pod_close(pod));
    probe_free(p);
  }
  STORE(v->stop, 1u);
  for (int i = 0; i < 3; i++) worker_join(&w[i]);
  CHECK_INT(v->other, 0);
}
