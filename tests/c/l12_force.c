/* L12 where S is a process: grace spent is a record, then the polite signal and SIGKILL to the whole group, and the child is
 * reaped; close is bounded by grace + kill_after + 1 s, whatever the child does. */
#include "probe.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What is left of a process: 0 when it is gone, else the letter of its state. */
static char process_state(int64_t pid) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
  FILE *f = fopen(path, "re");
  size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
  if (f) fclose(f);
  text[n] = '\0';
  const char *after = strrchr(text, ')');
  return after != NULL && after[1] == ' ' ? after[2] : '\0';
}

/* A grandchild may be a zombie of somebody else's until that one looks. */
static bool is_dead(int64_t pid) {
  char state = process_state(pid);
  return state == '\0' || state == 'Z' || state == 'X';
}

static void check_timeout(podkeep_pod *pod, podkeep_phase phase) {
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, phase, PODKEEP_KIND_TIMEOUT, podkeep_failure_code(f), NULL);
  CHECK(podkeep_failure_secondary(f) == NULL); /* how it went, once it was made to end, is no failure of its own */
  CHECK_OK(podkeep_failure_free(f));
}

/* Closes a pod that does not come to its end, and looks at everything. Answers how long it took. */
static uint64_t close_forced(probe *p, podkeep_phase phase) {
  int64_t kill_after = p->options.kill_after_ms ? p->options.kill_after_ms : 1000, pid = p->init.tid;
  uint32_t abandoned = 99;
  uint64_t start = now_ns();
  CHECK_STATUS(podkeep_pod_close(p->pod), PODKEEP_ERR_FAILED);
  uint64_t took = now_ns() - start;
  CHECK(took <= (uint64_t)(p->options.grace_ms + kill_after + slow_ms(1000)) * 1000000u);
  CHECK_INT(process_state(pid), 0); /* reaped */
  CHECK_STATE(p->pod, PODKEEP_STATE_FAILED);
  CHECK_OK(podkeep_abandoned(&abandoned));
  CHECK_INT(abandoned, 0);
  check_timeout(p->pod, phase);
  CHECK_STATUS(podkeep_pod_join(p->pod, PODKEEP_FOREVER), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_wait_ready(p->pod, PODKEEP_FOREVER), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_start(p->pod), PODKEEP_ERR_INVALID_STATE);
  return took;
}

/* --- In each phase -------------------------------------------------------------------------------------------------- */

static int32_t runs_until_the_hook_has_begun(probe *p, podkeep_context *ctx) {
  (void)ctx;
  event_wait(&p->hook.entered);
  return 0;
}

static void hangs(step *(*of)(probe *), bool cancel, podkeep_phase phase, const char *called) {
  probe *p = probe_new("hung");
  step *s = of(p);
  p->options.grace_ms = slow_ms(300); /* S must be in that phase when it is spent */
  p->no_hook = s != &p->hook;
  p->s_may_die = true;
  s->held = true;
  if (s == &p->hook) p->run.does = runs_until_the_hook_has_begun;
  podkeep_monitor *m = watch(probe_make(p));
  probe_start(p);
  if (s == &p->teardown && cancel) {
    event_wait(&p->run.entered);
    CHECK_OK(podkeep_pod_cancel(p->pod));
  }
  if (s == &p->hook) {
    event_wait(&p->run.entered);
    CHECK_OK(podkeep_pod_cancel(p->pod));
  }
  event_wait(&s->entered);
  close_forced(p, phase);
  podkeep_state to = PODKEEP_STATE_NEW;
  for (podkeep_event e = PODKEEP_EVENT_INIT; podkeep_monitor_next(m, &e, LIMIT_MS) == PODKEEP_OK; to = e.to) {
    CHECK_INT(e.from, to);
    CHECK(e.to != PODKEEP_STATE_ABANDONED);
  }
  CHECK_INT(to, PODKEEP_STATE_FAILED);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STR(history_text(&p->called), called);
  probe_free(p);
}

