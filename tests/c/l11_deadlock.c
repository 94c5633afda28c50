/* L11: from the pod's own thread or hook its waits are DEADLOCK, from a log callback or a drop every blocking call; polling
 * answers normally, and nothing hangs. */
#include "probe.h"

#include <string.h>

/* What the pod says of itself to its own S or hook; `in_run`: ready has been shown. */
static void asks_for_itself(probe *p, bool in_run) {
  podkeep_pod *pod = p->pod;
  CHECK_STATUS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_DEADLOCK);
  CHECK_HAS(podkeep_last_error(), p->name);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_DEADLOCK);
  bool cancelled = podkeep_context_cancelled(p->ctx);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_DEADLOCK);
  CHECK(podkeep_context_cancelled(p->ctx) == cancelled); /* no effect */
  CHECK_STATUS(podkeep_pod_join(pod, 0), PODKEEP_ERR_TIMEOUT);
  if (in_run) CHECK_OK(podkeep_pod_wait_ready(pod, 0));
  CHECK_STATUS(podkeep_shutdown(LIMIT_MS, NULL), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_shutdown(PODKEEP_FOREVER, NULL), PODKEEP_ERR_DEADLOCK);
}

static int32_t asks_in_init(probe *p, podkeep_context *ctx) {
  (void)ctx;
  asks_for_itself(p, false);
  CHECK_STATUS(podkeep_pod_wait_ready(p->pod, 0), PODKEEP_ERR_TIMEOUT);
  return 0;
}

static int32_t asks_later(probe *p, podkeep_context *ctx) {
  (void)ctx;
  asks_for_itself(p, true);
  return 0;
}

TEST_WITH(L11_own_waits__in_init, NOT_PROCESS(HANDLES)) {
  probe *p = probe_new("asking");
  p->init.does = asks_in_init;
  probe_running(p);
  probe_close(p, PODKEEP_OK);
}

