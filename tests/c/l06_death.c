/* L6, L13 and section 2 where S is a process: it dies without a word, in whatever phase and by whatever means. */
#include "probe.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static step *init_of(probe *p) { return &p->init; }
static step *run_of(probe *p) { return &p->run; }
static step *teardown_of(probe *p) { return &p->teardown; }
static step *hook_of(probe *p) { return &p->hook; }

/* --- By its own hand ------------------------------------------------------------------------------------------------ */

static int32_t dies_of_kill(probe *p, podkeep_context *ctx) { return (void)p, (void)ctx, raise(SIGKILL); }
static int32_t dies_of_term(probe *p, podkeep_context *ctx) { return (void)p, (void)ctx, raise(SIGTERM); }
static int32_t dies_of_segv(probe *p, podkeep_context *ctx) {
  (void)ctx;
  signal(SIGSEGV, SIG_DFL); /* a sanitizer would make an exit of it */
  *(volatile int *)(uintptr_t)p->data = 1;
  return 0;
}
static int32_t dies_of_abort(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  abort();
}
static int32_t exits_with_3(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  exit(3);
}
static int32_t exits_with_0(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  exit(0);
}

static const char *called_up_to(podkeep_phase phase) {
  return phase == PODKEEP_PHASE_INIT ? "init" : phase == PODKEEP_PHASE_RUN ? "init run" : "init run teardown";
}

static void died(int32_t (*how)(probe *, podkeep_context *), podkeep_kind kind, int32_t code, const char *sentence) {
  static step *(*const places[])(probe *) = {init_of, run_of, teardown_of};
  static const podkeep_phase phases[] = {PODKEEP_PHASE_INIT, PODKEEP_PHASE_RUN, PODKEEP_PHASE_TEARDOWN};
  for (int i = 0; i < 3; i++) {
    probe *p = probe_new("mortal");
    p->s_may_die = true;
    if (i == 2) p->run.does = does_return;
    places[i](p)->does = how;
    podkeep_pod *pod = probe_start(p);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_HAS(podkeep_last_error(), "mortal");
    podkeep_failure *f = FAILURE_OF(pod);
    CHECK_FAILURE(f, phases[i], kind, code, NULL);
    CHECK_HAS(podkeep_failure_message(f), sentence);
    CHECK(podkeep_failure_secondary(f) == NULL);
    CHECK_OK(podkeep_failure_free(f));
    CHECK_STR(history_text(&p->called), called_up_to(phases[i]));
    probe_free(p);
  }
}

TEST_PROCESS(L6_death__SIGKILL) { died(dies_of_kill, PODKEEP_KIND_SIGNAL, SIGKILL, "signal 9 (SIGKILL)"); }
TEST_PROCESS(L6_death__SIGSEGV) { died(dies_of_segv, PODKEEP_KIND_SIGNAL, SIGSEGV, "SIGSEGV"); }
TEST_PROCESS(L6_death__SIGABRT) { died(dies_of_abort, PODKEEP_KIND_SIGNAL, SIGABRT, "SIGABRT"); }
TEST_PROCESS(L6_death__SIGTERM_of_a_stranger) { died(dies_of_term, PODKEEP_KIND_SIGNAL, SIGTERM, "SIGTERM"); }
TEST_PROCESS(L6_death__exit_3) { died(exits_with_3, PODKEEP_KIND_EXIT, 3, "exited with code 3"); }
TEST_PROCESS(L6_death__exit_0_without_a_word) { died(exits_with_0, PODKEEP_KIND_EXIT, 0, "exited with code 0"); }

/* S alone: its thread is ended from inside, and other threads of the child would go on for ever. */
static int32_t ends_its_thread(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  pthread_exit(NULL);
}

TEST_PROCESS(L2_no_teardown__S_thread_of_a_child_ended) {
  static step *(*const places[])(probe *) = {init_of, run_of, teardown_of};
  static const podkeep_phase phases[] = {PODKEEP_PHASE_INIT, PODKEEP_PHASE_RUN, PODKEEP_PHASE_TEARDOWN};
  for (int i = 0; i < 3; i++) {
    probe *p = probe_new("headless");
    p->s_may_die = true;
    if (i == 2) p->run.does = does_return;
    places[i](p)->does = ends_its_thread;
    podkeep_pod *pod = probe_start(p);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_ONLY_FAILURE(pod, phases[i], PODKEEP_KIND_EXIT, 0, NULL);
    CHECK_STR(history_text(&p->called), called_up_to(phases[i]));
    probe_free(p);
  }
}

