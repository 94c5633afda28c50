/* times.c: how long a group's end may take, and what is said of who is late (contract, sections 8 and L9, L12, L14). */
#include "members.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t act_pass(actor *a, podkeep_context *ctx) {
  (void)ctx;
  pass_ms(a->numbers[2]); /* work of that length: time itself is the subject */
  return 0;
}
static member *slow_member(where where, const char *name, int64_t teardown_ms) {
  member *m = member_new(where, name);
  DOES(m->a->teardown, act_pass);
  m->a->numbers[2] = teardown_ms;
  m->options.grace_ms = 0;
  return m;
}
static void drop_pods(int n, member **m) {
  for (int i = 0; i < n; i++) CHECK_OK(podkeep_pod_free(m[i]->pod));
}

/* Nothing orders them: the time of the slowest, not the sum. It is so in each try; that a machine stands still for no second of it,
 * in one of three. */
static bool eight_in_less_than_two(void) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m[8];
  for (int i = 0; i < 8; i++) {
    char name[16];
    snprintf(name, sizeof name, "m%d", i);
    if (i % 4 == 3) {
      m[i] = member_new(COMMAND, name);
      m[i]->script = "trap 'sleep 1; exit 0' TERM; echo up >&2; while :; do sleep 0.05; done";
    } else {
      m[i] = slow_member(i % 2 ? PROCESS : THREAD, name, 1000);
    }
    join_group(g, m[i], NULL);
  }
  group_up(g);
  int64_t begun = now_ms();
  group_down(g, PODKEEP_OK);
  int64_t took = now_ms() - begun;
  note("%lld ms", (long long)took);
  CHECK_BELOW(took, slow_ms(4000));
  drop_pods(8, m);
  return took < slow_ms(2000);
}
TEST(time_eight_of_one_second_close_in_less_than_two) {
  for (int tries = 3; !eight_in_less_than_two();) CHECK(--tries > 0);
}

/* Members of 1, 1 and 5 s with a budget of 3 s. Each teardown is run to its end, or is told by name. False: a machine that stood
 * still may have made it later than it should be, or taken the time in which a teardown was to begin. */
static bool keep_a_budget(where where, bool chain, const int64_t times[3]) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 3000);
  static const char *const names[3] = {"mango", "apple", "zebra"};
  member *m[3];
  for (int i = 0; i < 3; i++) {
    m[i] = slow_member(where, names[i], times[i]);
    m[i]->options.kill_after_ms = where == PROCESS ? 100 : 0;
    join_group(g, m[i], chain && i ? names[i - 1] : NULL);
  }
  group_up(g);
  int64_t begun = now_ms();
  podkeep_status status = podkeep_group_close(g);
  int64_t took = now_ms() - begun;
  note("%s: %lld ms", chain ? "in a row" : "side by side", (long long)took);
  CHECK_BELOW(took, slow_ms(6000)); /* 7 s is the sum */
  CHECK(took >= 2000);
  bool as_it_should = took < slow_ms(3800);
  CHECK_STATUS(status, where == THREAD ? PODKEEP_ERR_TIMEOUT : PODKEEP_ERR_FAILED);
  char sentence[2000];
  snprintf(sentence, sizeof sentence, "%s", podkeep_last_error());
  int overran = 0;
  for (int i = 0; i < 3; i++) {
    bool has_begun = m[i]->a->teardown.count == 1; /* nobody's is skipped */
    CHECK(has_begun || m[i]->a->teardown.count == 0);
    as_it_should = as_it_should && has_begun;
    if (event_is_set(&m[i]->a->teardown.left)) continue;
    overran++;
    CHECK_HAS(failure_message(m[i]->pod), names[i]);
    podkeep_failure *f;
    CHECK_OK(podkeep_pod_failure(m[i]->pod, &f));
    CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
    if (has_begun) CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_TEARDOWN);
    CHECK_OK(podkeep_failure_free(f));
    if (where == THREAD) CHECK_HAS(sentence, names[i]);
  }
  CHECK(overran >= 1);
  if (!chain) CHECK_INT(overran, 1);
  if (where == THREAD) { /* they come back, late */
    CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), PODKEEP_ERR_FAILED);
    for (int i = 0; i < 3; i++) UNTIL(event_is_set(&m[i]->a->teardown.left));
  }
  CHECK_INT(group_state(g), PODKEEP_STATE_FAILED);
  CHECK_OK(podkeep_group_free(g));
  drop_pods(3, m);
  return as_it_should;
}
static void three_with_a_budget(where where, bool chain, const int64_t times[3]) {
  for (int tries = 3; !keep_a_budget(where, chain, times);) CHECK(--tries > 0);
}
static const int64_t last_is_long[3] = {1000, 1000, 5000}, first_is_long[3] = {5000, 1000, 1000};
TEST(time_budget__side_by_side__threads) { three_with_a_budget(THREAD, false, last_is_long); }
TEST(time_budget__side_by_side__processes) { three_with_a_budget(PROCESS, false, last_is_long); }
TEST(time_budget__in_a_row__threads) { three_with_a_budget(THREAD, true, last_is_long); }
TEST(time_budget__in_a_row__processes) { three_with_a_budget(PROCESS, true, last_is_long); }
TEST(time_budget__in_a_row__first__threads) { three_with_a_budget(THREAD, true, first_is_long); }
TEST(time_budget__in_a_row__first__processes) { three_with_a_budget(PROCESS, true, first_is_long); }

