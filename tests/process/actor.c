/* actor.c: see actor.h. */
#include "actor.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static podkeep_runtime *runtime;

/* --- In the child ----------------------------------------------------------------------------------------------------- */

static int32_t play(actor *a, podkeep_context *ctx, step *s, act otherwise) {
  ADD(s->count, 1u);
  s->saw_cancelled = podkeep_context_cancelled(ctx);
  STORE(a->pid, getpid());
  event_set(&s->entered);
  if (s->held) event_wait(&s->go);
  act does = s->does ? (act)function_numbered(s->does) : otherwise;
  int32_t result = does(a, ctx);
  event_set(&s->left);
  return s->returns ? s->returns : result;
}
static int32_t actor_init(podkeep_context *ctx, void *config, void **state) {
  (void)config;
  size_t len = 0;
  const void *args = podkeep_context_args(ctx, &len);
  size_t offset;
  if (args == NULL || len != sizeof offset) return podkeep_context_fail(ctx, 99, "the actor's args did not arrive");
  memcpy(&offset, args, sizeof offset);
  actor *a = world_at(offset);
  *state = a;
  if (strcmp(podkeep_context_name(ctx), a->name) != 0) return podkeep_context_fail(ctx, 98, "the actor's name did not arrive");
  return play(a, ctx, &a->init, act_return);
}
static int32_t actor_run(podkeep_context *ctx, void *state) {
  actor *a = state;
  return play(a, ctx, &a->run, act_wait);
}
static int32_t actor_teardown(podkeep_context *ctx, void *state) {
  actor *a = state;
  return play(a, ctx, &a->teardown, act_return);
}
static void actor_hook(podkeep_context *ctx, void *state) {
  actor *a = state;
  play(a, ctx, &a->hook, act_return);
}

int32_t act_return(actor *a, podkeep_context *ctx) {
  (void)a, (void)ctx;
  return 0;
}
int32_t act_wait(actor *a, podkeep_context *ctx) {
  (void)a;
  podkeep_status status = podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return status == PODKEEP_OK ? PODKEEP_CANCELLED : podkeep_context_fail(ctx, 97, podkeep_last_error());
}
int32_t act_deaf(actor *a, podkeep_context *ctx) {
  (void)a, (void)ctx;
  for (;;) pause();
}
int32_t act_ignore_term(actor *a, podkeep_context *ctx) {
  signal(SIGTERM, SIG_IGN);
  event_set(&a->events[0]);
  return act_deaf(a, ctx);
}
int32_t act_block_all(actor *a, podkeep_context *ctx) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  event_set(&a->events[0]);
  return act_deaf(a, ctx);
}
int32_t act_kill_self(actor *a, podkeep_context *ctx) {
  kill(getpid(), SIGKILL);
  return act_deaf(a, ctx);
}
int32_t act_segfault(actor *a, podkeep_context *ctx) {
  char *nothing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *(volatile char *)nothing = 1;
  return act_deaf(a, ctx);
}
int32_t act_abort(actor *a, podkeep_context *ctx) {
  (void)a, (void)ctx;
  abort();
}
int32_t act_exit(actor *a, podkeep_context *ctx) {
  (void)ctx;
  _exit((int)a->numbers[0]);
}
int32_t act_stop_self(actor *a, podkeep_context *ctx) {
  event_set(&a->events[0]);
  kill(getpid(), SIGSTOP);
  return act_deaf(a, ctx);
}
int32_t act_fail(actor *a, podkeep_context *ctx) {
  return podkeep_context_fail(ctx, (int32_t)a->numbers[0], "as it was told");
}

/* --- In the host ------------------------------------------------------------------------------------------------------- */

void actors_export(bool exported) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "actor";
  spec.init = actor_init;
  spec.run_forever = actor_run;
  spec.teardown = actor_teardown;
  spec.cancel = actor_hook;
  CHECK_OK(podkeep_runtime_new(&spec, &runtime));
  if (exported) CHECK_OK(podkeep_export(runtime));
}
podkeep_runtime *actor_runtime(void) { return runtime; }

podkeep_pod_options process_options(void) {
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  options.host = PODKEEP_HOST_PROCESS;
  return options;
}
actor *actor_new(const char *name) {
  actor *a = world_alloc(sizeof *a);
  snprintf(a->name, sizeof a->name, "%s", name);
  a->options = process_options();
  a->options.grace_ms = LIMIT_MS; /* a case whose subject is the grace says so */
  return a;
}
actor *actor_like(const char *name, act run) {
  actor *a = actor_new(name);
  DOES(a->run, run);
  return a;
}
podkeep_pod *actor_make(actor *a) {
  size_t offset = world_offset(a);
  a->options.name = a->name;
  a->options.args = &offset;
  a->options.args_len = sizeof offset;
  podkeep_pod *pod;
  CHECK_OK(podkeep_pod_new(runtime, &a->options, &pod));
  a->pod = pod;
  return pod;
}
podkeep_pod *actor_start(actor *a) {
  if (a->pod == NULL) actor_make(a);
  CHECK_OK(podkeep_pod_start(a->pod));
  return a->pod;
}
podkeep_pod *actor_running(actor *a) {
  actor_start(a);
  CHECK_OK(podkeep_pod_wait_ready(a->pod, LIMIT_MS));
  event_wait(&a->run.entered);
  return a->pod;
}
void actor_free(actor *a) {
  CHECK_OK(podkeep_pod_free(a->pod));
  a->pod = NULL;
}
void actor_close(actor *a, podkeep_status want) {
  CHECK_STATUS(podkeep_pod_close(a->pod), want);
  actor_free(a);
}