/* --- By another's, while it does something -------------------------------------------------------------------------- */

static int32_t runs_until_the_hook_has_begun(probe *p, podkeep_context *ctx) {
  (void)ctx;
  event_wait(&p->hook.entered);
  return 0;
}

static void killed_in(step *(*of)(probe *), bool cancel, podkeep_phase phase, const char *called) {
  probe *p = probe_new("killed");
  step *s = of(p);
  s->held = true;
  p->no_hook = s != &p->hook;
  if (s == &p->hook) p->run.does = runs_until_the_hook_has_begun;
  p->s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  if (cancel && s != &p->init && s != &p->run) {
    event_wait(&p->run.entered);
    CHECK_OK(podkeep_pod_cancel(pod));
  }
  event_wait(&s->entered);
  if (cancel) CHECK_OK(podkeep_pod_cancel(pod));
  if (s == &p->hook) event_wait(&p->run.left); /* S itself waits for the hook now */
  if (s == &p->hook) UNTIL(thread_sleeps(p->run.tid));
  CHECK_INT(kill((pid_t)p->init.tid, SIGKILL), 0);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, phase, PODKEEP_KIND_SIGNAL, SIGKILL, NULL);
  CHECK_STR(history_text(&p->called), called);
  probe_free(p);
}

TEST_PROCESS(L6_killed_in__init) { killed_in(init_of, false, PODKEEP_PHASE_INIT, "init"); }
TEST_PROCESS(L6_killed_in__init_after_a_cancel) { killed_in(init_of, true, PODKEEP_PHASE_INIT, "init"); }
TEST_PROCESS(L6_killed_in__run) { killed_in(run_of, false, PODKEEP_PHASE_RUN, "init run"); }
TEST_PROCESS(L6_killed_in__run_in_its_grace) { killed_in(run_of, true, PODKEEP_PHASE_RUN, "init run"); }
TEST_PROCESS(L6_killed_in__the_hook) { killed_in(hook_of, true, PODKEEP_PHASE_CANCEL, "init run cancel"); }
TEST_PROCESS(L6_killed_in__teardown) { killed_in(teardown_of, true, PODKEEP_PHASE_TEARDOWN, "init run teardown"); }

