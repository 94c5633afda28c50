/* input.c: what a group refuses, and what is done to it from elsewhere: handles freed under it, calls from inside, a fork, a
 * shutdown. */
#include "members.h"

#include <podkeep.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFUSED(expr, status, part)               \
  do {                                            \
    CHECK_STATUS(expr, PODKEEP_ERR_##status);     \
    CHECK_HAS(podkeep_last_error(), part);        \
  } while (0)

TEST(input_new) {
  podkeep_group *g;
  podkeep_group_options o = PODKEEP_GROUP_OPTIONS_INIT;
  CHECK_OK(podkeep_group_new(NULL, &g));
  CHECK_OK(podkeep_group_free(g));
  CHECK_STATUS(podkeep_group_new(&o, NULL), PODKEEP_ERR_INVALID_ARGUMENT);
  for (int32_t bad = -1; bad <= 3; bad += 4) {
    o.strategy = bad;
    REFUSED(podkeep_group_new(&o, &g), INVALID_ARGUMENT, "strategy");
  }
  o.strategy = 0;
  o.keep_going = 2;
  REFUSED(podkeep_group_new(&o, &g), INVALID_ARGUMENT, "keep_going");
  o.keep_going = 0;
  o.grace_ms = -2;
  REFUSED(podkeep_group_new(&o, &g), INVALID_ARGUMENT, "grace_ms");
  o.grace_ms = INT64_MAX;
  CHECK_OK(podkeep_group_new(&o, &g));
  CHECK_OK(podkeep_group_free(g));
  o.grace_ms = PODKEEP_FOREVER;
  CHECK_OK(podkeep_group_new(&o, &g));
  CHECK_OK(podkeep_group_free(g));
  o.name = "";
  REFUSED(podkeep_group_new(&o, &g), INVALID_ARGUMENT, "name");
  o.name = "\xff";
  REFUSED(podkeep_group_new(&o, &g), INVALID_ARGUMENT, "name");
  o.name = "good";
  o.struct_size = 0;
  REFUSED(podkeep_group_new(&o, &g), INVALID_ARGUMENT, "struct_size");
}

TEST(input_add) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0), *h = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *a = member_in(g, THREAD, "one", NULL), *same = member_new(THREAD, "one"), *b = member_new(THREAD, "two");
  podkeep_member_options o = PODKEEP_MEMBER_OPTIONS_INIT;
  member_make(same);
  member_make(b);
  REFUSED(podkeep_group_add(g, same->pod, NULL), INVALID_ARGUMENT, "\"one\"");
  REFUSED(podkeep_group_add(h, a->pod, NULL), INVALID_STATE, "group");
  REFUSED(podkeep_group_add(g, a->pod, NULL), INVALID_ARGUMENT, "\"one\"");
  const char *unknown[] = {"one", "nobody", NULL}, *itself[] = {"two", NULL};
  o.after = unknown;
  REFUSED(podkeep_group_add(g, b->pod, &o), NOT_FOUND, "nobody");
  o.after = itself;
  REFUSED(podkeep_group_add(g, b->pod, &o), NOT_FOUND, "two");
  o.after = NULL;
  o.significant = 2;
  REFUSED(podkeep_group_add(g, b->pod, &o), INVALID_ARGUMENT, "significant");
  o.significant = 0;
  o.reserved = 1;
  REFUSED(podkeep_group_add(g, b->pod, &o), INVALID_ARGUMENT, "reserved");
  o.reserved = 0;
  o.struct_size = 4;
  REFUSED(podkeep_group_add(g, b->pod, &o), INVALID_ARGUMENT, "struct_size");
  CHECK_STATUS(podkeep_group_add(NULL, b->pod, NULL), PODKEEP_ERR_INVALID_HANDLE);
  CHECK_STATUS(podkeep_group_add(g, NULL, NULL), PODKEEP_ERR_INVALID_HANDLE);
  CHECK_STATUS(podkeep_group_add(g, (podkeep_pod *)h, NULL), PODKEEP_ERR_INVALID_HANDLE);
  CHECK_STATUS(podkeep_group_add((podkeep_group *)b->pod, b->pod, NULL), PODKEEP_ERR_INVALID_HANDLE);
  const char *twice[] = {"one", "one", NULL};
  podkeep_member_options ok = PODKEEP_MEMBER_OPTIONS_INIT;
  ok.after = twice;
  CHECK_OK(podkeep_group_add(g, b->pod, &ok)); /* what was refused left nothing behind; a name said twice is said */
  group_up(g);
  CHECK_OK(podkeep_pod_start(same->pod));
  REFUSED(podkeep_group_add(h, same->pod, NULL), INVALID_STATE, "NEW");
  member *late = member_new(THREAD, "late");
  member_make(late);
  REFUSED(podkeep_group_add(g, late->pod, NULL), INVALID_STATE, "before");
  REFUSED(podkeep_pod_start(b->pod), INVALID_STATE, "group");
  REFUSED(podkeep_pod_close(b->pod), INVALID_STATE, "group");
  CHECK_STATE(b->pod, RUNNING);
  int32_t code;
  CHECK_STATUS(podkeep_pod_run(b->pod, &code), PODKEEP_ERR_INVALID_STATE);
  REFUSED(podkeep_group_start(g), INVALID_STATE, "RUNNING");
  group_down(g, PODKEEP_OK);
  CHECK_OK(podkeep_group_free(h));
  pod_close(same->pod, PODKEEP_OK);
  CHECK_OK(podkeep_pod_free(late->pod));
  CHECK_OK(podkeep_pod_free(a->pod));
  CHECK_OK(podkeep_pod_free(b->pod));
}

