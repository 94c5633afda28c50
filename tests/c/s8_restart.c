/* Section 8: whether another life follows an end: the table of ends and policies, for every way an incarnation can end. */
#include "probe.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const podkeep_restart policies[] = {PODKEEP_RESTART_NEVER, PODKEEP_RESTART_ON_FAILURE, PODKEEP_RESTART_ALWAYS};

/* How the first incarnation ends, and what is told of it. */
typedef struct ending {
  void (*plan)(probe *p, incarnation *first);
  void (*make)(probe *p, incarnation *first); /* from outside, once run is entered; NULL: it ends by itself */
  bool failed;
  podkeep_phase phase;
  podkeep_kind kind;
  int32_t code;
  bool s_dies; /* without a teardown */
} ending;

static void check_end(const ending *e, const podkeep_failure *f) {
  if (e->failed) CHECK_FAILURE_IN(f, 0, e->phase, e->kind, e->code < 0 ? podkeep_failure_code(f) : e->code, NULL);
  else CHECK(f == NULL);
}

/* Reads up to the end of the first incarnation, which is RESTARTING or final. */
static podkeep_event read_first_life(podkeep_monitor *m) {
  podkeep_event e = NEXT_EVENT(m);
  CHECK_INT(e.to, PODKEEP_STATE_NEW);
  do {
    podkeep_state at = e.to;
    e = NEXT_EVENT(m);
    CHECK_INT(e.from, at);
    CHECK_INT(e.incarnation, 0);
  } while (e.to < PODKEEP_STATE_RESTARTING);
  return e;
}

static void ends(const ending *how, podkeep_restart policy) {
  bool again = policy == PODKEEP_RESTART_ALWAYS || (policy == PODKEEP_RESTART_ON_FAILURE && how->failed);
  probe *p = probe_new("restarted");
  p->options.restart = policy;
  p->options.backoff_ms = 1;
  p->no_hook = true;
  incarnation *lives = probe_lives(p, 2);
  lives[0].s_may_die = how->s_dies;
  how->plan(p, &lives[0]);
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  uint32_t restarts = 99;
  if (how->make != NULL) {
    event_wait(&lives[0].run.entered);
    how->make(p, &lives[0]);
  }
  podkeep_event e = read_first_life(m);
  check_end(how, e.failure);
  if (again) {
    CHECK_INT(e.to, PODKEEP_STATE_RESTARTING);
    CHECK_EVENT(m, RESTARTING, STARTING);
    if (p->options.ready == PODKEEP_READY_NOTIFY) {
      event_wait(&lives[1].run.entered);
      CHECK_OK(ctx_ready(p));
    }
    e = NEXT_EVENT(m);
    CHECK_INT(e.to, PODKEEP_STATE_RUNNING);
    CHECK_INT(e.incarnation, 1);
    CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    CHECK_OK(podkeep_pod_restarts(pod, &restarts));
    CHECK_INT(restarts, 1);
    CHECK_NO_FAILURE(pod);
    CHECK_OK(podkeep_pod_close(pod));
    CHECK_EVENT(m, RUNNING, STOPPING);
    CHECK_EVENT(m, STOPPING, STOPPED);
  } else {
    CHECK_INT(e.to, how->failed ? PODKEEP_STATE_FAILED : PODKEEP_STATE_STOPPED);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), how->failed ? PODKEEP_ERR_FAILED : PODKEEP_OK);
    CHECK_OK(podkeep_pod_restarts(pod, &restarts));
    CHECK_INT(restarts, 0);
    if (how->failed) {
      podkeep_failure *f = FAILURE_OF(pod);
      check_end(how, f);
      CHECK_OK(podkeep_failure_free(f));
    }
  }
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
  CHECK_INT(lives[1].init.count, again);
}

static void by_each_policy(ending how) {
  for (int i = 0; i < 3; i++) ends(&how, policies[i]);
}

#define ENDS_WITH(...) by_each_policy((ending){.failed = true, __VA_ARGS__})

