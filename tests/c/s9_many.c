/* Section 9: a slow reader's merged events, and the monitor of all pods. */
#include "probe.h"

#include <string.h>

/* The events of one pod must join without a gap, from what was found to the end, and account for every change. */
typedef struct chain {
  podkeep_state state;
  uint32_t changes; /* events, merged ones counted as many as they were; the first, found one included */
  bool begun;
} chain;

static void link_event(chain *c, const podkeep_event *e) {
  if (!c->begun) {
    c->begun = true;
  } else {
    CHECK_INT(e->from, c->state);
    CHECK(e->from != e->to || e->missed > 0); /* only the first tells of no change */
  }
  c->state = e->to;
  c->changes += 1 + e->missed;
}

static chain read_to_the_end(podkeep_monitor *m) {
  chain c = {0, 0, false};
  podkeep_event e = PODKEEP_EVENT_INIT;
  podkeep_status status;
  while ((status = podkeep_monitor_next(m, &e, LIMIT_MS)) == PODKEEP_OK) link_event(&c, &e);
  CHECK_STATUS(status, PODKEEP_ERR_ENDED);
  return c;
}

/* Nobody reads until all is over. NEW, STARTING, RUNNING, STOPPING, STOPPED: five, however they are merged. */
TEST(S9_slow_reader__whole_life) {
  probe *p = probe_new("unread");
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  probe_running(p);
  CHECK_OK(podkeep_pod_close(pod));
  chain c = read_to_the_end(m);
  CHECK_INT(c.state, PODKEEP_STATE_STOPPED);
  CHECK_INT(c.changes, 5);
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

/* A merged event carries the failure of its newest state. */
TEST(S9_slow_reader__failure) {
  probe *p = probe_new("unread");
  p->run.does = does_return;
  p->run.returns = 5;
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  chain c = {0, 0, false};
  podkeep_event e = PODKEEP_EVENT_INIT;
  while (c.state != PODKEEP_STATE_FAILED) {
    e = NEXT_EVENT(m);
    link_event(&c, &e);
  }
  CHECK_INT(c.changes, 5);
  CHECK_FAILURE(e.failure, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 5, NULL);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

/* Guava testListenerDeadlock: a reader that never comes delays nobody. */
TEST(S9_a_reader_that_never_comes) {
  probe *p = probe_new("ignored");
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *never[20];
  for (int i = 0; i < 20; i++) never[i] = watch(pod);
  probe_running(p);
  CHECK_OK(podkeep_pod_close(pod));
  for (int i = 0; i < 20; i++) CHECK_OK(podkeep_monitor_free(never[i]));
  probe_free(p);
}

/* --- All pods ------------------------------------------------------------------------------------------------------- */

/* A monitor of all that has told what it found. */
static podkeep_monitor *watch_all(void) {
  podkeep_monitor *all = watch(NULL);
  podkeep_event e = PODKEEP_EVENT_INIT;
  podkeep_status status;
  while ((status = podkeep_monitor_next(all, &e, 0)) == PODKEEP_OK) CHECK_INT(e.from, e.to);
  CHECK_STATUS(status, PODKEEP_ERR_TIMEOUT);
  return all;
}

TEST(S9_all_pods__present_state_first) {
  probe *a = probe_new("present a"), *b = probe_new("present b");
  probe_make(a);
  probe_running(b);
  podkeep_monitor *all = watch(NULL);
  int seen_a = 0, seen_b = 0;
  podkeep_event e = PODKEEP_EVENT_INIT;
  while (podkeep_monitor_next(all, &e, 0) == PODKEEP_OK) { /* what it found is there at once */
    CHECK_INT(e.from, e.to);
    if (e.pod == a->pod) CHECK_INT(e.to, PODKEEP_STATE_NEW), seen_a++;
    if (e.pod == b->pod) CHECK_INT(e.to, PODKEEP_STATE_RUNNING), seen_b++;
  }
  CHECK_INT(seen_a, 1);
  CHECK_INT(seen_b, 1);
  CHECK_OK(podkeep_monitor_free(all));
  probe_free(a);
  probe_close(b, PODKEEP_OK);
}

TEST(S9_all_pods__later_ones_too) {
  podkeep_monitor *all = watch_all();
  podkeep_event e = PODKEEP_EVENT_INIT;
  probe *p = probe_new("later");
  p->init.held = p->run.held = p->teardown.held = true;
  podkeep_pod *pod = probe_make(p);
  CHECK_EVENT(all, NEW, NEW);
  probe_start(p);
  CHECK_EVENT(all, NEW, STARTING);
  event_set(&p->init.go);
  CHECK_EVENT(all, STARTING, RUNNING);
  event_wait(&p->run.entered);
  event_set(&p->run.go);
  CHECK_EVENT(all, RUNNING, STOPPING);
  event_set(&p->teardown.go);
  CHECK_EVENT(all, STOPPING, STOPPED);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STATUS(podkeep_monitor_next(all, &e, SHORT_MS), PODKEEP_ERR_TIMEOUT); /* it never ends: another may come */
  probe_free(p);
  CHECK_OK(podkeep_monitor_free(all));
}

/* A pod that is final and whose handle is gone is nobody's any more: it is not among what a new monitor finds. One that is freed
 * and still runs is. */
TEST(S9_all_pods__but_not_those_that_are_gone) {
  for (int i = 0; i < rounds(100); i++) {
    probe *p = probe_new("gone");
    probe_running(p);
    probe_close(p, PODKEEP_OK);
    podkeep_monitor *all = watch(NULL);
    podkeep_event e = PODKEEP_EVENT_INIT;
    CHECK_STATUS(podkeep_monitor_next(all, &e, 0), PODKEEP_ERR_TIMEOUT);
    CHECK_OK(podkeep_monitor_free(all));
  }
  probe *p = probe_new("going");
  p->teardown.held = true;
  probe_running(p);
  CHECK_OK(podkeep_pod_free(p->pod));
  p->pod = NULL;
  podkeep_monitor *all = watch(NULL);
  CHECK_EVENT(all, STOPPING, STOPPING);
  event_wait(&p->teardown.entered);
  event_set(&p->teardown.go);
  CHECK_EVENT(all, STOPPING, STOPPED);
  CHECK_OK(podkeep_monitor_free(all));
  probe_free(p);
}

/* Each of two all-pods monitors hears of each of many pods, also of those whose handles are gone. */
TEST(S9_all_pods__freed_ones_too) {
  podkeep_monitor *one = watch_all(), *two = watch_all();
  probe *p[8];
  char name[8][16];
  for (int i = 0; i < 8; i++) {
    static const char *const names[] = {"p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"};
    strcpy(name[i], names[i]);
    p[i] = probe_new(name[i]);
    probe_running(p[i]);
  }
  for (int i = 0; i < 8; i++) probe_free(p[i]);
  for (int k = 0; k < 2; k++) {
    podkeep_monitor *m = k ? two : one;
    chain chains[8];
    memset(chains, 0, sizeof chains);
    int ended = 0;
    while (ended < 8) {
      podkeep_event e = NEXT_EVENT(m);
      int i = e.name[1] - '0';
      CHECK(i >= 0 && i < 8);
      link_event(&chains[i], &e);
      if (e.to == PODKEEP_STATE_STOPPED) {
        CHECK_INT(chains[i].changes, 5);
        ended++;
      }
    }
  }
  CHECK_OK(podkeep_monitor_free(one));
  CHECK_OK(podkeep_monitor_free(two));
}

/* One pod that changes a lot does not push out the newest event of one that is quiet. */
TEST(S9_all_pods__the_newest_is_never_lost) {
  probe *quiet = probe_new("quiet");
  probe_running(quiet);
  podkeep_monitor *all = watch_all();
  CHECK_OK(podkeep_pod_close(quiet->pod));
  for (int i = 0; i < rounds(300); i++) {
    probe *p = probe_new("noisy");
    p->run.does = does_return;
    probe_start(p);
    CHECK_OK(podkeep_pod_join(p->pod, LIMIT_MS));
    probe_free(p);
  }
  int ended = 0, quiet_ended = 0;
  while (ended < rounds(300) || quiet_ended == 0) { /* each of them, or the case waits past its limit */
    podkeep_event e = NEXT_EVENT(all);
    if (e.to != PODKEEP_STATE_STOPPED) continue;
    if (strcmp(e.name, "quiet") == 0) quiet_ended++;
    else ended++;
  }
  CHECK_INT(quiet_ended, 1);
  CHECK_OK(podkeep_monitor_free(all));
  probe_free(quiet);
}

/* The order over all pods is the order of the sequence numbers, for each reader. */
TEST(S9_sequences_grow) {
  podkeep_monitor *all = watch_all();
  uint64_t last = 0;
  for (int round = 0; round < rounds(20); round++) {
    probe *p[5];
    for (int i = 0; i < 5; i++) probe_running(p[i] = probe_new("sequenced"));
    for (int i = 0; i < 5; i++) CHECK_OK(podkeep_pod_cancel(p[i]->pod));
    for (int i = 0; i < 5; i++) probe_close(p[i], PODKEEP_OK);
    podkeep_event e = PODKEEP_EVENT_INIT;
    while (podkeep_monitor_next(all, &e, 0) == PODKEEP_OK) {
      CHECK(e.sequence > last);
      last = e.sequence;
    }
  }
  CHECK(last > 0);
  CHECK_OK(podkeep_monitor_free(all));
}
