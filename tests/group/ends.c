/* ends.c: how a group's start can fail, who ends a group, and what its state and failure are then (contract, section 8). */
#include "members.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void drop_pods(int n, member **m) {
  for (int i = 0; i < n; i++) CHECK_OK(podkeep_pod_free(m[i]->pod));
}

/* --- The start ---------------------------------------------------------------------------------------------------------- */

static void a_failed_start_takes_down_what_had_started(where where) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m[5];
  static const char *const names[5] = {"mango", "apple", "zebra", "kiwi", "fig"};
  for (int i = 0; i < 5; i++) {
    m[i] = member_new(i == 3 && where == COMMAND ? COMMAND : where == COMMAND ? THREAD : where, names[i]);
    if (i == 3 && where == COMMAND) {
      m[i]->script = "exit 4"; /* before it says that it is ready */
      m[i]->options.ready = PODKEEP_READY_NOTIFY;
    } else if (i == 3) {
      m[i]->a->init.returns = 44;
    }
    join_group(g, m[i], i ? names[i - 1] : NULL);
  }
  journal *j = journal_of(g);
  CHECK_OK(podkeep_group_start(g));
  CHECK_STATUS(podkeep_group_wait_ready(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_HAS(podkeep_last_error(), "kiwi");
  CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_HAS(podkeep_last_error(), "kiwi");
  CHECK_GROUP(g, FAILED);
  if (where == COMMAND) CHECK_GROUP_FAILURE(g, "kiwi", EXIT, "code 4");
  else CHECK_GROUP_FAILURE(g, "kiwi", RETURNED, NULL);
  journal_read(j, SHORT_MS);
  CHECK_STR(journal_words(j, 0, "+.!"), "mango+ apple+ zebra+ kiwi! fig. zebra. apple. mango.");
  CHECK_STR(journal_words(j, 0, "<"), "mango< apple< zebra< kiwi<");
  if (m[4]->a) CHECK_INT(m[4]->a->init.count, 0);
  CHECK_STATUS(podkeep_group_close(g), PODKEEP_ERR_FAILED);
  journal_free(j);
  CHECK_OK(podkeep_group_free(g));
  drop_pods(5, m);
}
TEST(start_failed__threads) { a_failed_start_takes_down_what_had_started(THREAD); }
TEST(start_failed__processes) { a_failed_start_takes_down_what_had_started(PROCESS); }
TEST(start_failed__command) { a_failed_start_takes_down_what_had_started(COMMAND); }

/* A command that cannot be executed is FAILED at once, and so is its group. */
TEST(start_failed__not_found) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *base = member_in(g, THREAD, "base", NULL), *bad = member_new(COMMAND, "bad");
  const char *const argv[] = {"/there/is/no/such/program", NULL};
  bad->options.name = "bad";
  bad->pod = command_make("bad", argv, &bad->options);
  join_group(g, bad, "base");
  CHECK_OK(podkeep_group_start(g));
  CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_GROUP_FAILURE(g, "bad", EXIT, NULL);
  CHECK_STATE(base->pod, STOPPED);
  CHECK_OK(podkeep_group_free(g));
  drop_pods(2, (member *[]){base, bad});
}

/* A callback of a runtime that was not exported: its start is refused, which is the group's failure. */
static int32_t run_nothing(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return 0;
}
TEST(start_refused) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "not-exported";
  spec.run_forever = run_nothing;
  podkeep_runtime *runtime;
  CHECK_OK(podkeep_runtime_new(&spec, &runtime));
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *base = member_in(g, THREAD, "base", NULL), *bad = member_new(PROCESS, "bad");
  bad->options.name = "bad";
  CHECK_OK(podkeep_pod_new(runtime, &bad->options, &bad->pod));
  join_group(g, bad, "base");
  CHECK_OK(podkeep_group_start(g));
  CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_GROUP_FAILURE(g, "bad", LOST, "export");
  CHECK_STATE(base->pod, STOPPED);
  CHECK_OK(podkeep_group_free(g));
  CHECK_OK(podkeep_runtime_free(runtime));
  drop_pods(2, (member *[]){base, bad});
}

