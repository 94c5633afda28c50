/* Section 8 where S is any program: the same table of ends and policies, told by exit codes and signals; the watchdog by WATCHDOG=1. */
#include "lives.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define NOTIFIER "PODKEEP_TEST_NOTIFIER"

/* This very program, as a command that is ready at once, says WATCHDOG=1 so many times, and then is silent until it is ended. It
 * does so before main, which knows nothing of it. */
__attribute__((constructor)) static void be_a_notifier(void) {
  const char *times = getenv(NOTIFIER), *place = getenv("NOTIFY_SOCKET");
  if (times == NULL || place == NULL) return;
  struct sockaddr_un to;
  memset(&to, 0, sizeof to);
  to.sun_family = AF_UNIX;
  memcpy(to.sun_path, place, strlen(place));
  to.sun_path[0] = '\0';
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(place));
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&to, size);
  for (int i = 0; i < atoi(times); i++) {
    pass_us(50000); /* the pace of its heartbeats */
    sendto(fd, "WATCHDOG=1", 10, 0, (struct sockaddr *)&to, size);
  }
  for (;;) pause();
}

typedef struct command {
  podkeep_pod_options options;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_monitor *m;
  char mark[64]; /* a file: there from the first life on */
} command;

static command command_new(const char *script) {
  command c = {.options = PODKEEP_POD_OPTIONS_INIT};
  char text[600];
  const char *dir = getenv("TMPDIR");
  snprintf(c.mark, sizeof c.mark, "%.40s/podkeep-XXXXXX", dir && *dir ? dir : "/tmp");
  int fd = mkstemp(c.mark);
  CHECK(fd >= 0);
  close(fd);
  CHECK_INT(unlink(c.mark), 0); /* the name is ours */
  /* From the second life on it is well. */
  snprintf(text, sizeof text, "[ -e '%s' ] && exec sleep 3600; : >'%s'; %s", c.mark, c.mark, script);
  const char *argv[] = {"sh", "-c", text, NULL};
  CHECK_OK(podkeep_runtime_from_command("program", argv, &c.runtime));
  c.options.host = PODKEEP_HOST_PROCESS;
  c.options.grace_ms = slow_ms(5000);
  c.options.backoff_ms = 1;
  return c;
}

static void command_start(command *c) {
  CHECK_OK(podkeep_pod_new(c->runtime, &c->options, &c->pod));
  c->m = watch(c->pod);
  CHECK_OK(podkeep_pod_start(c->pod));
}

static void command_free(command *c) {
  CHECK_OK(podkeep_monitor_free(c->m));
  CHECK_OK(podkeep_pod_free(c->pod));
  CHECK_OK(podkeep_runtime_free(c->runtime));
  unlink(c->mark);
}

typedef struct ending {
  const char *script;
  void (*plan)(command *c);
  bool failed;
  podkeep_phase phase;
  podkeep_kind kind;
  int32_t code; /* -1: any */
} ending;

static void check_end(const ending *how, const podkeep_failure *f) {
  if (how->failed) CHECK_FAILURE_IN(f, 0, how->phase, how->kind, how->code < 0 ? podkeep_failure_code(f) : how->code, NULL);
  else CHECK(f == NULL);
}

static void by_each_policy(ending how) {
  for (podkeep_restart policy = PODKEEP_RESTART_NEVER; policy <= PODKEEP_RESTART_ALWAYS; policy++) {
    bool again = policy == PODKEEP_RESTART_ALWAYS || (policy == PODKEEP_RESTART_ON_FAILURE && how.failed);
    command c = command_new(how.script);
    c.options.restart = policy;
    if (how.plan != NULL) how.plan(&c);
    command_start(&c);
    uint32_t restarts = 99;
    if (again) {
      podkeep_event e = next_to(c.m, PODKEEP_STATE_RESTARTING);
      CHECK_INT(e.incarnation, 0);
      check_end(&how, e.failure);
      CHECK_INT(next_to(c.m, PODKEEP_STATE_STARTING).incarnation, 1);
      if (c.options.ready == PODKEEP_READY_ON_RUN) CHECK_INT(next_to(c.m, PODKEEP_STATE_RUNNING).incarnation, 1);
      CHECK_OK(podkeep_pod_cancel(c.pod));
      podkeep_status status = podkeep_pod_join(c.pod, LIMIT_MS); /* the second may be on its way to another end of that kind */
      CHECK(status == PODKEEP_OK || (status == PODKEEP_ERR_FAILED && c.options.ready != PODKEEP_READY_ON_RUN));
      CHECK_OK(podkeep_pod_restarts(c.pod, &restarts));
      CHECK(restarts == 1 || c.options.ready != PODKEEP_READY_ON_RUN);
    } else {
      CHECK_STATUS(podkeep_pod_join(c.pod, LIMIT_MS), how.failed ? PODKEEP_ERR_FAILED : PODKEEP_OK);
      CHECK_OK(podkeep_pod_restarts(c.pod, &restarts));
      CHECK_INT(restarts, 0);
      if (how.failed) {
        podkeep_failure *f = FAILURE_OF(c.pod);
        check_end(&how, f);
        CHECK_OK(podkeep_failure_free(f));
      }
    }
    command_free(&c);
  }
}

