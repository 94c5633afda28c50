/* Section 9: a monitor of one pod: what it finds first, order, what an event carries, its end, its descriptor. */
#include "probe.h"

#include <poll.h>
#include <string.h>

static bool readable(int fd, int64_t ms) {
  struct pollfd p = {fd, POLLIN, 0};
  int n = poll(&p, 1, (int)ms);
  CHECK(n >= 0);
  return n == 1;
}

static void nothing_more(podkeep_monitor *m) {
  podkeep_event e = PODKEEP_EVENT_INIT;
  CHECK_STATUS(podkeep_monitor_next(m, &e, 0), PODKEEP_ERR_TIMEOUT);
}

/* --- The present state first ---------------------------------------------------------------------------------------- */

/* A monitor made now finds `state`, and nothing else. */
static void finds(podkeep_pod *pod, podkeep_state state) {
  podkeep_monitor *m = watch(pod);
  podkeep_event e = NEXT_EVENT(m);
  CHECK_INT(e.from, state);
  CHECK_INT(e.to, state);
  CHECK_INT(e.missed, 0);
  CHECK(e.pod == pod);
  nothing_more(m);
  CHECK_OK(podkeep_monitor_free(m));
}

TEST(S9_present_state_first) {
  probe *p = probe_new("present");
  p->init.held = p->teardown.held = true;
  podkeep_pod *pod = probe_make(p);
  finds(pod, PODKEEP_STATE_NEW);
  probe_start(p);
  event_wait(&p->init.entered);
  finds(pod, PODKEEP_STATE_STARTING);
  event_set(&p->init.go);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  finds(pod, PODKEEP_STATE_RUNNING);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&p->teardown.entered);
  finds(pod, PODKEEP_STATE_STOPPING);
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* Of a pod that is final already: that, once, and ENDED (Guava testAddListenerAfterFailureDoesntCauseDeadlock). */
TEST(S9_of_a_final_pod__stopped) {
  probe *p = probe_new("final");
  podkeep_pod *pod = probe_make(p);
  CHECK_OK(podkeep_pod_close(pod));
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, STOPPED, STOPPED);
  CHECK_MONITOR_ENDED(m);
  CHECK_MONITOR_ENDED(m); /* and again */
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

