/* fork.c: a host that forks while its process pods run (contract, section 3). */
#include "actor.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void old_handles_are_forked(actor *a, podkeep_pod *command) {
  podkeep_state state;
  podkeep_failure *f;
  CHECK_STATUS(podkeep_pod_state(a->pod, &state), PODKEEP_ERR_FORKED);
  CHECK_STATUS(podkeep_pod_cancel(a->pod), PODKEEP_ERR_FORKED);
  CHECK_STATUS(podkeep_pod_join(a->pod, PODKEEP_FOREVER), PODKEEP_ERR_FORKED);
  CHECK_STATUS(podkeep_pod_wait_ready(a->pod, PODKEEP_FOREVER), PODKEEP_ERR_FORKED);
  CHECK_STATUS(podkeep_pod_close(command), PODKEEP_ERR_FORKED);
  CHECK_STATUS(podkeep_pod_failure(command, &f), PODKEEP_ERR_FORKED);
  CHECK_STATUS(podkeep_pod_free(command), PODKEEP_ERR_FORKED);
  CHECK_STATUS(podkeep_pod_start(command), PODKEEP_ERR_FORKED);
  CHECK_STATUS(podkeep_export(actor_runtime()), PODKEEP_ERR_FORKED);
}
typedef void in_fork(actor *a, podkeep_pod *command);
static void forked(in_fork *does, bool closed) {
  actor *a = actor_new("before");
  podkeep_pod *command = shell_start("before-too", "sleep 1000", NULL);
  actor_running(a);
  pid_t pids[2] = {a->pid, pod_pid(command)};
  for (int i = 0; i < 3; i++) {
    pid_t copy = fork();
    if (copy == 0) {
      does(a, command);
      _exit(0);
    }
    CHECK_INT(wait_code(copy, LIMIT_MS), 0);
    CHECK_STATE(a->pod, RUNNING);
    CHECK_STATE(command, RUNNING);
    CHECK(alive(pids[0]) && alive(pids[1]));
    if (!closed)
      for (int k = 0; k < 2; k++) UNTIL(!group_alive((pid_t)B->numbers[k])); /* the copy's own, by its own guardian */
  }
  actor *fresh = actor_new("after"); /* and the parent goes on as if nothing had been */
  actor_running(fresh);
  actor_close(fresh, PODKEEP_OK);
  CHECK(kill(pids[0], SIGKILL) == 0);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, RUN, SIGNAL, SIGKILL, NULL);
  actor_free(a);
  pod_close(command, PODKEEP_OK);
}
static void only_asks(actor *a, podkeep_pod *command) { old_handles_are_forked(a, command); }
TEST(S3_fork__old_handles_are_forked) { forked(only_asks, true); }

static void start_anew(void) {
  actors_export(true);
  actor *mine = actor_new("in-the-copy");
  podkeep_pod *command = shell_start("in-the-copy-too", "sleep 1000", NULL);
  actor_running(mine);
  B->numbers[0] = mine->pid, B->numbers[1] = pod_pid(command);
  CHECK(kill(pod_pid(command), SIGKILL) == 0);
  CHECK_STATUS(podkeep_pod_join(command, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(command, RUN, SIGNAL, SIGKILL, NULL);
  CHECK_OK(podkeep_pod_free(command));
  actor_close(mine, PODKEEP_OK);
}
static void starts_anew(actor *a, podkeep_pod *command) {
  old_handles_are_forked(a, command);
  start_anew();
}
TEST(S3_fork__new_pods_work_in_the_copy) { forked(starts_anew, true); }
static void leaves_running(actor *a, podkeep_pod *command) {
  (void)a, (void)command;
  actors_export(true);
  actor *mine = actor_new("in-the-copy");
  podkeep_pod *second = shell_start("in-the-copy-too", "sleep 1000", NULL);
  actor_running(mine);
  B->numbers[0] = mine->pid, B->numbers[1] = pod_pid(second);
}
TEST(S3_fork__what_a_copy_leaves_dies_with_the_copy) { forked(leaves_running, false); }

static void exits_by_handlers(actor *a, podkeep_pod *command) {
  (void)a, (void)command;
  exit(0); /* not _exit: with all exit handlers, as careless programs do */
}
TEST(S3_fork__a_copy_that_exits_harms_nothing) { forked(exits_by_handlers, true); }
static void shuts_down(actor *a, podkeep_pod *command) {
  (void)a, (void)command;
  CHECK_OK(podkeep_shutdown(LIMIT_MS, NULL)); /* the copy's own pods: none */
}
TEST(S3_fork__a_copy_that_shuts_down_harms_nothing) { forked(shuts_down, true); }

static int32_t act_forks(actor *a, podkeep_context *ctx) { /* a callback in a child forks a worker of its own, which returns */
  pid_t copy = fork();
  if (copy == 0) return 42; /* S has nowhere to go there: the copy ends, and its word is nobody's */
  a->numbers[0] = wait_code(copy, LIMIT_MS);
  event_set(&a->events[0]);
  return act_wait(a, ctx);
}
TEST(S3_fork__a_callback_that_forks) {
  actor *a = actor_like("forking", act_forks);
  actor_running(a);
  event_wait(&a->events[0]);
  CHECK_INT(a->numbers[0], 0);
  CHECK_STATE(a->pod, RUNNING);
  actor_close(a, PODKEEP_OK);
  CHECK_INT(a->teardown.count, 1);
}