#define FAILS(...) by_each_policy((ending){.failed = true, __VA_ARGS__})

TEST_PROCESS(S8_command__exit_0) { by_each_policy((ending){.script = "exit 0"}); }
TEST_PROCESS(S8_command__exit_3) { FAILS(.script = "exit 3", .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_EXIT, .code = 3); }
TEST_PROCESS(S8_command__SIGKILL) {
  FAILS(.script = "kill -9 $$", .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_SIGNAL, .code = SIGKILL);
}
/* The stop signal, but nobody asked for a stop. */
TEST_PROCESS(S8_command__SIGTERM_of_a_stranger) {
  FAILS(.script = "kill -TERM $$; exec sleep 3600", .phase = PODKEEP_PHASE_RUN, .kind = PODKEEP_KIND_SIGNAL, .code = SIGTERM);
}

static void never_ready(command *c) {
  c->options.ready = PODKEEP_READY_NOTIFY;
  c->options.ready_timeout_ms = slow_ms(100);
}
static void never_ready_and_deaf(command *c) {
  never_ready(c);
  c->options.ready_timeout_ms = slow_ms(300); /* its trap must be set by then */
  c->options.grace_ms = c->options.kill_after_ms = SHORT_MS;
}
TEST_PROCESS(S8_command__ready_timeout) {
  FAILS(.script = "exec sleep 3600", .plan = never_ready, .phase = PODKEEP_PHASE_READY, .kind = PODKEEP_KIND_TIMEOUT, .code = -1);
}
TEST_PROCESS(S8_command__killed_after_a_ready_timeout) {
  FAILS(.script = "trap '' TERM; while :; do sleep 1; done", .plan = never_ready_and_deaf, .phase = PODKEEP_PHASE_READY,
        .kind = PODKEEP_KIND_TIMEOUT, .code = -1);
}
/* On its way to ready. */
static void notifies(command *c) { c->options.ready = PODKEEP_READY_NOTIFY; }
TEST_PROCESS(S8_command__exit_3_before_ready) {
  FAILS(.script = "exit 3", .plan = notifies, .phase = PODKEEP_PHASE_READY, .kind = PODKEEP_KIND_EXIT, .code = 3);
}

/* What cannot be run now may be there later: it is tried again, up to the limit. */
TEST_PROCESS(S8_command__not_found) {
  for (podkeep_restart policy = PODKEEP_RESTART_NEVER; policy <= PODKEEP_RESTART_ALWAYS; policy++) {
    const char *argv[] = {"./there-is-no-such-program", NULL};
    podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
    podkeep_runtime *runtime = NULL;
    podkeep_pod *pod = NULL;
    uint32_t restarts = 99, want = policy == PODKEEP_RESTART_NEVER ? 0 : 3;
    CHECK_OK(podkeep_runtime_from_command("nothing", argv, &runtime));
    options.host = PODKEEP_HOST_PROCESS;
    options.restart = policy;
    options.max_restarts = 3;
    options.backoff_ms = 1;
    CHECK_OK(podkeep_pod_new(runtime, &options, &pod));
    CHECK_OK(podkeep_pod_start(pod));
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_OK(podkeep_pod_restarts(pod, &restarts));
    CHECK_INT(restarts, want);
    podkeep_failure *f = FAILURE_OF(pod);
    CHECK_FAILURE_IN(f, want, PODKEEP_PHASE_SPAWN, PODKEEP_KIND_EXIT, 127, NULL);
    CHECK_OK(podkeep_failure_free(f));
    CHECK_OK(podkeep_pod_free(pod));
    CHECK_OK(podkeep_runtime_free(runtime));
  }
}