TEST(S9_of_a_final_pod__failed) {
  probe *p = probe_new("final");
  p->init.returns = 7;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_monitor *m = watch(pod);
  podkeep_event e = NEXT_EVENT(m);
  CHECK_INT(e.from, PODKEEP_STATE_FAILED);
  CHECK_INT(e.to, PODKEEP_STATE_FAILED);
  CHECK_FAILURE(e.failure, PODKEEP_PHASE_INIT, PODKEEP_KIND_RETURNED, 7, NULL);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

/* --- What an event carries ------------------------------------------------------------------------------------------ */

TEST(S9_events_tell_all) {
  probe *p = probe_new("telling");
  p->init.held = p->run.held = p->teardown.held = true;
  p->run.returns = 3;
  uint64_t before = now_ns(), last_sequence = 0, last_time = 0;
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  static const podkeep_state path[] = {PODKEEP_STATE_NEW, PODKEEP_STATE_STARTING, PODKEEP_STATE_RUNNING, PODKEEP_STATE_STOPPING,
                                       PODKEEP_STATE_FAILED};
  for (int i = 0; i < 5; i++) {
    if (i == 1) probe_start(p);
    if (i == 2) event_set(&p->init.go);
    if (i == 3) event_set(&p->run.go);
    if (i == 4) event_set(&p->teardown.go);
    podkeep_event e = NEXT_EVENT(m);
    CHECK_INT(e.struct_size, sizeof e);
    CHECK_INT(e.from, path[i ? i - 1 : 0]);
    CHECK_INT(e.to, path[i]);
    CHECK(e.sequence > last_sequence);
    CHECK(e.time_ns >= last_time && e.time_ns <= now_ns() && (i == 0 || e.time_ns >= before));
    CHECK(e.pod == pod);
    CHECK_STR(e.name, "telling");
    CHECK_INT(e.incarnation, 0);
    CHECK_INT(e.missed, 0);
    last_sequence = e.sequence;
    last_time = e.time_ns;
    if (i < 3) CHECK(e.failure == NULL);
    if (i >= 3) { /* it follows the failure of run */
      CHECK_FAILURE(e.failure, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 3, NULL);
      CHECK_STR(podkeep_failure_pod_name(e.failure), "telling");
      CHECK_STATUS(podkeep_failure_free((podkeep_failure *)e.failure), PODKEEP_ERR_INVALID_ARGUMENT); /* borrowed */
      CHECK_INT(podkeep_failure_code(e.failure), 3);
    }
  }
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* A caller of a later version hands in a longer struct: the tail it does not know is zeroed. One too short is refused. */
TEST(S9_event_sizes) {
  struct {
    podkeep_event e;
    uint64_t tail[4];
  } longer;
  probe *p = probe_new("sized");
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  podkeep_event e;
  memset(&e, 0, sizeof e);
  CHECK_STATUS(podkeep_monitor_next(m, &e, 0), PODKEEP_ERR_INVALID_ARGUMENT);
  e.struct_size = sizeof e - 1;
  CHECK_STATUS(podkeep_monitor_next(m, &e, 0), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_monitor_next(m, NULL, 0), PODKEEP_ERR_INVALID_ARGUMENT);
  memset(&longer, 0xee, sizeof longer);
  longer.e.struct_size = sizeof longer;
  memset(longer.tail, 0, sizeof longer.tail); /* an unknown tail is zero on the way in */
  CHECK_OK(podkeep_monitor_next(m, &longer.e, 0));
  CHECK_INT(longer.e.to, PODKEEP_STATE_NEW);
  for (int i = 0; i < 4; i++) CHECK_INT(longer.tail[i], 0);
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

/* "name and failure live until the monitor's next call": a pod freed meanwhile changes nothing of that. */
TEST(S9_name_and_failure_outlive_the_pod) {
  probe *p = probe_new("gone by then");
  p->init.returns = 7;
  podkeep_pod *pod = probe_start(p);
  podkeep_monitor *m = watch(pod);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_event e = PODKEEP_EVENT_INIT;
  while (e.to != PODKEEP_STATE_FAILED) e = NEXT_EVENT(m);
  probe_free(p);
  CHECK_STR(e.name, "gone by then");
  CHECK_FAILURE(e.failure, PODKEEP_PHASE_INIT, PODKEEP_KIND_RETURNED, 7, NULL);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
}

/* "pod in an event is borrowed and may be dead": the news goes on after the handle is freed. */
TEST(S9_goes_on_when_the_pod_is_freed) {
  probe *p = probe_new("freed");
  p->teardown.held = true;
  podkeep_pod *pod = probe_running(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, RUNNING, RUNNING);
  CHECK_OK(podkeep_pod_free(pod));
  p->pod = NULL;
  podkeep_event e = NEXT_EVENT(m);
  CHECK_INT(e.to, PODKEEP_STATE_STOPPING);
  CHECK_STATUS(podkeep_pod_cancel(e.pod), PODKEEP_ERR_INVALID_HANDLE);
  event_set(&p->teardown.go);
  CHECK_EVENT(m, STOPPING, STOPPED);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

/* A pod freed while NEW was never more than that; whoever watches it is not left waiting. */
TEST(S9_of_a_pod_freed_while_new) {
  probe *p = probe_new("unborn");
  podkeep_monitor *m = watch(probe_make(p));
  CHECK_EVENT(m, NEW, NEW);
  probe_free(p);
  podkeep_event e = PODKEEP_EVENT_INIT;
  podkeep_status status = podkeep_monitor_next(m, &e, LIMIT_MS);
  if (status == PODKEEP_OK) { /* free is a cancel: NEW → STOPPED */
    CHECK_INT(e.to, PODKEEP_STATE_STOPPED);
    status = podkeep_monitor_next(m, &e, LIMIT_MS);
  }
  CHECK_STATUS(status, PODKEEP_ERR_ENDED);
  CHECK_OK(podkeep_monitor_free(m));
}

/* The same for one that was cancelled right before: the news of the cancel must not get lost with the handle. */
TEST(S9_of_a_pod_cancelled_and_freed_while_new) {
  for (int i = 0; i < rounds(100); i++) {
    probe *p = probe_new("unborn");
    podkeep_monitor *m = watch(probe_make(p));
    if (i % 2) CHECK_EVENT(m, NEW, NEW);
    CHECK_OK(podkeep_pod_cancel(p->pod));
    probe_free(p);
    podkeep_state last = -1;
    podkeep_event e = PODKEEP_EVENT_INIT;
    podkeep_status status;
    while ((status = podkeep_monitor_next(m, &e, LIMIT_MS)) == PODKEEP_OK) last = e.to;
    CHECK_STATUS(status, PODKEEP_ERR_ENDED);
    CHECK_INT(last, PODKEEP_STATE_STOPPED);
    CHECK_OK(podkeep_monitor_free(m));
  }
}

TEST(S9_several_monitors_hear_the_same) {
  probe *p = probe_new("popular");
  p->init.held = p->run.held = p->teardown.held = true;
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m[5];
  for (int i = 0; i < 5; i++) m[i] = watch(pod);
  for (int i = 0; i < 5; i++) CHECK_EVENT(m[i], NEW, NEW);
  probe_start(p);
  for (int i = 0; i < 5; i++) CHECK_EVENT(m[i], NEW, STARTING);
  CHECK_OK(podkeep_monitor_free(m[4])); /* one leaves; the others go on */
  event_set(&p->init.go);
  for (int i = 0; i < 4; i++) CHECK_EVENT(m[i], STARTING, RUNNING);
  event_wait(&p->run.entered);
  event_set(&p->run.go);
  for (int i = 0; i < 4; i++) CHECK_EVENT(m[i], RUNNING, STOPPING);
  event_set(&p->teardown.go);
  for (int i = 0; i < 4; i++) CHECK_EVENT(m[i], STOPPING, STOPPED);
  for (int i = 0; i < 4; i++) CHECK_MONITOR_ENDED(m[i]);
  for (int i = 0; i < 4; i++) CHECK_OK(podkeep_monitor_free(m[i]));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* --- Waiting -------------------------------------------------------------------------------------------------------- */

typedef struct reader {
  podkeep_monitor *m;
  podkeep_status status;
  podkeep_event e;
} reader;

static void read_one(void *arg) {
  reader *r = arg;
  podkeep_event e = PODKEEP_EVENT_INIT;
  r->status = podkeep_monitor_next(r->m, &e, PODKEEP_FOREVER);
  r->e = e;
}

TEST(S9_next_waits_for_the_news) {
  probe *p = probe_new("awaited");
  podkeep_pod *pod = probe_running(p);
  reader *r = world_alloc(sizeof *r);
  r->m = watch(pod);
  CHECK_EVENT(r->m, RUNNING, RUNNING);
  worker w;
  worker_start(&w, read_one, r);
  worker_asleep(&w);
  CHECK_OK(podkeep_pod_cancel(pod));
  worker_join(&w);
  CHECK_STATUS(r->status, PODKEEP_OK);
  CHECK_INT(r->e.from, PODKEEP_STATE_RUNNING);
  CHECK_OK(podkeep_monitor_free(r->m));
  probe_close(p, PODKEEP_OK);
}

/* Freed while another thread waits in next: that next answers ENDED, and no handle is used after it. */
static void read_all(void *arg) {
  reader *r = arg;
  podkeep_event e = PODKEEP_EVENT_INIT;
  while ((r->status = podkeep_monitor_next(r->m, &e, PODKEEP_FOREVER)) == PODKEEP_OK) {}
}

static void freed_while_next_waits(bool of_all) {
  for (int i = 0; i < rounds(50); i++) {
    probe *p = probe_new("unwatched");
    probe_running(p);
    reader *r = world_alloc(sizeof *r);
    podkeep_monitor *m = r->m = watch(of_all ? NULL : p->pod);
    worker w;
    worker_start(&w, read_all, r);
    bool waits = i % 2;
    if (waits) worker_asleep(&w);
    CHECK_OK(podkeep_monitor_free(m));
    worker_join(&w);
    if (waits || r->status == PODKEEP_ERR_ENDED) CHECK_STATUS(r->status, PODKEEP_ERR_ENDED);
    else CHECK_STATUS(r->status, PODKEEP_ERR_INVALID_HANDLE); /* it was freed before that next had begun */
    CHECK_STATUS(podkeep_monitor_free(m), PODKEEP_ERR_INVALID_HANDLE);
    probe_close(p, PODKEEP_OK);
  }
}

TEST(S9_freed_while_next_waits__one_pod) { freed_while_next_waits(false); }
TEST(S9_freed_while_next_waits__all_pods) { freed_while_next_waits(true); }

/* From S and from a hook a monitor may be read: it waits for news, not for the pod. */
static int32_t watches_another(probe *p, podkeep_context *ctx) {
  (void)ctx;
  probe *other = p->data;
  podkeep_monitor *m = watch(probe_running(other));
  CHECK_EVENT(m, RUNNING, RUNNING);
  CHECK_OK(podkeep_pod_cancel(other->pod));
  podkeep_event e = PODKEEP_EVENT_INIT;
  while (e.to != PODKEEP_STATE_STOPPED) e = NEXT_EVENT(m);
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(other);
  return 0;
}

TEST(S9_read_from_S) {
  probe *p = probe_new("watching"), *other = probe_new("watched");
  p->data = other;
  p->run.does = watches_another;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* --- The descriptor ------------------------------------------------------------------------------------------------- */

/* Freed while another thread polls its descriptor: that poll is woken, though no pod has changed. */
static void poll_one(void *arg) {
  struct pollfd *p = arg;
  CHECK_INT(poll(p, 1, (int)LIMIT_MS), 1);
}

TEST(S9_freed_while_its_fd_is_polled) {
  probe *p = probe_new("unpolled");
  podkeep_monitor *m = watch(probe_running(p));
  CHECK_EVENT(m, RUNNING, RUNNING);
  struct pollfd *one = world_alloc(sizeof *one);
  one->events = POLLIN;
  CHECK_OK(podkeep_monitor_fd(m, &one->fd));
  worker w;
  worker_start(&w, poll_one, one);
  worker_asleep(&w);
  CHECK_OK(podkeep_monitor_free(m));
  worker_join(&w);
  probe_close(p, PODKEEP_OK);
}

TEST(S9_fd_is_readable_while_events_wait) {
  probe *p = probe_new("pollable");
  p->teardown.held = true;
  podkeep_pod *pod = probe_running(p);
  podkeep_monitor *m = watch(pod);
  int fd = -1, again = -1;
  CHECK_OK(podkeep_monitor_fd(m, &fd));
  CHECK_OK(podkeep_monitor_fd(m, &again));
  CHECK(fd >= 0 && fd == again);
  CHECK(readable(fd, LIMIT_MS)); /* the present state waits */
  CHECK(readable(fd, 0));        /* looking is not reading */
  CHECK_EVENT(m, RUNNING, RUNNING);
  CHECK(!readable(fd, SHORT_MS));
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK(readable(fd, LIMIT_MS));
  CHECK_EVENT(m, RUNNING, STOPPING);
  CHECK(!readable(fd, SHORT_MS));
  event_set(&p->teardown.go);
  CHECK(readable(fd, LIMIT_MS));
  CHECK_EVENT(m, STOPPING, STOPPED);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* A descriptor asked for late tells of what already waits. */
TEST(S9_fd_made_while_events_wait) {
  probe *p = probe_new("asked late");
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  int fd = -1;
  CHECK_OK(podkeep_monitor_fd(m, &fd));
  CHECK(readable(fd, 0));
  CHECK_EVENT(m, NEW, NEW);
  CHECK(!readable(fd, 0));
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

/* An event loop that only polls the descriptor and reads until TIMEOUT misses nothing, at whatever moment it looks. */
TEST(S9_fd_no_lost_wake) {
  for (int i = 0; i < rounds(200); i++) {
    probe *p = probe_new("looped");
    podkeep_pod *pod = probe_make(p);
    podkeep_monitor *m = watch(pod);
    int fd = -1;
    CHECK_OK(podkeep_monitor_fd(m, &fd));
    probe_start(p);
    podkeep_state state = PODKEEP_STATE_NEW;
    while (state != PODKEEP_STATE_STOPPED) {
      CHECK(readable(fd, LIMIT_MS));
      podkeep_event e = PODKEEP_EVENT_INIT;
      podkeep_status status;
      while ((status = podkeep_monitor_next(m, &e, 0)) == PODKEEP_OK) {
        CHECK_INT(e.from, state);
        state = e.to;
        if (state == PODKEEP_STATE_RUNNING) CHECK_OK(podkeep_pod_cancel(pod));
      }
      CHECK_STATUS(status, state == PODKEEP_STATE_STOPPED ? PODKEEP_ERR_ENDED : PODKEEP_ERR_TIMEOUT);
    }
    CHECK_OK(podkeep_monitor_free(m));
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    probe_free(p);
  }
}
