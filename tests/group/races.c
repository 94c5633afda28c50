/* races.c: groups under fire: cancels at every moment, many failures in one, members killed at random. */
#include "members.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rounds(int n) {
  int left = (int)(n / slow_factor());
  return left < 3 ? 3 : left;
}

/* Each callback's book: init succeeded as often as teardown was called, whoever stopped what and when. */
static void check_books(int n, member **m) {
  for (int i = 0; i < n; i++) {
    podkeep_state state = state_of(m[i]->pod);
    CHECK(state == PODKEEP_STATE_STOPPED || state == PODKEEP_STATE_FAILED);
    if (m[i]->where == THREAD) {
      CHECK_INT(LOAD(m[i]->a->teardown.count), LOAD(m[i]->a->init.count) - LOAD(m[i]->a->numbers[3]));
      CHECK(LOAD(m[i]->a->run.count) <= LOAD(m[i]->a->init.count));
    }
    CHECK_OK(podkeep_pod_free(m[i]->pod));
    free(m[i]);
  }
}
static int32_t act_init_may_fail(actor *a, podkeep_context *ctx) {
  (void)ctx;
  if (ADD(a->numbers[4], 1) % 3 != 0) return 0;
  ADD(a->numbers[3], 1);
  return 3;
}

typedef struct shot {
  podkeep_group *g;
  int64_t after_us;
  int how;
} shot;
static void *shoot(void *arg) {
  shot *s = arg;
  pass_us(s->after_us);
  switch (s->how) {
    case 0: CHECK_OK(podkeep_group_cancel(s->g)); break;
    case 1: podkeep_group_close(s->g); break;
    default: CHECK_OK(podkeep_group_cancel(s->g)), podkeep_group_join(s->g, LIMIT_MS);
  }
  return NULL;
}

/* A cancel in any moment of start, restarts and stop, by two threads at a time: the end comes, in order, with each teardown. */
static void cancelled_at_any_moment(where where, int times, int64_t longest_us) {
  for (int round = 0; round < times; round++) {
    podkeep_group *g = group_new((podkeep_strategy)(round % 3), round % 5 == 0, 0);
    member *m[4];
    static const char *const names[4] = {"mango", "apple", "zebra", "kiwi"};
    static const char *const after[4] = {NULL, "mango", "mango", "zebra"};
    for (int i = 0; i < 4; i++) {
      m[i] = member_new(where == MIXED ? (i % 2 ? PROCESS : THREAD) : where, names[i]);
      m[i]->options.restart = (podkeep_restart)random_below(3);
      m[i]->options.max_restarts = 1 + random_below(20);
      m[i]->significant = random_below(6) == 0;
      if (m[i]->where == THREAD && random_below(3) == 0) DOES(m[i]->a->init, act_init_may_fail);
      join_group(g, m[i], after[i]);
    }
    journal *j = journal_of(g);
    shot shots[2] = {{g, random_below((uint32_t)longest_us), 0}, {g, random_below((uint32_t)longest_us), 1 + (int)random_below(2)}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) CHECK_INT(pthread_create(&threads[i], NULL, shoot, &shots[i]), 0);
    podkeep_status started = podkeep_group_start(g);
    if (started != PODKEEP_OK) CHECK_STATUS(started, PODKEEP_ERR_INVALID_STATE); /* the cancel was faster */
    for (int i = 0; i < 6; i++) {
      pass_us(random_below((uint32_t)longest_us / 8));
      member *one = m[random_below(4)];
      if (random_below(8) == 0) CHECK_OK(podkeep_pod_cancel(one->pod));
      else if (random_below(4) == 0) leave(one);
      else fall(one);
    }
    for (int i = 0; i < 2; i++) CHECK_INT(pthread_join(threads[i], NULL), 0);
    podkeep_status status = podkeep_group_join(g, LIMIT_MS);
    CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
    CHECK_INT(group_state(g), status == PODKEEP_OK ? PODKEEP_STATE_STOPPED : PODKEEP_STATE_FAILED);
    journal_read(j, 0);
    journal_check_order(j, true);
    journal_free(j);
    CHECK_OK(podkeep_group_free(g));
    check_books(4, m);
    members_forget();
  }
}
TEST(race_cancelled_at_any_moment__threads) { cancelled_at_any_moment(THREAD, rounds(600), 3000); }
TEST(race_cancelled_at_any_moment__mixed) { cancelled_at_any_moment(MIXED, rounds(60), 60000); }