/* A user's cancel bars another life, however the program takes it. */
static void cancelled(const char *script, podkeep_status want) {
  command c = command_new(script);
  c.options.restart = PODKEEP_RESTART_ALWAYS;
  c.options.grace_ms = c.options.kill_after_ms = slow_ms(500);
  command_start(&c);
  UNTIL(access(c.mark, F_OK) == 0);
  CHECK_OK(podkeep_pod_cancel(c.pod));
  podkeep_status status = podkeep_pod_join(c.pod, LIMIT_MS);
  CHECK_STATUS(status, want);
  uint32_t restarts = 99;
  CHECK_OK(podkeep_pod_restarts(c.pod, &restarts));
  CHECK_INT(restarts, 0);
  command_free(&c);
}

TEST_PROCESS(S8_command__stopped) { cancelled("exec sleep 3600", PODKEEP_OK); }
TEST_PROCESS(S8_command__stopped_and_it_will_not) {
  char script[] = "trap '' TERM; while :; do sleep 1; done";
  command c = command_new(script);
  c.options.restart = PODKEEP_RESTART_ALWAYS;
  c.options.stop_signal = SIGWINCH; /* ignored by default: no race with the trap */
  c.options.grace_ms = c.options.kill_after_ms = slow_ms(200);
  command_start(&c);
  UNTIL(access(c.mark, F_OK) == 0);
  CHECK_STATUS(podkeep_pod_close(c.pod), PODKEEP_ERR_FAILED);
  uint32_t restarts = 99;
  CHECK_OK(podkeep_pod_restarts(c.pod, &restarts));
  CHECK_INT(restarts, 0);
  command_free(&c);
}

/* --- The watchdog ---------------------------------------------------------------------------------------------------- */

/* Each of its lives feeds it for a while and then falls silent: caught after an interval, restarted, caught again. */
TEST_PROCESS(S8_command__watchdog) {
  char self[4096], times[] = NOTIFIER "=20";
  const char *env[] = {times, NULL};
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  CHECK(n > 0);
  self[n] = '\0';
  const char *argv[] = {self, NULL};
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime = NULL;
  podkeep_pod *pod = NULL;
  CHECK_OK(podkeep_runtime_from_command("notifier", argv, &runtime));
  options.host = PODKEEP_HOST_PROCESS;
  options.env = env;
  options.ready = PODKEEP_READY_NOTIFY;
  options.restart = PODKEEP_RESTART_ON_FAILURE;
  options.max_restarts = 1;
  options.backoff_ms = 1;
  options.watchdog_ms = slow_ms(400); /* 20 times 50 ms: it would be missed, were it not fed */
  CHECK_OK(podkeep_pod_new(runtime, &options, &pod));
  podkeep_monitor *m = watch(pod);
  uint64_t from = now_ns(); /* before it can have said anything, whenever that is heard */
  CHECK_OK(podkeep_pod_start(pod));
  for (uint32_t i = 0; i < 2; i++) {
    podkeep_event e = next_to(m, PODKEEP_STATE_RUNNING);
    CHECK_INT(e.incarnation, i);
    CHECK(NEXT_EVENT(m).time_ns - from >= 20 * 50 * MS + (uint64_t)options.watchdog_ms * MS);
    e = NEXT_EVENT(m);
    CHECK_INT(e.to, i == 0 ? PODKEEP_STATE_RESTARTING : PODKEEP_STATE_FAILED);
    from = e.time_ns;
    CHECK_FAILURE_IN(e.failure, i, PODKEEP_PHASE_RUN, PODKEEP_KIND_WATCHDOG, 0, NULL);
    CHECK_HAS(podkeep_failure_message(e.failure), "last heartbeat ");
  }
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_OK(podkeep_pod_free(pod));
  CHECK_OK(podkeep_runtime_free(runtime));
}
