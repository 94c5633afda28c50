/* library.c: a runtime out of a shared library, in a process (by the podkeep program), in a thread, as main. */
#include "actor.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *library_path(void) { /* beside this program */
  static char path[4096];
  snprintf(path, sizeof path, "%s", self_path());
  char *slash = strrchr(path, '/');
  snprintf(slash + 1, sizeof path - (size_t)(slash + 1 - path), "%s", "worker.so");
  return path;
}
static podkeep_pod *library_make(const char *symbol, podkeep_host host, podkeep_ready_mode ready) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_pod_options o = PODKEEP_POD_OPTIONS_INIT;
  const char *file = world_path("words");
  o.host = host, o.ready = ready, o.args = file, o.args_len = strlen(file), o.grace_ms = LIMIT_MS;
  CHECK_OK(podkeep_runtime_from_library(library_path(), symbol, &runtime));
  CHECK_OK(podkeep_pod_new(runtime, &o, &pod));
  CHECK_OK(podkeep_runtime_free(runtime));
  return pod;
}
/* "init run cancel teardown", and the process that said all of it. */
static pid_t words_said(char *into) {
  static char text[4096];
  pid_t pid = 0;
  into[0] = '\0';
  read_file(world_path("words"), text, sizeof text);
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    char *space = strchr(line, ' ');
    CHECK(space != NULL && (pid == 0 || atoi(space) == pid));
    pid = atoi(space);
    *space = '\0';
    sprintf(into + strlen(into), "%s%s", into[0] ? " " : "", line);
  }
  return pid;
}
static void lives(podkeep_host host) {
  char words[4096];
  podkeep_pod *pod = library_make("worker", host, PODKEEP_READY_NOTIFY);
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  int64_t id = 0;
  CHECK_OK(podkeep_pod_id(pod, &id));
  CHECK_OK(podkeep_pod_close(pod));
  pid_t pid = words_said(words);
  CHECK_STR(words, "init run cancel teardown");
  CHECK_INT(pid, host == PODKEEP_HOST_PROCESS ? (pid_t)id : getpid());
  const char *name = NULL;
  CHECK_OK(podkeep_pod_name(pod, &name));
  CHECK_STR(name, "worker");
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S3_library_as_a_process) { lives(PODKEEP_HOST_PROCESS); }
TEST_WITH(S3_library_as_a_thread, COLD, 60) { lives(PODKEEP_HOST_THREAD); }

static void *cancel_when_running(void *monitor) {
  podkeep_event event = PODKEEP_EVENT_INIT;
  do CHECK_OK(podkeep_monitor_next(monitor, &event, LIMIT_MS));
  while (event.to != PODKEEP_STATE_RUNNING);
  CHECK_OK(podkeep_pod_cancel(event.pod));
  return NULL;
}
TEST_WITH(S3_library_as_main, COLD, 60) {
  char words[4096];
  int32_t code = -1;
  pthread_t thread;
  podkeep_monitor *m;
  podkeep_pod *pod = library_make("worker", PODKEEP_HOST_THREAD, PODKEEP_READY_NOTIFY);
  CHECK_OK(podkeep_monitor_new(pod, &m));
  CHECK(pthread_create(&thread, NULL, cancel_when_running, m) == 0);
  CHECK_OK(podkeep_pod_run(pod, &code));
  pthread_join(thread, NULL);
  CHECK_INT(code, 0);
  CHECK_STATE(pod, STOPPED);
  CHECK_INT(words_said(words), getpid());
  CHECK_STR(words, "init run cancel teardown");
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_OK(podkeep_pod_free(pod));
  pod = library_make("failing", PODKEEP_HOST_THREAD, PODKEEP_READY_ON_RUN);
  CHECK_OK(podkeep_pod_run(pod, &code));
  CHECK_INT(code, 17);
  CHECK_FAILURE(pod, RUN, RETURNED, 17, "the library's own words");
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S2_library_that_fails) {
  podkeep_pod *pod = library_make("failing", PODKEEP_HOST_PROCESS, PODKEEP_READY_ON_RUN);
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, RUN, RETURNED, 17, "the library's own words");
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S2_library_that_crashes) {
  podkeep_pod *pod = library_make("crashing", PODKEEP_HOST_PROCESS, PODKEEP_READY_ON_RUN);
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, RUN, SIGNAL, SIGABRT, NULL);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S3_library_sentences__file) {
  podkeep_runtime *runtime = NULL;
  CHECK_STATUS(podkeep_runtime_from_library("/no/such/library.so", "worker", &runtime), PODKEEP_ERR_NOT_FOUND);
  CHECK_HAS(podkeep_last_error(), "/no/such/library.so");
  CHECK_STATUS(podkeep_runtime_from_library(NULL, "worker", &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_runtime_from_library(library_path(), NULL, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_runtime_from_library(library_path(), "worker", NULL), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK(runtime == NULL);
}
static void badly_made(const char *path, const char *symbol, const char *part) {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_pod_options o = process_options();
  CHECK_OK(podkeep_runtime_from_library(path, symbol, &runtime));
  CHECK_OK(podkeep_pod_new(runtime, &o, &pod));
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(pod, &f));
  CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_SPAWN);
  CHECK_HAS(podkeep_failure_message(f), part);
  CHECK_OK(podkeep_failure_free(f));
  CHECK_OK(podkeep_pod_free(pod));
  o.host = PODKEEP_HOST_THREAD; /* here the sentence is the call's */
  podkeep_status status = podkeep_pod_new(runtime, &o, &pod);
  CHECK_STATUS(status, PODKEEP_ERR_NOT_FOUND);
  CHECK_HAS(podkeep_last_error(), part);
  CHECK_OK(podkeep_runtime_free(runtime));
}
TEST(S3_library_sentences__symbol) { badly_made(library_path(), "no_such_symbol", "no_such_symbol"); }
TEST(S3_library_sentences__null) { badly_made(library_path(), "nothing", "nothing"); }
TEST(S3_library_sentences__no_run_forever) { badly_made(library_path(), "runless", "run_forever"); }
TEST(S3_library_sentences__no_library) {
  write_file(world_path("text.so"), "this is no library\n");
  badly_made(world_path("text.so"), "worker", "text.so");
}
TEST(S3_library_path_is_made_absolute) {
  char directory[4096];
  snprintf(directory, sizeof directory, "%s", library_path());
  *strrchr(directory, '/') = '\0';
  char here[4096];
  CHECK(getcwd(here, sizeof here) && chdir(directory) == 0);
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_pod_options o = process_options();
  o.cwd = "/";
  CHECK_OK(podkeep_runtime_from_library("./worker.so", "failing", &runtime));
  CHECK(chdir(here) == 0);
  CHECK_OK(podkeep_pod_new(runtime, &o, &pod));
  CHECK_OK(podkeep_runtime_free(runtime));
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, RUN, RETURNED, 17, NULL);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST_WITH(S3_library_needs_no_ask, COLD | NO_ASK | NO_EXPORT, 60) { lives(PODKEEP_HOST_PROCESS); }