TEST_WITH(L11_own_waits__in_run, NOT_PROCESS(HANDLES)) {
  probe *p = probe_new("asking");
  p->run.does = asks_later;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

TEST_WITH(L11_own_waits__in_teardown, NOT_PROCESS(HANDLES)) {
  probe *p = probe_new("asking");
  p->teardown.does = asks_later;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

TEST_WITH(L11_own_waits__in_hook, NOT_PROCESS(HANDLES)) {
  probe *p = probe_new("asking");
  p->hook.does = asks_later;
  p->run.does = does_wait_for_hook;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_INT(p->hook.count, 1);
  probe_free(p);
}

/* Another pod may be waited for from S: a runtime may keep pods of its own. */
static int32_t keeps_another(probe *p, podkeep_context *ctx) {
  (void)ctx;
  probe *inner = p->data;
  probe_running(inner);
  probe_close(inner, PODKEEP_OK);
  return 0;
}

TEST(L11_another_pod_is_waited_for_as_usual) {
  probe *p = probe_new("outer");
  p->data = probe_new("inner");
  p->run.does = keeps_another;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* In a child there is no handle of the pod; what would wait for S all the same is DEADLOCK there, too. */
static int32_t asks_in_a_child(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  uint32_t left;
  CHECK_STATUS(podkeep_shutdown(LIMIT_MS, &left), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_shutdown(PODKEEP_FOREVER, NULL), PODKEEP_ERR_DEADLOCK);
  CHECK(strlen(podkeep_last_error()) > 0);
  return 0;
}

static int32_t waits_then_asks(probe *p, podkeep_context *ctx) {
  int32_t code = asks_in_a_child(p, ctx);
  event_wait(&p->hook.left);
  return code;
}

TEST_PROCESS(L11_shutdown_from_S_of_a_child) {
  probe *p = probe_new("asking");
  p->init.does = p->hook.does = p->teardown.does = asks_in_a_child;
  p->run.does = waits_then_asks;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_INT(p->hook.count, 1);
  probe_free(p);
}

/* A thread that S made is not S. */
static void joins_the_pod(void *arg) {
  CHECK_STATUS(podkeep_pod_join(((probe *)arg)->pod, 1), PODKEEP_ERR_TIMEOUT);
}

static int32_t lets_a_helper_join(probe *p, podkeep_context *ctx) {
  (void)ctx;
  worker w;
  worker_start(&w, joins_the_pod, p);
  worker_join(&w);
  return 0;
}

TEST_WITH(L11_a_thread_made_by_S_is_not_S, NOT_PROCESS(HANDLES)) {
  probe *p = probe_new("parent");
  p->run.does = lets_a_helper_join;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* "free is deferred there": it cancels, the handle is dead, and the rest of the life goes on without it. */
static void frees_all(probe *p) {
  podkeep_pod *pod = p->pod;
  podkeep_runtime *runtime = p->runtime;
  p->pod = NULL;
  p->runtime = NULL;
  CHECK_OK(podkeep_pod_free(pod));
  CHECK_OK(podkeep_runtime_free(runtime));
  CHECK_STATUS(podkeep_pod_cancel(pod), PODKEEP_ERR_INVALID_HANDLE);
}

static int32_t frees_then_waits(probe *p, podkeep_context *ctx) {
  frees_all(p);
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER)); /* free is a cancel */
  CHECK_STR(podkeep_context_name(ctx), "freeing");
  return 0;
}

static int32_t frees(probe *p, podkeep_context *ctx) {
  (void)ctx;
  frees_all(p);
  return 0;
}

static probe *freeing(void) { return probe_new("freeing"); }

/* The handles must be in place before a callback frees them: it waits for `go`. */
static void freed_in(probe *p, step *s, bool cancel, const char *called) {
  s->held = true;
  probe_start(p);
  if (cancel) {
    event_wait(&p->run.entered);
    CHECK_OK(podkeep_pod_cancel(p->pod));
  }
  event_wait(&s->entered);
  event_set(&s->go);
  event_wait(&p->drop.left);
  CHECK_STR(history_text(&p->called), called);
}

TEST_WITH(L11_free_is_deferred__in_init, NOT_PROCESS(HANDLES)) {
  probe *p = freeing();
  p->init.does = frees_then_waits;
  freed_in(p, &p->init, false, "init teardown drop");
}

TEST_WITH(L11_free_is_deferred__in_run, NOT_PROCESS(HANDLES)) {
  probe *p = freeing();
  p->no_hook = true;
  p->run.does = frees_then_waits;
  freed_in(p, &p->run, false, "init run teardown drop");
}

TEST_WITH(L11_free_is_deferred__in_hook, NOT_PROCESS(HANDLES)) {
  probe *p = freeing();
  p->run.does = does_wait_for_hook;
  p->hook.does = frees;
  freed_in(p, &p->hook, true, "init run cancel teardown drop");
}

TEST_WITH(L11_free_is_deferred__in_teardown, NOT_PROCESS(HANDLES)) {
  probe *p = freeing();
  p->no_hook = true;
  p->teardown.does = frees;
  freed_in(p, &p->teardown, true, "init run teardown drop");
}

/* --- From a drop ---------------------------------------------------------------------------------------------------- */

typedef struct asker {
  podkeep_pod *pod;       /* another pod, RUNNING */
  probe *other;           /* the same */
  podkeep_monitor *quiet; /* a monitor with nothing to say */
  uint32_t asked;
} asker;

static void asks_from_a_closed_place(asker *a) {
  podkeep_event e = PODKEEP_EVENT_INIT;
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_DEADLOCK);
  CHECK(strlen(podkeep_last_error()) > 0);
  CHECK_STATUS(podkeep_pod_join(a->pod, PODKEEP_FOREVER), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_pod_wait_ready(a->pod, LIMIT_MS), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_pod_close(a->pod), PODKEEP_ERR_DEADLOCK);
  CHECK_STATE(a->pod, PODKEEP_STATE_RUNNING); /* close had no effect */
  CHECK_STATUS(podkeep_monitor_next(a->quiet, &e, LIMIT_MS), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_shutdown(LIMIT_MS, NULL), PODKEEP_ERR_DEADLOCK);
  if (!S_is_elsewhere()) CHECK_STATUS(podkeep_context_wait(a->other->ctx, LIMIT_MS), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_pod_join(a->pod, 0), PODKEEP_ERR_TIMEOUT);
  CHECK_OK(podkeep_pod_wait_ready(a->pod, 0));
  CHECK_STATUS(podkeep_monitor_next(a->quiet, &e, 0), PODKEEP_ERR_TIMEOUT);
  if (!S_is_elsewhere()) CHECK_STATUS(podkeep_context_wait(a->other->ctx, 0), PODKEEP_ERR_TIMEOUT);
  ADD(a->asked, 1u);
}

static asker *asker_new(probe *other) {
  asker *a = world_alloc(sizeof *a);
  a->pod = probe_running(other);
  a->other = other;
  a->quiet = watch(a->pod);
  CHECK_EVENT(a->quiet, RUNNING, RUNNING);
  return a;
}

static int32_t drop_asks(probe *p, podkeep_context *ctx) {
  (void)ctx;
  asks_from_a_closed_place(p->data);
  return 0;
}

TEST(L11_blocking_calls__in_a_drop_on_the_callers_thread) {
  probe *other = probe_new("other"), *p = probe_new("dropped");
  asker *a = p->data = asker_new(other);
  p->drop.does = drop_asks;
  probe_make_runtime(p);
  probe_free(p);
  CHECK_INT(a->asked, 1);
  CHECK_OK(podkeep_monitor_free(a->quiet));
  CHECK_STATUS(podkeep_pod_join(other->pod, 1), PODKEEP_ERR_TIMEOUT); /* the thread is as it was before */
  probe_close(other, PODKEEP_OK);
}

TEST(L11_blocking_calls__in_a_drop_after_a_life) {
  probe *other = probe_new("other"), *p = probe_new("dropped");
  asker *a = p->data = asker_new(other);
  p->drop.does = drop_asks;
  probe_running(p);
  probe_free(p);
  CHECK_INT(a->asked, 1);
  CHECK_OK(podkeep_monitor_free(a->quiet));
  probe_close(other, PODKEEP_OK);
}

/* Its own pod, too: the pod is final by then. */
static int32_t drop_frees(probe *p, podkeep_context *ctx) {
  (void)ctx;
  podkeep_pod *pod = p->pod;
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  CHECK_OK(podkeep_pod_join(pod, 0));
  p->pod = NULL;
  CHECK_OK(podkeep_pod_free(pod));
  return 0;
}

TEST(L11_free_in_a_drop) {
  probe *p = probe_new("dropping");
  p->drop.does = drop_frees;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->runtime = NULL;
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->drop.left);
}

/* --- From a log callback -------------------------------------------------------------------------------------------- */

static asker *log_asker;

static void log_asks(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)pod, (void)message;
  event *asked = user_data;
  if (event_is_set(asked)) return;
  asks_from_a_closed_place(log_asker);
  event_set(asked);
}

TEST(L11_blocking_calls__in_a_log_callback) {
  probe *other = probe_new("other"), *p = probe_new("talked about");
  event *asked = world_alloc(sizeof *asked);
  log_asker = asker_new(other);
  CHECK_OK(podkeep_set_log(log_asks, 4, asked, NULL));
  p->init.returns = 1; /* a failure is worth a line */
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  event_wait(asked);
  CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL));
  CHECK_OK(podkeep_monitor_free(log_asker->quiet));
  probe_free(p);
  probe_close(other, PODKEEP_OK);
}
