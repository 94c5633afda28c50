/* monitor.c: what a group's monitor tells beside its members' events: that the group shows another state, and that it has ended. */
#include "members.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static bool readable(int fd, int64_t ms) {
  struct pollfd p = {fd, POLLIN, 0};
  int n = poll(&p, 1, (int)ms);
  CHECK(n >= 0);
  return n == 1;
}
static podkeep_monitor *monitor_of(podkeep_group *g, int *fd) {
  podkeep_monitor *m;
  CHECK_OK(podkeep_monitor_new_group(g, &m));
  CHECK_OK(podkeep_monitor_fd(m, fd));
  return m;
}
static podkeep_status look(podkeep_monitor *m) {
  podkeep_event e = PODKEEP_EVENT_INIT;
  return podkeep_monitor_next(m, &e, 0);
}
/* Reads all that waits; what there is in the end, TIMEOUT or ENDED. */
static podkeep_status drain(podkeep_monitor *m) {
  podkeep_status status;
  while ((status = look(m)) == PODKEEP_OK) {}
  return status;
}
/* As an event loop does it: reads on, looks at the group, sleeps on the descriptor alone. */
static void loop_until(podkeep_group *g, podkeep_monitor *m, int fd, podkeep_state want) {
  for (;;) {
    podkeep_status status = drain(m);
    if (group_state(g) == want) return;
    CHECK_STATUS(status, PODKEEP_ERR_TIMEOUT);
    if (!readable(fd, LIMIT_MS)) check_failed(__FILE__, __LINE__, "no wake: the group is in state %d, not %d", group_state(g), want);
  }
}
/* All is told: ENDED, as often as it is asked for, and the descriptor says so for good. */
static void check_ended(podkeep_monitor *m, int fd) {
  CHECK(readable(fd, LIMIT_MS));
  CHECK_STATUS(drain(m), PODKEEP_ERR_ENDED);
  CHECK_STATUS(look(m), PODKEEP_ERR_ENDED);
  podkeep_event e = PODKEEP_EVENT_INIT;
  CHECK_STATUS(podkeep_monitor_next(m, &e, PODKEEP_FOREVER), PODKEEP_ERR_ENDED);
  CHECK(readable(fd, 0));
  CHECK_OK(podkeep_monitor_free(m));
}
static void drop(podkeep_group *g, int n, member **m) {
  CHECK_OK(podkeep_group_free(g));
  for (int i = 0; i < n; i++) {
    CHECK_OK(podkeep_pod_free(m[i]->pod));
    free(m[i]);
  }
}

/* Without a member there is no event: the descriptor tells of the group's own states alone. */
TEST(monitor__rings_for_the_groups_own_state) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  int fd = -1;
  podkeep_monitor *m = monitor_of(g, &fd);
  CHECK(!readable(fd, 0));
  CHECK_STATUS(look(m), PODKEEP_ERR_TIMEOUT);
  CHECK_OK(podkeep_group_start(g));
  CHECK(readable(fd, 0));
  CHECK_GROUP(g, RUNNING);
  CHECK(readable(fd, 0)); /* looking at the group is not reading */
  CHECK_STATUS(look(m), PODKEEP_ERR_TIMEOUT);
  CHECK(!readable(fd, SHORT_MS));
  CHECK_OK(podkeep_group_cancel(g));
  CHECK_GROUP(g, STOPPED);
  check_ended(m, fd);
  CHECK_OK(podkeep_group_free(g));
}

/* A descriptor made late tells of what was not read yet. */
TEST(monitor__descriptor_made_late) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  podkeep_monitor *m;
  int fd = -1;
  CHECK_OK(podkeep_monitor_new_group(g, &m));
  CHECK_OK(podkeep_group_start(g));
  CHECK_OK(podkeep_monitor_fd(m, &fd));
  CHECK(readable(fd, 0));
  CHECK_STATUS(look(m), PODKEEP_ERR_TIMEOUT);
  CHECK(!readable(fd, 0));
  group_down(g, PODKEEP_OK);
  check_ended(m, fd);
}

/* Each state that can be waited for is reached in a loop that sleeps on nothing but the descriptor. */
static void told(where where, bool fails) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m[3] = {member_in(g, THREAD, "zebra", NULL), member_in(g, where, "apple", "zebra"), member_in(g, THREAD, "mango", NULL)};
  int fd = -1;
  podkeep_monitor *monitor = monitor_of(g, &fd);
  loop_until(g, monitor, fd, PODKEEP_STATE_NEW);
  CHECK_OK(podkeep_group_start(g));
  loop_until(g, monitor, fd, PODKEEP_STATE_RUNNING);
  if (fails) fall(m[1]);
  else CHECK_OK(podkeep_group_cancel(g));
  loop_until(g, monitor, fd, fails ? PODKEEP_STATE_FAILED : PODKEEP_STATE_STOPPED);
  check_ended(monitor, fd);
  drop(g, 3, m);
}
TEST(monitor__tells_running_and_stopped__threads) { told(THREAD, false); }
TEST(monitor__tells_running_and_stopped__processes) { told(PROCESS, false); }
TEST(monitor__tells_failed__threads) { told(THREAD, true); }
TEST(monitor__tells_failed__processes) { told(PROCESS, true); }
TEST(monitor__tells_failed__commands) { told(COMMAND, true); }