TEST(input_handles) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0), *bad[] = {NULL, g, (podkeep_group *)(uintptr_t)0x12345, NULL};
  member *m = member_new(THREAD, "pod");
  member_make(m);
  bad[3] = (podkeep_group *)m->pod;
  CHECK_OK(podkeep_group_free(g));
  for (int i = 0; i < 4; i++) {
    podkeep_state state;
    podkeep_failure *f;
    podkeep_monitor *monitor;
    CHECK_STATUS(podkeep_group_start(bad[i]), PODKEEP_ERR_INVALID_HANDLE);
    CHECK_STATUS(podkeep_group_cancel(bad[i]), PODKEEP_ERR_INVALID_HANDLE);
    CHECK_STATUS(podkeep_group_close(bad[i]), PODKEEP_ERR_INVALID_HANDLE);
    CHECK_STATUS(podkeep_group_join(bad[i], 0), PODKEEP_ERR_INVALID_HANDLE);
    CHECK_STATUS(podkeep_group_wait_ready(bad[i], 0), PODKEEP_ERR_INVALID_HANDLE);
    CHECK_STATUS(podkeep_group_state(bad[i], &state), PODKEEP_ERR_INVALID_HANDLE);
    CHECK_STATUS(podkeep_group_failure(bad[i], &f), PODKEEP_ERR_INVALID_HANDLE);
    CHECK_STATUS(podkeep_monitor_new_group(bad[i], &monitor), PODKEEP_ERR_INVALID_HANDLE);
    CHECK_STATUS(podkeep_group_free(bad[i]), bad[i] ? PODKEEP_ERR_INVALID_HANDLE : PODKEEP_OK);
  }
  CHECK_OK(podkeep_pod_free(m->pod));
}

