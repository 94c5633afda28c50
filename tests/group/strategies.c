/* strategies.c: what a member's restart takes along, in which order, and what counts (contract, section 8). */
#include "members.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Five in a row, added in an order that is not that of their names. */
static const char *const names[5] = {"mango", "apple", "zebra", "kiwi", "fig"};

static where where_of(where all, int i) { return all == MIXED ? (where)(i % 3) : all; }

typedef struct five {
  podkeep_group *g;
  member *m[5];
  journal *j;
} five;
static five five_up(podkeep_strategy strategy, where all, podkeep_restart third, podkeep_restart others) {
  five f = {group_new(strategy, false, 0), {NULL}, NULL};
  for (int i = 0; i < 5; i++) {
    f.m[i] = member_new(where_of(all, i), names[i]);
    f.m[i]->options.restart = i == 2 ? third : others;
    join_group(f.g, f.m[i], i ? names[i - 1] : NULL);
  }
  f.j = journal_of(f.g);
  group_up(f.g);
  CHECK_STR(journal_words(f.j, 0, "+"), "");
  journal_read(f.j, 0);
  CHECK_STR(journal_words(f.j, 0, "<+"), "mango< mango+ apple< apple+ zebra< zebra+ kiwi< kiwi+ fig< fig+");
  return f;
}
static void five_down(five f, podkeep_status want) {
  size_t mark = journal_mark(f.j);
  group_down(f.g, want);
  journal_read(f.j, 0);
  CHECK_STR(journal_words(f.j, mark, ">."), "fig> fig. kiwi> kiwi. zebra> zebra. apple> apple. mango> mango.");
  journal_free(f.j);
  for (int i = 0; i < 5; i++) CHECK_OK(podkeep_pod_free(f.m[i]->pod));
}

static void the_third_falls(podkeep_strategy strategy, where all, const char *words, uint32_t along) {
  five f = five_up(strategy, all, PODKEEP_RESTART_ON_FAILURE, PODKEEP_RESTART_NEVER);
  int last = strategy == PODKEEP_ONE_FOR_ONE ? 2 : 4;
  uint32_t restarts;
  for (int round = 1; round <= 3; round++) {
    size_t mark = journal_mark(f.j);
    fall(f.m[2]);
    JOURNAL_UNTIL(f.j, mark, names[last], '+');
    CHECK_STR(journal_words(f.j, mark, "-+.!"), words);
    CHECK_OK(podkeep_group_wait_ready(f.g, LIMIT_MS));
    CHECK_GROUP(f.g, RUNNING);
    for (int i = 0; i < 5; i++) {
      bool goes = i == 2 || (along >> i & 1) != 0;
      CHECK_OK(podkeep_pod_restarts(f.m[i]->pod, &restarts));
      CHECK_INT(restarts, goes ? round : 0);
      if (f.m[i]->a && f.m[i]->where == THREAD) CHECK_INT(LOAD(f.m[i]->a->teardown.count), restarts);
    }
  }
  five_down(f, PODKEEP_OK);
}
#define ONE_WORDS "zebra- zebra+"
#define REST_WORDS "zebra- fig- kiwi- zebra+ kiwi+ fig+"
#define ALL_WORDS "zebra- fig- kiwi- apple- mango- mango+ apple+ zebra+ kiwi+ fig+"
TEST(strategy_one__threads) { the_third_falls(PODKEEP_ONE_FOR_ONE, THREAD, ONE_WORDS, 0); }
TEST(strategy_one__processes) { the_third_falls(PODKEEP_ONE_FOR_ONE, PROCESS, ONE_WORDS, 0); }
TEST(strategy_one__commands) { the_third_falls(PODKEEP_ONE_FOR_ONE, COMMAND, ONE_WORDS, 0); }
TEST(strategy_one__mixed) { the_third_falls(PODKEEP_ONE_FOR_ONE, MIXED, ONE_WORDS, 0); }
TEST(strategy_rest__threads) { the_third_falls(PODKEEP_REST_FOR_ONE, THREAD, REST_WORDS, 0x18); }
TEST(strategy_rest__processes) { the_third_falls(PODKEEP_REST_FOR_ONE, PROCESS, REST_WORDS, 0x18); }
TEST(strategy_rest__commands) { the_third_falls(PODKEEP_REST_FOR_ONE, COMMAND, REST_WORDS, 0x18); }
TEST(strategy_rest__mixed) { the_third_falls(PODKEEP_REST_FOR_ONE, MIXED, REST_WORDS, 0x18); }
TEST(strategy_all__threads) { the_third_falls(PODKEEP_ONE_FOR_ALL, THREAD, ALL_WORDS, 0x1b); }
TEST(strategy_all__processes) { the_third_falls(PODKEEP_ONE_FOR_ALL, PROCESS, ALL_WORDS, 0x1b); }
TEST(strategy_all__commands) { the_third_falls(PODKEEP_ONE_FOR_ALL, COMMAND, ALL_WORDS, 0x1b); }
TEST(strategy_all__mixed) { the_third_falls(PODKEEP_ONE_FOR_ALL, MIXED, ALL_WORDS, 0x1b); }

