#include "every.h"

#include <stdlib.h>
#include <string.h>

const char *status_word(podkeep_status status) {
  static const char *const words[] = { "OK",     "INVALID_ARGUMENT", "INVALID_HANDLE", "INVALID_STATE", "TIMEOUT",
                                       "FAILED", "ENDED",            "DEADLOCK",       "FORKED",        "RESOURCES",
                                       "UNSUPPORTED", "DENIED",      "UNREACHABLE",    "INTERNAL",      "NOT_FOUND" };
  return status <= 0 && status >= -14 ? words[-status] : "a status that is none";
}

static const char *number_word(long long n) {
  if (n >= 0) return "n";
  return n == -1 ? "-1" : n == -2 ? "-2" : "a negative number";
}
static const char *unsigned_word(uint32_t n) { return n == (uint32_t)-2 ? "-2" : "n"; }
static const char *text_word(const char *text) { return !text ? "NULL" : text[0] ? "text" : "\"\""; }
static const char *pointer_word(const void *p) { return p ? "pointer" : "NULL"; }

#define ROW_STATUS(f, call) \
  static const char *f(const struct world *w) { (void)w; return status_word(call); }
#define ROW(f, word, call) \
  static const char *f(const struct world *w) { (void)w; return word(call); }

static int32_t idle(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_wait(ctx, PODKEEP_FOREVER);
}

/* General */
ROW(c_status_name, text_word, podkeep_status_name(PODKEEP_OK))
ROW(c_last_error, pointer_word, podkeep_last_error())
ROW(c_abi_version, unsigned_word, podkeep_abi_version())
ROW(c_version, text_word, podkeep_version())
ROW_STATUS(c_shutdown_0, podkeep_shutdown(0, NULL))
ROW_STATUS(c_shutdown, podkeep_shutdown(PODKEEP_FOREVER, NULL))
static const char *c_abandoned(const struct world *w) {
  uint32_t n = 77;
  podkeep_status s = podkeep_abandoned(&n);
  (void)w;
  return s ? status_word(s) : n == 0 ? "OK" : "OK, and a count";
}
ROW_STATUS(c_set_log, podkeep_set_log(NULL, 0, NULL, NULL))

/* Runtime */
static const char *c_runtime_new(const struct world *w) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime = NULL;
  podkeep_status s;
  (void)w;
  spec.name = "another";
  spec.run_forever = idle;
  s = podkeep_runtime_new(&spec, &runtime);
  if (s == PODKEEP_OK && podkeep_runtime_free(runtime) != PODKEEP_OK) return "OK, but cannot be freed";
  return status_word(s);
}
ROW_STATUS(c_runtime_free, podkeep_runtime_free(w->runtime))

static const char *runtime_made(podkeep_status s, podkeep_runtime *runtime) {
  if (s == PODKEEP_OK && podkeep_runtime_free(runtime) != PODKEEP_OK) return "OK, but cannot be freed";
  return status_word(s);
}
static const char *const command[] = { "true", NULL };
static const char *c_from_command(const struct world *w) {
  podkeep_runtime *runtime = NULL;
  podkeep_status s = podkeep_runtime_from_command("command", command, &runtime);
  (void)w;
  return runtime_made(s, runtime);
}
static const char *c_from_program(const struct world *w) {
  podkeep_runtime *runtime = NULL;
  podkeep_status s = podkeep_runtime_from_program("program", command, &runtime);
  (void)w;
  return runtime_made(s, runtime);
}
static const char *c_from_library(const struct world *w) {
  podkeep_runtime *runtime = NULL;
  podkeep_status s = podkeep_runtime_from_library("./no-such-library.so", "worker", &runtime);
  (void)w;
  return runtime_made(s, runtime);
}
ROW_STATUS(c_set_program, podkeep_set_program(NULL))
ROW_STATUS(c_export, podkeep_export(w->runtime))
static const char *c_child_run(const struct world *w) {
  int32_t code = -9;
  (void)w;
  return status_word(podkeep_child_run(&code));
}