/* Made when all is over it tells the last states, then ENDED; so it does of a group that never started, or was freed. */
TEST(monitor__of_a_final_group) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m = member_in(g, THREAD, "only", NULL);
  int fd = -1, late = -1;
  group_up(g);
  CHECK_OK(podkeep_group_close(g));
  podkeep_monitor *monitor = monitor_of(g, &fd);
  podkeep_event e = PODKEEP_EVENT_INIT;
  CHECK(readable(fd, 0));
  CHECK_OK(podkeep_monitor_next(monitor, &e, 0));
  CHECK_INT(e.from, PODKEEP_STATE_STOPPED);
  CHECK_INT(e.to, PODKEEP_STATE_STOPPED);
  check_ended(monitor, fd);
  monitor = monitor_of(g, &late); /* the members' handles are gone, and nothing is left to tell */
  CHECK_OK(podkeep_pod_free(m->pod));
  CHECK_OK(podkeep_group_free(g));
  check_ended(monitor, late);
  free(m);
}
TEST(monitor__of_a_group_that_never_starts) {
  for (int freed = 0; freed < 2; freed++) {
    podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
    member *m = member_in(g, THREAD, "only", NULL);
    int fd = -1;
    podkeep_monitor *monitor = monitor_of(g, &fd);
    CHECK_STATUS(drain(monitor), PODKEEP_ERR_TIMEOUT);
    CHECK(!readable(fd, 0));
    CHECK_OK(freed ? podkeep_group_free(g) : podkeep_group_cancel(g));
    CHECK(readable(fd, LIMIT_MS));
    podkeep_event e = PODKEEP_EVENT_INIT;
    CHECK_OK(podkeep_monitor_next(monitor, &e, 0));
    CHECK_INT(e.to, PODKEEP_STATE_STOPPED);
    check_ended(monitor, fd);
    if (!freed) CHECK_OK(podkeep_group_free(g));
    CHECK_OK(podkeep_pod_free(m->pod));
    free(m);
  }
}

/* Who watches before the members are there is told of each as it is taken in. */
TEST(monitor__members_to_come) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  int fd = -1;
  podkeep_monitor *monitor = monitor_of(g, &fd);
  member *m[2];
  static const char *const names[2] = {"one", "two"};
  for (int i = 0; i < 2; i++) {
    m[i] = member_in(g, i ? PROCESS : THREAD, names[i], NULL);
    podkeep_event e = PODKEEP_EVENT_INIT;
    CHECK(readable(fd, 0));
    CHECK_OK(podkeep_monitor_next(monitor, &e, 0));
    CHECK_STR(e.name, names[i]);
    CHECK_INT(e.from, PODKEEP_STATE_NEW);
    CHECK_INT(e.to, PODKEEP_STATE_NEW);
    CHECK_STATUS(look(monitor), PODKEEP_ERR_TIMEOUT);
  }
  group_up(g);
  CHECK_OK(podkeep_group_close(g));
  check_ended(monitor, fd);
  drop(g, 2, m);
}

/* A group whose member was let go has not ended; when the thread comes back, it has. */
TEST(monitor__abandoned_is_not_the_end) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m = member_new(THREAD, "deaf");
  m->options.grace_ms = 50;
  m->a->run.held = true;
  join_group(g, m, NULL);
  group_up(g);
  event_wait(&m->a->run.entered);
  int fd = -1;
  podkeep_monitor *monitor = monitor_of(g, &fd);
  CHECK_STATUS(podkeep_group_close(g), PODKEEP_ERR_TIMEOUT);
  podkeep_event e = PODKEEP_EVENT_INIT;
  do { /* shown before it is told */
    CHECK_OK(podkeep_monitor_next(monitor, &e, LIMIT_MS));
  } while (e.to != PODKEEP_STATE_ABANDONED);
  loop_until(g, monitor, fd, PODKEEP_STATE_ABANDONED);
  CHECK_STATUS(drain(monitor), PODKEEP_ERR_TIMEOUT);
  CHECK(!readable(fd, SHORT_MS));
  event_set(&m->a->run.go);
  loop_until(g, monitor, fd, PODKEEP_STATE_FAILED);
  check_ended(monitor, fd);
  drop(g, 1, &m);
}