static step *init_of(probe *p) { return &p->init; }
static step *run_of(probe *p) { return &p->run; }
static step *teardown_of(probe *p) { return &p->teardown; }
static step *hook_of(probe *p) { return &p->hook; }
static int32_t returns_by_itself(probe *p, podkeep_context *ctx) {
  (void)ctx;
  return p->run.returns;
}

TEST_PROCESS(L12_force__in_init) { hangs(init_of, true, PODKEEP_PHASE_INIT, "init"); }
TEST_PROCESS(L12_force__in_run) { hangs(run_of, true, PODKEEP_PHASE_RUN, "init run"); }
TEST_PROCESS(L12_force__in_teardown) { hangs(teardown_of, true, PODKEEP_PHASE_TEARDOWN, "init run teardown"); }
TEST_PROCESS(L12_force__in_the_hook) { hangs(hook_of, true, PODKEEP_PHASE_CANCEL, "init run cancel"); }

/* "for any reason": without a cancel and without anybody who waits. */
TEST_PROCESS(L12_force__in_teardown_after_a_natural_return) {
  probe *p = probe_new("natural, then hung");
  p->options.grace_ms = slow_ms(300);
  p->run.does = returns_by_itself;
  p->teardown.held = true;
  p->s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  check_timeout(pod, PODKEEP_PHASE_TEARDOWN);
  CHECK_STR(history_text(&p->called), "init run teardown");
  probe_free(p);
}

