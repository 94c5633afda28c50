/* Stands in for the library (PODKEEP_LIBRARY) and prints what the program hands over: which option becomes which field,
 * checked against the real header's struct. FAKE_STATUS is what podkeep_pod_new answers, FAKE_CODE the pod's exit code. */
#include <podkeep.h>
#include <stdio.h>
#include <stdlib.h>

static int number(const char *variable) {
  const char *text = getenv(variable);
  return text ? atoi(text) : 0;
}

static const char *or_none(const char *text) { return text ? text : "NULL"; }

uint32_t podkeep_abi_version(void) { return (uint32_t)number("FAKE_ABI"); }
const char *podkeep_version(void) { return "fake"; }
const char *podkeep_last_error(void) { return number("FAKE_SILENT") ? "" : "the fake's sentence"; }
const char *podkeep_status_name(podkeep_status status) { return status == -13 ? "PODKEEP_ERR_INTERNAL" : "another"; }
podkeep_status podkeep_set_program(const char *path) {
  printf("program %s\n", or_none(path));
  return PODKEEP_ERR_NOT_FOUND; /* no reason to give up */
}
podkeep_status podkeep_child_run(int32_t *exit_code) {
  *exit_code = number("FAKE_CODE");
  return number("FAKE_STATUS");
}
podkeep_status podkeep_runtime_from_command(const char *name, const char *const argv[], podkeep_runtime **out) {
  printf("command %s:", name);
  for (; *argv; argv++) printf(" [%s]", *argv);
  printf("\n");
  *out = (podkeep_runtime *)1;
  return PODKEEP_OK;
}
podkeep_status podkeep_runtime_from_library(const char *path, const char *symbol, podkeep_runtime **out) {
  printf("library %s %s\n", path, symbol);
  *out = (podkeep_runtime *)1;
  return PODKEEP_OK;
}
podkeep_status podkeep_pod_new(podkeep_runtime *runtime, const podkeep_pod_options *o, podkeep_pod **out) {
  printf("size %d runtime %d\n", o->struct_size == sizeof *o, runtime == (podkeep_runtime *)1);
  printf("name %s host %d ready %d port %d ready_timeout %lld\n", or_none(o->name), (int)o->host, (int)o->ready,
         (int)o->ready_port, (long long)o->ready_timeout_ms);
  printf("grace %lld kill_after %lld stop_signal %d\n", (long long)o->grace_ms, (long long)o->kill_after_ms,
         (int)o->stop_signal);
  printf("cwd %s args %d:%.*s\n", or_none(o->cwd), (int)o->args_len, (int)o->args_len, o->args ? (const char *)o->args : "");
  printf("env");
  for (const char *const *entry = o->env; entry && *entry; entry++) printf(" [%s]", *entry);
  printf("\nrestart %d max %u window %lld backoff %lld to %lld\n", (int)o->restart, (unsigned)o->max_restarts,
         (long long)o->restart_window_ms, (long long)o->backoff_ms, (long long)o->backoff_max_ms);
  printf("watchdog %lld extend_max %lld rest %d\n", (long long)o->watchdog_ms, (long long)o->extend_max_ms,
         (int)(o->stack_size || o->kick_signal || o->reserved));
  *out = (podkeep_pod *)2;
  return number("FAKE_STATUS");
}
podkeep_status podkeep_pod_id(podkeep_pod *pod, int64_t *out) {
  (void)pod;
  *out = 0;
  return PODKEEP_OK;
}
podkeep_status podkeep_pod_run(podkeep_pod *pod, int32_t *exit_code) {
  printf("run %d word %s\n", pod == (podkeep_pod *)2, or_none(getenv("WORD")));
  *exit_code = number("FAKE_CODE");
  return number("FAKE_RUN");
}
#ifndef WITHOUT_CONTROL /* a library of before there was a control service has none of it */
podkeep_status podkeep_control_serve(const podkeep_control_options *o, podkeep_control **out) {
  printf("serve %s size %d cert %s key %s ca %s\n", or_none(o->address), o->struct_size == sizeof *o, or_none(o->tls_cert),
         or_none(o->tls_key), or_none(o->tls_client_ca));
  *out = (podkeep_control *)6;
  return number("FAKE_SERVE");
}
podkeep_status podkeep_control_address(podkeep_control *control, const char **out) {
  *out = "tcp:127.0.0.1:4711";
  return control == (podkeep_control *)6 ? number("FAKE_ADDRESS") : PODKEEP_ERR_INVALID_HANDLE;
}
podkeep_status podkeep_control_free(podkeep_control *control) {
  printf("served %d\n", control == (podkeep_control *)6);
  return PODKEEP_OK;
}
#endif
/* Says twice that a life has ended, once with a failure. */
podkeep_status podkeep_monitor_new(podkeep_pod *pod, podkeep_monitor **out) {
  *out = (podkeep_monitor *)5;
  return pod == (podkeep_pod *)2 ? number("FAKE_MONITOR") : PODKEEP_ERR_INVALID_HANDLE;
}
podkeep_status podkeep_monitor_next(podkeep_monitor *monitor, podkeep_event *out, int64_t timeout_ms) {
  static uint32_t lives;
  if (monitor != (podkeep_monitor *)5 || timeout_ms != PODKEEP_FOREVER || out->struct_size != sizeof *out)
    return PODKEEP_ERR_INVALID_ARGUMENT;
  out->name = "pod";
  out->failure = lives == 1 ? (podkeep_failure *)4 : NULL;
  out->to = lives % 2 ? PODKEEP_STATE_RESTARTING : PODKEEP_STATE_RUNNING;
  out->incarnation = lives;
  return lives++ < 4 ? PODKEEP_OK : PODKEEP_ERR_ENDED;
}
podkeep_status podkeep_monitor_free(podkeep_monitor *monitor) { return monitor ? PODKEEP_OK : PODKEEP_ERR_INVALID_HANDLE; }
podkeep_status podkeep_pod_failure(podkeep_pod *pod, podkeep_failure **out) {
  *out = pod && number("FAKE_CODE") ? (podkeep_failure *)3 : NULL;
  return PODKEEP_OK;
}
const char *podkeep_failure_pod_name(const podkeep_failure *f) { return f ? "pod" : ""; }
podkeep_phase podkeep_failure_phase(const podkeep_failure *f) { return f == (podkeep_failure *)3 ? PODKEEP_PHASE_CANCEL : 77; }
podkeep_kind podkeep_failure_kind(const podkeep_failure *f) { return f == (podkeep_failure *)3 ? PODKEEP_KIND_WATCHDOG : -2; }
int32_t podkeep_failure_code(const podkeep_failure *f) { return f ? number("FAKE_CODE") : -2; }
const char *podkeep_failure_message(const podkeep_failure *f) {
  return f == (podkeep_failure *)3 ? "why; the end of its stderr:\nold news" : "why else\n";
}
const char *podkeep_failure_stderr(const podkeep_failure *f) { return f == (podkeep_failure *)3 ? "old news" : ""; }
const podkeep_failure *podkeep_failure_secondary(const podkeep_failure *f) {
  return f == (podkeep_failure *)3 ? (podkeep_failure *)4 : NULL;
}