/* Killed after it had failed: the death is the later one (L7). */
TEST_PROCESS(L7_run_failed_then_killed_in_teardown) {
  probe *p = probe_new("late death");
  p->s_may_die = true;
  p->run.does = does_return;
  p->run.returns = 11;
  p->teardown.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->teardown.entered);
  CHECK_INT(kill((pid_t)p->init.tid, SIGKILL), 0);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 11, NULL);
  CHECK_FAILURE(podkeep_failure_secondary(f), PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_SIGNAL, SIGKILL, NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* --- Ready, and those who wait -------------------------------------------------------------------------------------- */

/* "ready falls the moment S dies": nobody who asks after the death was told hears RUNNING, and there is no state between. */
TEST_PROCESS(L13_ready_falls_with_a_killed_child) {
  for (int i = 0; i < rounds(80); i++) {
    probe *p = probe_new("falling");
    p->s_may_die = true;
    podkeep_pod *pod = probe_running(p);
    podkeep_monitor *m = watch(pod);
    CHECK_EVENT(m, RUNNING, RUNNING);
    CHECK_OK(podkeep_pod_wait_ready(pod, 0));
    CHECK_INT(kill((pid_t)p->run.tid, SIGKILL), 0);
    CHECK_EVENT(m, RUNNING, FAILED);
    CHECK_STATUS(podkeep_pod_wait_ready(pod, 0), PODKEEP_ERR_FAILED);
    CHECK_MONITOR_ENDED(m);
    CHECK_OK(podkeep_monitor_free(m));
    probe_free(p);
  }
}

typedef struct waiter {
  podkeep_pod *pod;
  bool for_ready;
  podkeep_status status;
  worker w;
} waiter;

static void wait_for_it(void *arg) {
  waiter *x = arg;
  x->status = x->for_ready ? podkeep_pod_wait_ready(x->pod, PODKEEP_FOREVER) : podkeep_pod_join(x->pod, PODKEEP_FOREVER);
}

TEST_PROCESS(L10_wakes__waiters_when_the_child_is_killed) {
  probe *p = probe_new("killed");
  p->s_may_die = true;
  p->init.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  waiter *x[8];
  for (int i = 0; i < 8; i++) {
    x[i] = world_alloc(sizeof *x[i]);
    x[i]->pod = pod;
    x[i]->for_ready = i % 2;
    worker_start(&x[i]->w, wait_for_it, x[i]);
    worker_asleep(&x[i]->w);
  }
  CHECK_INT(kill((pid_t)p->init.tid, SIGKILL), 0);
  for (int i = 0; i < 8; i++) {
    worker_join(&x[i]->w);
    CHECK_STATUS(x[i]->status, PODKEEP_ERR_FAILED);
  }
  probe_free(p);
}

/* A cancel, a death and a free in the same moment: each gives an answer of its own, and the world is clean (L8, L12). */
typedef struct storm {
  podkeep_pod *pod;
  pid_t pid;
  barrier all;
  uint32_t role;
} storm;

static void strike(void *arg) {
  storm *s = arg;
  uint32_t role = ADD(s->role, 1u) - 1;
  barrier_wait(&s->all, 4);
  pass_us((long)random_below(300));
  if (role == 3) kill(s->pid, SIGKILL);
  else CHECK_OK(podkeep_pod_cancel(s->pod));
}

TEST_PROCESS(L8_storm_of_cancels_and_a_kill) {
  for (int i = 0; i < rounds(200); i++) {
    probe *p = probe_new("stormy");
    p->s_may_die = true;
    storm *s = world_alloc(sizeof *s);
    s->pod = probe_running(p);
    s->pid = (pid_t)p->run.tid;
    worker w[4];
    for (int k = 0; k < 4; k++) worker_start(&w[k], strike, s);
    podkeep_status status = podkeep_pod_join(s->pod, LIMIT_MS);
    for (int k = 0; k < 4; k++) worker_join(&w[k]);
    if (status == PODKEEP_ERR_FAILED) {
      podkeep_failure *f = FAILURE_OF(s->pod);
      CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_SIGNAL);
      CHECK_INT(podkeep_failure_code(f), SIGKILL);
      CHECK_OK(podkeep_failure_free(f));
    } else {
      CHECK_OK(status);
    }
    probe_free(p);
  }
}

/* --- The record ----------------------------------------------------------------------------------------------------- */

static int32_t complains_and_dies(probe *p, podkeep_context *ctx) {
  fprintf(stderr, "first complaint\nsecond complaint of %s\n", p->name);
  fflush(stderr);
  return dies_of_kill(p, ctx);
}

TEST_PROCESS(S2_stderr_is_attached_to_a_death) {
  probe *p = probe_new("complaining");
  p->run.does = complains_and_dies;
  p->s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_HAS(podkeep_failure_message(f), "killed by signal 9 (SIGKILL)");
  CHECK_HAS(podkeep_failure_message(f), "second complaint of complaining");
  CHECK_STR(podkeep_failure_stderr(f), "first complaint\nsecond complaint of complaining\n");
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

static int32_t complains_and_fails(probe *p, podkeep_context *ctx) {
  (void)p;
  fputs("a complaint\n", stderr);
  fflush(stderr);
  return podkeep_context_fail(ctx, 42, "its own words");
}

TEST_PROCESS(S2_stderr_is_attached_beside_the_own_words) {
  probe *p = probe_new("complaining");
  p->run.does = complains_and_fails;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 42, "its own words");
  CHECK_STR(podkeep_failure_stderr(f), "a complaint\n");
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* --- What main makes of it ------------------------------------------------------------------------------------------ */

/* podkeep_child_run's exit code: 0 only for a clean end, a failure's code if 1 to 255, else 1. */
static int32_t keeps_the_code(void *config, int32_t exit_code) {
  probe *p = config;
  *(int32_t *)p->data = exit_code;
  return exit_code;
}

TEST_PROCESS(L6_exit_codes_of_a_child) {
  static const int32_t returned[] = {0, 1, 5, 255, 256, -1, INT32_MAX}, exits[] = {0, 1, 5, 255, 1, 1, 1};
  for (int i = 0; i < 7; i++) {
    probe *p = probe_new("coded");
    p->data = world_alloc(sizeof(int32_t));
    *(int32_t *)p->data = -4711;
    p->run.does = does_return;
    p->run.returns = returned[i];
    probe_make(p);
    p->recipe.after = keeps_the_code;
    podkeep_pod *pod = probe_start(p);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), i ? PODKEEP_ERR_FAILED : PODKEEP_OK);
    CHECK_INT(*(int32_t *)p->data, exits[i]);
    if (i) CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, returned[i], NULL);
    probe_free(p);
  }
}

