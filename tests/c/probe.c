/* probe.c: see probe.h. */
#include "probe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static probe *probes;

/* --- Callbacks ------------------------------------------------------------------------------------------------------ */

/* The book of this incarnation; NULL: the probe keeps it itself. */
static incarnation *life_of(probe *p, podkeep_context *ctx) {
  if (p->lives == NULL) return NULL;
  uint32_t i = podkeep_context_incarnation(ctx);
  if (i >= p->life_count) check_failed(__FILE__, __LINE__, "%s: an incarnation %u came", p->name, i);
  return &p->lives[i];
}

#define STEP_OF(p, ctx, which) (life_of(p, ctx) ? &life_of(p, ctx)->which : &(p)->which)

static void step_enter(probe *p, step *s, const char *word, podkeep_context *ctx) {
  s->entered_at = tick();
  s->tid = own_tid();
  if (ctx != NULL) {
    incarnation *l = life_of(p, ctx);
    if (p->ctx == NULL || (l != NULL && l->ctx == NULL)) p->ctx = ctx;
    if (l != NULL) l->ctx = ctx;
    s->saw_cancelled = podkeep_context_cancelled(ctx);
    if (world_is_child() || p->pod == NULL || podkeep_pod_state(p->pod, &s->saw_state) != PODKEEP_OK) s->saw_state = -1;
  }
  history_add(&p->called, word);
  ADD(s->count, 1u);
  event_set(&s->entered);
  if (s->held) event_wait(&s->go);
}

static int32_t step_leave(step *s, int32_t result) {
  s->result = result;
  s->left_at = tick();
  event_set(&s->left);
  return result;
}

static int32_t on_init(podkeep_context *ctx, void *config, void **state) {
  probe *p = config;
  incarnation *l = life_of(p, ctx);
  step *s = STEP_OF(p, ctx, init);
  if (l != NULL) l->pid = getpid();
  /* Never two incarnations at one time: the process before is reaped. */
  if (world_is_child() && l != NULL && l != p->lives && l[-1].pid != 0) CHECK(kill((pid_t)l[-1].pid, 0) != 0 && errno == ESRCH);
  step_enter(p, s, "init", ctx);
  *state = p;
  return step_leave(s, s->does ? s->does(p, ctx) : s->returns);
}

static int32_t on_run(podkeep_context *ctx, void *state) {
  probe *p = state;
  step *s = STEP_OF(p, ctx, run);
  step_enter(p, s, "run", ctx);
  if (s->does) return step_leave(s, s->does(p, ctx));
  if (!s->held) CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  return step_leave(s, s->returns);
}

static int32_t on_teardown(podkeep_context *ctx, void *state) {
  probe *p = state;
  step *s = STEP_OF(p, ctx, teardown);
  step_enter(p, s, "teardown", ctx);
  return step_leave(s, s->does ? s->does(p, ctx) : s->returns);
}

static void on_cancel(podkeep_context *ctx, void *state) {
  probe *p = state;
  step *s = STEP_OF(p, ctx, hook);
  step_enter(p, s, "cancel", ctx);
  step_leave(s, s->does ? s->does(p, ctx) : 0);
}

static void on_drop(void *config) {
  probe *p = config;
  step_enter(p, &p->drop, "drop", NULL);
  step_leave(&p->drop, p->drop.does ? p->drop.does(p, NULL) : 0);
}

int32_t does_return(probe *p, podkeep_context *ctx) { return STEP_OF(p, ctx, run)->returns; }

int32_t does_wait_for_hook(probe *p, podkeep_context *ctx) {
  event_wait(&STEP_OF(p, ctx, hook)->left);
  CHECK(podkeep_context_cancelled(ctx));
  return STEP_OF(p, ctx, run)->returns;
}

int32_t does_exit(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  end_S();
}

/* --- Calls in S's process ------------------------------------------------------------------------------------------- */