TEST(input_waits) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m = member_in(g, THREAD, "only", NULL);
  CHECK_STATUS(podkeep_group_wait_ready(g, PODKEEP_FOREVER), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_group_join(g, PODKEEP_FOREVER), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_group_wait_ready(g, -2), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_group_join(g, INT64_MIN), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_group_state(g, NULL), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_group_failure(g, NULL), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_OK(podkeep_group_cancel(g)); /* never started: STOPPED, and no callback runs */
  CHECK_GROUP(g, STOPPED);
  CHECK_STATE(m->pod, STOPPED);
  CHECK_OK(podkeep_group_join(g, PODKEEP_FOREVER));
  CHECK_STATUS(podkeep_group_wait_ready(g, PODKEEP_FOREVER), PODKEEP_ERR_ENDED);
  CHECK_STATUS(podkeep_group_start(g), PODKEEP_ERR_INVALID_STATE);
  CHECK_INT(m->a->init.count, 0);
  CHECK_OK(podkeep_group_cancel(g));
  CHECK_OK(podkeep_group_free(g));
  CHECK_OK(podkeep_pod_free(m->pod));
}

/* --- Ownership -------------------------------------------------------------------------------------------------------------- */

static int drops, teardowns;
static void count_drop(void *config) { ADD(*(int *)config, 1); }
static int32_t run_until_cancelled(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return 0;
}
static int32_t count_teardown(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  ADD(teardowns, 1);
  return 0;
}
static podkeep_pod *dropping_pod(const char *name) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  spec.name = "dropping";
  spec.run_forever = run_until_cancelled;
  spec.teardown = count_teardown;
  spec.config = &drops;
  spec.drop = count_drop;
  options.name = name;
  CHECK_OK(podkeep_runtime_new(&spec, &runtime));
  CHECK_OK(podkeep_pod_new(runtime, &options, &pod));
  CHECK_OK(podkeep_runtime_free(runtime));
  return pod;
}
/* A member's handle may go at any time; the group keeps the pod. */
TEST(freed__a_members_handle) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  podkeep_pod *early = dropping_pod("early"), *late = dropping_pod("late");
  podkeep_state state;
  CHECK_OK(podkeep_group_add(g, early, NULL));
  CHECK_OK(podkeep_group_add(g, late, NULL));
  CHECK_OK(podkeep_pod_free(early)); /* while NEW: it is started all the same */
  group_up(g);
  CHECK_OK(podkeep_pod_free(late));
  CHECK_STATUS(podkeep_pod_state(late, &state), PODKEEP_ERR_INVALID_HANDLE);
  journal *j = journal_of(g);
  journal_read(j, SHORT_MS);
  CHECK_GROUP(g, RUNNING);
  CHECK_INT(LOAD(drops), 0);
  CHECK_OK(podkeep_group_close(g));
  UNTIL(LOAD(drops) == 2);
  CHECK_INT(LOAD(teardowns), 2);
  journal_read(j, 0);
  const char *words = journal_words(j, 0, "."); /* side by side: in any order */
  CHECK(strcmp(words, "late. early.") == 0 || strcmp(words, "early. late.") == 0);
  journal_free(j);
  CHECK_OK(podkeep_group_free(g));
  CHECK_INT(LOAD(drops), 2);
}
TEST(freed__a_group_that_runs) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  podkeep_pod *kept = dropping_pod("kept"), *freed = dropping_pod("freed");
  CHECK_OK(podkeep_group_add(g, kept, NULL));
  CHECK_OK(podkeep_group_add(g, freed, NULL));
  CHECK_OK(podkeep_pod_free(freed));
  group_up(g);
  CHECK_OK(podkeep_group_free(g)); /* cancels and lets go, in order */
  CHECK_OK(podkeep_pod_join(kept, LIMIT_MS));
  CHECK_STATE(kept, STOPPED);
  UNTIL(LOAD(drops) == 2);
  CHECK_INT(LOAD(teardowns), 2);
  CHECK_OK(podkeep_pod_free(kept));
}
TEST(freed__a_group_that_is_new) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  podkeep_pod *kept = dropping_pod("kept"), *freed = dropping_pod("freed");
  CHECK_OK(podkeep_group_add(g, kept, NULL));
  CHECK_OK(podkeep_group_add(g, freed, NULL));
  CHECK_OK(podkeep_pod_free(freed));
  CHECK_INT(LOAD(drops), 0);
  CHECK_OK(podkeep_group_free(g));
  UNTIL(LOAD(drops) == 2);
  CHECK_STATE(kept, STOPPED);
  CHECK_INT(LOAD(teardowns), 0);
  CHECK_OK(podkeep_pod_free(kept));
}

