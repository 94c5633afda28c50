/* callbacks.c: a program's own callbacks in a child that is the same program started anew (contract, L1 to L9). */
#include "actor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* --- Who may start one ---------------------------------------------------------------------------------------------------- */

static void refused(const char *part) {
  actor *a = actor_new("refused");
  actor_make(a);
  for (int i = 0; i < 3; i++) {
    CHECK_STATUS(podkeep_pod_start(a->pod), PODKEEP_ERR_INVALID_STATE);
    CHECK_HAS(podkeep_last_error(), part);
    CHECK_STATE(a->pod, NEW);
  }
  CHECK_NO_FAILURE(a->pod);
  actor_free(a);
}
TEST_WITH(S3_a_host_that_forgets_to_ask, COLD | NO_ASK, 60) {
  CHECK(getenv("PODKEEP_CHILD") == NULL); /* nothing was started anew */
  refused("podkeep_child_run");
  CHECK_INT(ADD(B->numbers[0], 1), 1);
}
TEST_WITH(S3_a_runtime_that_is_not_exported, COLD | NO_EXPORT, 60) {
  refused("podkeep_export");
  CHECK_OK(podkeep_export(actor_runtime())); /* and then it can be started */
  actor *a = actor_new("exported-late");
  actor_start(a); /* its child does not export it, as this main was told not to */
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(a->pod, &f));
  CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_SPAWN);
  CHECK_HAS(podkeep_failure_message(f), "actor");
  CHECK_OK(podkeep_failure_free(f));
  actor_free(a);
}
TEST_WITH(S3_no_program_starts_itself_without_end, COLD | NO_ASK, 60) {
  if (getenv("PODKEEP_CHILD") != NULL) { /* the child, before it has asked: the same body once more */
    ADD(B->numbers[0], 1);
    refused("podkeep_child_run");
    ADD(B->numbers[1], 1);
  }
  int32_t code = -1;
  podkeep_status status = podkeep_child_run(&code);
  if (status == PODKEEP_OK) _exit(code);
  CHECK_STATUS(status, PODKEEP_ERR_ENDED);
  actor *a = actor_new("once");
  actor_running(a);
  actor_close(a, PODKEEP_OK);
  CHECK_INT(B->numbers[0], 1);
  CHECK_INT(B->numbers[1], 1);
}
TEST_WITH(S3_no_end_of_starts_when_main_closes_descriptors_first, COLD | NO_ASK, 60) {
  /* As a daemon may: all above 2 are closed before anything is asked. The pod cannot be claimed then; the program must not go
   * on as a host and start itself anew. */
  if (getenv("PODKEEP_CHILD") != NULL) {
    if (ADD(B->numbers[0], 1) > 1) _exit(9);
    for (int fd = 3; fd < 64; fd++) close(fd);
  }
  int32_t code = -1;
  podkeep_status status = podkeep_child_run(&code);
  if (status == PODKEEP_OK) _exit(code);
  actor *a = actor_new("never-claimed");
  actor_make(a);
  if (podkeep_pod_start(a->pod) == PODKEEP_OK) CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_OK(podkeep_pod_free(a->pod));
  CHECK_INT(LOAD(B->numbers[0]), 1);
}
enum { VERSION_AT = 8 }; /* in the memory of PODKEEP_CHILD: src/host/process/block.rs */
PROGRAM(claimant_of_another_version) { /* its pod cannot be claimed, and it goes on as a host would */
  int channel, memory;
  const char *marker = getenv("PODKEEP_CHILD");
  CHECK(marker != NULL && sscanf(marker, "%d:%d", &channel, &memory) == 2);
  if (ADD(B->numbers[0], 1) > 1) _exit(9);
  char *block = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  CHECK(block != MAP_FAILED);
  ADD(*(uint32_t *)(void *)(block + VERSION_AT), 1000u);
  CHECK(munmap(block, 4096) == 0);
  actors_export(true);
  int32_t code = -1;
  B->numbers[1] = podkeep_child_run(&code);
  B->numbers[2] = podkeep_child_run(&code);
  actor *a = actor_new("below");
  actor_make(a);
  B->numbers[3] = podkeep_pod_start(a->pod);
  snprintf(B->text, sizeof B->text, "%s", podkeep_last_error());
  CHECK_OK(podkeep_pod_close(a->pod));
  _exit(3);
}
TEST(S3_a_child_that_could_not_claim_starts_nothing) {
  const char *const argv[] = {self_path(), "--do", "claimant_of_another_version", NULL};
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_pod_options o = process_options();
  CHECK_OK(podkeep_runtime_from_program("actor", argv, &runtime));
  CHECK_OK(podkeep_pod_new(runtime, &o, &pod));
  CHECK_OK(podkeep_runtime_free(runtime));
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_INT(B->numbers[1], PODKEEP_ERR_UNSUPPORTED);
  CHECK_INT(B->numbers[2], PODKEEP_ERR_ENDED);
  CHECK_INT(B->numbers[3], PODKEEP_ERR_INVALID_STATE);
  CHECK_HAS(B->text, "claim");
  CHECK_INT(B->numbers[0], 1);
  CHECK_FAILURE(pod, SPAWN, EXIT, 3, NULL);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S3_child_run_elsewhere_is_ended) {
  int32_t code = 99;
  CHECK_STATUS(podkeep_child_run(&code), PODKEEP_ERR_ENDED);
  CHECK_INT(code, 99);
  CHECK_STATUS(podkeep_child_run(NULL), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(podkeep_export(NULL), PODKEEP_ERR_INVALID_HANDLE);
}

/* --- Markers that are not for this process --------------------------------------------------------------------------------- */

PROGRAM(claimant) {
  int32_t code = -1;
  actors_export(true);
  B->numbers[0] = podkeep_child_run(&code);
  B->numbers[1] = getenv("PODKEEP_CHILD") != NULL;
  event_set(&B->events[0]);
}
TEST(S3_a_marker_inherited_by_accident_claims_nothing) { /* a program below the child calls child_run: it is no pod's child */
  const char *const argv[] = {"/bin/sh", "-c", "\"$0\" --do claimant; echo $? >\"$1\"; sleep 1000", self_path(), world_path("code"), NULL};
  podkeep_pod *pod = command_start("actor", argv, NULL); /* the very name it exports */
  event_wait(&B->events[0]);
  CHECK_INT(B->numbers[0], PODKEEP_ERR_ENDED);
  CHECK_INT(B->numbers[1], 0);
  char text[16];
  UNTIL((read_file(world_path("code"), text, sizeof text), text[0] != '\0'));
  CHECK_STR(text, "0\n");
  CHECK_STATE(pod, RUNNING);
  pod_close(pod, PODKEEP_OK);
}
TEST(S3_a_false_marker_claims_nothing) {
  static const char *const markers[] = {"", "x", "3", "3:", ":4", "-1:-1", "3:4", "999:998", "0:0", "99999999999:1", "1:2", "3:4:5", "a:b"};
  for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++) {
    STORE(B->events[0].set, 0u);
    setenv("PODKEEP_CHILD", markers[i], 1);
    pid_t pid = start_self("do", "claimant", NULL);
    unsetenv("PODKEEP_CHILD");
    CHECK_INT(wait_code(pid, LIMIT_MS), 0);
    CHECK(event_is_set(&B->events[0]));
    CHECK_INT(B->numbers[0], PODKEEP_ERR_ENDED);
  }
}
TEST(S3_a_child_that_does_not_claim) {
  const char *const exits[][4] = {{"/bin/sh", "-c", "exit 0", NULL}, {"/bin/sh", "-c", "exit 5", NULL}};
  for (int i = 0; i < 2; i++) {
    podkeep_runtime *runtime;
    podkeep_pod *pod;
    podkeep_pod_options o = process_options();
    CHECK_OK(podkeep_runtime_from_program("unclaimed", exits[i], &runtime));
    CHECK_OK(podkeep_pod_new(runtime, &o, &pod));
    CHECK_OK(podkeep_pod_start(pod));
    CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_FAILURE(pod, SPAWN, EXIT, i ? 5 : 0, NULL);
    CHECK_OK(podkeep_pod_free(pod));
    CHECK_OK(podkeep_runtime_free(runtime));
  }
}
TEST(L12_a_child_that_never_claims_is_forced) {
  const char *const argv[] = {"/bin/sh", "-c", "trap '' TERM; while :; do sleep 1000; done", NULL};
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_pod_options o = process_options();
  o.grace_ms = slow_ms(200), o.kill_after_ms = slow_ms(200);
  CHECK_OK(podkeep_runtime_from_program("mute", argv, &runtime));
  CHECK_OK(podkeep_pod_new(runtime, &o, &pod));
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_STATUS(podkeep_pod_wait_ready(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, STARTING);
  int64_t begun = now_ms();
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(200 + 200 + SLACK));
  CHECK_TIMED_OUT(pod, SPAWN);
  CHECK_OK(podkeep_pod_free(pod));
  CHECK_OK(podkeep_runtime_free(runtime));
}