static void asks_cancelled(void *arg) {
  question *q = arg;
  q->answer = podkeep_context_cancelled(q->ctx);
}
static void asks_wait(void *arg) {
  question *q = arg;
  q->answer = podkeep_context_wait(q->ctx, q->number);
}
static void asks_time_left(void *arg) {
  question *q = arg;
  q->answer = podkeep_context_time_left(q->ctx);
}
static void says_ready(void *arg) {
  question *q = arg;
  q->answer = podkeep_context_ready(q->ctx);
}
static void says_extend(void *arg) {
  question *q = arg;
  q->answer = podkeep_context_extend(q->ctx, q->number);
}
static void says_status(void *arg) {
  question *q = arg;
  q->answer = podkeep_context_status(q->ctx, q->text);
}
static void asks_fd(void *arg) {
  question *q = arg;
  q->answer = podkeep_context_fd(q->ctx);
}

static int64_t ask(probe *p, void (*does)(void *), int64_t number, const char *text) {
  question *q = &p->question;
  q->ctx = p->ctx;
  q->number = number;
  q->text = text;
  in_S(&p->recipe, does, q);
  return q->answer;
}

bool ctx_cancelled(probe *p) { return ask(p, asks_cancelled, 0, NULL) != 0; }
podkeep_status ctx_wait(probe *p, int64_t timeout_ms) { return (podkeep_status)ask(p, asks_wait, timeout_ms, NULL); }
int64_t ctx_time_left(probe *p) { return ask(p, asks_time_left, 0, NULL); }
podkeep_status ctx_ready(probe *p) { return (podkeep_status)ask(p, says_ready, 0, NULL); }
podkeep_status ctx_extend(probe *p, int64_t ms) { return (podkeep_status)ask(p, says_extend, ms, NULL); }
podkeep_status ctx_status(probe *p, const char *text) { return (podkeep_status)ask(p, says_status, 0, text); }
int ctx_fd(probe *p) { return (int)ask(p, asks_fd, 0, NULL); }

/* --- Life ----------------------------------------------------------------------------------------------------------- */

