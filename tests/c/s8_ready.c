/* Section 8, L13 and L15: ready, over several lives: whose word it is, who waits for it, and by when it must come. */
#include "lives.h"

/* --- Waiting for ready (L15) ------------------------------------------------------------------------------------------ */

typedef struct waiter {
  podkeep_pod *pod;
  podkeep_status status;
} waiter;

static void waits_for_ready(void *arg) {
  waiter *w = arg;
  w->status = podkeep_pod_wait_ready(w->pod, PODKEEP_FOREVER);
}

/* Begun in the first STARTING, it goes on through lives that fail on the way, and ends with the first that is ready. */
TEST(S8_lives__wait_ready_waits_through_restarts) {
  probe *p = restarting("slow to rise", 4);
  for (int i = 0; i < 3; i++) p->lives[i].init.returns = 6;
  p->lives[0].init.held = true;
  waiter *w = world_alloc(sizeof *w);
  w->pod = probe_start(p);
  worker thread;
  worker_start(&thread, waits_for_ready, w);
  worker_asleep(&thread);
  event_set(&p->lives[0].init.go);
  worker_join(&thread);
  CHECK_STATUS(w->status, PODKEEP_OK);
  CHECK_INT(restarts_of(p->pod), 3);
  CHECK_STATE(p->pod, PODKEEP_STATE_RUNNING);
  probe_close(p, PODKEEP_OK);
}

/* Also when begun in the delay, after a life that had been ready and failed. */
TEST(S8_lives__wait_ready_in_the_delay) {
  probe *p = restarting("awaited", 2);
  p->options.backoff_ms = p->options.backoff_max_ms = slow_ms(3000); /* to be seen in the delay */
  podkeep_pod *pod = probe_start(p);
  until_restarting(pod);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 0), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "RESTARTING");
  CHECK_OK(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER));
  CHECK_INT(restarts_of(pod), 1);
  probe_close(p, PODKEEP_OK);
}

/* In STOPPING, too, when a restart can follow: the ready timeout bars none. */
TEST(S8_lives__wait_ready_in_a_stop_that_bars_nothing) {
  probe *p = restarting("late riser", 2);
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(2000); /* the second must be ready by then */
  p->no_hook = true;
  p->lives[0].run.does = NULL;
  p->lives[0].teardown.held = true;
  waiter *w = world_alloc(sizeof *w);
  w->pod = probe_start(p);
  event_wait(&p->lives[0].teardown.entered);
  worker thread;
  worker_start(&thread, waits_for_ready, w);
  worker_asleep(&thread);
  CHECK_STATE(p->pod, PODKEEP_STATE_STOPPING);
  event_set(&p->lives[0].teardown.go);
  event_wait(&p->lives[1].run.entered);
  CHECK_OK(ctx_ready(p));
  worker_join(&thread);
  CHECK_STATUS(w->status, PODKEEP_OK);
  probe_close(p, PODKEEP_OK);
}

/* A user's cancel in such a stop bars it: told at once, not when the teardown is over. */
static void told_of_a_cancel_in_a_stop(bool ready) {
  probe *p = restarting("no more", 2);
  p->options.ready = ready ? PODKEEP_READY_ON_RUN : PODKEEP_READY_NOTIFY;
  p->options.restart = PODKEEP_RESTART_ALWAYS;
  p->lives[0].run.returns = ready ? 1 : 0;
  p->lives[0].teardown.held = true;
  waiter *w = world_alloc(sizeof *w);
  w->pod = probe_start(p);
  event_wait(&p->lives[0].teardown.entered);
  UNTIL(state_of(p->pod) == PODKEEP_STATE_STOPPING); /* a callback in a child may be seen before what its process told */
  worker thread;
  worker_start(&thread, waits_for_ready, w);
  worker_asleep(&thread);
  CHECK_OK(podkeep_pod_cancel(p->pod));
  worker_join(&thread);
  CHECK_STATUS(w->status, ready ? PODKEEP_ERR_FAILED : PODKEEP_ERR_ENDED);
  CHECK_STATE(p->pod, PODKEEP_STATE_STOPPING);
  event_set(&p->lives[0].teardown.go);
  probe_close(p, ready ? PODKEEP_ERR_FAILED : PODKEEP_OK);
}
TEST(S8_lives__wait_ready_in_a_stop_after_a_failure_ends_with_a_cancel) { told_of_a_cancel_in_a_stop(true); }
TEST(S8_lives__wait_ready_in_a_clean_stop_ends_with_a_cancel) { told_of_a_cancel_in_a_stop(false); }