static int32_t act_wait_for_hook(actor *a, podkeep_context *ctx) { /* as a call that only the hook can end */
  (void)ctx;
  event_wait(&a->hook.entered);
  return PODKEEP_CANCELLED;
}

/* --- A program that claims by name -------------------------------------------------------------------------------------------- */

HOST(other_program) { /* not claimed: it is a program of its own */
  event_set(&B->events[1]);
  for (;;) pause();
}
static void claims_by_name(bool as_command) {
  const char *const argv[] = {self_path(), "--host", "other_program", NULL};
  actor *a = actor_like("by-name", act_wait_for_hook);
  size_t offset = world_offset(a);
  podkeep_runtime *runtime;
  a->options.name = a->name, a->options.args = &offset, a->options.args_len = sizeof offset;
  CHECK_OK(as_command ? podkeep_runtime_from_command("actor", argv, &runtime) : podkeep_runtime_from_program("actor", argv, &runtime));
  podkeep_pod *pod;
  CHECK_OK(podkeep_pod_new(runtime, &a->options, &pod));
  CHECK_OK(podkeep_runtime_free(runtime));
  a->pod = pod;
  CHECK_OK(podkeep_pod_start(a->pod));
  CHECK_OK(podkeep_pod_wait_ready(a->pod, LIMIT_MS));
  event_wait(&a->run.entered);
  CHECK_OK(podkeep_pod_close(a->pod));
  CHECK_INT(a->init.count, 1);
  CHECK_INT(a->hook.count, 1); /* a cancel by the channel, not by SIGTERM */
  CHECK_INT(a->teardown.count, 1);
  CHECK(a->teardown.saw_cancelled);
  CHECK_NO_FAILURE(a->pod);
  CHECK(!event_is_set(&B->events[1]));
  actor_free(a);
}
TEST(S3_a_program_claims_by_name__from_program) { claims_by_name(false); }
TEST(S3_a_program_claims_by_name__from_command) { claims_by_name(true); }
TEST(S3_a_command_of_another_name_is_a_plain_command) {
  const char *const argv[] = {self_path(), "--host", "other_program", NULL};
  podkeep_pod *pod = command_start("not-exported", argv, NULL);
  event_wait(&B->events[1]);
  CHECK_STATE(pod, RUNNING);
  pod_close(pod, PODKEEP_OK);
}