/* One that is on its way down already is held to the group's budget, too. */
TEST(time_budget__of_one_that_stops_already) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, true, slow_ms(4000));
  member *base = member_in(g, THREAD, "base", NULL), *m = slow_member(PROCESS, "slow", slow_ms(30000));
  m->options.grace_ms = 3 * LIMIT_MS; /* base's is LIMIT_MS: three seconds of the four are this one's */
  m->options.kill_after_ms = 100;
  join_group(g, m, "base");
  group_up(g);
  CHECK_OK(podkeep_pod_cancel(m->pod));
  event_wait(&m->a->teardown.entered);
  int64_t begun = now_ms();
  group_down(g, PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(4000 + 3000));
  CHECK_TIMED_OUT(m->pod, TEARDOWN);
  CHECK_OK(podkeep_pod_free(base->pod));
  CHECK_OK(podkeep_pod_free(m->pod));
}

/* The child, too, learns that its time is shorter now: what it is asked to keep is what it can read. */
static int32_t act_watch_the_time(actor *a, podkeep_context *ctx) {
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  a->numbers[3] = podkeep_context_time_left(ctx);
  event_set(&a->events[3]);
  int64_t left, until = now_ms() + LIMIT_MS;
  do {
    pass_ms(1); /* nothing tells of a shorter time but the time left itself */
    left = podkeep_context_time_left(ctx);
  } while ((left < 0 || left > slow_ms(10000)) && now_ms() < until);
  a->numbers[4] = left;
  return PODKEEP_CANCELLED;
}
static void shortened(int64_t grace_ms) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, true, slow_ms(10000));
  member *m = member_new(PROCESS, "watch");
  DOES(m->a->run, act_watch_the_time);
  m->options.grace_ms = grace_ms;
  m->options.kill_after_ms = 100;
  join_group(g, m, NULL);
  group_up(g);
  CHECK_OK(podkeep_pod_cancel(m->pod));
  event_wait(&m->a->events[3]);
  if (grace_ms < 0) CHECK_INT(m->a->numbers[3], -1);
  else CHECK(m->a->numbers[3] > slow_ms(10000));
  group_down(g, PODKEEP_OK);
  CHECK(m->a->numbers[4] >= 0 && m->a->numbers[4] <= slow_ms(10000));
  CHECK_OK(podkeep_pod_free(m->pod));
}
TEST(time_budget__is_seen_in_the_child) { shortened(slow_ms(60000)); }
TEST(time_budget__is_seen_in_the_child__that_had_no_limit) { shortened(PODKEEP_FOREVER); }

/* --- Who is late -------------------------------------------------------------------------------------------------------------- */