podkeep_pod *command_make(const char *name, const char *const argv[], const podkeep_pod_options *options) {
  podkeep_runtime *command;
  podkeep_pod *pod;
  podkeep_pod_options plain = process_options();
  CHECK_OK(podkeep_runtime_from_command(name, argv, &command));
  CHECK_OK(podkeep_pod_new(command, options ? options : &plain, &pod));
  CHECK_OK(podkeep_runtime_free(command));
  return pod;
}
podkeep_pod *command_start(const char *name, const char *const argv[], const podkeep_pod_options *options) {
  podkeep_pod *pod = command_make(name, argv, options);
  CHECK_OK(podkeep_pod_start(pod));
  return pod;
}
podkeep_pod *shell_start(const char *name, const char *script, const podkeep_pod_options *options) {
  const char *const argv[] = {"/bin/sh", "-c", script, NULL};
  return command_start(name, argv, options);
}
podkeep_pod *program_start(const char *name, const char *program, const podkeep_pod_options *options) {
  const char *const argv[] = {self_path(), "--do", program, NULL};
  return command_start(name, argv, options);
}

podkeep_state state_of(podkeep_pod *pod) {
  podkeep_state state = -1;
  CHECK_OK(podkeep_pod_state(pod, &state));
  return state;
}
pid_t pod_pid(podkeep_pod *pod) {
  int64_t id = 0;
  CHECK_OK(podkeep_pod_id(pod, &id));
  CHECK(id > 1 && id != getpid());
  return (pid_t)id;
}
void pod_close(podkeep_pod *pod, podkeep_status want) {
  CHECK_STATUS(podkeep_pod_close(pod), want);
  CHECK_OK(podkeep_pod_free(pod));
}
void pod_join(podkeep_pod *pod, podkeep_status want) {
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), want);
  CHECK_OK(podkeep_pod_free(pod));
}

/* --- Failures ----------------------------------------------------------------------------------------------------------- */

void check_failure_at(const char *file, int line, podkeep_pod *pod, podkeep_phase phase, podkeep_kind kind, int32_t code,
                      const char *message) {
  podkeep_failure *f = NULL;
  check_status(file, line, "podkeep_pod_failure", podkeep_pod_failure(pod, &f), PODKEEP_OK);
  if (f == NULL) check_failed(file, line, "the pod has no failure; its state is %d", state_of(pod));
  const char *text = podkeep_failure_message(f);
  bool same_code = code == TIMED_OUT || podkeep_failure_code(f) == code;
  if (podkeep_failure_phase(f) != phase || podkeep_failure_kind(f) != kind || !same_code)
    check_failed(file, line, "the failure is phase %d, kind %d, code %d, not %d, %d, %d: \"%s\"", podkeep_failure_phase(f),
                 podkeep_failure_kind(f), podkeep_failure_code(f), phase, kind, code, text);
  if (message) check_has(file, line, "the failure's message", text, message);
  const podkeep_failure *more = podkeep_failure_secondary(f);
  if (more && code != TIMED_OUT) check_failed(file, line, "there is a second failure: \"%s\"", podkeep_failure_message(more));
  CHECK_OK(podkeep_failure_free(f));
}
void check_no_failure_at(const char *file, int line, podkeep_pod *pod) {
  podkeep_failure *f = NULL;
  check_status(file, line, "podkeep_pod_failure", podkeep_pod_failure(pod, &f), PODKEEP_OK);
  if (f != NULL) check_failed(file, line, "there is a failure: \"%s\"", podkeep_failure_message(f));
}
static const char *failure_text(podkeep_pod *pod, const char *(*which)(const podkeep_failure *), char *into, size_t size) {
  podkeep_failure *f = NULL;
  CHECK_OK(podkeep_pod_failure(pod, &f));
  CHECK(f != NULL);
  snprintf(into, size, "%s", which(f));
  CHECK_OK(podkeep_failure_free(f));
  return into;
}
const char *failure_message(podkeep_pod *pod) {
  static char text[1 << 17];
  return failure_text(pod, podkeep_failure_message, text, sizeof text);
}
const char *failure_stderr(podkeep_pod *pod) {
  static char text[1 << 17];
  return failure_text(pod, podkeep_failure_stderr, text, sizeof text);
}

/* --- The log -------------------------------------------------------------------------------------------------------------- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[1 << 18];
static size_t log_used;

static void log_line(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)user_data;
  pthread_mutex_lock(&log_lock);
  if (log_used + 1024 < sizeof log_text) {
    int n = snprintf(log_text + log_used, 1024, "%d|%s|%.900s\n", (int)level, pod, message);
    log_used += (size_t)(n < 1024 ? n : 1023);
  }
  pthread_mutex_unlock(&log_lock);
}
void log_keep(int32_t max_level) { CHECK_OK(podkeep_set_log(log_line, max_level, NULL, NULL)); }
void log_drop(void) { CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL)); }
bool log_has(const char *pod, const char *part) {
  char head[300];
  bool found = false;
  snprintf(head, sizeof head, "3|%s|", pod);
  pthread_mutex_lock(&log_lock);
  for (char *line = log_text; !found && line < log_text + log_used;) {
    char *end = strchr(line, '\n');
    if (end == NULL) break;
    *end = '\0';
    found = strncmp(line, head, strlen(head)) == 0 && strstr(line + strlen(head), part) != NULL;
    *end = '\n';
    line = end + 1;
  }
  pthread_mutex_unlock(&log_lock);
  return found;
}