/* Freed instead, from within any moment: nothing is left. */
TEST(race_freed_at_any_moment) {
  int times = rounds(300);
  for (int round = 0; round < times; round++) {
    podkeep_group *g = group_new(PODKEEP_ONE_FOR_ALL, false, 0);
    member *m[3];
    for (int i = 0; i < 3; i++) {
      char name[8] = {(char)('c' - i), 0}, before[8] = {(char)('d' - i), 0};
      m[i] = member_new(THREAD, name);
      m[i]->options.restart = PODKEEP_RESTART_ALWAYS;
      join_group(g, m[i], i ? before : NULL);
    }
    CHECK_OK(podkeep_group_start(g));
    pass_us(random_below(500));
    fall(m[random_below(3)]);
    pass_us(random_below(500));
    CHECK_OK(podkeep_group_free(g));
    for (int i = 0; i < 3; i++) UNTIL(state_of(m[i]->pod) == PODKEEP_STATE_STOPPED || state_of(m[i]->pod) == PODKEEP_STATE_FAILED);
    check_books(3, m);
    members_forget();
  }
}

/* Who waits for ready while members fall and come back is woken each time. */
static uint32_t over;
static void *wait_ready_again_and_again(void *arg) {
  uint64_t times = 0;
  while (!LOAD(over)) {
    CHECK_OK(podkeep_group_wait_ready(arg, LIMIT_MS));
    times++;
  }
  return (void *)(uintptr_t)times;
}
TEST(race_waiters_while_members_fall) {
  podkeep_group *g = group_new(PODKEEP_REST_FOR_ONE, false, 0);
  member *m[3];
  for (int i = 0; i < 3; i++) {
    char name[8] = {(char)('c' - i), 0}, before[8] = {(char)('d' - i), 0};
    m[i] = member_new(THREAD, name);
    m[i]->options.restart = PODKEEP_RESTART_ALWAYS;
    m[i]->options.max_restarts = UINT32_MAX;
    m[i]->options.backoff_max_ms = 1;
    join_group(g, m[i], i ? before : NULL);
  }
  group_up(g);
  pthread_t waiters[4];
  for (int i = 0; i < 4; i++) CHECK_INT(pthread_create(&waiters[i], NULL, wait_ready_again_and_again, g), 0);
  for (int i = rounds(800); i > 0; i--) {
    fall(m[random_below(3)]);
    pass_us(random_below(3000));
  }
  for (int i = 0; i < 3; i++) UNTIL(is_back(m[i])); /* a fall that met the close would be a failure */
  CHECK_OK(podkeep_group_wait_ready(g, LIMIT_MS));
  STORE(over, 1);
  for (int i = 0; i < 4; i++) CHECK_INT(pthread_join(waiters[i], NULL), 0);
  group_down(g, PODKEEP_OK);
  check_books(3, m);
}

/* --- A hundred in one moment ------------------------------------------------------------------------------------------------------ */