/* --- What arrives, and what comes back -------------------------------------------------------------------------------------- */

static int32_t act_note_thread(actor *a, podkeep_context *ctx) {
  (void)ctx;
  a->numbers[0] += syscall(SYS_gettid) == getpid();
  return 0;
}
static int32_t act_note_and_wait(actor *a, podkeep_context *ctx) {
  act_note_thread(a, ctx);
  return act_wait(a, ctx);
}
TEST(L1_all_on_the_childs_main_thread) {
  actor *a = actor_like("main-thread", act_note_and_wait);
  DOES(a->init, act_note_thread);
  DOES(a->teardown, act_note_thread);
  actor_running(a);
  CHECK(a->pid != getpid() && a->pid == pod_pid(a->pod));
  actor_close(a, PODKEEP_OK);
  CHECK_INT(a->numbers[0], 3);
  CHECK_INT(a->init.count + a->run.count + a->teardown.count, 3);
}

static unsigned char byte_at(size_t i) { return (unsigned char)(i * 31 + i / 251); }
static int32_t teller_run(podkeep_context *ctx, void *state) {
  (void)state;
  size_t n = 99;
  const unsigned char *args = podkeep_context_args(ctx, &n);
  B->numbers[0] = (int64_t)n;
  B->numbers[1] = args == NULL;
  B->numbers[2] = (intptr_t)args % 16;
  B->numbers[3] = 1;
  for (size_t i = 0; i < n && args; i++)
    if (args[i] != byte_at(i)) B->numbers[3] = 0;
  B->numbers[4] = podkeep_context_incarnation(ctx);
  snprintf(B->text, sizeof B->text, "%s", podkeep_context_name(ctx));
  return 0;
}
static podkeep_runtime *teller;
EXPORTS(teller_export) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "teller";
  spec.run_forever = teller_run;
  CHECK_OK(podkeep_runtime_new(&spec, &teller));
  CHECK_OK(podkeep_export(teller));
}
static void args_arrive(size_t length, const char *name) {
  podkeep_pod_options o = process_options();
  unsigned char *args = malloc(length + 1);
  podkeep_pod *pod;
  for (size_t i = 0; i < length; i++) args[i] = byte_at(i);
  o.name = name;
  o.args = length ? args : NULL, o.args_len = length;
  CHECK_OK(podkeep_pod_new(teller, &o, &pod));
  free(args);
  CHECK_OK(podkeep_pod_start(pod));
  pod_join(pod, PODKEEP_OK);
  CHECK_INT(B->numbers[0], length);
  CHECK_INT(B->numbers[1], length == 0);
  CHECK_INT(B->numbers[2], 0);
  CHECK_INT(B->numbers[3], 1);
  CHECK_INT(B->numbers[4], 0);
  CHECK_STR(B->text, name ? name : "teller");
}
TEST(S3_args_and_name_arrive) {
  char longest[256];
  memset(longest, 'n', 255), longest[255] = '\0';
  args_arrive(0, NULL);
  args_arrive(1, "one");
  args_arrive(100, "a name with spaces, \xc3\xa9 and /slashes");
  args_arrive(5000, longest);
  args_arrive(3 << 20, "large");
}

