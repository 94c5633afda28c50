/* command.c: any program as a pod: how it is named, how it ends, what its end means (L6). */
#include "actor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- What cannot be a command --------------------------------------------------------------------------------------- */

TEST(S3_a_command_needs_words) {
  podkeep_runtime *runtime = NULL;
  const char *const none[] = {NULL}, *const good[] = {"true", NULL};
  CHECK_STATUS(podkeep_runtime_from_command("c", NULL, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_HAS(podkeep_last_error(), "argv");
  CHECK_STATUS(podkeep_runtime_from_command("c", none, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_HAS(podkeep_last_error(), "argv");
  CHECK_STATUS(podkeep_runtime_from_command(NULL, good, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_runtime_from_command("", good, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_runtime_from_command("bad\xff", good, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_runtime_from_command("c", good, NULL), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_runtime_from_program("c", NULL, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_runtime_from_program("c", none, &runtime), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK(runtime == NULL);
}
static void refused(const podkeep_pod_options *options, const char *field) {
  const char *const argv[] = {"true", NULL};
  podkeep_runtime *runtime;
  podkeep_pod *pod = NULL;
  CHECK_OK(podkeep_runtime_from_command("c", argv, &runtime));
  CHECK_STATUS(podkeep_pod_new(runtime, options, &pod), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_HAS(podkeep_last_error(), field);
  CHECK(pod == NULL);
  CHECK_OK(podkeep_runtime_free(runtime));
}
TEST(S3_options_that_do_not_apply_are_refused__command) {
  podkeep_pod_options o = process_options();
  refused(NULL, "host"); /* a thread is the default */
  o.stack_size = 1 << 20, refused(&o, "stack_size"), o.stack_size = 0;
  o.kick_signal = SIGUSR1, refused(&o, "kick_signal"), o.kick_signal = 0;
  o.ready_port = 4000, refused(&o, "ready_port");
  o.ready = PODKEEP_READY_PORT, o.ready_port = 0, refused(&o, "ready_port");
  o.ready_port = 70000, refused(&o, "ready_port");
  o.ready_port = -1, refused(&o, "ready_port"), o.ready_port = 0, o.ready = PODKEEP_READY_ON_RUN;
  o.stop_signal = -1, refused(&o, "stop_signal");
  o.stop_signal = 1000, refused(&o, "stop_signal"), o.stop_signal = 0;
  o.kill_after_ms = -5, refused(&o, "kill_after_ms");
  o.kill_after_ms = PODKEEP_FOREVER, refused(&o, "kill_after_ms"), o.kill_after_ms = 0;
  const char *const no_equals[] = {"GOOD=1", "BAD", NULL};
  o.env = no_equals, refused(&o, "env");
  const char *const no_key[] = {"=value", NULL};
  o.env = no_key, refused(&o, "env"), o.env = NULL;
}
static void refused_of_callbacks(const podkeep_pod_options *options, const char *field) {
  podkeep_pod *pod = NULL;
  CHECK_STATUS(podkeep_pod_new(actor_runtime(), options, &pod), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_HAS(podkeep_last_error(), field);
}
TEST(S3_options_that_do_not_apply_are_refused__callbacks) {
  podkeep_pod_options o = process_options();
  o.stop_signal = SIGINT, refused_of_callbacks(&o, "stop_signal"), o.stop_signal = 0;
  o.ready_port = 4000, o.ready = PODKEEP_READY_PORT, refused_of_callbacks(&o, "ready");
  o.ready_port = 0, o.ready = 0, o.stack_size = 1 << 20, refused_of_callbacks(&o, "stack_size");
  podkeep_pod_options t = PODKEEP_POD_OPTIONS_INIT;
  const char *const env[] = {"A=1", NULL};
  t.env = env, refused_of_callbacks(&t, "env"), t.env = NULL;
  t.cwd = "/", refused_of_callbacks(&t, "cwd");
}
/* --- What cannot be executed -------------------------------------------------------------------------------------------- */

static void not_executed(const char *program, const char *cwd, int code, const char *part) {
  const char *const argv[] = {program, "word", NULL};
  podkeep_pod_options o = process_options();
  o.cwd = cwd;
  podkeep_pod *pod = command_start("unspawned", argv, &o);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, SPAWN, EXIT, code, part);
  CHECK_STATE(pod, FAILED);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S2_no_such_program_is_127) {
  not_executed("/no/such/program", NULL, 127, "/no/such/program");
  not_executed("no-such-program-in-path", NULL, 127, "no-such-program-in-path");
}
TEST(S2_not_executable_is_126) {
  const char *file = world_path("not-executable");
  write_file(file, "#!/bin/sh\nexit 0\n");
  chmod(file, 0644);
  not_executed(file, NULL, 126, file);
  not_executed(world_directory(), NULL, 126, world_directory());
}
TEST(S2_no_such_cwd_is_a_failure_of_spawn) {
  const char *const argv[] = {"true", NULL};
  podkeep_pod_options o = process_options();
  o.cwd = "/no/such/directory";
  podkeep_pod *pod = command_start("nowhere", argv, &o);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(pod, &f));
  CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_SPAWN);
  CHECK_HAS(podkeep_failure_message(f), "/no/such/directory");
  CHECK_OK(podkeep_failure_free(f));
  CHECK_OK(podkeep_pod_free(pod));
}

/* --- How it ends ---------------------------------------------------------------------------------------------------------- */

TEST(L6_exit_0_is_stopped) {
  podkeep_pod *pod = shell_start("natural", "exit 0", NULL);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STATE(pod, STOPPED);
  CHECK_NO_FAILURE(pod);
  CHECK_OK(podkeep_pod_free(pod));
}
static void ends_without_a_cancel(const char *script, podkeep_kind kind, int32_t code) {
  podkeep_pod *pod = shell_start("ending", script, NULL);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  check_failure_at(__FILE__, __LINE__, pod, PODKEEP_PHASE_RUN, kind, code, NULL);
  CHECK_STATE(pod, FAILED);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L6_without_a_cancel_only_0_is_clean) {
  ends_without_a_cancel("exit 3", PODKEEP_KIND_EXIT, 3);
  ends_without_a_cancel("exit 143", PODKEEP_KIND_EXIT, 143);
  ends_without_a_cancel("exit 255", PODKEEP_KIND_EXIT, 255);
  ends_without_a_cancel("kill -TERM $$", PODKEEP_KIND_SIGNAL, SIGTERM);
  ends_without_a_cancel("kill -KILL $$", PODKEEP_KIND_SIGNAL, SIGKILL);
}
/* Says that it is there by a file, so that the cancel meets the trap. */
static podkeep_pod *trapping(const char *trap, int stop_signal) {
  static int turn;
  char script[2000], name[32];
  snprintf(name, sizeof name, "trapping-%d", turn++);
  snprintf(script, sizeof script, "%s\n: >%s\nwhile :; do sleep 1000 & wait; done", trap, world_path(name));
  podkeep_pod_options o = process_options();
  o.stop_signal = stop_signal;
  o.grace_ms = LIMIT_MS;
  podkeep_pod *pod = shell_start("trapping", script, &o);
  UNTIL(access(world_path(name), F_OK) == 0);
  return pod;
}
TEST(L6_after_a_cancel__0) { pod_close(trapping("trap 'exit 0' TERM", 0), PODKEEP_OK); }
TEST(L6_after_a_cancel__the_stop_signal) {
  pod_close(trapping("", 0), PODKEEP_OK);
  pod_close(trapping("", SIGINT), PODKEEP_OK);
  pod_close(trapping("", SIGUSR1), PODKEEP_OK);
  pod_close(trapping("", SIGKILL), PODKEEP_OK);
}
TEST(L6_after_a_cancel__128_and_the_stop_signal) {
  pod_close(trapping("trap 'exit 143' TERM", 0), PODKEEP_OK);
  pod_close(trapping("trap 'exit 138' USR1", SIGUSR1), PODKEEP_OK);
}
static void unclean(podkeep_pod *pod, podkeep_kind kind, int32_t code) {
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  check_failure_at(__FILE__, __LINE__, pod, PODKEEP_PHASE_RUN, kind, code, NULL);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L6_after_a_cancel__anything_else_is_a_failure) {
  unclean(trapping("trap 'exit 1' TERM", 0), PODKEEP_KIND_EXIT, 1);
  unclean(trapping("trap 'exit 143' USR1", SIGUSR1), PODKEEP_KIND_EXIT, 143);
  unclean(trapping("trap 'kill -KILL $$' TERM", 0), PODKEEP_KIND_SIGNAL, SIGKILL);
  unclean(trapping("trap 'kill -TERM $$' INT", SIGINT), PODKEEP_KIND_SIGNAL, SIGTERM);
}
TEST(L6_a_stopped_command_is_woken_to_end) {
  podkeep_pod *pod = trapping("trap 'exit 0' TERM", 0);
  pid_t pid = pod_pid(pod);
  CHECK(kill(pid, SIGSTOP) == 0);
  UNTIL(process_letter(pid) == 'T');
  pod_close(pod, PODKEEP_OK);
}
TEST(L12_a_deaf_command_is_forced) {
  podkeep_pod_options o = process_options();
  o.grace_ms = slow_ms(300), o.kill_after_ms = slow_ms(300);
  char script[600];
  snprintf(script, sizeof script, "trap '' TERM; sleep 1000 & sleep 1000 & : >%s; while :; do wait; done", world_path("deaf"));
  podkeep_pod *pod = shell_start("deaf", script, &o);
  UNTIL(access(world_path("deaf"), F_OK) == 0);
  pid_t group = pod_pid(pod);
  int64_t begun = now_ms();
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(300 + 300 + SLACK));
  CHECK_TIMED_OUT(pod, RUN);
  UNTIL(!group_alive(group));
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L6_the_rest_of_a_commands_group_goes_with_it) {
  char script[800];
  const char *left = world_path("left"), *go = world_path("go");
  snprintf(script, sizeof script, "for i in 1 2 3; do (trap '' TERM HUP; : >%s$i; sleep 1000) & done; while ! test -e %s1 -a -e %s2 -a -e %s3 -a -e %s; do :; done; exit 0",
           left, left, left, left, go);
  podkeep_pod *pod = shell_start("leaving", script, NULL);
  pid_t group = pod_pid(pod); /* it has one until it ends */
  write_file(go, "");
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  UNTIL(!group_alive(group));
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L4_cancelled_before_the_start) {
  const char *const argv[] = {"/bin/sh", "-c", "exit 9", NULL};
  podkeep_pod *pod = command_make("unstarted", argv, NULL);
  int64_t id = 99;
  CHECK_OK(podkeep_pod_id(pod, &id));
  CHECK_INT(id, 0);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATE(pod, STOPPED);
  CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_INVALID_STATE);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L5_cancelled_while_it_is_made) { /* a cancel that meets the start at any point: no child is left, no word is wrong */
  for (int i = 0; i < 50; i++) {
    podkeep_pod *pod = shell_start("short-lived", "sleep 1000", NULL);
    if (i % 2) sched_yield();
    CHECK_OK(podkeep_pod_cancel(pod));
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    CHECK_NO_FAILURE(pod);
    CHECK_OK(podkeep_pod_free(pod));
  }
}
TEST(L13_on_run_is_on_exec) {
  podkeep_pod *pod = shell_start("ready-on-exec", "sleep 1000", NULL);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_STATE(pod, RUNNING);
  CHECK(alive(pod_pid(pod)));
  pod_close(pod, PODKEEP_OK);
}
TEST(L10_a_start_does_not_wait) { /* for a program that a slow disk or a thousand others delay; here: a hundred starts */
  podkeep_pod *pods[100];
  int64_t begun = now_ms();
  for (int i = 0; i < 100; i++) pods[i] = shell_start("one-of-100", "sleep 1000", NULL);
  note("100 commands started in %lld ms", (long long)(now_ms() - begun));
  for (int i = 0; i < 100; i++) CHECK_OK(podkeep_pod_wait_ready(pods[i], LIMIT_MS));
  for (int i = 0; i < 100; i++) CHECK_OK(podkeep_pod_cancel(pods[i]));
  for (int i = 0; i < 100; i++) pod_join(pods[i], PODKEEP_OK);
}
TEST(L4_one_runtime_many_pods) {
  const char *const argv[] = {"/bin/sh", "-c", "sleep 1000", NULL};
  podkeep_runtime *runtime;
  podkeep_pod *pods[5];
  podkeep_pod_options o = process_options();
  CHECK_OK(podkeep_runtime_from_command("shared", argv, &runtime));
  for (int i = 0; i < 5; i++) CHECK_OK(podkeep_pod_new(runtime, &o, &pods[i]));
  CHECK_OK(podkeep_runtime_free(runtime));
  for (int i = 0; i < 5; i++) CHECK_OK(podkeep_pod_start(pods[i]));
  for (int i = 0; i < 5; i++) pod_close(pods[i], PODKEEP_OK);
}
TEST(S2_words_that_no_program_can_have) { /* the kernel takes no word of more than 128 KiB */
  static char word[200000];
  memset(word, 'w', sizeof word - 1);
  const char *const argv[] = {"/bin/true", word, NULL};
  podkeep_pod *pod = command_start("wordy", argv, NULL);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, SPAWN, EXIT, 126, "/bin/true");
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S4_the_childs_own_path_and_directory_count) {
  mkdir(world_path("bin"), 0755);
  write_file(world_path("bin/own-program"), "#!/bin/sh\nexit 0\n");
  CHECK(chmod(world_path("bin/own-program"), 0755) == 0);
  char path[4200];
  snprintf(path, sizeof path, "PATH=/no/such/place:%s:/bin", world_path("bin"));
  const char *const env[] = {path, NULL}, *const searched[] = {"own-program", NULL}, *const relative[] = {"./own-program", NULL};
  podkeep_pod_options o = process_options();
  o.env = env;
  pod_join(command_start("searched", searched, &o), PODKEEP_OK);
  o.env = NULL, o.cwd = world_path("bin");
  pod_join(command_start("relative", relative, &o), PODKEEP_OK);
}
TEST(S4_env_cannot_take_the_librarys_own_words) { /* refused, or of no effect: the channel is the library's */
  const char *const env[] = {"PODKEEP_CHILD=77:78", NULL};
  actor *a = actor_new("misled");
  a->options.env = env;
  size_t offset = world_offset(a);
  a->options.name = a->name, a->options.args = &offset, a->options.args_len = sizeof offset;
  podkeep_pod *pod;
  podkeep_status status = podkeep_pod_new(actor_runtime(), &a->options, &pod);
  if (status == PODKEEP_ERR_INVALID_ARGUMENT) return;
  CHECK_OK(status);
  a->pod = pod;
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  actor_close(a, PODKEEP_OK);
}