static void never_ready(where where) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *base = member_in(g, THREAD, "base", NULL), *m = member_new(where, "mute");
  m->options.ready = PODKEEP_READY_NOTIFY;
  join_group(g, m, "base");
  member *waits = member_in(g, THREAD, "waits", "mute");
  CHECK_OK(podkeep_group_start(g));
  UNTIL(state_of(m->pod) == PODKEEP_STATE_STARTING);
  CHECK_STATUS(podkeep_group_wait_ready(g, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "mute");
  CHECK_HAS(podkeep_last_error(), "STARTING");
  CHECK_HASNT(podkeep_last_error(), "\"base\"");
  CHECK_GROUP(g, STARTING);
  CHECK_STATE(waits->pod, NEW);
  CHECK_STATUS(podkeep_group_join(g, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  group_down(g, PODKEEP_OK);
  drop_pods(3, (member *[]){base, m, waits});
}
TEST(late__never_ready__thread) { never_ready(THREAD); }
TEST(late__never_ready__process) { never_ready(PROCESS); }
TEST(late__never_ready__command) { never_ready(COMMAND); }

/* With a limit on the way to ready it fails; restarts until there is no room; then the group's start has failed. */
static void ready_timeout(where where) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *base = member_in(g, THREAD, "base", NULL), *m = member_new(where, "mute");
  m->options.ready = PODKEEP_READY_NOTIFY;
  m->options.ready_timeout_ms = 50;
  m->options.restart = PODKEEP_RESTART_ON_FAILURE;
  m->options.max_restarts = 2;
  join_group(g, m, "base");
  journal *j = journal_of(g);
  CHECK_OK(podkeep_group_start(g));
  CHECK_STATUS(podkeep_group_wait_ready(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_GROUP_FAILURE(g, "mute", TIMEOUT, "mute");
  journal_read(j, 0);
  CHECK_STR(journal_words(j, 0, "+-.!"), "base+ mute- mute- mute! base.");
  journal_free(j);
  CHECK_OK(podkeep_group_free(g));
  drop_pods(2, (member *[]){base, m});
}
TEST(late__ready_timeout__thread) { ready_timeout(THREAD); }
TEST(late__ready_timeout__process) { ready_timeout(PROCESS); }
TEST(late__ready_timeout__command) { ready_timeout(COMMAND); }

/* Without waiting, run_forever could return before the hook has begun: then there is none. */
static int32_t until_the_hook_runs(actor *a, podkeep_context *ctx) {
  int32_t result = act_wait(a, ctx);
  event_wait(&a->hook.entered);
  return result;
}
/* A hook that hangs costs its member the grace; a thread is let go, and says so; the others go down. */
static void hook_hangs(where where) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *base = member_in(g, THREAD, "base", NULL), *m = member_new(where, "stuck");
  m->a->hook.held = true;
  DOES(m->a->run, until_the_hook_runs);
  m->options.grace_ms = 200;
  m->options.kill_after_ms = where == PROCESS ? 100 : 0;
  join_group(g, m, "base");
  group_up(g);
  uint32_t abandoned;
  CHECK_OK(podkeep_abandoned(&abandoned));
  CHECK_INT(abandoned, 0);
  int64_t begun = now_ms();
  CHECK_STATUS(podkeep_group_close(g), where == THREAD ? PODKEEP_ERR_TIMEOUT : PODKEEP_ERR_FAILED);
  CHECK_HAS(podkeep_last_error(), "stuck");
  CHECK_BELOW(now_ms() - begun, LIMIT_MS);
  CHECK_STATE(base->pod, STOPPED);
  CHECK_INT(base->a->teardown.count, 1);
  CHECK_GROUP_FAILURE(g, "stuck", TIMEOUT, "stuck");
  if (where == THREAD) {
    CHECK_GROUP(g, ABANDONED);
    CHECK_OK(podkeep_abandoned(&abandoned));
    CHECK_INT(abandoned, 1);
    CHECK_STATUS(podkeep_group_join(g, PODKEEP_FOREVER), PODKEEP_ERR_TIMEOUT);
    CHECK_STATUS(podkeep_group_join(g, SHORT_MS), PODKEEP_ERR_TIMEOUT);
    event_set(&m->a->hook.go);
  }
  CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_GROUP(g, FAILED);
  CHECK_GROUP_FAILURE(g, "stuck", TIMEOUT, "stuck");
  CHECK_OK(podkeep_group_free(g));
  drop_pods(2, (member *[]){base, m});
}
TEST(late__hook_hangs__thread) { hook_hangs(THREAD); }
TEST(late__hook_hangs__process) { hook_hangs(PROCESS); }

/* A member that a sibling takes along and that does not come down: ABANDONED, never restarted, and the group goes down. */
TEST(late__abandoned_while_a_sibling_restarts) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ALL, false, 0);
  member *cause = member_new(THREAD, "cause"), *m = member_new(THREAD, "deaf");
  cause->options.restart = m->options.restart = PODKEEP_RESTART_ALWAYS;
  m->options.grace_ms = 100;
  m->a->teardown.held = true;
  join_group(g, cause, NULL);
  join_group(g, m, "cause");
  journal *j = journal_of(g);
  group_up(g);
  size_t mark = journal_mark(j);
  fall(cause);
  JOURNAL_UNTIL(j, mark, "deaf", '~');
  CHECK_STATUS(podkeep_group_join(g, PODKEEP_FOREVER), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "deaf");
  JOURNAL_UNTIL(j, mark, "cause", '.');
  CHECK_GROUP(g, ABANDONED);
  CHECK_GROUP_FAILURE(g, "deaf", TIMEOUT, "deaf");
  event_set(&m->a->teardown.go);
  CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_INT(m->a->run.count, 1);
  journal_free(j);
  CHECK_OK(podkeep_group_free(g));
  drop_pods(2, (member *[]){cause, m});
}