static int32_t act_ready_then_return(actor *a, podkeep_context *ctx) {
  if (a->options.ready == PODKEEP_READY_NOTIFY && a->numbers[1]) podkeep_context_ready(ctx);
  return 0;
}
/* A member that ends without ever having been ready ends the start of those that wait for it: cleanly. */
static void never_ready_and_over(where where) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *base = member_in(g, THREAD, "base", NULL), *once = member_new(where, "once");
  DOES(once->a->run, act_ready_then_return);
  once->options.ready = PODKEEP_READY_NOTIFY;
  join_group(g, once, "base");
  member *waits = member_in(g, where, "waits", "once");
  CHECK_OK(podkeep_group_start(g));
  CHECK_STATUS(podkeep_group_wait_ready(g, LIMIT_MS), PODKEEP_ERR_ENDED);
  CHECK_OK(podkeep_group_join(g, LIMIT_MS));
  CHECK_GROUP(g, STOPPED);
  CHECK_INT(waits->a->init.count, 0);
  CHECK_OK(podkeep_group_free(g));
  drop_pods(3, (member *[]){base, once, waits});
}
TEST(never_ready__thread) { never_ready_and_over(THREAD); }
TEST(never_ready__process) { never_ready_and_over(PROCESS); }

/* One that was ready and is over before anybody looked was ready: those after it start. */
static void ready_and_over(where where, int rounds) {
  for (int i = 0; i < rounds; i++) {
    podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
    member *once = member_new(where, "once");
    DOES(once->a->run, act_ready_then_return);
    join_group(g, once, NULL);
    member *waits = member_in(g, where, "waits", "once");
    group_up(g);
    CHECK_OK(podkeep_pod_join(once->pod, LIMIT_MS)); /* a child ends a moment after it was ready */
    CHECK_GROUP(g, RUNNING);
    CHECK_STATE(waits->pod, RUNNING);
    group_down(g, PODKEEP_OK);
    drop_pods(2, (member *[]){once, waits});
  }
}
TEST(ready_and_over__thread) { ready_and_over(THREAD, 300); }
TEST(ready_and_over__process) { ready_and_over(PROCESS, 10); }

static int32_t act_init_fails_often(actor *a, podkeep_context *ctx) {
  (void)ctx;
  return ADD(a->numbers[1], 1) <= a->numbers[2] ? 5 : 0;
}
/* Lives that are over at once, one after the other without any delay: none is overlooked. */
static void fails_at_once_many_times(where where, int times) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m = member_new(where, "hasty");
  DOES(m->a->init, act_init_fails_often);
  m->a->numbers[2] = times;
  m->options.restart = PODKEEP_RESTART_ON_FAILURE;
  m->options.max_restarts = UINT32_MAX;
  m->options.backoff_max_ms = 1;
  join_group(g, m, NULL);
  member *waits = member_in(g, THREAD, "waits", "hasty");
  CHECK_OK(podkeep_group_start(g));
  CHECK_OK(podkeep_group_wait_ready(g, 3 * LIMIT_MS));
  CHECK_INT(m->a->numbers[1], times + 1);
  CHECK_STATE(waits->pod, RUNNING);
  group_down(g, PODKEEP_OK);
  drop_pods(2, (member *[]){m, waits});
}
TEST(fails_at_once_many_times__thread) { fails_at_once_many_times(THREAD, 2000); }
TEST(fails_at_once_many_times__process) { fails_at_once_many_times(PROCESS, 50); }

TEST(empty_group_is_running) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ALL, false, 0);
  CHECK_GROUP(g, NEW);
  CHECK_OK(podkeep_group_start(g));
  CHECK_GROUP(g, RUNNING);
  CHECK_OK(podkeep_group_wait_ready(g, 0));
  CHECK_STATUS(podkeep_group_join(g, 0), PODKEEP_ERR_TIMEOUT);
  CHECK_OK(podkeep_group_close(g));
  CHECK_GROUP(g, STOPPED);
  CHECK_OK(podkeep_group_join(g, PODKEEP_FOREVER));
  CHECK_OK(podkeep_group_close(g));
  CHECK_STATUS(podkeep_group_start(g), PODKEEP_ERR_INVALID_STATE);
  CHECK_OK(podkeep_group_free(g));
}

/* --- The end --------------------------------------------------------------------------------------------------------------- */

