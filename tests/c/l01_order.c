/* L1, L2: the order of the callbacks, the thread they run on, and teardown as the pair of init. */
#include "probe.h"

#include <sched.h>

TEST(L1_callbacks_in_order__cancelled) {
  probe *p = probe_new("ordered");
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_INT(p->init.count, 1);
  CHECK_INT(p->run.count, 1);
  CHECK_INT(p->teardown.count, 1);
  CHECK(p->init.left_at < p->run.entered_at);
  CHECK(p->run.left_at < p->teardown.entered_at);
  probe_free(p);
}

TEST(L1_callbacks_in_order__natural_return) {
  probe *p = probe_new("natural");
  p->run.does = does_return;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STR(history_text(&p->called), "init run teardown");
  probe_free(p);
}

TEST(L1_all_on_one_thread) {
  probe *p = probe_new("one thread");
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK(p->init.tid != own_tid());
  CHECK_INT(p->run.tid, p->init.tid);
  CHECK_INT(p->teardown.tid, p->init.tid);
  probe_free(p);
}

TEST(L1_each_pod_has_its_own_thread) {
  probe *a = probe_new("a"), *b = probe_new("b");
  probe_running(a);
  probe_running(b);
  CHECK(a->run.tid != b->run.tid);
  probe_close(a, PODKEEP_OK);
  probe_close(b, PODKEEP_OK);
}

/* Guava testServiceStartStop: the state while S is in each callback, seen from outside and, where S can ask, from inside. */
TEST(L1_states_seen_inside) {
  probe *p = probe_new("inside");
  const step *steps[] = {&p->init, &p->run, &p->hook, &p->teardown};
  static const podkeep_state states[] = {PODKEEP_STATE_STARTING, PODKEEP_STATE_RUNNING, PODKEEP_STATE_STOPPING,
                                         PODKEEP_STATE_STOPPING};
  p->init.held = p->hook.held = p->teardown.held = true;
  p->run.does = does_wait_for_hook;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_STATE(pod, PODKEEP_STATE_STARTING);
  event_set(&p->init.go);
  event_wait(&p->run.entered);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->hook.entered);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  event_set(&p->hook.go);
  event_wait(&p->teardown.entered);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING);
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  for (int i = 0; i < 4; i++) {
    CHECK_INT(steps[i]->saw_state, S_is_elsewhere() ? -1 : states[i]);
    CHECK_INT(steps[i]->saw_cancelled, i >= 2);
  }
  probe_free(p);
}

/* One context an incarnation: the same pointer in each callback. */
static int32_t same_context(probe *p, podkeep_context *ctx) {
  CHECK(ctx == p->ctx);
  return 0;
}

TEST(L1_one_context_an_incarnation) {
  probe *p = probe_new("context");
  p->teardown.does = same_context;
  p->hook.does = same_context;
  p->run.does = does_wait_for_hook;
  podkeep_pod *pod = probe_running(p);
  CHECK(p->ctx != NULL);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_INT(p->hook.count, 1);
  probe_free(p);
}

/* Without init the state is the config; without teardown nothing is missing. */
typedef struct bare {
  event entered;
  void *state;
} bare;

static int32_t bare_run(podkeep_context *ctx, void *state) {
  bare *b = state;
  b->state = state;
  event_set(&b->entered);
  return podkeep_context_wait(ctx, PODKEEP_FOREVER) == PODKEEP_OK ? 0 : 1;
}

TEST(L1_only_run_forever_is_required) {
  bare *b = world_alloc(sizeof *b);
  recipe *r = world_alloc(sizeof *r);
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "bare";
  spec.run_forever = bare_run;
  spec.config = b;
  recipe_keep(r, &spec);
  podkeep_runtime *runtime = recipe_runtime(r);
  podkeep_pod *pod = recipe_pod(r, runtime);
  CHECK_OK(start_pod(pod));
  event_wait(&b->entered);
  CHECK(b->state == b);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_OK(podkeep_pod_free(pod));
  CHECK_OK(podkeep_runtime_free(runtime));
}

/* The state that init hands out is what the others get. */
typedef struct handed {
  int32_t state; /* its address is the state */
  void *in_run, *in_hook, *in_teardown;
  event running, hooked;
} handed;

static int32_t handed_init(podkeep_context *ctx, void *config, void **state) {
  (void)ctx;
  *state = &((handed *)config)->state;
  return 0;
}
static handed *handed_of(void *state) { return (handed *)((char *)state - offsetof(handed, state)); }
static int32_t handed_run(podkeep_context *ctx, void *state) {
  handed_of(state)->in_run = state;
  event_set(&handed_of(state)->running);
  event_wait(&handed_of(state)->hooked);
  return podkeep_context_cancelled(ctx) ? 0 : 1;
}
static int32_t handed_teardown(podkeep_context *ctx, void *state) {
  (void)ctx;
  handed_of(state)->in_teardown = state;
  return 0;
}
static void handed_cancel(podkeep_context *ctx, void *state) {
  (void)ctx;
  handed_of(state)->in_hook = state;
  event_set(&handed_of(state)->hooked);
}