/* Context */
ROW(c_cancelled, , podkeep_context_cancelled(w->ctx) ? "true" : "false")
ROW_STATUS(c_wait_0, podkeep_context_wait(w->ctx, 0))
ROW_STATUS(c_wait, podkeep_context_wait(w->ctx, 10))
ROW(c_fd, number_word, podkeep_context_fd(w->ctx))
ROW(c_time_left, number_word, podkeep_context_time_left(w->ctx))
ROW_STATUS(c_ready, podkeep_context_ready(w->ctx))
ROW_STATUS(c_heartbeat, podkeep_context_heartbeat(w->ctx))
ROW_STATUS(c_extend, podkeep_context_extend(w->ctx, 10))
ROW_STATUS(c_status, podkeep_context_status(w->ctx, "here"))
ROW(c_fail, , podkeep_context_fail(w->ctx, 5, "said") == 5 ? "code" : "another number")
ROW(c_fail_as, , podkeep_context_fail_as(w->ctx, PODKEEP_KIND_EXCEPTION, 5, "said") == 5 ? "code" : "another number")
ROW(c_fail_with, , podkeep_context_fail_with(w->ctx, PODKEEP_KIND_EXCEPTION, 5, "said", "12", 2) == 5 ? "code" : "another number")
ROW(c_incarnation, unsigned_word, podkeep_context_incarnation(w->ctx))
static const char *c_args(const struct world *w) {
  size_t len = 99;
  const void *args = podkeep_context_args(w->ctx, &len);
  if (args) return len > 0 && len != 99 ? "pointer" : "pointer, but no length";
  return len == 0 ? "NULL" : "NULL, but a length";
}
ROW(c_name, text_word, podkeep_context_name(w->ctx))

/* Pod */
static const char *c_pod_new(const struct world *w) {
  podkeep_pod *pod = NULL;
  podkeep_status s = podkeep_pod_new(w->runtime, NULL, &pod);
  if (s == PODKEEP_OK && podkeep_pod_free(pod) != PODKEEP_OK) return "OK, but cannot be freed";
  return status_word(s);
}
ROW_STATUS(c_start, podkeep_pod_start(w->pod))
ROW_STATUS(c_start_other, podkeep_pod_start(w->other))
ROW_STATUS(c_cancel, podkeep_pod_cancel(w->pod))
ROW_STATUS(c_wait_ready_0, podkeep_pod_wait_ready(w->pod, 0))
ROW_STATUS(c_wait_ready, podkeep_pod_wait_ready(w->pod, PODKEEP_FOREVER))
ROW_STATUS(c_join_0, podkeep_pod_join(w->pod, 0))
ROW_STATUS(c_join, podkeep_pod_join(w->pod, PODKEEP_FOREVER))
ROW_STATUS(c_close, podkeep_pod_close(w->pod))
ROW_STATUS(c_free, podkeep_pod_free(w->pod))
static const char *c_pod_run(const struct world *w) {
  int32_t code = -9;
  return status_word(podkeep_pod_run(w->pod, &code));
}
static const char *c_state(const struct world *w) {
  podkeep_state state = -9;
  podkeep_status s = podkeep_pod_state(w->pod, &state);
  return s ? status_word(s) : state >= PODKEEP_STATE_NEW && state <= PODKEEP_STATE_ABANDONED ? "OK" : "OK, no state";
}
static const char *c_pod_name(const struct world *w) {
  const char *name = NULL;
  podkeep_status s = podkeep_pod_name(w->pod, &name);
  return s ? status_word(s) : name && name[0] ? "OK" : "OK, no name";
}
static const char *c_id(const struct world *w) {
  int64_t id = -9;
  podkeep_status s = podkeep_pod_id(w->pod, &id);
  return s ? status_word(s) : id >= 0 ? "OK" : "OK, no id";
}
static const char *c_restarts(const struct world *w) {
  uint32_t n = 99;
  podkeep_status s = podkeep_pod_restarts(w->pod, &n);
  return s ? status_word(s) : n == 0 ? "OK" : "OK, and a count";
}
static const char *c_failure(const struct world *w) {
  podkeep_failure *failure = NULL;
  podkeep_status s = podkeep_pod_failure(w->pod, &failure);
  if (s == PODKEEP_OK && podkeep_failure_free(failure) != PODKEEP_OK) return "OK, but cannot be freed";
  return status_word(s);
}

