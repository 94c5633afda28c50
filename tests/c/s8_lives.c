/* Section 8 and L7, L10, L13, L15 over several lives: what is seen of them, and what each has of its own. */
#include "lives.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- Getters and events ---------------------------------------------------------------------------------------------- */

TEST(S8_lives__are_told) {
  enum { N = 4 };
  probe *p = restarting("cat", N);
  incarnation *lives = p->lives;
  for (int i = 0; i < N; i++) lives[i].init.held = true;
  podkeep_monitor *m = watch(probe_make(p));
  CHECK_INT(restarts_of(p->pod), 0);
  podkeep_pod *pod = probe_start(p);
  CHECK_EVENT(m, NEW, NEW);
  uint64_t sequence = 0, time = 0;
  for (uint32_t i = 0; i < N; i++) {
    podkeep_event e = NEXT_EVENT(m);
    CHECK_INT(e.from, i ? PODKEEP_STATE_RESTARTING : PODKEEP_STATE_NEW);
    CHECK_INT(e.to, PODKEEP_STATE_STARTING);
    CHECK_INT(e.incarnation, i);
    CHECK(e.failure == NULL);
    event_wait(&lives[i].init.entered);
    CHECK_STATE(pod, PODKEEP_STATE_STARTING);
    CHECK_INT(restarts_of(pod), i);
    CHECK_NO_FAILURE(pod); /* cleared when the new incarnation is STARTING */
    event_set(&lives[i].init.go);
    e = NEXT_EVENT(m);
    CHECK_INT(e.to, PODKEEP_STATE_RUNNING);
    CHECK_INT(e.incarnation, i);
    CHECK(e.sequence > sequence && e.time_ns >= time);
    sequence = e.sequence;
    time = e.time_ns;
    if (i + 1 == N) break;
    CHECK_EVENT(m, RUNNING, STOPPING);
    e = NEXT_EVENT(m);
    CHECK_INT(e.from, PODKEEP_STATE_STOPPING);
    CHECK_INT(e.to, PODKEEP_STATE_RESTARTING);
    CHECK_INT(e.incarnation, i);
    CHECK_STR(e.name, "cat");
    CHECK_FAILURE_IN(e.failure, i, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, (int32_t)i + 1, NULL);
    CHECK(e.time_ns >= time);
  }
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_EVENT(m, RUNNING, STOPPING);
  podkeep_event e = NEXT_EVENT(m);
  CHECK_INT(e.to, PODKEEP_STATE_STOPPED);
  CHECK_INT(e.incarnation, N - 1);
  CHECK(e.failure == NULL);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_INT(restarts_of(pod), N - 1);
  probe_free(p);
}

/* Kept in RESTARTING: the record of the life that ended. */
TEST(S8_lives__the_failure_is_kept_in_the_delay) {
  probe *p = far_away("kept");
  podkeep_pod *pod = probe_start(p);
  until_restarting(pod);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 1, NULL);
  CHECK_STR(podkeep_failure_pod_name(f), "kept");
  podkeep_monitor *m = watch(pod); /* who comes now is told as much */
  podkeep_event e = NEXT_EVENT(m);
  CHECK_INT(e.from, PODKEEP_STATE_RESTARTING);
  CHECK_INT(e.to, PODKEEP_STATE_RESTARTING);
  CHECK_INT(e.incarnation, 0);
  CHECK_FAILURE(e.failure, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 1, NULL);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_INT(restarts_of(pod), 0);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 1, NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* A snapshot stays what it was when its pod lives on. */
TEST(S8_lives__a_snapshot_outlives_its_incarnation) {
  probe *p = restarting("snapped", 2);
  p->lives[0].teardown.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[0].teardown.entered);
  CHECK_TOLD_STATE(pod, PODKEEP_STATE_STOPPING);
  podkeep_failure *f = FAILURE_OF(pod);
  event_set(&p->lives[0].teardown.go);
  event_wait(&p->lives[1].run.entered);
  CHECK_NO_FAILURE(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 1, NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_close(p, PODKEEP_OK);
}

