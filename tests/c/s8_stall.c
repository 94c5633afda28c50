/* Section 8, the watchdog: time in which the whole host was stopped is nobody's silence. */
#include "lives.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

static probe *watched(const char *name, int64_t interval_ms) {
  probe *p = probe_new(name);
  p->options.watchdog_ms = interval_ms;
  p->no_hook = true;
  return p;
}

/* So often that one who is kept from running for a while has not been silent. */
static int32_t heartbeats(probe *p, podkeep_context *ctx) {
  while (podkeep_context_wait(ctx, p->options.watchdog_ms / 16) == PODKEEP_ERR_TIMEOUT) CHECK_OK(podkeep_context_heartbeat(ctx));
  return 0;
}

typedef struct stalled {
  uint64_t off, on; /* when it began, and was over */
} stalled;

/* Another process stops this one (and the child) for so long, then lets both go on. */
static stalled stall(int64_t ms, pid_t child) {
  stalled *s = world_alloc(sizeof *s);
  pid_t self = getpid(), helper = fork();
  CHECK(helper >= 0);
  if (helper == 0) { /* nothing but calls that a fork of many threads may make */
    s->off = now_ns();
    kill(self, SIGSTOP);
    if (child > 0) kill(child, SIGSTOP);
    pass_ms(ms);
    s->on = now_ns();
    if (child > 0) kill(child, SIGCONT);
    kill(self, SIGCONT);
    _exit(0);
  }
  int status = -1;
  CHECK_INT(waitpid(helper, &status, 0), helper); /* it may have ended before we were on again */
  CHECK_INT(status, 0);
  return *s;
}

static pid_t child_of(const probe *p) { return S_is_elsewhere() ? (pid_t)p->init.tid : 0; }

/* A pod that does its duty is not to blame for the time in which nobody ran. */
TEST(S8_watchdog__stalled_with_its_host) {
  probe *p = watched("suspended", slow_ms(300));
  p->run.does = heartbeats;
  podkeep_pod *pod = probe_running(p);
  for (int i = 0; i < 2; i++) {
    stall(2 * p->options.watchdog_ms, child_of(p));
    CHECK_STATUS(podkeep_pod_join(pod, p->options.watchdog_ms), PODKEEP_ERR_TIMEOUT);
    CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
    CHECK_NO_FAILURE(pod);
  }
  probe_close(p, PODKEEP_OK);
}

/* Also when the stall is hardly longer than the interval: it begins right after a heartbeat, and when it is over the next one and the
 * limit are both past. */
static int32_t tells_its_heartbeats(probe *p, podkeep_context *ctx) {
  while (podkeep_context_wait(ctx, p->options.watchdog_ms / 16) == PODKEEP_ERR_TIMEOUT) {
    CHECK_OK(podkeep_context_heartbeat(ctx));
    event_set(p->data);
  }
  return 0;
}

TEST(S8_watchdog__stalled_for_little_more_than_an_interval) {
  probe *p = watched("suspended shortly", slow_ms(800));
  p->data = world_alloc(sizeof(event));
  p->run.does = tells_its_heartbeats;
  podkeep_pod *pod = probe_running(p);
  for (int i = 0; i < rounds(5); i++) {
    event_clear(p->data);
    event_wait(p->data);
    stall(p->options.watchdog_ms * 6 / 5, child_of(p));
    CHECK_STATUS(podkeep_pod_join(pod, p->options.watchdog_ms / 8), PODKEEP_ERR_TIMEOUT);
    CHECK_NO_FAILURE(pod);
    CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  }
  probe_close(p, PODKEEP_OK);
}

/* A machine that was busy for a moment has not used up what a suspended one is given. One of some tries is without a real stall on
 * the way, which would not be a short one. */
static bool one_fresh_interval_after_two_stalls(void) {
  probe *p = watched("busy, then suspended", slow_ms(300));
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_running(p);
  stall(p->options.watchdog_ms * 4 / 5, child_of(p)); /* over the keeper's first look */
  stalled s = stall(3 * p->options.watchdog_ms, child_of(p));
  uint64_t running = next_to(m, PODKEEP_STATE_RUNNING).time_ns, stopping = next_to(m, PODKEEP_STATE_STOPPING).time_ns;
  uint64_t interval = (uint64_t)p->options.watchdog_ms * MS;
  bool undisturbed = s.off < running + interval * 3 / 2;
  CHECK(stopping >= s.on + interval || !undisturbed);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_WATCHDOG, 0, NULL);
  probe_free(p);
  return undisturbed;
}

TEST(S8_watchdog__one_fresh_interval_after_a_long_stall_though_a_short_one_came_before) {
  in_time_once(one_fresh_interval_after_two_stalls);
}

/* One that is silent is caught all the same: one fresh interval is given, and no more, unless the machine itself stalls, too. */
static bool one_fresh_interval(void) {
  probe *p = watched("suspended, then silent", slow_ms(1000));
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_running(p);
  stalled s = stall(p->options.watchdog_ms * 3 / 2, child_of(p));
  uint64_t running = next_to(m, PODKEEP_STATE_RUNNING).time_ns, stopping = next_to(m, PODKEEP_STATE_STOPPING).time_ns;
  uint64_t interval = (uint64_t)p->options.watchdog_ms * MS;
  bool undisturbed = s.off < running + interval / 4; /* by no real stall that would count as much */
  CHECK(stopping >= s.on + interval || !undisturbed);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_WATCHDOG, 0, NULL);
  probe_free(p);
  return undisturbed && stopping <= s.on + interval * 2;
}

TEST(S8_watchdog__one_fresh_interval_after_a_stall) { in_time_once(one_fresh_interval); }