static int32_t act_say_things(actor *a, podkeep_context *ctx) {
  podkeep_context_status(ctx, "before");
  podkeep_context_status(ctx, "counting sheep: \xc3\xa9");
  podkeep_context_heartbeat(ctx);
  event_set(&a->events[0]);
  event_wait(&a->events[1]);
  if (podkeep_context_ready(ctx) != PODKEEP_OK) return 1;
  return act_wait(a, ctx);
}
TEST(L13_words_cross__ready_and_status) {
  actor *a = actor_like("wordy", act_say_things);
  a->options.ready = PODKEEP_READY_NOTIFY;
  actor_start(a);
  event_wait(&a->events[0]);
  int64_t until = now_ms() + LIMIT_MS; /* a status is told on its way: the child's event may be seen first */
  do {
    CHECK_STATUS(podkeep_pod_wait_ready(a->pod, 1), PODKEEP_ERR_TIMEOUT);
  } while (strstr(podkeep_last_error(), "counting sheep") == NULL && now_ms() < until);
  CHECK_HAS(podkeep_last_error(), "counting sheep: \xc3\xa9");
  CHECK_STATE(a->pod, STARTING);
  event_set(&a->events[1]);
  CHECK_OK(podkeep_pod_wait_ready(a->pod, LIMIT_MS));
  CHECK_STATE(a->pod, RUNNING);
  actor_close(a, PODKEEP_OK);
}
static int32_t act_fail_with(actor *a, podkeep_context *ctx) {
  unsigned char data[1000];
  for (size_t i = 0; i < sizeof data; i++) data[i] = byte_at(i);
  a->numbers[1] = podkeep_context_fail_with(ctx, PODKEEP_KIND_EXCEPTION, 12, "an exception with its bytes", data, sizeof data);
  return 34; /* the returned code wins */
}
static int32_t act_fail_too(actor *a, podkeep_context *ctx) {
  (void)a;
  return podkeep_context_fail(ctx, 8, "and then the teardown");
}
TEST(L7_failures_cross__chain_data_and_kind) {
  actor *a = actor_like("failing", act_fail_with);
  DOES(a->teardown, act_fail_too);
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(a->pod, &f));
  CHECK_INT(podkeep_failure_phase(f), PODKEEP_PHASE_RUN);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_EXCEPTION);
  CHECK_INT(podkeep_failure_code(f), 34);
  CHECK_STR(podkeep_failure_message(f), "an exception with its bytes");
  CHECK_STR(podkeep_failure_pod_name(f), "failing");
  size_t n = 0;
  const unsigned char *data = podkeep_failure_data(f, &n);
  CHECK_INT(n, 1000);
  for (size_t i = 0; i < n; i++) CHECK(data[i] == byte_at(i));
  const podkeep_failure *second = podkeep_failure_secondary(f);
  CHECK_INT(podkeep_failure_phase(second), PODKEEP_PHASE_TEARDOWN);
  CHECK_INT(podkeep_failure_code(second), 8);
  CHECK_STR(podkeep_failure_message(second), "and then the teardown");
  CHECK(podkeep_failure_data(second, &n) == NULL && n == 0);
  CHECK(podkeep_failure_secondary(second) == NULL);
  CHECK_OK(podkeep_failure_free(f));
  actor_free(a);
}
static int32_t act_fail_at_length(actor *a, podkeep_context *ctx) {
  (void)a;
  size_t n = 2000000;
  char *text = malloc(n + 1);
  memset(text, 'm', n), text[n] = '\0', text[n - 1] = '!';
  int32_t code = podkeep_context_fail(ctx, 6, text);
  free(text);
  return code;
}
TEST(S2_a_long_message_crosses_whole) { /* never cut silently; more than any socket's buffer */
  actor *a = actor_like("lengthy", act_fail_at_length);
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(a->pod, &f));
  CHECK_INT(strlen(podkeep_failure_message(f)), 2000000);
  CHECK_INT(podkeep_failure_message(f)[1999999], '!');
  CHECK_OK(podkeep_failure_free(f));
  actor_free(a);
}
/* --- A host that does not read ------------------------------------------------------------------------------------------------ */