/* The chain of one life does not reach into the next. */
TEST(S8_lives__each_has_a_chain_of_its_own) {
  probe *p = restarting("chained", 3);
  p->options.max_restarts = 2;
  p->lives[0].teardown.returns = 20;
  p->lives[1].teardown.returns = 21;
  p->lives[2] = p->lives[1];
  p->lives[2].teardown.returns = 22;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE_IN(f, 2, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 2, NULL);
  const podkeep_failure *second = podkeep_failure_secondary(f);
  CHECK_FAILURE_IN(second, 2, PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_RETURNED, 22, NULL);
  CHECK(podkeep_failure_secondary(second) == NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* What is stored by a life that then ends cleanly is not the next one's excuse. */
static int32_t stores_and_returns_0(probe *p, podkeep_context *ctx) {
  (void)p;
  podkeep_context_fail(ctx, 3, "an old excuse");
  podkeep_context_status(ctx, "an old status");
  podkeep_context_heartbeat(ctx);
  return 0;
}

TEST(S8_lives__nothing_said_is_inherited) {
  probe *p = restarting("fresh", 3);
  p->options.restart = PODKEEP_RESTART_ALWAYS;
  p->options.max_restarts = 1;
  p->lives[0].run.does = stores_and_returns_0;
  p->lives[1].run.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[1].run.entered);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "no status");
  CHECK_HAS(podkeep_last_error(), "no heartbeat");
  event_set(&p->lives[1].run.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE_IN(f, 1, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 2, NULL);
  CHECK(strstr(podkeep_failure_message(f), "old excuse") == NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* Nor is there anybody of the first life's group. */
static int32_t leaves_somebody_behind(probe *p, podkeep_context *ctx) {
  (void)ctx;
  pid_t child = fork();
  if (child == 0) {
    signal(SIGTERM, SIG_IGN);
    for (;;) pause();
  }
  STORE(*(int64_t *)p->data, child);
  return 1;
}

TEST_PROCESS(S8_lives__nobody_of_the_group_is_left) {
  probe *p = restarting("parent", 2);
  p->data = world_alloc(sizeof(int64_t));
  p->lives[0].run.does = leaves_somebody_behind;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[1].run.entered);
  pid_t left = (pid_t)LOAD(*(int64_t *)p->data);
  CHECK(left > 0);
  UNTIL(kill(left, 0) != 0 && errno == ESRCH); /* who reaps it, and when, is not ours to say */
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  probe_close(p, PODKEEP_OK);
}

/* What a child wrote belongs to its own life. */
static int32_t complains(probe *p, podkeep_context *ctx) {
  (void)p;
  dprintf(2, "complaint %u\n", (unsigned)podkeep_context_incarnation(ctx));
  return 1;
}

TEST_PROCESS(S8_lives__each_has_its_stderr) {
  probe *p = restarting("complaining", 2);
  p->options.max_restarts = 1;
  p->lives[0].run.does = p->lives[1].run.does = complains;
  podkeep_monitor *m = watch(probe_make(p));
  podkeep_pod *pod = probe_start(p);
  podkeep_event e = NEXT_EVENT(m);
  while (e.to != PODKEEP_STATE_RESTARTING) e = NEXT_EVENT(m);
  CHECK_STR(podkeep_failure_stderr(e.failure), "complaint 0\n");
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_STR(podkeep_failure_stderr(f), "complaint 1\n");
  CHECK_OK(podkeep_failure_free(f));
  CHECK_OK(podkeep_monitor_free(m));
  probe_free(p);
}

/* --- The thread, the process ------------------------------------------------------------------------------------------ */

TEST(S8_lives__the_thread_is_reused) {
  enum { N = 5 };
  probe *p = restarting("reused", N);
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[N - 1].run.entered);
  int64_t id = 0;
  CHECK_OK(podkeep_pod_id(pod, &id));
  CHECK_INT(id, p->lives[N - 1].run.tid);
  for (int i = 0; i + 1 < N; i++) {
    if (S_is_elsewhere()) CHECK(p->lives[i].pid != p->lives[i + 1].pid);
    else CHECK_INT(p->lives[i].run.tid, p->lives[i + 1].run.tid);
  }
  probe_close(p, PODKEEP_OK);
}

/* One that was ended from inside is gone; another one takes over, by the same name. */
TEST_WITH(S8_lives__another_thread_after_an_end_from_inside, NOT_MAIN(LIBRARYS_S)) {
  enum { N = 4 };
  probe *p = restarting("phoenix", N);
  for (int i = 0; i + 1 < N; i++) {
    p->lives[i].run.does = does_exit;
    p->lives[i].s_may_die = true;
  }
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[N - 1].run.entered);
  for (int i = 0; i + 1 < N; i++) CHECK(p->lives[i].run.tid != p->lives[i + 1].run.tid || S_is_elsewhere());
  CHECK_INT(restarts_of(pod), N - 1);
  if (!S_is_elsewhere()) UNTIL(threads_named("phoenix") == 1); /* the kernel's own end has no event */
  probe_close(p, PODKEEP_OK);
}

/* Between two lives there is no process. */
TEST_PROCESS(S8_lives__no_process_in_the_delay) {
  probe *p = far_away("nobody");
  podkeep_pod *pod = probe_start(p);
  until_restarting(pod);
  int64_t id = 99;
  CHECK_OK(podkeep_pod_id(pod, &id));
  CHECK_INT(id, 0);
  CHECK(kill((pid_t)p->lives[0].pid, 0) != 0 && errno == ESRCH); /* reaped */
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "RESTARTING");
  probe_close(p, PODKEEP_OK);
}

