/* L10: waits: their timeouts, what wakes them, and signals that must not. */
#include "probe.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

TEST(L10_join_on_new_is_invalid_state) {
  probe *p = probe_new("new");
  podkeep_pod *pod = probe_make(p);
  CHECK_STATUS(podkeep_pod_join(pod, 0), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATE(pod, PODKEEP_STATE_NEW);
  probe_free(p);
}

TEST(L10_negative_times_are_invalid) {
  probe *p = probe_new("negative");
  podkeep_pod *pod = probe_running(p);
  int64_t times[] = {-2, -1000, INT64_MIN};
  for (int i = 0; i < 3; i++) {
    CHECK_STATUS(podkeep_pod_join(pod, times[i]), PODKEEP_ERR_INVALID_ARGUMENT);
    CHECK_STATUS(podkeep_pod_wait_ready(pod, times[i]), PODKEEP_ERR_INVALID_ARGUMENT);
    CHECK_STATUS(ctx_wait(p, times[i]), PODKEEP_ERR_INVALID_ARGUMENT);
    podkeep_monitor *m = watch(pod);
    podkeep_event e = PODKEEP_EVENT_INIT;
    CHECK_STATUS(podkeep_monitor_next(m, &e, times[i]), PODKEEP_ERR_INVALID_ARGUMENT);
    CHECK_EVENT(m, RUNNING, RUNNING); /* and nothing was lost by it */
    CHECK_OK(podkeep_monitor_free(m));
  }
  probe_close(p, PODKEEP_OK);
}

/* "sums saturate": the longest wait there is does not end at once. */
typedef struct waiter {
  podkeep_pod *pod;
  int64_t timeout;
  podkeep_status status;
  bool for_ready;
  worker w;
} waiter;

static void wait_for_it(void *arg) {
  waiter *x = arg;
  x->status = x->for_ready ? podkeep_pod_wait_ready(x->pod, x->timeout) : podkeep_pod_join(x->pod, x->timeout);
}

static waiter *waiting(podkeep_pod *pod, bool for_ready, int64_t timeout) {
  waiter *x = world_alloc(sizeof *x);
  x->pod = pod;
  x->for_ready = for_ready;
  x->timeout = timeout;
  worker_start(&x->w, wait_for_it, x);
  worker_asleep(&x->w);
  return x;
}

static void woke(waiter *x, podkeep_status want) {
  worker_join(&x->w);
  CHECK_STATUS(x->status, want);
}

TEST(L10_the_longest_timeout_saturates) {
  probe *p = probe_new("eternal");
  podkeep_pod *pod = probe_running(p);
  waiter *a = waiting(pod, false, INT64_MAX);
  waiter *b = waiting(pod, false, INT64_MAX - 1);
  CHECK(!event_wait_for(&a->w.done, SHORT_MS) && !event_is_set(&b->w.done));
  CHECK_OK(podkeep_pod_cancel(pod));
  woke(a, PODKEEP_OK);
  woke(b, PODKEEP_OK);
  probe_free(p);
}

/* Guava testTimeout: the waiter's limit is the waiter's; the pod goes on, and a later wait succeeds. */
TEST(L10_a_timeout_limits_only_the_waiter) {
  probe *p = probe_new("Foo");
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "Foo");
  CHECK_HAS(podkeep_last_error(), "STARTING");
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, PODKEEP_STATE_STARTING);
  event_set(&p->init.go);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  CHECK_NO_FAILURE(pod);
  probe_close(p, PODKEEP_OK);
}

TEST(L10_a_timeout_is_not_early) {
  probe *p = probe_new("punctual");
  podkeep_pod *pod = probe_running(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, RUNNING, RUNNING);
  for (int64_t ms = 1; ms <= 64; ms *= 4) {
    uint64_t start = now_ns();
    CHECK_STATUS(podkeep_pod_join(pod, ms), PODKEEP_ERR_TIMEOUT);
    CHECK(now_ns() - start >= (uint64_t)ms * 1000000u);
    start = now_ns();
    CHECK_STATUS(ctx_wait(p, ms), PODKEEP_ERR_TIMEOUT);
    CHECK(now_ns() - start >= (uint64_t)ms * 1000000u);
    start = now_ns();
    podkeep_event e = PODKEEP_EVENT_INIT;
    CHECK_STATUS(podkeep_monitor_next(m, &e, ms), PODKEEP_ERR_TIMEOUT);
    CHECK(now_ns() - start >= (uint64_t)ms * 1000000u);
  }
  CHECK_OK(podkeep_monitor_free(m));
  probe_close(p, PODKEEP_OK);
}