/* When there is no room any more: FAILED; when the last end was clean: still FAILED, for so many ends are a failure. */
TEST(S8_lives__wait_ready_until_there_is_no_room) {
  probe *p = restarting("hopeless", 3);
  p->options.max_restarts = 2;
  for (int i = 0; i < 3; i++) p->lives[i].init.returns = 6;
  p->lives[0].init.held = true;
  waiter *w = world_alloc(sizeof *w);
  w->pod = probe_start(p);
  worker thread;
  worker_start(&thread, waits_for_ready, w);
  worker_asleep(&thread);
  event_set(&p->lives[0].init.go);
  worker_join(&thread);
  CHECK_STATUS(w->status, PODKEEP_ERR_FAILED);
  CHECK_STATE(p->pod, PODKEEP_STATE_FAILED);
  CHECK_STATUS(podkeep_pod_join(p->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* Ready is each life's own word: said by the first, it is not the second's. */
static int32_t says_ready_and_returns_1(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_OK(podkeep_context_ready(ctx));
  return 1;
}
static int32_t says_ready_and_init_fails(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_OK(podkeep_context_ready(ctx)); /* held until init succeeds, which it does not */
  return 1;
}

TEST(S8_lives__ready_is_of_one_life) {
  probe *p = restarting("modest", 3);
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->lives[0].run.does = says_ready_and_returns_1;
  p->lives[1].init.does = says_ready_and_init_fails;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[2].run.entered);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, PODKEEP_STATE_STARTING);
  CHECK_OK(ctx_ready(p));
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  probe_close(p, PODKEEP_OK);
}

/* --- The ready limit and its extension, anew each life ---------------------------------------------------------------- */

static int32_t extends_all_it_may(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_OK(podkeep_context_extend(ctx, LIMIT_MS));
  return podkeep_context_wait(ctx, PODKEEP_FOREVER) != PODKEEP_OK;
}

TEST(S8_lives__each_has_its_ready_limit_and_its_extension) {
  probe *p = restarting("slow", 2);
  p->options.max_restarts = 1;
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(800); /* run must be entered by then */
  p->options.extend_max_ms = slow_ms(400);
  for (int i = 0; i < 2; i++) p->lives[i].run.does = extends_all_it_may;
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  uint64_t starting = 0;
  int stops = 0;
  for (podkeep_event e = PODKEEP_EVENT_INIT; podkeep_monitor_next(m, &e, LIMIT_MS) == PODKEEP_OK;) {
    CHECK(e.to != PODKEEP_STATE_RUNNING);
    if (e.to == PODKEEP_STATE_STARTING) starting = e.time_ns;
    if (e.to != PODKEEP_STATE_STOPPING) continue;
    /* The limit counts from a moment before STARTING: more than it alone is what shows the extension. */
    CHECK(e.time_ns - starting >= (uint64_t)(p->options.ready_timeout_ms + p->options.extend_max_ms / 2) * 1000000u);
    stops++;
  }
  CHECK_INT(stops, 2);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE_IN(f, 1, PODKEEP_PHASE_READY, PODKEEP_KIND_TIMEOUT, podkeep_failure_code(f), NULL);
  CHECK_OK(podkeep_failure_free(f));
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}