/* The ready timeout, then the grace: two limits passed, in this order, and nothing behind them. */
TEST_PROCESS(L12_force__after_a_ready_timeout) {
  probe *p = probe_new("deaf");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(300); /* run must be entered by then */
  p->options.grace_ms = slow_ms(50);
  p->run.held = true;
  p->s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_READY, PODKEEP_KIND_TIMEOUT, podkeep_failure_code(f), NULL);
  const podkeep_failure *second = podkeep_failure_secondary(f);
  CHECK_FAILURE(second, PODKEEP_PHASE_RUN, PODKEEP_KIND_TIMEOUT, podkeep_failure_code(second), NULL);
  CHECK(podkeep_failure_secondary(second) == NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* --- Whatever the child does ---------------------------------------------------------------------------------------- */

/* A child that hears of SIGTERM and goes on. */
static event *heard;
static void hear(int signal_number) {
  (void)signal_number;
  event_set(heard);
}

static int32_t hears_term(probe *p, podkeep_context *ctx) {
  (void)ctx;
  heard = p->data;
  signal(SIGTERM, hear);
  return 0;
}

TEST_PROCESS(L12_force__polite_first_then_SIGKILL) {
  probe *p = probe_new("unmoved");
  p->options.grace_ms = SHORT_MS;
  p->options.kill_after_ms = slow_ms(400);
  p->data = world_alloc(sizeof(event));
  p->init.does = hears_term;
  p->run.held = true;
  p->s_may_die = true;
  podkeep_pod *pod = probe_running(p);
  uint64_t start = now_ns();
  CHECK_OK(podkeep_pod_cancel(pod));
  /* A cancel is no signal. */
  CHECK(!event_is_set(p->data) || now_ns() - start >= (uint64_t)p->options.grace_ms * 1000000u);
  event_wait(p->data);
  CHECK(now_ns() - start >= (uint64_t)p->options.grace_ms * 1000000u);
  CHECK_STATE(pod, PODKEEP_STATE_STOPPING); /* until it has been reaped */
  CHECK_INT(ctx_time_left(p), 0);
  close_forced(p, PODKEEP_PHASE_RUN);
  CHECK(now_ns() - start >= (uint64_t)(p->options.grace_ms + p->options.kill_after_ms) * 1000000u);
  probe_free(p);
}

static int32_t ignores_signals(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  for (int s = 1; s < NSIG; s++) signal(s, SIG_IGN);
  return 0;
}

TEST_PROCESS(L12_force__signals_ignored) {
  probe *p = probe_new("ignorant");
  p->options.grace_ms = SHORT_MS;
  p->options.kill_after_ms = SHORT_MS;
  p->init.does = ignores_signals;
  p->run.held = true;
  p->s_may_die = true;
  probe_running(p);
  CHECK(close_forced(p, PODKEEP_PHASE_RUN) >= 2 * (uint64_t)SHORT_MS * 1000000u);
  probe_free(p);
}

/* A clean way out that is taken too late is too late: the grace was spent. */
static void leave(int signal_number) {
  (void)signal_number;
  _exit(0);
}

static int32_t leaves_on_term(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  signal(SIGTERM, leave);
  return 0;
}

TEST_PROCESS(L12_force__exit_0_on_the_polite_signal) {
  probe *p = probe_new("late and polite");
  p->options.grace_ms = SHORT_MS;
  p->init.does = leaves_on_term;
  p->run.held = true;
  p->s_may_die = true;
  probe_running(p);
  close_forced(p, PODKEEP_PHASE_RUN);
  probe_free(p);
}

static int32_t stops_itself(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  raise(SIGSTOP);
  return 0;
}

static void stopped_child(int32_t (*first)(probe *, podkeep_context *)) {
  probe *p = probe_new("stopped");
  p->options.grace_ms = SHORT_MS;
  p->options.kill_after_ms = SHORT_MS;
  p->init.does = first;
  p->run.does = stops_itself;
  p->s_may_die = true;
  probe_running(p);
  UNTIL(process_state(p->run.tid) == 'T');
  close_forced(p, PODKEEP_PHASE_RUN);
  probe_free(p);
}

TEST_PROCESS(L12_force__stopped) { stopped_child(NULL); }
TEST_PROCESS(L12_force__stopped_and_signals_ignored) { stopped_child(ignores_signals); }

/* --- The group ------------------------------------------------------------------------------------------------------ */

typedef struct family {
  uint32_t born;
  int64_t pid[8];
  int64_t orphan; /* a grandchild whose own parent is gone */
} family;

static void stay(family *f, int64_t *pid) {
  for (int s = 1; s < NSIG; s++) signal(s, SIG_IGN);
  *pid = (int64_t)getpid();
  ADD(f->born, 1u);
  for (;;) pause();
}

static int32_t founds_a_family(probe *p, podkeep_context *ctx) {
  (void)ctx;
  family *f = p->data;
  for (int i = 0; i < 8; i++) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) stay(f, &f->pid[i]);
  }
  pid_t middle = fork();
  CHECK(middle >= 0);
  if (middle == 0) {
    if (fork() == 0) stay(f, &f->orphan);
    _exit(0);
  }
  UNTIL(LOAD(f->born) == 9);
  return 0;
}

static void check_extinct(const family *f) {
  for (int i = 0; i < 8; i++) UNTIL(is_dead(f->pid[i])); /* the kernel takes a moment after the SIGKILL */
  UNTIL(is_dead(f->orphan));
}

TEST_PROCESS(L12_force__the_whole_group) {
  probe *p = probe_new("founder");
  family *f = p->data = world_alloc(sizeof *f);
  p->options.grace_ms = SHORT_MS;
  p->init.does = founds_a_family;
  p->run.held = true;
  p->s_may_die = true;
  probe_running(p);
  close_forced(p, PODKEEP_PHASE_RUN);
  check_extinct(f);
  probe_free(p);
}

/* "When a child ends, what is left of its group is killed", however well it ends. */
TEST_PROCESS(L12_group_ends_with_a_clean_end) {
  probe *p = probe_new("founder");
  family *f = p->data = world_alloc(sizeof *f);
  p->init.does = founds_a_family;
  probe_running(p);
  CHECK_OK(podkeep_pod_close(p->pod));
  check_extinct(f);
  probe_free(p);
}