/* Failure */
ROW(c_f_pod_name, text_word, podkeep_failure_pod_name(w->failure))
ROW(c_f_incarnation, unsigned_word, podkeep_failure_incarnation(w->failure))
ROW(c_f_phase, number_word, podkeep_failure_phase(w->failure))
ROW(c_f_kind, number_word, podkeep_failure_kind(w->failure))
ROW(c_f_code, number_word, podkeep_failure_code(w->failure))
ROW(c_f_message, text_word, podkeep_failure_message(w->failure))
ROW(c_f_secondary, pointer_word, podkeep_failure_secondary(w->failure))
static const char *c_f_data(const struct world *w) {
  size_t len = 99;
  const void *data = podkeep_failure_data(w->failure, &len);
  return data ? "pointer" : len == 0 ? "NULL" : "NULL, but a length";
}
ROW(c_f_stderr, text_word, podkeep_failure_stderr(w->failure))
ROW_STATUS(c_f_free, podkeep_failure_free(w->failure))

/* Monitor */
static const char *monitor_new_of(podkeep_pod *pod) {
  podkeep_monitor *monitor = NULL;
  podkeep_status s = podkeep_monitor_new(pod, &monitor);
  if (s == PODKEEP_OK && podkeep_monitor_free(monitor) != PODKEEP_OK) return "OK, but cannot be freed";
  return status_word(s);
}
ROW(c_monitor_new, , monitor_new_of(w->pod))
ROW(c_monitor_new_all, , monitor_new_of(NULL))
static const char *c_monitor_fd(const struct world *w) {
  int fd = -9;
  podkeep_status s = podkeep_monitor_fd(w->monitor, &fd);
  return s ? status_word(s) : fd >= 0 ? "OK" : "OK, no descriptor";
}
static const char *next_within(podkeep_monitor *monitor, int64_t timeout_ms) {
  podkeep_event event = PODKEEP_EVENT_INIT;
  return status_word(podkeep_monitor_next(monitor, &event, timeout_ms));
}
ROW(c_monitor_next_0, , next_within(w->monitor, 0))
ROW(c_monitor_next, , next_within(w->monitor, PODKEEP_FOREVER))
ROW_STATUS(c_monitor_free, podkeep_monitor_free(w->monitor))

static const char *c_monitor_new_group(const struct world *w) {
  podkeep_monitor *monitor = NULL;
  podkeep_status s = podkeep_monitor_new_group(w->group, &monitor);
  if (s == PODKEEP_OK && podkeep_monitor_free(monitor) != PODKEEP_OK) return "OK, but cannot be freed";
  return status_word(s);
}

/* Group */
static const char *c_group_new(const struct world *w) {
  podkeep_group *group = NULL;
  podkeep_status s = podkeep_group_new(NULL, &group);
  (void)w;
  if (s == PODKEEP_OK && podkeep_group_free(group) != PODKEEP_OK) return "OK, but cannot be freed";
  return status_word(s);
}
ROW_STATUS(c_group_add, podkeep_group_add(w->group, w->other, NULL))
ROW_STATUS(c_group_start, podkeep_group_start(w->group))
ROW_STATUS(c_group_cancel, podkeep_group_cancel(w->group))
ROW_STATUS(c_group_wait_ready_0, podkeep_group_wait_ready(w->group, 0))
ROW_STATUS(c_group_wait_ready, podkeep_group_wait_ready(w->group, PODKEEP_FOREVER))
ROW_STATUS(c_group_join_0, podkeep_group_join(w->group, 0))
ROW_STATUS(c_group_join, podkeep_group_join(w->group, PODKEEP_FOREVER))
ROW_STATUS(c_group_close, podkeep_group_close(w->group))
static const char *c_group_state(const struct world *w) {
  podkeep_state state = -9;
  podkeep_status s = podkeep_group_state(w->group, &state);
  return s ? status_word(s) : state >= PODKEEP_STATE_NEW && state <= PODKEEP_STATE_ABANDONED ? "OK" : "OK, no state";
}
static const char *c_group_failure(const struct world *w) {
  podkeep_failure *failure = NULL;
  podkeep_status s = podkeep_group_failure(w->group, &failure);
  if (s == PODKEEP_OK && podkeep_failure_free(failure) != PODKEEP_OK) return "OK, but cannot be freed";
  return status_word(s);
}
ROW_STATUS(c_group_free, podkeep_group_free(w->group))