/* Says more than a socket holds while its host is stopped, and ends when it is told to. */
static int32_t act_tell_much(actor *a, podkeep_context *ctx) {
  char text[500];
  event_wait(&a->events[0]);
  for (int i = 0; i < 3000; i++) {
    snprintf(text, sizeof text, "word %0400d", i);
    if (podkeep_context_status(ctx, text) != PODKEEP_OK) return podkeep_context_fail(ctx, 97, podkeep_last_error());
  }
  event_set(&a->events[1]);
  event_wait(&a->events[2]);
  return 0;
}
HOST(slow_reader) {
  actor *a = actor_like("talker", act_tell_much);
  B->numbers[0] = (int64_t)world_offset(a);
  actor_running(a);
  event_set(&B->events[0]);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_OK);
  CHECK_NO_FAILURE(a->pod);
  actor_free(a);
}
/* The host is stopped, and the talker has said all. */
static pid_t slow_reader_start(actor **a) {
  pid_t host = start_self("host", "slow_reader", NULL);
  event_wait(&B->events[0]);
  *a = world_at((size_t)B->numbers[0]);
  CHECK(kill(host, SIGSTOP) == 0);
  UNTIL(process_letter(host) == 'T');
  event_set(&(*a)->events[0]);
  event_wait(&(*a)->events[1]);
  return host;
}
static bool is_sending(pid_t pid) {
  char path[64], text[200];
  snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
  read_file(path, text, sizeof text);
  return text[0] == '\0' ? process_letter(pid) == 'S' : atoi(text) == SYS_sendto; /* not everybody may read that file */
}
TEST(L6_what_waits_to_be_said_comes_before_the_end) { /* nothing of it is taken for a word after the end */
  actor *a;
  pid_t host = slow_reader_start(&a);
  event_set(&a->events[2]);
  event_wait(&a->teardown.left);
  UNTIL(is_sending(a->pid)); /* its last words, which the socket does not take */
  CHECK(kill(host, SIGCONT) == 0);
  CHECK_INT(wait_code(host, LIMIT_MS), 0);
}
TEST(S4_a_host_that_does_not_read_costs_its_child_nothing) {
  actor *a;
  pid_t host = slow_reader_start(&a);
  clockid_t clock;
  struct timespec before, after;
  CHECK(clock_getcpuclockid(a->pid, &clock) == 0);
  UNTIL(process_letter(a->pid) == 'S');
  int64_t window = slow_ms(500);
  CHECK(clock_gettime(clock, &before) == 0);
  pass_ms(window); /* the time itself is the subject: its threads sleep all the while */
  CHECK(clock_gettime(clock, &after) == 0);
  int64_t used = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
  note("%lld ms of the processor in %lld ms", (long long)used, (long long)window);
  CHECK_BELOW(used, window / 10);
  event_set(&a->events[2]);
  CHECK(kill(host, SIGCONT) == 0);
  CHECK_INT(wait_code(host, LIMIT_MS), 0);
}