/* After a clean end a bad exit is a failure of the teardown: the program went on after its pod. */
static int32_t leaves_with_7(void *config, int32_t exit_code) { return (void)config, (void)exit_code, 7; }
static int32_t is_killed(void *config, int32_t exit_code) { return (void)config, (void)exit_code, raise(SIGKILL); }

static void ends_badly(int32_t (*after)(void *, int32_t), podkeep_kind kind, int32_t code) {
  probe *p = probe_new("bad loser");
  p->run.does = does_return;
  probe_make(p);
  p->recipe.after = after;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_TEARDOWN, kind, code, NULL);
  CHECK_INT(p->teardown.count, 1);
  probe_free(p);
}

TEST_PROCESS(L6_bad_exit_after_a_clean_end) { ends_badly(leaves_with_7, PODKEEP_KIND_EXIT, 7); }
TEST_PROCESS(L6_killed_after_a_clean_end) { ends_badly(is_killed, PODKEEP_KIND_SIGNAL, SIGKILL); }

/* Section 3: in the child, too, the context outlives the pod, and its words come too late. */
static int32_t speaks_when_all_is_over(void *config, int32_t exit_code) {
  podkeep_context *ctx = ((probe *)config)->ctx;
  CHECK(podkeep_context_cancelled(ctx));
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  CHECK_STATUS(podkeep_context_status(ctx, "still here"), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_context_heartbeat(ctx), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_context_extend(ctx, 1), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_context_ready(ctx), PODKEEP_ERR_INVALID_STATE);
  CHECK_INT(podkeep_context_fail(ctx, 3, "too late"), 3);
  int32_t again = 4711;
  CHECK_STATUS(podkeep_child_run(&again), PODKEEP_ERR_ENDED); /* its pod has been claimed */
  return exit_code;
}

TEST_PROCESS(S2_words_after_the_end_in_the_child) {
  probe *p = probe_new("talkative");
  p->run.does = does_return;
  probe_make(p);
  p->recipe.after = speaks_when_all_is_over;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_NO_FAILURE(pod);
  probe_free(p);
}

/* --- Before there is a child ---------------------------------------------------------------------------------------- */

TEST_PROCESS(S1_new__start_of_what_was_not_exported_stays_new) {
  probe *p = probe_new("private");
  podkeep_runtime_spec spec = probe_spec(p);
  recipe_keep(&p->recipe, &spec);
  CHECK_OK(podkeep_runtime_new(&spec, &p->runtime));
  podkeep_pod *pod = probe_make(p);
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE);
  CHECK_HAS(podkeep_last_error(), "export");
  CHECK_STATE(pod, PODKEEP_STATE_NEW);
  CHECK_NO_FAILURE(pod);
  CHECK_OK(podkeep_export(p->runtime));
  probe_running(p); /* it may be tried again */
  probe_close(p, PODKEEP_OK);
}

TEST_PROCESS(L4_child_run_elsewhere_is_ENDED) {
  int32_t exit_code = 4711;
  CHECK_STATUS(podkeep_child_run(&exit_code), PODKEEP_ERR_ENDED);
  CHECK_INT(exit_code, 4711);
}

/* An export is no reason to keep the runtime (L3). */
TEST_PROCESS(L3_drop_once__exported) {
  probe *p = probe_new("exported");
  probe_make_runtime(p);
  CHECK_OK(podkeep_export(p->runtime));
  CHECK_INT(p->drop.count, 0);
  probe_free(p);
  CHECK_INT(p->drop.count, 1);
}