static void a_hundred_fall(where where, podkeep_restart restart, podkeep_strategy strategy) {
  enum { MANY = 100 };
  podkeep_group *g = group_new(strategy, false, 0);
  member *m[MANY + 1];
  m[0] = member_in(g, THREAD, "base", NULL);
  for (int i = 1; i <= MANY; i++) {
    char name[16];
    snprintf(name, sizeof name, "m%d", (i * 37) % MANY);
    m[i] = member_new(where, name);
    m[i]->options.restart = restart;
    m[i]->options.max_restarts = UINT32_MAX;
    join_group(g, m[i], i == 1 ? "base" : i % 10 == 0 ? m[i - 1]->name : "base");
  }
  journal *j = journal_of(g);
  if (strategy != PODKEEP_ONE_FOR_ONE) journal_may_miss(j); /* some cycles of all hundred are more than a thousand events */
  group_up(g);
  size_t mark = journal_mark(j);
  pid_t pids[MANY + 1] = {0};
  for (int i = 1; i <= MANY && where != THREAD; i++) pids[i] = member_pid(m[i]);
  for (int i = 1; i <= MANY; i++) where == THREAD ? fall(m[i]) : (void)kill(pids[i], SIGKILL);
  if (restart == PODKEEP_RESTART_NEVER) {
    CHECK_STATUS(podkeep_group_join(g, LIMIT_MS), PODKEEP_ERR_FAILED);
    journal_read(j, 0);
    for (int i = 1; i <= MANY; i++) {
      podkeep_state state = state_of(m[i]->pod);
      CHECK(state == PODKEEP_STATE_FAILED || state == PODKEEP_STATE_STOPPED); /* some were cancelled before they fell */
    }
    CHECK_STATE(m[0]->pod, STOPPED);
  } else {
    for (int i = 1; i <= MANY; i++) JOURNAL_UNTIL(j, mark, m[i]->name, '+');
    /* One that a sibling took along before it fell does so in its next life. */
    for (int i = 1; i <= MANY; i++) UNTIL((journal_read(j, 0), is_back(m[i])));
    CHECK_OK(podkeep_group_wait_ready(g, LIMIT_MS));
    for (int i = 0; i <= MANY; i++) CHECK_STATE(m[i]->pod, RUNNING);
    CHECK_OK(podkeep_group_close(g));
    journal_read(j, 0);
  }
  journal_check_order(j, true);
  journal_free(j);
  CHECK_OK(podkeep_group_free(g));
  check_books(MANY + 1, m);
}
TEST(race_a_hundred_fall__threads__never) { a_hundred_fall(THREAD, PODKEEP_RESTART_NEVER, PODKEEP_ONE_FOR_ONE); }
TEST(race_a_hundred_fall__threads__one) { a_hundred_fall(THREAD, PODKEEP_RESTART_ON_FAILURE, PODKEEP_ONE_FOR_ONE); }
TEST(race_a_hundred_fall__threads__rest) { a_hundred_fall(THREAD, PODKEEP_RESTART_ON_FAILURE, PODKEEP_REST_FOR_ONE); }
TEST(race_a_hundred_fall__threads__all) { a_hundred_fall(THREAD, PODKEEP_RESTART_ON_FAILURE, PODKEEP_ONE_FOR_ALL); }
TEST(race_a_hundred_fall__commands__never) { a_hundred_fall(COMMAND, PODKEEP_RESTART_NEVER, PODKEEP_ONE_FOR_ONE); }
TEST(race_a_hundred_fall__commands__all) { a_hundred_fall(COMMAND, PODKEEP_RESTART_ON_FAILURE, PODKEEP_ONE_FOR_ALL); }

/* --- SIGKILL, again and again ------------------------------------------------------------------------------------------------------- */

static uint32_t restarts_of(member *m) {
  uint32_t restarts = 0;
  CHECK_OK(podkeep_pod_restarts(m->pod, &restarts));
  return restarts;
}
static uint32_t sum_of(const uint32_t numbers[6]) {
  uint32_t sum = 0;
  for (int i = 0; i < 6; i++) sum += numbers[i];
  return sum;
}
/* Any of them at any time, for two seconds or, with PODKEEP_TEST_MINUTE, a minute; on a machine that lets us do little in these,
 * until enough of them are sure to come back. */