/* --- Never a final state between two lives ---------------------------------------------------------------------------- */

typedef struct looker {
  podkeep_pod *pod;
  event stop;
  uint32_t seen; /* a bit each state */
} looker;

static void looks(void *arg) {
  looker *l = arg;
  while (!event_is_set(&l->stop)) {
    podkeep_failure *f = NULL;
    podkeep_state state = state_of(l->pod);
    l->seen |= 1u << state;
    CHECK_OK(podkeep_pod_failure(l->pod, &f));
    if (f != NULL) CHECK(podkeep_failure_incarnation(f) <= restarts_of(l->pod));
    CHECK_OK(podkeep_failure_free(f));
  }
}

static void never_final(bool dies) {
  enum { N = 40 };
  probe *p = restarting("restless", N);
  p->options.max_restarts = UINT32_MAX;
  p->s_may_die = dies;
  for (int i = 0; dies && i + 1 < N; i++) p->lives[i].run.does = does_exit;
  looker *l = world_alloc(sizeof *l);
  l->pod = probe_start(p);
  worker w;
  worker_start(&w, looks, l);
  event_wait(&p->lives[N - 1].run.entered);
  event_set(&l->stop);
  worker_join(&w);
  CHECK_INT(l->seen & (1u << PODKEEP_STATE_STOPPED | 1u << PODKEEP_STATE_FAILED), 0);
  CHECK_INT(restarts_of(p->pod), N - 1);
  probe_close(p, PODKEEP_OK);
}

TEST(S8_lives__never_final_between_two) { never_final(false); }
TEST_WITH(S8_lives__never_final_between_two_that_die, NOT_MAIN(LIBRARYS_S)) { never_final(true); }

/* --- What belongs to the pod lasts ------------------------------------------------------------------------------------- */

static int32_t reads_its_args(probe *p, podkeep_context *ctx) {
  size_t len = 0;
  const void *args = podkeep_context_args(ctx, &len);
  CHECK(len == 5 && memcmp(args, "12345", 5) == 0 && (uintptr_t)args % 16 == 0);
  CHECK_STR(podkeep_context_name(ctx), "lasting");
  return podkeep_context_incarnation(ctx) < 2 ? (int32_t)podkeep_context_incarnation(ctx) + 1 : p->lives[2].run.returns;
}

/* The runtime's handle was freed meanwhile, and what the args were made of is gone. */
TEST(S8_lives__runtime_and_args_last) {
  probe *p = restarting("lasting", 3);
  char args[] = "12345";
  p->options.args = args;
  p->options.args_len = 5;
  for (int i = 0; i < 3; i++) p->lives[i].run.does = reads_its_args;
  p->lives[0].run.held = true;
  podkeep_pod *pod = probe_running(p);
  memset(args, 'x', sizeof args);
  CHECK_OK(podkeep_runtime_free(p->runtime));
  p->runtime = NULL;
  event_set(&p->lives[0].run.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_INT(restarts_of(pod), 2);
  probe_free(p);
}

/* --- Fork ------------------------------------------------------------------------------------------------------------ */

TEST(S8_lives__fork_in_the_delay) {
  probe *p = restarting("forked", 2);
  p->options.backoff_ms = p->options.backoff_max_ms = slow_ms(3000); /* to be forked in the delay */
  podkeep_pod *pod = probe_start(p);
  until_restarting(pod);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    podkeep_state state;
    podkeep_failure *f = NULL;
    int bad = podkeep_pod_state(pod, &state) != PODKEEP_ERR_FORKED;
    bad |= (podkeep_pod_cancel(pod) != PODKEEP_ERR_FORKED) << 1;
    bad |= (podkeep_pod_join(pod, PODKEEP_FOREVER) != PODKEEP_ERR_FORKED) << 2;
    bad |= (podkeep_pod_wait_ready(pod, PODKEEP_FOREVER) != PODKEEP_ERR_FORKED) << 3;
    bad |= (podkeep_pod_failure(pod, &f) != PODKEEP_ERR_FORKED) << 4;
    bad |= (podkeep_pod_free(pod) != PODKEEP_ERR_FORKED) << 5;
    pass_ms(slow_ms(3500)); /* the delay passes here, too: no life may begin in this process */
    _exit(bad);
  }
  event_wait(&p->lives[1].run.entered);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  int status = -1;
  CHECK_INT(waitpid(child, &status, 0), child);
  CHECK_INT(status, 0);
  CHECK_INT(p->lives[1].init.count, 1);
  probe_close(p, PODKEEP_OK);
}