/* --- What is not the driver's ------------------------------------------------------------------------------------------- */

/* A member that never began has its config dropped by nobody who has others to stop: the drop waits here until they are. */
static member *first_of_two;
static int late;
static int32_t returns(podkeep_context *ctx, void *state) { return (void)ctx, (void)state, 0; }
static void drop_waits(void *config) {
  (void)config;
  event_wait_for(&first_of_two->a->teardown.left, LIMIT_MS);
  STORE(late, 1 + (LOAD(first_of_two->a->teardown.count) == 0));
}
TEST(a_drop_holds_up_no_other_member) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *first = first_of_two = member_new(THREAD, "first");
  first->options.ready = PODKEEP_READY_NOTIFY; /* it never says so: the second does not begin */
  join_group(g, first, NULL);
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *second;
  const char *after[] = {"first", NULL};
  podkeep_member_options options = PODKEEP_MEMBER_OPTIONS_INIT;
  spec.name = "second";
  spec.run_forever = returns;
  spec.drop = drop_waits;
  options.after = after;
  CHECK_OK(podkeep_runtime_new(&spec, &runtime));
  CHECK_OK(podkeep_pod_new(runtime, NULL, &second));
  CHECK_OK(podkeep_runtime_free(runtime));
  CHECK_OK(podkeep_group_add(g, second, &options));
  CHECK_OK(podkeep_group_start(g));
  event_wait(&first->a->run.entered);
  CHECK_OK(podkeep_group_cancel(g));
  CHECK_OK(podkeep_group_join(g, LIMIT_MS));
  UNTIL(LOAD(late) != 0);
  CHECK_INT(LOAD(late), 1);
  CHECK_STATE(second, STOPPED);
  CHECK_OK(podkeep_pod_free(second));
  CHECK_OK(podkeep_group_free(g));
  CHECK_OK(podkeep_pod_free(first->pod));
  free(first);
}

/* Nobody gives a limit to a member without one, not even a very late one. */
static int32_t tells_time_left(actor *a, podkeep_context *ctx) {
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  event_wait(&a->events[1]);
  STORE(a->numbers[3], podkeep_context_time_left(ctx));
  return 0;
}
TEST(a_member_without_a_limit_gets_none) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, PODKEEP_FOREVER);
  member *m = member_new(THREAD, "patient");
  m->options.grace_ms = PODKEEP_FOREVER;
  DOES(m->a->run, tells_time_left);
  join_group(g, m, NULL);
  podkeep_monitor *monitor;
  podkeep_event e = PODKEEP_EVENT_INIT;
  group_up(g);
  CHECK_OK(podkeep_monitor_new(m->pod, &monitor));
  CHECK_OK(podkeep_group_cancel(g));
  do CHECK_OK(podkeep_monitor_next(monitor, &e, LIMIT_MS));
  while (e.to != PODKEEP_STATE_STOPPING);
  pass_ms(20); /* for the driver, if it had more to say of it */
  event_set(&m->a->events[1]);
  CHECK_OK(podkeep_group_join(g, LIMIT_MS));
  CHECK_INT(LOAD(m->a->numbers[3]), -1);
  CHECK_OK(podkeep_monitor_free(monitor));
  CHECK_OK(podkeep_group_free(g));
  CHECK_OK(podkeep_pod_free(m->pod));
  free(m);
}