/* --- Odd ends and odd moments ------------------------------------------------------------------------------------------------ */

TEST(L2_a_failed_init_has_no_teardown) {
  actor *a = actor_new("init-fails");
  DOES(a->init, act_fail);
  a->numbers[0] = 21;
  actor_start(a);
  CHECK_STATUS(podkeep_pod_wait_ready(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, INIT, RETURNED, 21, "as it was told");
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_INT(a->run.count + a->teardown.count + a->hook.count, 0);
  actor_free(a);
}
TEST(L5_cancelled_in_init) { /* init succeeds the moment after the cancel has answered: run_forever is skipped all the same */
  for (int i = 0; i < 100; i++) {
    actor *a = actor_new("cancelled-in-init");
    a->init.held = true;
    actor_start(a);
    event_wait(&a->init.entered);
    CHECK_OK(podkeep_pod_cancel(a->pod));
    CHECK_STATE(a->pod, STOPPING);
    event_set(&a->init.go);
    CHECK_OK(podkeep_pod_join(a->pod, LIMIT_MS));
    CHECK_INT(a->run.count, 0);
    CHECK_INT(a->teardown.count, 1);
    actor_free(a);
  }
}
static int32_t act_six_ways(actor *a, podkeep_context *ctx) {
  struct pollfd p = {podkeep_context_fd(ctx), POLLIN, 0};
  CHECK(p.fd >= 0 && poll(&p, 1, 0) == 0);
  CHECK(!podkeep_context_cancelled(ctx));
  CHECK_INT(podkeep_context_time_left(ctx), -1);
  event_set(&a->events[0]);
  CHECK(poll(&p, 1, (int)LIMIT_MS) == 1);
  CHECK(podkeep_context_cancelled(ctx));
  CHECK_OK(podkeep_context_wait(ctx, 0));
  int64_t left = podkeep_context_time_left(ctx);
  CHECK(left > 0 && left <= LIMIT_MS);
  return PODKEEP_CANCELLED;
}
TEST(S5_the_cancel_is_seen_in_the_child) {
  actor *a = actor_like("sees-it", act_six_ways);
  actor_running(a);
  event_wait(&a->events[0]);
  actor_close(a, PODKEEP_OK);
}
TEST(L9_the_hook_is_called_in_the_child) {
  actor *a = actor_like("hooked", act_wait_for_hook);
  actor_running(a);
  actor_close(a, PODKEEP_OK);
  CHECK_INT(a->hook.count, 1);
  CHECK_INT(a->teardown.count, 1);
}
static void never_dropped(void *config) { ADD(*(int64_t *)config, 1); }
TEST(L3_an_export_delays_no_drop) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  spec.name = "weakly-exported";
  spec.run_forever = teller_run;
  spec.config = &B->numbers[9];
  spec.drop = never_dropped;
  CHECK_OK(podkeep_runtime_new(&spec, &runtime));
  CHECK_OK(podkeep_export(runtime));
  CHECK_OK(podkeep_export(runtime));
  CHECK_INT(LOAD(B->numbers[9]), 0);
  CHECK_OK(podkeep_runtime_free(runtime));
  UNTIL(LOAD(B->numbers[9]) == 1);
}