/* Significant or not, clean or failed, by itself, by a sibling or by hand. */
typedef enum how { BY_ITSELF, BY_A_SIBLING, BY_HAND } how;
static void an_end(where where, bool significant, bool failed, how how, bool keep_going) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ALL, keep_going, 0);
  member *base = member_in(g, THREAD, "base", NULL);
  member *m = member_new(where, "subject"), *cause = member_new(THREAD, "cause");
  m->significant = significant;
  m->a->teardown.returns = failed && how != BY_ITSELF ? 9 : 0;
  cause->options.restart = PODKEEP_RESTART_ON_FAILURE;
  join_group(g, m, "base");
  join_group(g, cause, NULL);
  journal *j = journal_of(g);
  group_up(g);
  size_t mark = journal_mark(j);
  bool ends = failed ? !keep_going : significant;
  switch (how) {
    case BY_ITSELF: failed ? fall(m) : leave(m); break;
    case BY_HAND: CHECK_OK(podkeep_pod_cancel(m->pod)); break;
    case BY_A_SIBLING:
      fall(cause);
      JOURNAL_UNTIL(j, mark, "subject", '+'); /* whatever its policy, and whatever its teardown says */
      JOURNAL_UNTIL(j, mark, "cause", '+');
      CHECK_OK(podkeep_group_wait_ready(g, LIMIT_MS));
      ends = false;
      m->a->teardown.returns = 0;
      break;
  }
  if (how != BY_A_SIBLING) JOURNAL_UNTIL(j, mark, "subject", failed ? '!' : '.');
  if (ends) {
    CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), failed ? PODKEEP_ERR_FAILED : PODKEEP_OK);
  } else {
    journal_read(j, SHORT_MS);
    CHECK_STATE(base->pod, RUNNING);
    CHECK_STATE(cause->pod, RUNNING);
    if (!failed) CHECK_GROUP(g, RUNNING);
  }
  bool has_failed = failed && how != BY_A_SIBLING;
  CHECK_STATUS(podkeep_group_close(g), has_failed ? PODKEEP_ERR_FAILED : PODKEEP_OK);
  CHECK_INT(group_state(g), has_failed ? PODKEEP_STATE_FAILED : PODKEEP_STATE_STOPPED);
  if (has_failed) CHECK_GROUP_FAILURE(g, "subject", RETURNED, NULL);
  journal_check_order(j, true);
  journal_free(j);
  CHECK_OK(podkeep_group_free(g));
  drop_pods(3, (member *[]){base, m, cause});
}


static void ends_of(where where, how how) {
  for (int i = 0; i < 8; i++) {
    bool significant = (i & 1) != 0, failed = (i & 2) != 0, keep_going = (i & 4) != 0;
    /* What a significant member's failure does to a group that keeps going is not the contract's to say. */
    if (significant && failed && keep_going) continue;
    an_end(where, significant, failed, how, keep_going);
  }
}
TEST(end_by_itself__thread) { ends_of(THREAD, BY_ITSELF); }
TEST(end_by_itself__process) { ends_of(PROCESS, BY_ITSELF); }
TEST(end_by_a_sibling__thread) { ends_of(THREAD, BY_A_SIBLING); }
TEST(end_by_a_sibling__process) { ends_of(PROCESS, BY_A_SIBLING); }
TEST(end_by_hand__thread) { ends_of(THREAD, BY_HAND); }
TEST(end_by_hand__process) { ends_of(PROCESS, BY_HAND); }

