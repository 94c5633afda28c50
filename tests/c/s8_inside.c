/* Section 8 over several lives, from inside: the contexts, descriptors, hooks and kicks of each, and what S may ask of its own pod. */
#include "lives.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool readable(int fd, int64_t ms) {
  struct pollfd p = {fd, POLLIN, 0};
  int n;
  while ((n = poll(&p, 1, (int)ms)) < 0 && errno == EINTR) {}
  return n == 1;
}

/* --- Contexts, descriptors, hooks, kicks ------------------------------------------------------------------------------ */

static void check_over(podkeep_context *ctx) {
  CHECK(podkeep_context_cancelled(ctx));
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  CHECK_STATUS(podkeep_context_ready(ctx), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_context_heartbeat(ctx), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_context_status(ctx, "from beyond"), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_context_extend(ctx, 1000), PODKEEP_ERR_INVALID_STATE);
  CHECK_INT(podkeep_context_fd(ctx), -1);
}

TEST_WITH(S8_inside__old_contexts_are_over, NOT_PROCESS(OWN_THREADS)) {
  probe *p = restarting("earlier", 3);
  p->options.backoff_ms = p->options.backoff_max_ms = SHORT_MS;
  podkeep_pod *pod = probe_start(p);
  UNTIL(state_of(pod) == PODKEEP_STATE_RESTARTING || event_is_set(&p->lives[1].init.entered));
  check_over(p->lives[0].ctx);
  event_wait(&p->lives[2].run.entered);
  CHECK(p->lives[0].ctx != p->lives[1].ctx && p->lives[1].ctx != p->lives[2].ctx && p->lives[0].ctx != p->lives[2].ctx);
  check_over(p->lives[0].ctx);
  check_over(p->lives[1].ctx);
  CHECK(!podkeep_context_cancelled(p->lives[2].ctx));
  podkeep_context_fail(p->lives[0].ctx, 9, "from beyond");
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK(strstr(podkeep_last_error(), "from beyond") == NULL);
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  probe_close(p, PODKEEP_OK);
}

/* Somebody asleep on the first life's context is woken by its end, not by the second's. */
static void waits_for_its_end(void *arg) { CHECK_OK(podkeep_context_wait(arg, PODKEEP_FOREVER)); }

TEST_WITH(S8_inside__sleepers_of_the_first_are_woken, NOT_PROCESS(OWN_THREADS)) {
  probe *p = restarting("sleeper", 2);
  p->lives[0].run.held = true;
  podkeep_pod *pod = probe_running(p);
  worker w;
  worker_start(&w, waits_for_its_end, p->lives[0].ctx);
  worker_asleep(&w);
  event_set(&p->lives[0].run.go);
  worker_join(&w);
  event_wait(&p->lives[1].run.entered);
  CHECK_STATE(pod, PODKEEP_STATE_RUNNING);
  probe_close(p, PODKEEP_OK);
}

TEST_WITH(S8_inside__each_has_its_descriptor, NOT_PROCESS(OWN_THREADS)) {
  probe *p = far_away("described");
  p->options.backoff_ms = p->options.backoff_max_ms = slow_ms(3000); /* to be seen in the delay */
  p->lives[0].run.held = true;
  podkeep_pod *pod = probe_running(p);
  int first = ctx_fd(p);
  int kept = dup(first); /* who polls it elsewhere */
  CHECK(first >= 0 && kept >= 0);
  event_set(&p->lives[0].run.go);
  until_restarting(pod);
  CHECK(readable(kept, LIMIT_MS));
  UNTIL(fcntl(first, F_GETFD) < 0 && errno == EBADF); /* closed by S, a moment after the state is shown */
  event_wait(&p->lives[1].run.entered);
  int second = ctx_fd(p);
  CHECK(second >= 0 && !readable(second, SHORT_MS));
  CHECK_OK(podkeep_pod_cancel(pod));
  close(kept);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

static int32_t polls_its_descriptor(probe *p, podkeep_context *ctx) {
  (void)p;
  int fd = podkeep_context_fd(ctx);
  CHECK(fd >= 0);
  CHECK(readable(fd, LIMIT_MS) && podkeep_context_cancelled(ctx));
  return 0;
}

TEST(S8_inside__the_descriptor_wakes_a_later_one) {
  probe *p = restarting("polling", 3);
  p->lives[2].run.does = polls_its_descriptor;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[2].run.entered);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* Each life may have its hook, for its own stop. */
TEST(S8_inside__each_has_its_hook) {
  probe *p = restarting("hooked", 3);
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(2000); /* run must be entered by then, and the third be ready */
  for (int i = 0; i < 3; i++) p->lives[i].run.does = does_wait_for_hook;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[2].run.entered);
  CHECK_OK(ctx_ready(p));
  CHECK_INT(p->lives[0].hook.count, 1); /* of the ready timeout */
  CHECK_INT(p->lives[1].hook.count, 1);
  CHECK_INT(p->lives[2].hook.count, 0);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_INT(p->lives[2].hook.count, 1);
  CHECK_STR(history_text(&p->called), "init run cancel teardown init run cancel teardown init run cancel teardown");
  probe_free(p);
}