/* --- By its own word ------------------------------------------------------------------------------------------------ */

static void returns_0(probe *p, incarnation *l) { (void)p, l->run.does = does_return; }
TEST(S8_restart__returned_0) { by_each_policy((ending){.plan = returns_0}); }

static void returns_5(probe *p, incarnation *l) { returns_0(p, l), l->run.returns = 5; }
TEST(S8_restart__returned_5) { ENDS_WITH(.plan = returns_5, .phase = PODKEEP_PHASE_RUN, .code = 5); }

static void init_fails(probe *p, incarnation *l) { (void)p, l->init.returns = 7; }
TEST(S8_restart__init_failed) { ENDS_WITH(.plan = init_fails, .phase = PODKEEP_PHASE_INIT, .code = 7); }

static void teardown_fails(probe *p, incarnation *l) { returns_0(p, l), l->teardown.returns = 9; }
TEST(S8_restart__teardown_failed) { ENDS_WITH(.plan = teardown_fails, .phase = PODKEEP_PHASE_TEARDOWN, .code = 9); }

/* Nobody asked for a stop: that it says so is a failure like any other (L6). */
static void says_cancelled(probe *p, incarnation *l) { returns_0(p, l), l->run.returns = PODKEEP_CANCELLED; }
TEST(S8_restart__said_cancelled_unasked) {
  ENDS_WITH(.plan = says_cancelled, .phase = PODKEEP_PHASE_RUN, .code = PODKEEP_CANCELLED);
}

static int32_t panics(probe *p, podkeep_context *ctx) {
  (void)p;
  return podkeep_context_fail_as(ctx, PODKEEP_KIND_PANIC, 101, "index out of bounds");
}
static int32_t throws(probe *p, podkeep_context *ctx) {
  (void)p;
  return podkeep_context_fail_as(ctx, PODKEEP_KIND_EXCEPTION, 1, "ValueError");
}
static void run_panics(probe *p, incarnation *l) { (void)p, l->run.does = panics; }
static void run_throws(probe *p, incarnation *l) { (void)p, l->run.does = throws; }
static void init_panics(probe *p, incarnation *l) { (void)p, l->init.does = panics; }
TEST(S8_restart__panic) { ENDS_WITH(.plan = run_panics, .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_PANIC, .code = 101); }
TEST(S8_restart__panic_in_init) {
  ENDS_WITH(.plan = init_panics, .phase = PODKEEP_PHASE_INIT, .kind = PODKEEP_KIND_PANIC, .code = 101);
}
TEST(S8_restart__exception) {
  ENDS_WITH(.plan = run_throws, .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_EXCEPTION, .code = 1);
}

/* --- Without a word ------------------------------------------------------------------------------------------------- */

#define DIES(...) ENDS_WITH(.s_dies = true, __VA_ARGS__)

/* A thread by pthread_exit, a child by _exit(0). */
static void init_exits(probe *p, incarnation *l) { (void)p, l->init.does = does_exit; }
static void run_exits(probe *p, incarnation *l) { (void)p, l->run.does = does_exit; }
static void teardown_exits(probe *p, incarnation *l) { returns_0(p, l), l->teardown.does = does_exit; }
TEST_WITH(S8_restart__ended_from_inside__init, NOT_MAIN(LIBRARYS_S)) {
  DIES(.plan = init_exits, .phase = PODKEEP_PHASE_INIT, .kind = PODKEEP_KIND_EXIT, .code = 0);
}
TEST_WITH(S8_restart__ended_from_inside__run, NOT_MAIN(LIBRARYS_S)) {
  DIES(.plan = run_exits, .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_EXIT, .code = 0);
}
TEST_WITH(S8_restart__ended_from_inside__teardown, NOT_MAIN(LIBRARYS_S)) {
  DIES(.plan = teardown_exits, .phase = PODKEEP_PHASE_TEARDOWN, .kind = PODKEEP_KIND_EXIT, .code = 0);
}