/* Control */
static const char *c_control_serve(const struct world *w) {
  podkeep_control *control = NULL;
  podkeep_status s = podkeep_control_serve(NULL, &control);
  (void)w;
  if (s == PODKEEP_OK && podkeep_control_free(control) != PODKEEP_OK) return "OK, but cannot be freed";
  return status_word(s);
}
static const char *c_control_address(const struct world *w) {
  const char *address = NULL;
  podkeep_status s = podkeep_control_address(w->control, &address);
  return s ? status_word(s) : address && strncmp(address, "unix:/", 6) == 0 ? "OK" : "OK, no address";
}
ROW_STATUS(c_control_free, podkeep_control_free(w->control))
static const char *c_terminate(const struct world *w) {
  (void)w;
  return status_word(podkeep_terminate("unix:/nowhere/to/be/found", "nobody", PODKEEP_FOREVER));
}
static const char *c_query_0(const struct world *w) {
  podkeep_state state;
  (void)w;
  return status_word(podkeep_query("unix:/nowhere/to/be/found", "nobody", 0, &state));
}

const struct every every[] = {
  { "podkeep_status_name(OK)", "podkeep_status_name", NOTHING, c_status_name },
  { "podkeep_last_error()", "podkeep_last_error", NOTHING, c_last_error },
  { "podkeep_abi_version()", "podkeep_abi_version", NOTHING, c_abi_version },
  { "podkeep_version()", "podkeep_version", NOTHING, c_version },
  { "podkeep_shutdown(0)", "podkeep_shutdown", NOTHING, c_shutdown_0 },
  { "podkeep_shutdown(FOREVER)", "podkeep_shutdown", NOTHING, c_shutdown },
  { "podkeep_abandoned()", "podkeep_abandoned", NOTHING, c_abandoned },
  { "podkeep_set_log(NULL)", "podkeep_set_log", NOTHING, c_set_log },
  { "podkeep_runtime_new()", "podkeep_runtime_new", NOTHING, c_runtime_new },
  { "podkeep_runtime_free()", "podkeep_runtime_free", RUNTIME, c_runtime_free },
  { "podkeep_runtime_from_command()", "podkeep_runtime_from_command", NOTHING, c_from_command },
  { "podkeep_runtime_from_program()", "podkeep_runtime_from_program", NOTHING, c_from_program },
  { "podkeep_runtime_from_library(none)", "podkeep_runtime_from_library", NOTHING, c_from_library },
  { "podkeep_set_program(NULL)", "podkeep_set_program", NOTHING, c_set_program },
  { "podkeep_export()", "podkeep_export", RUNTIME, c_export },
  { "podkeep_child_run()", "podkeep_child_run", NOTHING, c_child_run },
  { "podkeep_context_cancelled()", "podkeep_context_cancelled", CONTEXT, c_cancelled },
  { "podkeep_context_wait(0)", "podkeep_context_wait", CONTEXT, c_wait_0 },
  { "podkeep_context_wait(10)", "podkeep_context_wait", CONTEXT, c_wait },
  { "podkeep_context_fd()", "podkeep_context_fd", CONTEXT, c_fd },
  { "podkeep_context_time_left()", "podkeep_context_time_left", CONTEXT, c_time_left },
  { "podkeep_context_ready()", "podkeep_context_ready", CONTEXT, c_ready },
  { "podkeep_context_heartbeat()", "podkeep_context_heartbeat", CONTEXT, c_heartbeat },
  { "podkeep_context_extend()", "podkeep_context_extend", CONTEXT, c_extend },
  { "podkeep_context_status()", "podkeep_context_status", CONTEXT, c_status },
  { "podkeep_context_fail()", "podkeep_context_fail", CONTEXT, c_fail },
  { "podkeep_context_fail_as()", "podkeep_context_fail_as", CONTEXT, c_fail_as },
  { "podkeep_context_fail_with()", "podkeep_context_fail_with", CONTEXT, c_fail_with },
  { "podkeep_context_incarnation()", "podkeep_context_incarnation", CONTEXT, c_incarnation },
  { "podkeep_context_args()", "podkeep_context_args", CONTEXT, c_args },
  { "podkeep_context_name()", "podkeep_context_name", CONTEXT, c_name },
  { "podkeep_pod_new()", "podkeep_pod_new", RUNTIME, c_pod_new },
  { "podkeep_pod_start()", "podkeep_pod_start", POD, c_start },
  { "podkeep_pod_start(another)", "podkeep_pod_start", POD, c_start_other },
  { "podkeep_pod_cancel()", "podkeep_pod_cancel", POD, c_cancel },
  { "podkeep_pod_wait_ready(0)", "podkeep_pod_wait_ready", POD, c_wait_ready_0 },
  { "podkeep_pod_wait_ready(FOREVER)", "podkeep_pod_wait_ready", POD, c_wait_ready },
  { "podkeep_pod_join(0)", "podkeep_pod_join", POD, c_join_0 },
  { "podkeep_pod_join(FOREVER)", "podkeep_pod_join", POD, c_join },
  { "podkeep_pod_close()", "podkeep_pod_close", POD, c_close },
  { "podkeep_pod_free()", "podkeep_pod_free", POD, c_free },
  { "podkeep_pod_run()", "podkeep_pod_run", POD, c_pod_run },
  { "podkeep_pod_state()", "podkeep_pod_state", POD, c_state },
  { "podkeep_pod_name()", "podkeep_pod_name", POD, c_pod_name },
  { "podkeep_pod_id()", "podkeep_pod_id", POD, c_id },
  { "podkeep_pod_restarts()", "podkeep_pod_restarts", POD, c_restarts },
  { "podkeep_pod_failure()", "podkeep_pod_failure", POD, c_failure },
  { "podkeep_failure_pod_name()", "podkeep_failure_pod_name", FAILURE, c_f_pod_name },
  { "podkeep_failure_incarnation()", "podkeep_failure_incarnation", FAILURE, c_f_incarnation },
  { "podkeep_failure_phase()", "podkeep_failure_phase", FAILURE, c_f_phase },
  { "podkeep_failure_kind()", "podkeep_failure_kind", FAILURE, c_f_kind },
  { "podkeep_failure_code()", "podkeep_failure_code", FAILURE, c_f_code },
  { "podkeep_failure_message()", "podkeep_failure_message", FAILURE, c_f_message },
  { "podkeep_failure_secondary()", "podkeep_failure_secondary", FAILURE, c_f_secondary },
  { "podkeep_failure_data()", "podkeep_failure_data", FAILURE, c_f_data },
  { "podkeep_failure_stderr()", "podkeep_failure_stderr", FAILURE, c_f_stderr },
  { "podkeep_failure_free()", "podkeep_failure_free", FAILURE, c_f_free },
  { "podkeep_monitor_new()", "podkeep_monitor_new", POD, c_monitor_new },
  { "podkeep_monitor_new(NULL)", "podkeep_monitor_new", NOTHING, c_monitor_new_all },
  { "podkeep_monitor_fd()", "podkeep_monitor_fd", MONITOR, c_monitor_fd },
  { "podkeep_monitor_next(0)", "podkeep_monitor_next", MONITOR, c_monitor_next_0 },
  { "podkeep_monitor_next(FOREVER)", "podkeep_monitor_next", MONITOR, c_monitor_next },
  { "podkeep_monitor_free()", "podkeep_monitor_free", MONITOR, c_monitor_free },
  { "podkeep_monitor_new_group()", "podkeep_monitor_new_group", GROUP, c_monitor_new_group },
  { "podkeep_group_new()", "podkeep_group_new", NOTHING, c_group_new },
  { "podkeep_group_add(another)", "podkeep_group_add", GROUP, c_group_add },
  { "podkeep_group_start()", "podkeep_group_start", GROUP, c_group_start },
  { "podkeep_group_cancel()", "podkeep_group_cancel", GROUP, c_group_cancel },
  { "podkeep_group_wait_ready(0)", "podkeep_group_wait_ready", GROUP, c_group_wait_ready_0 },
  { "podkeep_group_wait_ready(FOREVER)", "podkeep_group_wait_ready", GROUP, c_group_wait_ready },
  { "podkeep_group_join(0)", "podkeep_group_join", GROUP, c_group_join_0 },
  { "podkeep_group_join(FOREVER)", "podkeep_group_join", GROUP, c_group_join },
  { "podkeep_group_close()", "podkeep_group_close", GROUP, c_group_close },
  { "podkeep_group_state()", "podkeep_group_state", GROUP, c_group_state },
  { "podkeep_group_failure()", "podkeep_group_failure", GROUP, c_group_failure },
  { "podkeep_group_free()", "podkeep_group_free", GROUP, c_group_free },
  { "podkeep_control_serve(NULL)", "podkeep_control_serve", NOTHING, c_control_serve },
  { "podkeep_control_address()", "podkeep_control_address", CONTROL, c_control_address },
  { "podkeep_control_free()", "podkeep_control_free", CONTROL, c_control_free },
  { "podkeep_terminate(FOREVER)", "podkeep_terminate", NOTHING, c_terminate },
  { "podkeep_query(0)", "podkeep_query", NOTHING, c_query_0 },
};
const int every_count = (int)(sizeof every / sizeof every[0]);