/* Cancelled by hand: in its delay, in its init, while NEW. Its normal end each time; never restarted. */
TEST(by_hand__while_it_waits_to_come_back) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m = member_new(THREAD, "waits");
  m->options.restart = PODKEEP_RESTART_ALWAYS;
  m->options.backoff_ms = m->options.backoff_max_ms = 1000000;
  join_group(g, m, NULL);
  member *other = member_in(g, PROCESS, "other", NULL);
  journal *j = journal_of(g);
  group_up(g);
  fall(m);
  JOURNAL_UNTIL(j, 0, "waits", '-');
  CHECK_GROUP(g, STARTING);
  CHECK_STATUS(podkeep_group_wait_ready(g, 0), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "waits");
  CHECK_OK(podkeep_pod_cancel(m->pod));
  CHECK_OK(podkeep_group_wait_ready(g, LIMIT_MS));
  CHECK_GROUP(g, RUNNING);
  group_down(g, PODKEEP_OK);
  journal_free(j);
  drop_pods(2, (member *[]){m, other});
}
TEST(by_hand__in_init) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m = member_new(THREAD, "slow");
  m->a->init.held = true;
  join_group(g, m, NULL);
  member *after = member_in(g, THREAD, "after", "slow");
  CHECK_OK(podkeep_group_start(g));
  event_wait(&m->a->init.entered);
  CHECK_OK(podkeep_pod_cancel(m->pod));
  event_set(&m->a->init.go);
  CHECK_STATUS(podkeep_group_wait_ready(g, LIMIT_MS), PODKEEP_ERR_ENDED); /* it was never ready, and another waits for it */
  CHECK_OK(podkeep_group_join(g, LIMIT_MS));
  CHECK_INT(m->a->teardown.count, 1);
  CHECK_INT(after->a->init.count, 0);
  CHECK_OK(podkeep_group_free(g));
  drop_pods(2, (member *[]){m, after});
}
TEST(by_hand__while_new) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m = member_in(g, THREAD, "never", NULL), *other = member_in(g, THREAD, "other", NULL);
  CHECK_OK(podkeep_pod_cancel(m->pod));
  group_up(g);
  CHECK_GROUP(g, RUNNING);
  CHECK_INT(m->a->init.count, 0);
  group_down(g, PODKEEP_OK);
  drop_pods(2, (member *[]){m, other});
}

/* Order is transitive through members that have ended: the last is started when the first is back. */
TEST(order_through_members_that_have_ended) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *first = member_in(g, THREAD, "first", NULL);
  member *middle = member_in(g, THREAD, "middle", "first");
  member *last = member_in(g, THREAD, "last", "middle");
  journal *j = journal_of(g);
  group_up(g);
  leave(middle);
  JOURNAL_UNTIL(j, 0, "middle", '.');
  size_t mark = journal_mark(j);
  last->a->teardown.held = true;
  CHECK_OK(podkeep_group_cancel(g));
  event_wait(&last->a->teardown.entered);
  journal_read(j, SHORT_MS);
  CHECK_STR(journal_words(j, mark, ">."), "last>"); /* the first lives as long as the last does */
  CHECK_STATE(first->pod, RUNNING);
  event_set(&last->a->teardown.go);
  CHECK_OK(podkeep_group_join(g, LIMIT_MS));
  journal_read(j, 0);
  CHECK_STR(journal_words(j, mark, ">."), "last> last. first> first.");
  journal_free(j);
  CHECK_OK(podkeep_group_free(g));
  drop_pods(3, (member *[]){first, middle, last});
}

/* A diamond starts side by side and stops side by side. */
TEST(a_diamond) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m[4] = {member_new(THREAD, "root"), member_new(THREAD, "left"), member_new(PROCESS, "right"), member_new(THREAD, "top")};
  for (int i = 1; i < 3; i++) m[i]->a->init.held = m[i]->a->teardown.held = true;
  join_group(g, m[0], NULL);
  join_group(g, m[1], "root");
  join_group(g, m[2], "root");
  join_group(g, m[3], "left right");
  journal *j = journal_of(g);
  CHECK_OK(podkeep_group_start(g));
  event_wait(&m[1]->a->init.entered);
  event_wait(&m[2]->a->init.entered);
  event_set(&m[1]->a->init.go);
  JOURNAL_UNTIL(j, 0, "left", '+');
  CHECK_STATE(m[3]->pod, NEW);
  event_set(&m[2]->a->init.go);
  CHECK_OK(podkeep_group_wait_ready(g, LIMIT_MS));
  CHECK_OK(podkeep_group_cancel(g));
  event_wait(&m[1]->a->teardown.entered);
  event_wait(&m[2]->a->teardown.entered);
  CHECK_STATE(m[3]->pod, STOPPED);
  event_set(&m[2]->a->teardown.go);
  JOURNAL_UNTIL(j, 0, "right", '.');
  CHECK_STATE(m[0]->pod, RUNNING);
  event_set(&m[1]->a->teardown.go);
  CHECK_OK(podkeep_group_join(g, LIMIT_MS));
  journal_read(j, 0);
  journal_check_order(j, false);
  journal_free(j);
  CHECK_OK(podkeep_group_free(g));
  drop_pods(4, m);
}