/* --- From inside ---------------------------------------------------------------------------------------------------------------- */

static podkeep_group *inner;
static int asked;
static void ask_from_inside(void) {
  podkeep_state state;
  CHECK_STATUS(podkeep_group_close(inner), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_group_join(inner, PODKEEP_FOREVER), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_group_join(inner, 1000), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_group_wait_ready(inner, PODKEEP_FOREVER), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_group_join(inner, 0), PODKEEP_ERR_TIMEOUT);
  CHECK_OK(podkeep_group_state(inner, &state));
  ADD(asked, 1);
}
static int32_t act_ask_in_run(actor *a, podkeep_context *ctx) {
  ask_from_inside();
  CHECK(!podkeep_context_cancelled(ctx)); /* a close that would wait for itself cancels nothing */
  event_set(&a->events[2]);
  event_wait(&a->events[0]); /* a hook is begun beside run_forever only */
  return 0;
}
static int32_t act_ask_in_hook(actor *a, podkeep_context *ctx) {
  (void)ctx;
  ask_from_inside();
  event_set(&a->events[0]);
  return 0;
}
TEST(inside__deadlock) {
  inner = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *base = member_in(inner, THREAD, "base", NULL), *m = member_new(THREAD, "asks");
  DOES(m->a->run, act_ask_in_run);
  DOES(m->a->hook, act_ask_in_hook);
  join_group(inner, m, "base");
  group_up(inner);
  event_wait(&m->a->events[2]);
  group_down(inner, PODKEEP_OK);
  CHECK_INT(LOAD(asked), 2);
  CHECK_OK(podkeep_pod_free(base->pod));
  CHECK_OK(podkeep_pod_free(m->pod));
}
static int32_t act_cancel_group(actor *a, podkeep_context *ctx) {
  (void)a;
  CHECK_OK(podkeep_group_cancel(inner));
  CHECK_OK(podkeep_context_wait(ctx, LIMIT_MS));
  return 0;
}
static int32_t act_free_group(actor *a, podkeep_context *ctx) {
  (void)a;
  CHECK_OK(podkeep_group_free(inner));
  CHECK_OK(podkeep_context_wait(ctx, LIMIT_MS));
  return 0;
}
static void ended_from_inside(act does) {
  inner = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *base = member_in(inner, THREAD, "base", NULL), *m = member_new(THREAD, "ends");
  DOES(m->a->run, does);
  join_group(inner, m, "base");
  CHECK_OK(podkeep_group_start(inner));
  UNTIL(state_of(base->pod) == PODKEEP_STATE_STOPPED);
  CHECK_STATE(m->pod, STOPPED);
  if (does == act_cancel_group) CHECK_OK(podkeep_group_free(inner));
  CHECK_OK(podkeep_pod_free(base->pod));
  CHECK_OK(podkeep_pod_free(m->pod));
}
TEST(inside__cancel) { ended_from_inside(act_cancel_group); }
TEST(inside__free) { ended_from_inside(act_free_group); }

/* --- Fork, shutdown, monitors --------------------------------------------------------------------------------------------------- */