TEST(L1_state_of_init_is_passed_on) {
  handed *h = world_alloc(sizeof *h);
  recipe *r = world_alloc(sizeof *r);
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "handed";
  spec.init = handed_init;
  spec.run_forever = handed_run;
  spec.teardown = handed_teardown;
  spec.cancel = handed_cancel;
  spec.config = h;
  recipe_keep(r, &spec);
  podkeep_runtime *runtime = recipe_runtime(r);
  podkeep_pod *pod = recipe_pod(r, runtime);
  CHECK_OK(start_pod(pod));
  event_wait(&h->running);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK(h->in_run == &h->state && h->in_hook == &h->state && h->in_teardown == &h->state);
  CHECK_OK(podkeep_pod_free(pod));
  CHECK_OK(podkeep_runtime_free(runtime));
}

/* --- L2 ------------------------------------------------------------------------------------------------------------- */

/* How run_forever ends, and what the pod comes to; teardown is called once in each. */
static void ended(const char *name, int32_t returns, bool cancel, podkeep_status want) {
  probe *p = probe_new(name);
  p->run.returns = returns;
  if (!cancel) p->run.does = does_return;
  podkeep_pod *pod = cancel ? probe_running(p) : probe_start(p);
  if (cancel) CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), want);
  CHECK_INT(p->teardown.count, 1);
  probe_free(p);
}

TEST(L2_teardown_pairs_with_init__run_returned) { ended("returned", 0, false, PODKEEP_OK); }
TEST(L2_teardown_pairs_with_init__run_failed) { ended("failed", 7, false, PODKEEP_ERR_FAILED); }
TEST(L2_teardown_pairs_with_init__cancelled) { ended("cancelled", 0, true, PODKEEP_OK); }
TEST(L2_teardown_pairs_with_init__cancelled_and_said_so) { ended("said so", PODKEEP_CANCELLED, true, PODKEEP_OK); }
TEST(L2_teardown_pairs_with_init__failed_after_cancel) { ended("late failure", 3, true, PODKEEP_ERR_FAILED); }

static int32_t run_raises(probe *p, podkeep_context *ctx) {
  (void)p;
  return podkeep_context_fail_as(ctx, PODKEEP_KIND_EXCEPTION, 9, "thrown");
}

TEST(L2_teardown_pairs_with_init__run_raised) {
  probe *p = probe_new("raised");
  p->run.does = run_raises;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_INT(p->teardown.count, 1);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_EXCEPTION, 9, "thrown");
  probe_free(p);
}

TEST(L2_teardown_pairs_with_init__run_skipped) {
  probe *p = probe_new("skipped");
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_set(&p->init.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STR(history_text(&p->called), "init teardown");
  probe_free(p);
}

TEST(L2_no_teardown__init_failed) {
  probe *p = probe_new("no init");
  p->init.returns = 42;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATE(pod, PODKEEP_STATE_FAILED);
  CHECK_STR(history_text(&p->called), "init");
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_INIT, PODKEEP_KIND_RETURNED, 42, NULL);
  probe_free(p);
}

TEST(L2_no_teardown__cancelled_in_init_and_said_so) {
  probe *p = probe_new("gave up");
  p->init.held = true;
  p->init.returns = PODKEEP_CANCELLED;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_set(&p->init.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STR(history_text(&p->called), "init");
  CHECK_NO_FAILURE(pod);
  probe_free(p);
}

/* S ended from inside (pthread_exit, or _exit(0) in a child): no teardown, kind EXIT, code 0, in whatever phase. */
static void dies(probe *p, podkeep_phase phase, const char *called) {
  p->s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATE(pod, PODKEEP_STATE_FAILED);
  CHECK_ONLY_FAILURE(pod, phase, PODKEEP_KIND_EXIT, 0, NULL);
  CHECK_STR(history_text(&p->called), called);
  probe_free(p);
}

TEST(L2_no_teardown__S_ended_in_init) {
  probe *p = probe_new("exit in init");
  p->init.does = does_exit;
  dies(p, PODKEEP_PHASE_INIT, "init");
}

TEST(L2_no_teardown__S_ended_in_run) {
  probe *p = probe_new("exit in run");
  p->run.does = does_exit;
  dies(p, PODKEEP_PHASE_RUN, "init run");
}

TEST(L2_no_teardown__S_ended_in_teardown) {
  probe *p = probe_new("exit in teardown");
  p->run.does = does_return;
  p->teardown.does = does_exit;
  dies(p, PODKEEP_PHASE_TEARDOWN, "init run teardown");
}

static int32_t waits_then_exits(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  return does_exit(p, ctx);
}

/* The hook may still be at work when S ends: the pod is final only after it. */
TEST(L2_no_teardown__S_ended_after_cancel) {
  probe *p = probe_new("exit late");
  p->s_may_die = true;
  p->run.does = waits_then_exits;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_EXIT, 0, NULL);
  CHECK_INT(p->teardown.count, 0);
  probe_free(p);
}

/* What a thread leaves to be done at its end is done when it is ended from inside, too. */
static void set_event(void *arg) { event_set(arg); }

static int32_t exits_with_cleanup(probe *p, podkeep_context *ctx) {
  pthread_cleanup_push(set_event, p->data);
  does_exit(p, ctx);
  pthread_cleanup_pop(0);
  return 0;
}

TEST_WITH(L2_thread_ended_from_inside_is_unwound, NOT_PROCESS(UNWINDING)) {
  probe *p = probe_new("unwound");
  p->data = world_alloc(sizeof(event));
  p->run.does = exits_with_cleanup;
  p->s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK(event_is_set(p->data));
  probe_free(p);
}