TEST(L10_timeout_0_polls) {
  probe *p = probe_new("polled");
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 0), PODKEEP_ERR_TIMEOUT);
  CHECK_STATUS(podkeep_pod_join(pod, 0), PODKEEP_ERR_TIMEOUT);
  CHECK_STATUS(ctx_wait(p, 0), PODKEEP_ERR_TIMEOUT);
  event_set(&p->init.go);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_OK(podkeep_pod_wait_ready(pod, 0));
  p->teardown.held = true;
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(ctx_wait(p, 0));
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_OK(podkeep_pod_join(pod, 0));
  probe_free(p);
}

/* --- Waiters wake on any state from which what they wait for is unreachable ----------------------------------------- */

TEST(L10_wakes__ready) {
  probe *p = probe_new("becoming ready");
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  waiter *a = waiting(pod, true, PODKEEP_FOREVER), *b = waiting(pod, true, LIMIT_MS);
  event_set(&p->init.go);
  woke(a, PODKEEP_OK);
  woke(b, PODKEEP_OK);
  probe_close(p, PODKEEP_OK);
}

TEST(L10_wakes__ready_waiter_when_init_fails) {
  probe *p = probe_new("failing");
  p->init.held = true;
  p->init.returns = 5;
  podkeep_pod *pod = probe_start(p);
  waiter *a = waiting(pod, true, PODKEEP_FOREVER), *b = waiting(pod, false, PODKEEP_FOREVER);
  event_set(&p->init.go);
  woke(a, PODKEEP_ERR_FAILED);
  woke(b, PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* At once, though init goes on: ready can never come. */
TEST(L10_wakes__ready_waiter_when_cancelled_in_init) {
  probe *p = probe_new("going");
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  waiter *a = waiting(pod, true, PODKEEP_FOREVER);
  CHECK_OK(podkeep_pod_cancel(pod));
  woke(a, PODKEEP_ERR_ENDED);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  event_set(&p->init.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

TEST(L10_wakes__ready_waiter_when_ready_times_out) {
  probe *p = probe_new("too slow");
  p->init.held = true;
  p->options.ready_timeout_ms = slow_ms(100);
  podkeep_pod *pod = probe_start(p);
  waiter *a = waiting(pod, true, PODKEEP_FOREVER);
  woke(a, PODKEEP_ERR_FAILED);
  event_set(&p->init.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

TEST(L10_wakes__ready_waiter_when_run_ends_first) {
  probe *p = probe_new("ended");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->run.held = p->teardown.held = true;
  podkeep_pod *pod = probe_start(p);
  waiter *a = waiting(pod, true, PODKEEP_FOREVER);
  event_set(&p->run.go);
  woke(a, PODKEEP_ERR_ENDED); /* teardown is still at work */
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

TEST(L10_wakes__ready_waiter_when_S_ends) {
  probe *p = probe_new("died");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->run.held = true;
  p->run.does = does_exit;
  p->s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  waiter *a = waiting(pod, true, PODKEEP_FOREVER), *b = waiting(pod, false, PODKEEP_FOREVER);
  event_set(&p->run.go);
  woke(a, PODKEEP_ERR_FAILED);
  woke(b, PODKEEP_ERR_FAILED);
  probe_free(p);
}

TEST_WITH(L10_wakes__waiters_when_abandoned, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  probe *p = probe_new("deserted");
  p->options.grace_ms = SHORT_MS;
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  waiter *a = waiting(pod, false, PODKEEP_FOREVER), *b = waiting(pod, false, LIMIT_MS * 10);
  CHECK_OK(podkeep_pod_cancel(pod));
  woke(a, PODKEEP_ERR_TIMEOUT); /* without end, so at once */
  CHECK_STATE(pod, PODKEEP_STATE_ABANDONED);
  CHECK(!event_wait_for(&b->w.done, SHORT_MS)); /* a finite one waits its time ... */
  event_set(&p->init.go);
  woke(b, PODKEEP_ERR_FAILED); /* ... or until the thread is back */
  probe_free(p);
}

/* A failure without a word is told by the waiter's own sentence: who, and why. */
TEST(L10_the_reason_is_in_the_sentence) {
  probe *p = probe_new("Reasoned");
  p->init.returns = 31;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_HAS(podkeep_last_error(), "Reasoned");
  CHECK_HAS(podkeep_last_error(), "init");
  CHECK_HAS(podkeep_last_error(), "31");
  probe_free(p);
}

/* Guava testAwaitTerminated, with many: all wake. */
TEST(L10_wakes__many_waiters) {
  probe *p = probe_new("popular");
  podkeep_pod *pod = probe_running(p);
  waiter *x[16];
  for (int i = 0; i < 16; i++) x[i] = waiting(pod, false, i % 2 ? PODKEEP_FOREVER : LIMIT_MS);
  CHECK_OK(podkeep_pod_cancel(pod));
  for (int i = 0; i < 16; i++) woke(x[i], PODKEEP_OK);
  probe_free(p);
}

static void close_it(void *arg) {
  waiter *x = arg;
  x->status = podkeep_pod_close(x->pod);
}

TEST(L10_many_close_at_once) {
  probe *p = probe_new("closed by many");
  p->teardown.held = true;
  waiter *x[6];
  podkeep_pod *pod = probe_running(p);
  for (int i = 0; i < 6; i++) {
    x[i] = world_alloc(sizeof *x[i]);
    x[i]->pod = pod;
    worker_start(&x[i]->w, close_it, x[i]);
  }
  for (int i = 0; i < 6; i++) worker_asleep(&x[i]->w);
  event_wait(&p->teardown.entered);
  event_set(&p->teardown.go);
  for (int i = 0; i < 6; i++) woke(x[i], PODKEEP_OK);
  probe_free(p);
}

/* The state is what is waited for; a drop that hangs delays neither close nor join by more than a moment. */
static void a_hanging_drop(bool close_first) {
  probe *p = probe_new("clinging");
  p->options.grace_ms = LIMIT_MS * 100; /* whoever waits for the drop instead waits past the case's limit */
  p->drop.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->runtime = NULL;
  waiter *x = world_alloc(sizeof *x);
  x->pod = pod;
  x->timeout = PODKEEP_FOREVER;
  if (!close_first) CHECK_OK(podkeep_pod_cancel(pod));
  worker_start(&x->w, close_first ? close_it : wait_for_it, x);
  woke(x, PODKEEP_OK);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  event_set(&p->drop.go);
  probe_free(p);
}

TEST(L10_a_hanging_drop_delays_no_close) { a_hanging_drop(true); }
TEST(L10_a_hanging_drop_delays_no_join) { a_hanging_drop(false); }

/* "free = cancel, and the handle is dead; waiters already waiting go on." */
TEST(L10_waiters_go_on_when_the_handle_is_freed) {
  probe *p = probe_new("freed under them");
  p->teardown.held = true;
  podkeep_pod *pod = probe_running(p);
  waiter *a = waiting(pod, false, PODKEEP_FOREVER), *b = waiting(pod, false, LIMIT_MS);
  CHECK_OK(podkeep_pod_free(pod));
  p->pod = NULL;
  event_wait(&p->teardown.entered);
  CHECK(!event_is_set(&a->w.done) && !event_is_set(&b->w.done));
  CHECK_STATUS(podkeep_pod_join(pod, 0), PODKEEP_ERR_INVALID_HANDLE);
  event_set(&p->teardown.go);
  woke(a, PODKEEP_OK);
  woke(b, PODKEEP_OK);
  probe_free(p);
}

/* A freed pod that fails tells its waiters so. */
TEST(L10_waiters_go_on_when_the_handle_is_freed__failed) {
  probe *p = probe_new("freed and failed");
  p->teardown.returns = 6;
  podkeep_pod *pod = probe_running(p);
  waiter *a = waiting(pod, false, PODKEEP_FOREVER);
  CHECK_OK(podkeep_pod_free(pod));
  p->pod = NULL;
  woke(a, PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* --- Signals -------------------------------------------------------------------------------------------------------- */

static uint32_t interruptions;
static void interrupted(int signal_number) {
  (void)signal_number;
  ADD(interruptions, 1u);
}

static void interrupt_with(int signal_number) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = interrupted; /* no SA_RESTART: each hit gives EINTR */
  sigemptyset(&action.sa_mask);
  CHECK_INT(sigaction(signal_number, &action, NULL), 0);
}

static void pelt(waiter *x, int times) {
  for (int i = 0; i < times; i++) {
    uint32_t before = LOAD(interruptions);
    CHECK_INT(pthread_kill(x->w.thread, SIGUSR1), 0);
    UNTIL(LOAD(interruptions) != before);
    worker_asleep(&x->w); /* back in its wait */
  }
}

/* Guava testNoOpServiceStartStopAndWaitUninterruptible. */
TEST(L10_a_signal_neither_ends_nor_loses_a_wait) {
  interrupt_with(SIGUSR1);
  probe *p = probe_new("pelted");
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  waiter *ready = waiting(pod, true, LIMIT_MS), *join = waiting(pod, false, PODKEEP_FOREVER);
  pelt(ready, 20);
  pelt(join, 20);
  CHECK(!event_is_set(&ready->w.done) && !event_is_set(&join->w.done));
  event_set(&p->init.go);
  woke(ready, PODKEEP_OK);
  pelt(join, 20);
  CHECK_OK(podkeep_pod_cancel(pod));
  woke(join, PODKEEP_OK);
  probe_free(p);
}

/* Signals do not stretch a timeout either. */
static void pelt_all_along(void *arg) {
  waiter *x = arg;
  while (!event_is_set(&x->w.done)) {
    pthread_kill(x->w.thread, SIGUSR1);
    pass_us(500);
  }
}

TEST(L10_signals_do_not_stretch_a_timeout) {
  interrupt_with(SIGUSR1);
  probe *p = probe_new("pelted");
  podkeep_pod *pod = probe_running(p);
  uint64_t start = now_ns();
  waiter *x = waiting(pod, false, slow_ms(500)); /* the pelting begins before it is over */
  worker w;
  worker_start(&w, pelt_all_along, x);
  event_wait(&x->w.done);
  CHECK(now_ns() - start >= (uint64_t)slow_ms(500) * 1000000u);
  worker_join(&w);
  woke(x, PODKEEP_ERR_TIMEOUT);
  CHECK(interruptions > 0);
  probe_close(p, PODKEEP_OK);
}

/* --- State first, then the news ------------------------------------------------------------------------------------- */

TEST(L10_state_changes_before_anyone_is_told) {
  for (int i = 0; i < rounds(100); i++) {
    probe *p = probe_new("truthful");
    podkeep_pod *pod = probe_make(p);
    podkeep_monitor *m = watch(pod);
    probe_start(p);
    podkeep_event e = PODKEEP_EVENT_INIT;
    podkeep_state last = -1;
    while (podkeep_monitor_next(m, &e, LIMIT_MS) == PODKEEP_OK) {
      static const int order[] = {0, 1, 2, 3, 0, 5, 5, 4}; /* how far along a life each state is */
      podkeep_state state;
      CHECK_OK(podkeep_pod_state(pod, &state));
      CHECK(order[state] >= order[e.to]); /* the state told, or a later one */
      if (e.to == PODKEEP_STATE_RUNNING) CHECK_OK(podkeep_pod_wait_ready(pod, 0));
      if (e.to == PODKEEP_STATE_RUNNING) CHECK_OK(podkeep_pod_cancel(pod));
      if (e.to == PODKEEP_STATE_STOPPED) CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
      last = e.to;
    }
    CHECK_INT(last, PODKEEP_STATE_STOPPED);
    CHECK_OK(podkeep_monitor_free(m));
    probe_free(p);
  }
}