/* Who sleeps in next is woken by the end of the group, and by nothing but events and that. */
static void *read_to_the_end(void *monitor) {
  podkeep_event e = PODKEEP_EVENT_INIT;
  podkeep_status status;
  while ((status = podkeep_monitor_next(monitor, &e, LIMIT_MS)) == PODKEEP_OK) {}
  CHECK_STATUS(status, PODKEEP_ERR_ENDED);
  return NULL;
}
TEST(monitor__who_sleeps_in_next_hears_of_the_end) {
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  member *m[2] = {member_in(g, THREAD, "one", NULL), member_in(g, THREAD, "two", "one")};
  podkeep_group *empty = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  podkeep_monitor *monitors[2];
  pthread_t readers[2];
  CHECK_OK(podkeep_monitor_new_group(g, &monitors[0]));
  CHECK_OK(podkeep_monitor_new_group(empty, &monitors[1]));
  for (int i = 0; i < 2; i++) CHECK_INT(pthread_create(&readers[i], NULL, read_to_the_end, monitors[i]), 0);
  group_up(g);
  group_up(empty);
  CHECK_OK(podkeep_group_cancel(g));
  CHECK_OK(podkeep_group_cancel(empty));
  for (int i = 0; i < 2; i++) {
    CHECK_INT(pthread_join(readers[i], NULL), 0);
    CHECK_OK(podkeep_monitor_free(monitors[i]));
  }
  drop(g, 2, m);
  CHECK_OK(podkeep_group_free(empty));
}

/* --- No wake is lost ------------------------------------------------------------------------------------------------------------- */

enum { GROUPS = 6 };
static uint32_t rounds_left;

/* A group's life, seen by an event loop of its own, while other groups live theirs; ready and the end are asked for by polls. */
static podkeep_status poll_until(podkeep_group *g, podkeep_monitor *m, int fd, podkeep_status (*ask)(podkeep_group *, int64_t)) {
  for (;;) {
    podkeep_status read = drain(m), status = ask(g, 0);
    if (status != PODKEEP_ERR_TIMEOUT) return status;
    CHECK_STATUS(read, PODKEEP_ERR_TIMEOUT);
    if (!readable(fd, LIMIT_MS)) check_failed(__FILE__, __LINE__, "no wake: the group is in state %d", group_state(g));
  }
}
static void *live_and_look(void *arg) {
  uint32_t dice = (uint32_t)(uintptr_t)arg;
  while ((int32_t)__atomic_fetch_sub(&rounds_left, 1, __ATOMIC_SEQ_CST) > 0) {
    dice = dice * 1664525u + 1013904223u;
    podkeep_group *g = group_new((podkeep_strategy)(dice >> 8) % 3, (dice >> 10) % 4 == 0, 0);
    member *m[3];
    for (int i = 0; i < 3; i++) {
      char name[8] = {(char)('c' - i), 0};
      m[i] = member_new(THREAD, name);
      m[i]->options.restart = (podkeep_restart)((dice >> (12 + 2 * i)) % 3);
      m[i]->options.max_restarts = 1;
      m[i]->significant = (dice >> (18 + i)) % 2;
      member_make(m[i]);
      podkeep_member_options options = PODKEEP_MEMBER_OPTIONS_INIT;
      char first[2] = {'c', 0};
      const char *const after[] = {i ? first : NULL, NULL};
      options.after = after;
      options.significant = m[i]->significant;
      CHECK_OK(podkeep_group_add(g, m[i]->pod, &options));
    }
    int fd = -1;
    podkeep_monitor *monitor = monitor_of(g, &fd);
    CHECK_OK(podkeep_group_start(g));
    CHECK_OK(poll_until(g, monitor, fd, podkeep_group_wait_ready));
    /* It may end by this, or not: then it is asked to, while that is on its way. */
    if (dice >> 31) leave(m[(dice >> 22) % 3]);
    else fall(m[(dice >> 24) % 3]);
    if ((dice >> 26) % 2 == 0) poll_until(g, monitor, fd, podkeep_group_wait_ready);
    CHECK_OK(podkeep_group_cancel(g));
    podkeep_status end = poll_until(g, monitor, fd, podkeep_group_join);
    CHECK(end == PODKEEP_OK || end == PODKEEP_ERR_FAILED);
    podkeep_failure *failure = NULL; /* whose it is, is known as soon as the group has failed */
    CHECK_OK(podkeep_group_failure(g, &failure));
    CHECK((failure != NULL) == (end == PODKEEP_ERR_FAILED));
    CHECK_OK(podkeep_failure_free(failure));
    check_ended(monitor, fd);
    drop(g, 3, m);
  }
  return NULL;
}
TEST(monitor__no_wake_is_lost) {
  pthread_t threads[GROUPS];
  STORE(rounds_left, (uint32_t)(1200 / slow_factor()) + GROUPS);
  for (int i = 0; i < GROUPS; i++)
    CHECK_INT(pthread_create(&threads[i], NULL, live_and_look, (void *)(uintptr_t)random_below(UINT32_MAX)), 0);
  for (int i = 0; i < GROUPS; i++) CHECK_INT(pthread_join(threads[i], NULL), 0);
}