TEST_PROCESS(L12_group_ends_with_a_death) {
  probe *p = probe_new("founder");
  family *f = p->data = world_alloc(sizeof *f);
  p->init.does = founds_a_family;
  p->s_may_die = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_INT(kill((pid_t)p->run.tid, SIGKILL), 0);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  check_extinct(f);
  probe_free(p);
}

/* --- Who waits, who lets go ----------------------------------------------------------------------------------------- */

typedef struct waiter {
  podkeep_pod *pod;
  int64_t timeout;
  podkeep_status status;
  worker w;
} waiter;

static void wait_for_it(void *arg) {
  waiter *x = arg;
  x->status = podkeep_pod_join(x->pod, x->timeout);
}

TEST_PROCESS(L12_force__waiters_wake) {
  probe *p = probe_new("deserted");
  p->options.grace_ms = SHORT_MS;
  p->init.held = true;
  p->s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  waiter *x[2];
  for (int i = 0; i < 2; i++) {
    x[i] = world_alloc(sizeof *x[i]);
    x[i]->pod = pod;
    x[i]->timeout = i ? LIMIT_MS : PODKEEP_FOREVER;
    worker_start(&x[i]->w, wait_for_it, x[i]);
    worker_asleep(&x[i]->w);
  }
  CHECK_OK(podkeep_pod_cancel(pod));
  for (int i = 0; i < 2; i++) {
    worker_join(&x[i]->w);
    CHECK_STATUS(x[i]->status, PODKEEP_ERR_FAILED);
  }
  check_timeout(pod, PODKEEP_PHASE_INIT);
  probe_free(p);
}

/* L3: the config is dropped when nobody can use it any more. */
static int32_t drop_looks(probe *p, podkeep_context *ctx) {
  (void)ctx;
  CHECK_INT(process_state(p->run.tid), 0);
  return 0;
}

TEST_PROCESS(L3_drop_not_before_a_forced_child_is_reaped) {
  probe *p = probe_new("let go");
  p->options.grace_ms = SHORT_MS;
  p->run.held = true;
  p->drop.does = drop_looks;
  p->s_may_die = true;
  probe_running(p);
  CHECK_OK(podkeep_pod_free(p->pod));
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->pod = NULL;
  p->runtime = NULL;
  event_wait(&p->drop.left);
}

TEST_PROCESS(S4_shutdown__forces) {
  probe *p = probe_new("hung");
  p->options.grace_ms = SHORT_MS;
  p->run.held = true;
  p->s_may_die = true;
  podkeep_pod *pod = probe_running(p);
  uint32_t left = 99, abandoned = 99;
  CHECK_OK(podkeep_shutdown(PODKEEP_FOREVER, &left));
  CHECK_INT(left, 0);
  CHECK_OK(podkeep_abandoned(&abandoned));
  CHECK_INT(abandoned, 0);
  CHECK_STATE(pod, PODKEEP_STATE_FAILED);
  CHECK_INT(process_state(p->run.tid), 0);
  check_timeout(pod, PODKEEP_PHASE_RUN);
  probe_free(p);
}

/* Many at one time: each in its own time, and all within that of one. */
TEST_PROCESS(L12_force__many_at_a_time) {
  enum { N = 6 };
  probe *p[N];
  for (int i = 0; i < N; i++) {
    p[i] = probe_new("one of many");
    p[i]->options.grace_ms = slow_ms(300);
    p[i]->options.kill_after_ms = slow_ms(300);
    p[i]->init.does = ignores_signals;
    p[i]->run.held = true;
    p[i]->s_may_die = true;
    probe_running(p[i]);
  }
  uint64_t start = now_ns();
  for (int i = 0; i < N; i++) CHECK_OK(podkeep_pod_cancel(p[i]->pod));
  for (int i = 0; i < N; i++) close_forced(p[i], PODKEEP_PHASE_RUN);
  CHECK(now_ns() - start < (uint64_t)slow_ms(1600) * 1000000u);
  for (int i = 0; i < N; i++) probe_free(p[i]);
}