probe *probe_new(const char *name) {
  probe *p = world_alloc(sizeof *p);
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  p->options = options;
  p->options.grace_ms = slow_ms(5000);
  recipe_options(&p->recipe, &p->options);
  snprintf(p->name, sizeof p->name, "%s", name);
  p->fd = -1;
  p->next = LOAD(probes);
  while (!__atomic_compare_exchange_n(&probes, &p->next, p, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
  return p;
}

incarnation *probe_lives(probe *p, uint32_t n) {
  p->lives = world_alloc(n * sizeof *p->lives);
  p->life_count = n;
  for (uint32_t i = 0; i < n; i++) {
    p->lives[i].init = p->init;
    p->lives[i].run = p->run;
    p->lives[i].teardown = p->teardown;
    p->lives[i].hook = p->hook;
  }
  return p->lives;
}

podkeep_runtime_spec probe_spec(probe *p) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = p->name;
  spec.init = p->no_init ? NULL : on_init;
  spec.run_forever = on_run;
  spec.teardown = p->no_teardown ? NULL : on_teardown;
  spec.cancel = p->no_hook ? NULL : on_cancel;
  spec.config = p;
  spec.drop = p->no_drop ? NULL : on_drop;
  return spec;
}

void probe_make_runtime(probe *p) {
  podkeep_runtime_spec spec = probe_spec(p);
  recipe_keep(&p->recipe, &spec);
  p->runtime = recipe_runtime(&p->recipe);
}

podkeep_pod *probe_make(probe *p) {
  if (p->runtime == NULL) probe_make_runtime(p);
  CHECK_OK(podkeep_pod_new(p->runtime, &p->options, &p->pod));
  return p->pod;
}

podkeep_pod *probe_start(probe *p) {
  if (p->pod == NULL) probe_make(p);
  if (p->runtime != NULL) recipe_export(p->runtime); /* again: of several of one name the last counts */
  CHECK_OK(start_pod(p->pod));
  return p->pod;
}

podkeep_pod *probe_running(probe *p) {
  probe_start(p);
  CHECK_OK(podkeep_pod_wait_ready(p->pod, LIMIT_MS));
  event_wait(p->lives ? &p->lives[0].run.entered : &p->run.entered);
  return p->pod;
}

void probe_free(probe *p) {
  if (p->pod != NULL) CHECK_OK(podkeep_pod_free(p->pod));
  if (p->runtime != NULL) CHECK_OK(podkeep_runtime_free(p->runtime));
  p->pod = NULL;
  p->runtime = NULL;
  if (!p->no_drop) event_wait(&p->drop.left);
}

void probe_close(probe *p, podkeep_status want) {
  CHECK_STATUS(podkeep_pod_close(p->pod), want);
  probe_free(p);
}

/* One incarnation. Answers the tick of its first callback, and in *last that of its last one's end. */
static uint32_t check_book(const probe *p, const step *init, const step *run, const step *teardown, const step *hook,
                           bool s_may_die, uint32_t *last) {
  const step *steps[] = {init, run, teardown, hook};
  uint32_t first = 0;
  for (size_t i = 0; i < 4; i++) {
    if (steps[i]->count > 1) check_failed(__FILE__, __LINE__, "%s: a callback came twice: %s", p->name, history_text(&p->called));
    if (steps[i]->count == 0) continue;
    if (first == 0) first = steps[i]->entered_at;
    if (steps[i]->left_at > *last) *last = steps[i]->left_at;
    if (steps[i]->entered_at > *last) *last = steps[i]->entered_at;
  }
  bool init_succeeded = init->count == 1 && event_is_set(&init->left) && init->result == 0;
  bool due = init_succeeded && !p->no_teardown;
  if (!p->no_init && teardown->count != (due ? 1u : 0u) && !(s_may_die && teardown->count == 0))
    check_failed(__FILE__, __LINE__, "L2: %s: teardown does not pair with init: %s", p->name, history_text(&p->called));
  if (run->count == 1 && !p->no_init && !init_succeeded)
    check_failed(__FILE__, __LINE__, "L1: %s: run without init: %s", p->name, history_text(&p->called));
  if (hook->count == 1 && run->count == 0)
    check_failed(__FILE__, __LINE__, "L9: %s: the hook came without run: %s", p->name, history_text(&p->called));
  if (hook->count == 1 && teardown->count == 1 && hook->left_at > teardown->entered_at)
    check_failed(__FILE__, __LINE__, "L9: %s: teardown came before the hook was over: %s", p->name, history_text(&p->called));
  return first;
}

void probes_check(void) {
  for (probe *p = probes; p != NULL; p = p->next) {
    if (p->runtime != NULL || p->pod != NULL) check_failed(__FILE__, __LINE__, "the case forgot to free \"%s\"", p->name);
    uint32_t last = 0;
    if (p->lives == NULL) check_book(p, &p->init, &p->run, &p->teardown, &p->hook, p->s_may_die, &last);
    for (uint32_t i = 0; i < p->life_count; i++) {
      const incarnation *l = &p->lives[i];
      uint32_t before = last, first = check_book(p, &l->init, &l->run, &l->teardown, &l->hook, p->s_may_die || l->s_may_die, &last);
      if (first != 0 && first < before)
        check_failed(__FILE__, __LINE__, "%s: incarnation %u began before the one before was over: %s", p->name, i, history_text(&p->called));
    }
    if (p->drop.count > 1) check_failed(__FILE__, __LINE__, "L3: %s: drop came twice", p->name);
    if (p->drop.count == 1 && last > p->drop.entered_at)
      check_failed(__FILE__, __LINE__, "L3: %s: drop came before the last callback was over: %s", p->name, history_text(&p->called));
  }
}

/* --- Failures ------------------------------------------------------------------------------------------------------- */

podkeep_failure *failure_of(const char *file, int line, podkeep_pod *pod) {
  podkeep_failure *f = NULL;
  check_status(file, line, "podkeep_pod_failure", podkeep_pod_failure(pod, &f), PODKEEP_OK);
  if (f == NULL) check_failed(file, line, "the pod has no failure");
  return f;
}

void check_failure(const char *file, int line, const podkeep_failure *f, podkeep_phase phase, podkeep_kind kind, int32_t code,
                   const char *message) {
  check_failure_in(file, line, f, 0, phase, kind, code, message);
}

void check_failure_in(const char *file, int line, const podkeep_failure *f, uint32_t incarnation, podkeep_phase phase,
                      podkeep_kind kind, int32_t code, const char *message) {
  if (f == NULL) check_failed(file, line, "no failure where one was expected");
  const char *text = podkeep_failure_message(f);
  if (podkeep_failure_phase(f) != phase || podkeep_failure_kind(f) != kind || podkeep_failure_code(f) != code)
    check_failed(file, line, "the failure is phase %d kind %d code %d (\"%s\"), not phase %d kind %d code %d",
                 podkeep_failure_phase(f), podkeep_failure_kind(f), podkeep_failure_code(f), text, phase, kind, code);
  check_int(file, line, "the failure's incarnation", podkeep_failure_incarnation(f), incarnation);
  if (message != NULL) check_str(file, line, "the failure's message", text, message);
}

/* --- Monitors ------------------------------------------------------------------------------------------------------- */

const char *state_word(podkeep_state state) {
  static const char *const words[] = {"NEW",        "STARTING", "RUNNING", "STOPPING",
                                      "RESTARTING", "STOPPED",  "FAILED",  "ABANDONED"};
  return state >= 0 && state <= 7 ? words[state] : "no state";
}

void check_state(const char *file, int line, podkeep_pod *pod, podkeep_state want) {
  podkeep_state state = -1;
  check_status(file, line, "podkeep_pod_state", podkeep_pod_state(pod, &state), PODKEEP_OK);
  if (state != want) check_failed(file, line, "the pod is %s, not %s", state_word(state), state_word(want));
}

void check_told_state(const char *file, int line, podkeep_pod *pod, podkeep_state want) {
  podkeep_state state = -1;
  if (S_is_elsewhere()) UNTIL(podkeep_pod_state(pod, &state) == PODKEEP_OK && state == want);
  check_state(file, line, pod, want);
}

void check_told_status(const char *file, int line, podkeep_pod *pod, const char *text) {
  if (S_is_elsewhere()) UNTIL(podkeep_pod_join(pod, 1) != PODKEEP_ERR_TIMEOUT || strstr(podkeep_last_error(), text) != NULL);
  check_status(file, line, "podkeep_pod_join", podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  check_has(file, line, "podkeep_last_error()", podkeep_last_error(), text);
}

podkeep_monitor *watch(podkeep_pod *pod) {
  podkeep_monitor *m = NULL;
  CHECK_OK(podkeep_monitor_new(pod, &m));
  return m;
}

podkeep_event next_event(const char *file, int line, podkeep_monitor *m) {
  podkeep_event e = PODKEEP_EVENT_INIT;
  check_status(file, line, "podkeep_monitor_next", podkeep_monitor_next(m, &e, LIMIT_MS), PODKEEP_OK);
  return e;
}

void check_event(const char *file, int line, podkeep_monitor *m, podkeep_state from, podkeep_state to) {
  podkeep_event e = next_event(file, line, m);
  if (e.from != from || e.to != to || e.missed != 0)
    check_failed(file, line, "the event is %s to %s with %u missed, not %s to %s", state_word(e.from), state_word(e.to),
                 (unsigned)e.missed, state_word(from), state_word(to));
}