static void killed_at_random(podkeep_strategy strategy) {
  int64_t length = getenv("PODKEEP_TEST_MINUTE") ? 60000 : 2000;
  podkeep_group *g = group_new(strategy, false, 0);
  static const char *const names[6] = {"mango", "apple", "zebra", "kiwi", "fig", "date"};
  static const char *const after[6] = {NULL, "mango", "mango", "apple zebra", "kiwi", "mango"};
  member *m[6];
  for (int i = 0; i < 6; i++) {
    m[i] = member_new(i % 3 == 0 ? COMMAND : i == 2 ? THREAD : PROCESS, names[i]);
    m[i]->options.restart = i % 2 ? PODKEEP_RESTART_ON_FAILURE : PODKEEP_RESTART_ALWAYS;
    m[i]->options.max_restarts = UINT32_MAX;
    join_group(g, m[i], after[i]);
  }
  journal *j = journal_of(g);
  group_up(g);
  int kills = 0;
  uint32_t over_with[6] = {0}; /* the lives that end: as many restarts are sure to come */
  random_seed((uint32_t)now_ns());
  for (int64_t begun = now_ms(), passed = 0; passed < length || (passed < length + LIMIT_MS && sum_of(over_with) <= 5);
       passed = now_ms() - begun) {
    int which = (int)random_below(6);
    member *one = m[which];
    podkeep_state state = state_of(one->pod);
    if (one->where == THREAD) {
      fall(one);
    } else if (state == PODKEEP_STATE_RUNNING || state == PODKEEP_STATE_STARTING || state == PODKEEP_STATE_STOPPING) {
      int64_t id = 0;
      uint32_t life = restarts_of(one);
      CHECK_OK(podkeep_pod_id(one->pod, &id));
      /* Its own child and no other: a number is not used again before the library has reaped it, and then it is another's. */
      if (id > 1 && restarts_of(one) == life && kill((pid_t)id, SIGKILL) == 0) kills++, over_with[which] = life + 1;
    }
    journal_read(j, random_below(15));
  }
  /* A kill or a fall that was not noticed yet leaves all of them RUNNING for a moment. */
  for (int i = 0; i < 6; i++) UNTIL((journal_read(j, 0), restarts_of(m[i]) >= over_with[i] && is_back(m[i])));
  CHECK_OK(podkeep_group_wait_ready(g, LIMIT_MS));
  uint32_t all = 0;
  for (int i = 0; i < 6; i++) all += restarts_of(m[i]);
  note("%d kills, %u restarts", kills, all);
  CHECK(all > 5);
  for (int i = 0; i < 6; i++) CHECK_STATE(m[i]->pod, RUNNING);
  journal_read(j, SHORT_MS);
  size_t mark = journal_mark(j);
  group_down(g, PODKEEP_OK);
  journal_read(j, 0);
  const char *words = journal_words(j, mark, ".");
  static const char *const rows[][2] = {{"fig.", "kiwi."}, {"kiwi.", "zebra."}, {"kiwi.", "apple."}, {"zebra.", "mango."}, {"apple.", "mango."}, {"date.", "mango."}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const char *first = strstr(words, rows[i][0]), *then = strstr(words, rows[i][1]);
    if (first == NULL || then == NULL || first > then) /* nobody outlives what it needs */
      check_failed(__FILE__, __LINE__, "%s not before %s: %s", rows[i][0], rows[i][1], words);
  }
  journal_check_order(j, true);
  journal_free(j);
  check_books(6, m);
}
TEST_WITH(race_killed_at_random__one, PLAIN, 120) { killed_at_random(PODKEEP_ONE_FOR_ONE); }
TEST_WITH(race_killed_at_random__rest, PLAIN, 120) { killed_at_random(PODKEEP_REST_FOR_ONE); }
TEST_WITH(race_killed_at_random__all, PLAIN, 120) { killed_at_random(PODKEEP_ONE_FOR_ALL); }