TEST(fork__groups_of_before_are_forked_and_new_ones_work) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *a = member_in(g, THREAD, "thread", NULL), *b = member_in(g, PROCESS, "process", "thread");
  member *spare = member_new(THREAD, "spare");
  member_make(spare);
  group_up(g);
  pid_t copy = fork();
  if (copy == 0) {
    podkeep_state state;
    podkeep_failure *f;
    CHECK_STATUS(podkeep_group_state(g, &state), PODKEEP_ERR_FORKED);
    CHECK_STATUS(podkeep_group_failure(g, &f), PODKEEP_ERR_FORKED);
    CHECK_STATUS(podkeep_group_start(g), PODKEEP_ERR_FORKED);
    CHECK_STATUS(podkeep_group_cancel(g), PODKEEP_ERR_FORKED);
    CHECK_STATUS(podkeep_group_close(g), PODKEEP_ERR_FORKED);
    CHECK_STATUS(podkeep_group_join(g, PODKEEP_FOREVER), PODKEEP_ERR_FORKED);
    CHECK_STATUS(podkeep_group_add(g, spare->pod, NULL), PODKEEP_ERR_FORKED);
    CHECK_STATUS(podkeep_group_free(g), PODKEEP_ERR_FORKED);
    podkeep_group *mine = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
    podkeep_pod *pod = dropping_pod("mine");
    CHECK_OK(podkeep_group_add(mine, pod, NULL));
    group_up(mine);
    group_down(mine, PODKEEP_OK);
    CHECK_OK(podkeep_pod_free(pod));
    _exit(0);
  }
  CHECK_INT(wait_code(copy, LIMIT_MS), 0);
  CHECK_GROUP(g, RUNNING);
  CHECK(alive(member_pid(b)));
  group_down(g, PODKEEP_OK);
  CHECK_OK(podkeep_pod_free(a->pod));
  CHECK_OK(podkeep_pod_free(b->pod));
  CHECK_OK(podkeep_pod_free(spare->pod));
}

/* A shutdown in the middle of a group's start: when it has returned, nobody of the group is there, and no callback follows. */
static void shut_while_starting(where where) {
  enum { N = 6 };
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m[N];
  char name[8];
  for (int i = 0; i < N; i++) {
    snprintf(name, sizeof name, "m%d", i);
    m[i] = member_new(where, name);
    member_make(m[i]);
  }
  for (int i = N; i-- > 0;) join_group(g, m[i], NULL); /* in another order than they were made */
  podkeep_monitor *monitor;
  CHECK_OK(podkeep_monitor_new(m[N - 1]->pod, &monitor));
  CHECK_OK(podkeep_group_start(g));
  for (podkeep_event e = PODKEEP_EVENT_INIT; e.to < PODKEEP_STATE_STARTING;) CHECK_OK(podkeep_monitor_next(monitor, &e, LIMIT_MS));
  uint32_t left = 9, before[N][3]; /* the first has begun, the others are on their way or next */
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  for (int i = 0; i < N; i++) {
    before[i][0] = LOAD(m[i]->a->init.count), before[i][1] = LOAD(m[i]->a->run.count);
    before[i][2] = LOAD(m[i]->a->teardown.count);
    CHECK_INT(before[i][0], before[i][2]);
  }
  CHECK_OK(podkeep_group_join(g, LIMIT_MS));
  CHECK_GROUP(g, STOPPED);
  for (int i = 0; i < N; i++) {
    CHECK_STATE(m[i]->pod, STOPPED);
    CHECK_INT(LOAD(m[i]->a->init.count), before[i][0]);
    CHECK_INT(LOAD(m[i]->a->run.count), before[i][1]);
    CHECK_INT(LOAD(m[i]->a->teardown.count), before[i][2]);
    CHECK_OK(podkeep_pod_free(m[i]->pod));
    free(m[i]);
  }
  CHECK_OK(podkeep_monitor_free(monitor));
  CHECK_OK(podkeep_group_free(g));
}
TEST(shutdown__while_a_group_starts__threads) { shut_while_starting(THREAD); }
TEST(shutdown__while_a_group_starts__processes) { shut_while_starting(PROCESS); }