/* Those that say when they are ready come back as the others do. */
static int32_t act_ready_then_member(actor *a, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_ready(ctx));
  return act_member(a, ctx);
}
static void said_ready_and_comes_back(where where) {
  podkeep_group *g = group_new(PODKEEP_REST_FOR_ONE, false, 0);
  member *m = member_new(where, "says");
  m->options.ready = PODKEEP_READY_NOTIFY;
  m->options.restart = PODKEEP_RESTART_ON_FAILURE;
  if (where != COMMAND) DOES(m->a->run, act_ready_then_member);
  char script[400];
  snprintf(script, sizeof script, "exec '%s' --do says_ready", self_path());
  m->script = script;
  join_group(g, m, NULL);
  member *waits = member_in(g, THREAD, "waits", "says");
  journal *j = journal_of(g);
  group_up(g);
  for (int i = 0; i < 3; i++) {
    size_t mark = journal_mark(j);
    fall(m);
    JOURNAL_UNTIL(j, mark, "waits", '+');
    CHECK_STR(journal_words(j, mark, "-+"), "says- waits- says+ waits+");
  }
  group_down(g, PODKEEP_OK);
  journal_free(j);
  drop_pods(2, (member *[]){m, waits});
}
TEST(said_ready_and_comes_back__thread) { said_ready_and_comes_back(THREAD); }
TEST(said_ready_and_comes_back__process) { said_ready_and_comes_back(PROCESS); }
TEST(said_ready_and_comes_back__command) { said_ready_and_comes_back(COMMAND); }

/* A program that speaks sd_notify and then waits for its SIGTERM. */
PROGRAM(says_ready) {
  const char *path = getenv("NOTIFY_SOCKET");
  CHECK(path != NULL && path[0] == '@');
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  size_t n = strlen(path);
  memcpy(to.sun_path, path, n);
  to.sun_path[0] = '\0';
  int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  CHECK(sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) == 7);
  for (;;) pause();
}

/* Who waits for ready hears at once that a member stops, when no sibling's restart can take it along (L15). */
typedef enum place { BEFORE, BEHIND } place;
static void stops_unready(podkeep_strategy strategy, podkeep_restart sibling, place place, podkeep_status want) {
  podkeep_group *g = group_new(strategy, false, 0);
  member *other = member_new(THREAD, "other"), *m = member_new(THREAD, "mute");
  other->options.restart = sibling;
  m->options.ready = PODKEEP_READY_NOTIFY;
  m->a->teardown.held = true;
  DOES(m->a->run, act_return);
  if (place == BEFORE) join_group(g, other, NULL);
  join_group(g, m, NULL);
  if (place == BEHIND) join_group(g, other, NULL);
  CHECK_OK(podkeep_group_start(g));
  event_wait(&m->a->teardown.entered);
  CHECK_STATE(m->pod, STOPPING);
  CHECK_STATUS(podkeep_pod_wait_ready(m->pod, 0), want);
  event_set(&m->a->teardown.go);
  CHECK_STATUS(podkeep_pod_wait_ready(m->pod, LIMIT_MS), PODKEEP_ERR_ENDED);
  group_down(g, PODKEEP_OK);
  drop_pods(2, (member *[]){other, m});
}
TEST(L15_stops_unready__one_for_one) {
  stops_unready(PODKEEP_ONE_FOR_ONE, PODKEEP_RESTART_ON_FAILURE, BEFORE, PODKEEP_ERR_ENDED);
}
TEST(L15_stops_unready__one_for_all) {
  stops_unready(PODKEEP_ONE_FOR_ALL, PODKEEP_RESTART_NEVER, BEFORE, PODKEEP_ERR_ENDED);
  stops_unready(PODKEEP_ONE_FOR_ALL, PODKEEP_RESTART_ON_FAILURE, BEFORE, PODKEEP_ERR_TIMEOUT);
  stops_unready(PODKEEP_ONE_FOR_ALL, PODKEEP_RESTART_ON_FAILURE, BEHIND, PODKEEP_ERR_TIMEOUT);
}
TEST(L15_stops_unready__rest_for_one) {
  stops_unready(PODKEEP_REST_FOR_ONE, PODKEEP_RESTART_ON_FAILURE, BEFORE, PODKEEP_ERR_TIMEOUT);
  stops_unready(PODKEEP_REST_FOR_ONE, PODKEEP_RESTART_ON_FAILURE, BEHIND, PODKEEP_ERR_ENDED);
}