static int32_t exits_with_3(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  exit(3);
}
static int32_t aborts(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  abort();
}
static void run_exits_with_3(probe *p, incarnation *l) { (void)p, l->run.does = exits_with_3; }
static void init_aborts(probe *p, incarnation *l) { (void)p, l->init.does = aborts; }
static void run_aborts(probe *p, incarnation *l) { (void)p, l->run.does = aborts; }
static void teardown_aborts(probe *p, incarnation *l) { returns_0(p, l), l->teardown.does = aborts; }
TEST_PROCESS(S8_restart__exit_code) {
  DIES(.plan = run_exits_with_3, .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_EXIT, .code = 3);
}
TEST_PROCESS(S8_restart__signal_of_its_own__init) {
  DIES(.plan = init_aborts, .phase = PODKEEP_PHASE_INIT, .kind = PODKEEP_KIND_SIGNAL, .code = SIGABRT);
}
TEST_PROCESS(S8_restart__signal_of_its_own__run) {
  DIES(.plan = run_aborts, .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_SIGNAL, .code = SIGABRT);
}
TEST_PROCESS(S8_restart__signal_of_its_own__teardown) {
  DIES(.plan = teardown_aborts, .phase = PODKEEP_PHASE_TEARDOWN, .kind = PODKEEP_KIND_SIGNAL, .code = SIGABRT);
}

/* The word was given, and it was clean; the process then was not. */
static int32_t exits_badly(void *config, int32_t exit_code) {
  probe *p = config;
  return event_is_set(&p->lives[1].init.entered) ? exit_code : 6;
}
static void ends_badly(probe *p, incarnation *l) { returns_0(p, l), p->recipe.after = exits_badly; }
TEST_PROCESS(S8_restart__bad_exit_after_a_clean_end) {
  ENDS_WITH(.plan = ends_badly, .phase = PODKEEP_PHASE_TEARDOWN, .kind = PODKEEP_KIND_EXIT, .code = 6);
}

static void no_plan(probe *p, incarnation *l) { (void)p, (void)l; }
static void kills(probe *p, incarnation *l) { (void)p, CHECK_INT(kill((pid_t)l->pid, SIGKILL), 0); }
static void terminates(probe *p, incarnation *l) { (void)p, CHECK_INT(kill((pid_t)l->pid, SIGTERM), 0); }
TEST_PROCESS(S8_restart__SIGKILL_of_a_stranger) {
  DIES(.plan = no_plan, .make = kills, .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_SIGNAL, .code = SIGKILL);
}
TEST_PROCESS(S8_restart__SIGTERM_of_a_stranger) {
  DIES(.plan = no_plan, .make = terminates, .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_SIGNAL, .code = SIGTERM);
}

/* --- By a limit ----------------------------------------------------------------------------------------------------- */

/* It bars no restart, though it stops the pod as a cancel does (L13). */
static void never_ready(probe *p, incarnation *l) {
  (void)l;
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(600); /* run must be entered by then, in the second life, too */
}
TEST(S8_restart__ready_timeout) {
  ENDS_WITH(.plan = never_ready, .phase = PODKEEP_PHASE_READY, .kind = PODKEEP_KIND_TIMEOUT, .code = -1);
}

/* The second life must be fed; it is, by a thread beside S. */
static int32_t heartbeats(probe *p, podkeep_context *ctx) {
  while (podkeep_context_wait(ctx, p->options.watchdog_ms / 8) == PODKEEP_ERR_TIMEOUT) CHECK_OK(podkeep_context_heartbeat(ctx));
  return 0;
}
static void mute(probe *p, incarnation *l) {
  p->options.watchdog_ms = slow_ms(200);
  l[1].run.does = heartbeats;
}
TEST(S8_restart__watchdog) {
  ENDS_WITH(.plan = mute, .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_WATCHDOG, .code = -1);
}