static int32_t sleeps_deeply(probe *p, podkeep_context *ctx) {
  struct timespec t = {3600, 0};
  (void)p;
  while (!podkeep_context_cancelled(ctx)) nanosleep(&t, NULL); /* the kick ends it */
  return 0;
}

TEST_WITH(S8_inside__a_later_one_is_kicked, NOT_PROCESS(KICK)) {
  probe *p = restarting("kicked", 3);
  p->options.kick_signal = SIGUSR1;
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(2000); /* the third must be ready by then */
  for (int i = 0; i < 3; i++) p->lives[i].run.does = sleeps_deeply;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[2].run.entered);
  CHECK_OK(podkeep_context_ready(p->lives[2].ctx));
  UNTIL(thread_sleeps(p->lives[2].run.tid));
  CHECK_OK(podkeep_pod_close(pod));
  probe_free(p);
}

/* The grace of a stop is anew, too: the first life has used a part of its own. */
TEST_WITH(S8_inside__each_has_its_grace, NOT_MAIN(EXIT)) {
  probe *p = restarting("patient", 2);
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(2000); /* run must be entered by then, and the second be ready */
  p->options.grace_ms = slow_ms(3000);         /* the first must be over by then */
  p->options.kill_after_ms = SHORT_MS;
  p->no_hook = p->s_may_die = true;
  p->lives[0].run.does = NULL;
  p->lives[0].teardown.held = true;
  p->lives[1].run.held = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[0].teardown.entered);
  pass_ms(p->options.grace_ms / 3); /* used up */
  event_set(&p->lives[0].teardown.go);
  event_wait(&p->lives[1].run.entered);
  CHECK_OK(ctx_ready(p));
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  uint64_t start = now_ns();
  CHECK_STATUS(podkeep_pod_close(pod), forced_status());
  CHECK(now_ns() - start >= (uint64_t)p->options.grace_ms * 1000000u);
  CHECK_STATE(pod, forced_state());
  event_set(&p->lives[1].run.go);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE_IN(f, 1, PODKEEP_PHASE_RUN, PODKEEP_KIND_TIMEOUT, podkeep_failure_code(f), NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* --- From S ----------------------------------------------------------------------------------------------------------- */

static int32_t waits_for_itself(probe *p, podkeep_context *ctx) {
  CHECK_STATUS(podkeep_pod_join(p->pod, PODKEEP_FOREVER), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_pod_wait_ready(p->pod, PODKEEP_FOREVER), PODKEEP_ERR_DEADLOCK);
  CHECK_STATUS(podkeep_pod_close(p->pod), PODKEEP_ERR_DEADLOCK);
  CHECK(!podkeep_context_cancelled(ctx));
  if (podkeep_context_incarnation(ctx) == 1) pthread_exit(NULL); /* the next is on another thread */
  return podkeep_context_incarnation(ctx) == 0;
}

TEST_WITH(S8_inside__own_waits_are_a_deadlock_in_each, NOT_PROCESS(HANDLES), NOT_MAIN(LIBRARYS_S)) {
  probe *p = restarting("selfish", 3);
  for (int i = 0; i < 3; i++) p->lives[i].run.does = waits_for_itself;
  p->lives[1].s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_INT(restarts_of(pod), 2);
  probe_free(p);
}

/* To free itself is to be cancelled by a user. */
static int32_t frees_itself(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_pod_free(p->pod));
  CHECK(podkeep_context_cancelled(ctx));
  return 5;
}

TEST_WITH(S8_inside__one_that_frees_itself_is_the_last, NOT_PROCESS(HANDLES)) {
  probe *p = restarting("selfless", 3);
  p->lives[1].run.does = frees_itself;
  podkeep_monitor *m = watch(probe_make(p));
  probe_start(p);
  podkeep_event e = PODKEEP_EVENT_INIT;
  while (e.to != PODKEEP_STATE_FAILED) e = NEXT_EVENT(m);
  CHECK_INT(e.incarnation, 1);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  p->pod = NULL;
  probe_free(p);
  CHECK_INT(p->lives[2].init.count, 0);
}