/* A shutdown ends all groups; every teardown runs. */
TEST(shutdown__with_groups) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ALL, false, 0), *fresh = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m[4];
  static const char *const names[4] = {"one", "two", "three", "four"};
  for (int i = 0; i < 4; i++) {
    m[i] = member_new(i == 1 ? PROCESS : i == 3 ? COMMAND : THREAD, names[i]);
    m[i]->options.restart = PODKEEP_RESTART_ALWAYS;
    join_group(g, m[i], i ? names[i - 1] : NULL);
  }
  group_up(g);
  journal *j = journal_of(g);
  uint32_t left = 9;
  CHECK_OK(podkeep_shutdown(LIMIT_MS, &left));
  CHECK_INT(left, 0);
  CHECK_OK(podkeep_group_join(g, LIMIT_MS));
  for (int i = 0; i < 3; i++) CHECK_INT(m[i]->a->teardown.count, 1);
  for (int i = 0; i < 4; i++) CHECK_STATE(m[i]->pod, STOPPED);
  journal_read(j, 0);
  CHECK_STR(journal_words(j, 0, ">."), "four> four. three> three. two> two. one> one.");
  journal_free(j);
  CHECK_STATUS(podkeep_group_start(fresh), PODKEEP_ERR_INVALID_STATE);
  podkeep_group *none;
  CHECK_STATUS(podkeep_group_new(NULL, &none), PODKEEP_ERR_INVALID_STATE);
  CHECK_OK(podkeep_group_free(g));
  CHECK_OK(podkeep_group_free(fresh));
  for (int i = 0; i < 4; i++) CHECK_OK(podkeep_pod_free(m[i]->pod));
}

/* A monitor sees the members of its group alone, those that come later too; a slow reader misses nothing of the end. */
TEST(monitor__of_a_group) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *first = member_in(g, THREAD, "first", NULL);
  podkeep_monitor *slow;
  CHECK_OK(podkeep_monitor_new_group(g, &slow));
  journal *j = journal_of(g);
  member *second = member_new(THREAD, "second"), *stranger = member_new(THREAD, "stranger");
  second->options.restart = PODKEEP_RESTART_ALWAYS;
  second->options.max_restarts = UINT32_MAX;
  second->options.backoff_max_ms = 1;
  join_group(g, second, "first");
  member_make(stranger);
  CHECK_OK(podkeep_pod_start(stranger->pod));
  CHECK_OK(podkeep_pod_wait_ready(stranger->pod, LIMIT_MS));
  group_up(g);
  for (int i = 1; i <= 500; i++) {
    size_t mark = journal_mark(j);
    fall(second);
    JOURNAL_UNTIL(j, mark, "second", '+');
  }
  group_down(g, PODKEEP_OK);
  CHECK_OK(podkeep_pod_close(stranger->pod));
  journal_read(j, 0);
  CHECK_STR(journal_words(j, 0, "."), "second. first.");
  uint64_t told = 0;
  podkeep_state last[2] = {-1, -1};
  for (podkeep_status status;;) {
    podkeep_event e = PODKEEP_EVENT_INIT;
    status = podkeep_monitor_next(slow, &e, 0);
    if (status == PODKEEP_ERR_ENDED) break;
    CHECK_OK(status);
    int at = strcmp(e.name, "second") == 0;
    if (!at) CHECK_STR(e.name, "first");
    told += e.missed + (e.from != e.to || e.missed > 0 ? 1u : 0u);
    last[at] = e.to;
  }
  CHECK_INT(last[0], PODKEEP_STATE_STOPPED);
  CHECK_INT(last[1], PODKEEP_STATE_STOPPED);
  CHECK(told >= 2000); /* 4 a life of the second's */
  CHECK_OK(podkeep_monitor_free(slow));
  journal_free(j);
  CHECK_OK(podkeep_pod_free(first->pod));
  CHECK_OK(podkeep_pod_free(second->pod));
  CHECK_OK(podkeep_pod_free(stranger->pod));
}