/* Deaf on top of it: a child is made to end, and the first failure is the one that counts. */
static void never_ready_and_deaf(probe *p, incarnation *l) {
  never_ready(p, l);
  l->run.held = true;
  p->options.grace_ms = slow_ms(300); /* the next life, which hears, is over by then */
  p->options.kill_after_ms = SHORT_MS;
}
static void mute_and_deaf(probe *p, incarnation *l) {
  mute(p, l);
  l->run.held = true;
  p->options.grace_ms = slow_ms(300); /* the next life, which hears, is over by then */
  p->options.kill_after_ms = SHORT_MS;
}
TEST_PROCESS(S8_restart__killed_after_a_ready_timeout) {
  DIES(.plan = never_ready_and_deaf, .phase = PODKEEP_PHASE_READY, .kind = PODKEEP_KIND_TIMEOUT, .code = -1);
}
TEST_PROCESS(S8_restart__killed_after_a_missed_heartbeat) {
  DIES(.plan = mute_and_deaf, .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_WATCHDOG, .code = -1);
}

/* Nobody asked at all: the teardown of a natural return hung. */
static void hung_teardown(probe *p, incarnation *l) {
  returns_0(p, l);
  l->teardown.held = true;
  p->options.grace_ms = p->options.kill_after_ms = slow_ms(300); /* teardown must be entered by then */
}
TEST_PROCESS(S8_restart__killed_in_a_hung_teardown) {
  DIES(.plan = hung_teardown, .phase = PODKEEP_PHASE_TEARDOWN, .kind = PODKEEP_KIND_TIMEOUT, .code = -1);
}

/* A thread that was let go is never followed by another life, also not when it comes back; and it says so. */
static void let_go(void (*plan)(probe *, incarnation *), podkeep_phase phase, podkeep_kind kind) {
  for (int i = 0; i < 3; i++) {
    probe *p = probe_new("lost");
    p->options.restart = policies[i];
    p->options.backoff_ms = 1;
    p->no_hook = true;
    incarnation *lives = probe_lives(p, 2);
    plan(p, &lives[0]);
    step *held = lives[0].teardown.held ? &lives[0].teardown : &lives[0].run;
    podkeep_monitor *m = watch(probe_make(p));
    podkeep_pod *pod = probe_start(p);
    podkeep_event e = PODKEEP_EVENT_INIT;
    while (e.to != PODKEEP_STATE_ABANDONED) e = NEXT_EVENT(m);
    uint32_t abandoned = 0, restarts = 99;
    CHECK_OK(podkeep_abandoned(&abandoned));
    CHECK_INT(abandoned, 1);
    CHECK_STATUS(podkeep_pod_wait_ready(pod, PODKEEP_FOREVER), PODKEEP_ERR_FAILED); /* no restart can follow: at once */
    CHECK_STATUS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_ERR_TIMEOUT);
    CHECK_HAS(podkeep_last_error(), "ABANDONED");
    podkeep_failure *f = FAILURE_OF(pod);
    CHECK_FAILURE(f, phase, kind, podkeep_failure_code(f), NULL);
    CHECK_OK(podkeep_failure_free(f));
    event_set(&held->go);
    CHECK_EVENT(m, ABANDONED, FAILED);
    CHECK_MONITOR_ENDED(m);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_OK(podkeep_pod_restarts(pod, &restarts));
    CHECK_INT(restarts, 0);
    CHECK_INT(lives[1].init.count, 0);
    CHECK_OK(podkeep_monitor_free(m));
    probe_free(p);
  }
}
TEST_WITH(S8_restart__abandoned_after_a_ready_timeout, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  let_go(never_ready_and_deaf, PODKEEP_PHASE_READY, PODKEEP_KIND_TIMEOUT);
}
TEST_WITH(S8_restart__abandoned_after_a_missed_heartbeat, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  let_go(mute_and_deaf, PODKEEP_PHASE_RUN, PODKEEP_KIND_WATCHDOG);
}
TEST_WITH(S8_restart__abandoned_in_a_hung_teardown, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  let_go(hung_teardown, PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_TIMEOUT);
}