/* The first's restarts take the second along ten times, whose own limit is one: it has that one still, and no second. */
static void what_a_sibling_takes_along_is_not_counted(where where) {
  podkeep_group *g = group_new(PODKEEP_REST_FOR_ONE, false, 0);
  member *a = member_new(where, "cause"), *b = member_new(where, "along");
  a->options.restart = b->options.restart = PODKEEP_RESTART_ON_FAILURE;
  a->options.max_restarts = UINT32_MAX;
  b->options.max_restarts = 1;
  join_group(g, a, NULL);
  join_group(g, b, NULL); /* not after it: the strategy alone takes it along */
  journal *j = journal_of(g);
  group_up(g);
  for (int i = 1; i <= 10; i++) {
    size_t mark = journal_mark(j);
    fall(a);
    JOURNAL_UNTIL(j, mark, "along", '+');
    JOURNAL_UNTIL(j, mark, "cause", '+');
  }
  uint32_t restarts;
  CHECK_OK(podkeep_pod_restarts(b->pod, &restarts));
  CHECK_INT(restarts, 10);
  CHECK_OK(podkeep_group_wait_ready(g, LIMIT_MS));
  size_t mark = journal_mark(j);
  fall(b);
  JOURNAL_UNTIL(j, mark, "along", '+');
  CHECK_STR(journal_words(j, mark, "-+"), "along- along+");
  fall(b);
  JOURNAL_UNTIL(j, mark, "along", '!');
  CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_GROUP_FAILURE(g, "along", RETURNED, "made to fall");
  journal_free(j);
  CHECK_OK(podkeep_group_free(g));
  CHECK_OK(podkeep_pod_free(a->pod));
  CHECK_OK(podkeep_pod_free(b->pod));
}
TEST(not_counted__threads) { what_a_sibling_takes_along_is_not_counted(THREAD); }
TEST(not_counted__processes) { what_a_sibling_takes_along_is_not_counted(PROCESS); }

/* The third crash with a limit of two ends the member, and the group with it. */
static void the_third_crash_with_a_limit_of_two(where where) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *base = member_in(g, THREAD, "base", NULL);
  member *weak = member_new(where, "weak");
  weak->options.restart = PODKEEP_RESTART_ON_FAILURE;
  weak->options.max_restarts = 2;
  join_group(g, weak, "base");
  journal *j = journal_of(g);
  group_up(g);
  for (int i = 0; i < 3; i++) {
    size_t mark = journal_mark(j);
    fall(weak);
    JOURNAL_UNTIL(j, mark, "weak", i < 2 ? '+' : '!');
  }
  CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_HAS(podkeep_last_error(), "weak");
  CHECK_GROUP(g, FAILED);
  CHECK_STATE(base->pod, STOPPED);
  journal_read(j, 0);
  CHECK_STR(journal_words(j, 0, "+-.!"), "base+ weak+ weak- weak+ weak- weak+ weak! base.");
  if (where == COMMAND) CHECK_GROUP_FAILURE(g, "weak", SIGNAL, "9");
  else CHECK_GROUP_FAILURE(g, "weak", RETURNED, "made to fall");
  CHECK_STATUS(podkeep_group_wait_ready(g, LIMIT_MS), PODKEEP_ERR_FAILED);
  journal_free(j);
  CHECK_OK(podkeep_group_free(g));
  CHECK_OK(podkeep_pod_free(base->pod));
  CHECK_OK(podkeep_pod_free(weak->pod));
}
TEST(budget_of_restarts__thread) { the_third_crash_with_a_limit_of_two(THREAD); }
TEST(budget_of_restarts__process) { the_third_crash_with_a_limit_of_two(PROCESS); }
TEST(budget_of_restarts__command) { the_third_crash_with_a_limit_of_two(COMMAND); }