/* --- Pods in a child ---------------------------------------------------------------------------------------------------------- */

static int32_t act_nest(actor *a, podkeep_context *ctx) { /* a command, a child of callbacks, a thread: all its own */
  podkeep_pod *command = shell_start("nested-command", "sleep 1000 & wait", NULL);
  actor *inner = actor_new("nested-actor");
  actor_running(inner);
  actor *thread = actor_new("nested-thread");
  thread->options.host = PODKEEP_HOST_THREAD;
  actor_running(thread);
  a->numbers[0] = pod_pid(command);
  a->numbers[1] = inner->pid;
  event_set(&a->events[0]);
  int32_t result = act_wait(a, ctx);
  if (a->numbers[2]) _exit((int)a->numbers[2]);
  actor_close(thread, PODKEEP_OK);
  actor_close(inner, PODKEEP_OK);
  pod_close(command, PODKEEP_OK);
  return result;
}
static actor *nesting(int exit_code) {
  actor *a = actor_like("nesting", act_nest);
  a->numbers[2] = exit_code;
  actor_running(a);
  event_wait(&a->events[0]);
  for (int i = 0; i < 2; i++) CHECK(alive((pid_t)a->numbers[i]) && getpgid((pid_t)a->numbers[i]) == (pid_t)a->numbers[i]);
  return a;
}
static void nested_are_gone(actor *a) {
  for (int i = 0; i < 2; i++) UNTIL(!group_alive((pid_t)a->numbers[i]));
}
TEST(S4_pods_of_a_child_end_with_its_close) {
  actor *a = nesting(0);
  CHECK_OK(podkeep_pod_close(a->pod));
  nested_are_gone(a);
  actor_free(a);
}
TEST(S4_pods_of_a_child_die_with_it__sigkill) {
  actor *a = nesting(0);
  CHECK(kill(a->pid, SIGKILL) == 0);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  nested_are_gone(a);
  actor_free(a);
}
TEST(S4_pods_of_a_child_die_with_it__exit) {
  actor *a = nesting(9);
  CHECK_STATUS(podkeep_pod_close(a->pod), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, RUN, EXIT, 9, NULL);
  nested_are_gone(a);
  actor_free(a);
}
TEST(S4_pods_of_a_child_die_with_it__force) {
  actor *a = nesting(0);
  a->options.grace_ms = 0; /* read at the start; the close below is bounded by the stop, not by it */
  CHECK(kill(a->pid, SIGSTOP) == 0);
  UNTIL(process_letter(a->pid) == 'T');
  CHECK_OK(podkeep_pod_cancel(a->pod));
  CHECK(kill(-a->pid, SIGKILL) == 0);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  nested_are_gone(a);
  actor_free(a);
}
