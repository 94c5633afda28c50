/* What the runtime sees from inside: arguments, names, ids, extend, status and heartbeat; and what stays when it is over. */
#include "probe.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- Arguments ------------------------------------------------------------------------------------------------------ */

typedef struct given {
  size_t len;
  unsigned char bytes[300];
} given;

static int32_t reads_args(probe *p, podkeep_context *ctx) {
  const given *want = p->data;
  size_t len = 12345;
  const void *args = podkeep_context_args(ctx, &len);
  CHECK_INT(len, want->len);
  if (len > 0) {
    CHECK_INT((uintptr_t)args % 16, 0);
    CHECK(memcmp(args, want->bytes, len) == 0);
    CHECK(podkeep_context_args(ctx, NULL) == args);
  }
  return 0;
}

TEST(S3_args_are_copied_and_aligned) {
  for (size_t len = 0; len <= 40; len++) {
    probe *p = probe_new("given");
    given *want = p->data = world_alloc(sizeof *want);
    want->len = len;
    unsigned char mine[301];
    for (size_t i = 0; i < len; i++) mine[1 + i] = want->bytes[i] = (unsigned char)(random_below(256));
    p->options.args = mine + 1; /* odd on purpose */
    p->options.args_len = len;
    p->init.does = p->run.does = p->teardown.does = reads_args;
    probe_make(p);
    memset(mine, 0xee, sizeof mine); /* the caller's memory is the caller's again */
    probe_start(p);
    CHECK_OK(podkeep_pod_join(p->pod, LIMIT_MS));
    probe_free(p);
  }
}

static int32_t reads_much(probe *p, podkeep_context *ctx) {
  size_t len;
  const unsigned char *args = podkeep_context_args(ctx, &len);
  CHECK_INT(len, (size_t)1 << 20);
  CHECK(memcmp(args, p->data, len) == 0);
  return 0;
}

TEST(S3_args_may_be_large) {
  probe *p = probe_new("laden");
  unsigned char *mine = p->data = world_alloc((size_t)1 << 20);
  for (size_t i = 0; i < (size_t)1 << 20; i++) mine[i] = (unsigned char)(i * 7 + i / 251);
  p->options.args = mine;
  p->options.args_len = (size_t)1 << 20;
  p->run.does = reads_much;
  probe_start(p);
  CHECK_OK(podkeep_pod_join(p->pod, LIMIT_MS));
  probe_free(p);
}

TEST(S3_args_of_one_pod_are_not_anothers) {
  probe *p[4];
  for (int i = 0; i < 4; i++) {
    p[i] = probe_new("own args");
    given *want = p[i]->data = world_alloc(sizeof *want);
    want->len = 8;
    snprintf((char *)want->bytes, 9, "pod %4d", i);
    p[i]->options.args = want->bytes;
    p[i]->options.args_len = 8;
    p[i]->teardown.does = reads_args;
    probe_running(p[i]);
  }
  for (int i = 0; i < 4; i++) probe_close(p[i], PODKEEP_OK);
}

/* --- Names and ids -------------------------------------------------------------------------------------------------- */

static int32_t checks_name(probe *p, podkeep_context *ctx) {
  CHECK_STR(podkeep_context_name(ctx), p->data);
  CHECK_INT(podkeep_context_incarnation(ctx), 0);
  return 0;
}

static void named(const char *of_runtime, const char *of_pod, const char *want) {
  probe *p = probe_new(of_runtime);
  char *copy = p->data = world_alloc(300);
  char given_name[300];
  snprintf(copy, 300, "%s", want);
  if (of_pod) snprintf(given_name, sizeof given_name, "%s", of_pod);
  p->options.name = of_pod ? given_name : NULL;
  p->init.does = p->hook.does = p->teardown.does = checks_name;
  p->run.does = does_wait_for_hook;
  podkeep_pod *pod = probe_make(p);
  memset(given_name, 'x', sizeof given_name - 1); /* copied by now */
  const char *name = NULL;
  CHECK_OK(podkeep_pod_name(pod, &name));
  CHECK_STR(name, want);
  probe_running(p);
  probe_close(p, PODKEEP_OK);
  CHECK_STR(name, want); /* names live as long as the process */
}

TEST(S3_name__the_runtimes) { named("of the runtime", NULL, "of the runtime"); }
TEST(S3_name__the_pods_own) { named("of the runtime", "of the pod", "of the pod"); }
TEST(S3_name__utf8) { named("plain", "K\xc3\xa4 fig \xf0\x9f\x90\x8b", "K\xc3\xa4 fig \xf0\x9f\x90\x8b"); }

TEST(S3_name__255_bytes_are_kept_whole) {
  char name[256];
  memset(name, 'n', 255);
  name[255] = '\0';
  named("plain", name, name);
}

TEST(S3_name__256_bytes_are_refused) {
  char name[257];
  memset(name, 'n', 256);
  name[256] = '\0';
  probe *p = probe_new("plain");
  probe_make_runtime(p);
  p->options.name = name;
  CHECK_STATUS(podkeep_pod_new(p->runtime, &p->options, &p->pod), PODKEEP_ERR_INVALID_ARGUMENT);
  p->options.name = "";
  CHECK_STATUS(podkeep_pod_new(p->runtime, &p->options, &p->pod), PODKEEP_ERR_INVALID_ARGUMENT);
  p->options.name = "not \xff UTF-8";
  CHECK_STATUS(podkeep_pod_new(p->runtime, &p->options, &p->pod), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK(p->pod == NULL);
  probe_free(p);
}

/* Options that another host knows are refused by name, not passed over. */
static void refuses(probe *p, const char *field) {
  CHECK_STATUS(podkeep_pod_new(p->runtime, &p->options, &p->pod), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_HAS(podkeep_last_error(), field);
  CHECK(p->pod == NULL);
}

TEST(S3_options_of_another_host_are_refused) {
  static const char *const env[] = {"A=b", NULL};
  probe *p = probe_new("choosy");
  probe_make_runtime(p);
  podkeep_pod_options good = p->options;
  if (S_is_elsewhere()) {
    p->options.stack_size = 1 << 20;
    refuses(p, "stack_size");
    p->options = good;
    p->options.kick_signal = SIGUSR1;
    refuses(p, "kick_signal");
  } else {
    p->options.env = env;
    refuses(p, "env");
    p->options = good;
    p->options.cwd = "/";
    refuses(p, "cwd");
  }
  p->options = good;
  p->options.stop_signal = SIGINT; /* of a command */
  refuses(p, "stop_signal");
  p->options = good;
  p->options.ready = PODKEEP_READY_PORT;
  p->options.ready_port = 1;
  refuses(p, "ready");
  p->options = good;
  p->options.ready_port = 1;
  refuses(p, "ready_port");
  p->options = good;
  p->options.kill_after_ms = 10; /* known everywhere, though a thread is never killed */
  probe_running(p);
  probe_close(p, PODKEEP_OK);
}

/* Section 4: S bears the first 15 bytes of its pod's name. */
TEST_WITH(S4_S_is_named_after_the_pod, NOT_PROCESS(OWN_THREADS), NOT_MAIN(LIBRARYS_S)) {
  probe *p = probe_new("a name of many words");
  probe_running(p);
  CHECK_INT(threads_named("a name of many "), 1);
  probe_close(p, PODKEEP_OK);
}

TEST(S3_id_is_that_of_S) {
  probe *p = probe_new("identified");
  podkeep_pod *pod = probe_make(p);
  int64_t id = -1;
  CHECK_OK(podkeep_pod_id(pod, &id));
  CHECK_INT(id, 0);
  probe_running(p);
  CHECK_OK(podkeep_pod_id(pod, &id));
  CHECK_INT(id, p->run.tid);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_OK(podkeep_pod_id(pod, &id));
  CHECK_INT(id, 0);
  uint32_t restarts = 9;
  CHECK_OK(podkeep_pod_restarts(pod, &restarts));
  CHECK_INT(restarts, 0);
  probe_free(p);
}

/* Section 4: signals are for the host's own threads; the synchronous ones stay with whoever causes them. */
static int32_t checks_mask(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  sigset_t mask;
  CHECK_INT(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
  for (int s = 1; s <= 31; s++) {
    bool synchronous = s == SIGSEGV || s == SIGBUS || s == SIGFPE || s == SIGILL || s == SIGTRAP;
    if (s != SIGKILL && s != SIGSTOP) CHECK_INT(sigismember(&mask, s), !synchronous);
  }
  for (int s = SIGRTMIN; s <= SIGRTMAX; s++) CHECK_INT(sigismember(&mask, s), 1);
  return 0;
}

TEST_WITH(S4_signals_are_blocked_in_S_and_in_the_hook, NOT_PROCESS(OWN_THREADS), NOT_MAIN(LIBRARYS_S)) {
  probe *p = probe_new("blocked");
  p->init.does = p->hook.does = p->teardown.does = checks_mask;
  p->run.does = does_wait_for_hook;
  probe_running(p);
  probe_close(p, PODKEEP_OK);
}

/* A child begins as a program does, whatever its host has made of its own signals: nothing blocked, all at their defaults. */
static int32_t checks_reset(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  sigset_t mask;
  CHECK_INT(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
  for (int s = 1; s <= 31; s++) {
    struct sigaction now;
    CHECK_INT(sigismember(&mask, s), 0);
    CHECK_INT(sigaction(s, NULL, &now), 0);
    if (s != SIGSEGV && s != SIGBUS && s != SIGFPE) CHECK(now.sa_handler == SIG_DFL); /* a sanitizer has these */
  }
  for (int s = SIGRTMIN; s <= SIGRTMAX; s++) CHECK_INT(sigismember(&mask, s), 0);
  CHECK_INT(getpgrp(), getpid());
  return 0;
}

TEST_PROCESS(S4_signals_are_reset_in_a_child) {
  int ignored[] = {SIGUSR1, SIGUSR2, SIGPIPE, SIGTERM, SIGINT, SIGHUP};
  sigset_t all, before;
  for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) signal(ignored[i], SIG_IGN);
  sigfillset(&all);
  probe *p = probe_new("reset");
  p->init.does = p->teardown.does = checks_reset;
  p->hook.does = checks_mask; /* that is a thread of the library's */
  p->run.does = does_wait_for_hook;
  CHECK_INT(pthread_sigmask(SIG_BLOCK, &all, &before), 0);
  probe_running(p);
  probe_close(p, PODKEEP_OK);
  CHECK_INT(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
}

static bool handlers_are(const struct sigaction before[65]) {
  struct sigaction now;
  for (int s = 1; s <= 64; s++)
    if (sigaction(s, NULL, &now) == 0 && now.sa_handler != before[s].sa_handler) return false;
  return true;
}

TEST(S4_no_signal_handler_without_being_asked) {
  struct sigaction before[65];
  memset(before, 0, sizeof before);
  for (int s = 1; s <= 64; s++) sigaction(s, NULL, &before[s]);
  probe *p = probe_new("polite");
  probe_running(p);
  if (world_host() != IN_MAIN) CHECK(handlers_are(before));
  probe_close(p, PODKEEP_OK);
  UNTIL(handlers_are(before)); /* a main pod's call puts them back when it returns, which may be after the pod's end */
}

/* --- Extend --------------------------------------------------------------------------------------------------------- */

static int32_t extends_its_grace(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  CHECK_OK(podkeep_context_extend(ctx, LIMIT_MS));
  int64_t left = podkeep_context_time_left(ctx);
  CHECK(left > p->options.grace_ms && left <= LIMIT_MS);
  pass_ms(p->options.grace_ms * 5 / 4); /* well past the first limit */
  return 0;
}

/* close follows the extended limit. */
TEST(S8_extend__grace) {
  probe *p = probe_new("extending");
  p->options.grace_ms = slow_ms(900); /* the word must be said by then */
  p->run.does = extends_its_grace;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_NO_FAILURE(pod);
  probe_free(p);
}

static int32_t extends_its_ready_limit(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_extend(ctx, LIMIT_MS));
  pass_ms(p->options.ready_timeout_ms * 5 / 4); /* well past the first limit */
  CHECK(!podkeep_context_cancelled(ctx));
  return 0;
}

TEST(S8_extend__ready) {
  probe *p = probe_new("extending");
  p->options.ready_timeout_ms = slow_ms(900); /* the word must be said by then */
  p->init.does = extends_its_ready_limit;
  probe_running(p);
  probe_close(p, PODKEEP_OK);
}

/* "at least now + ms": an extension never shortens, and without a limit it has no effect. */
static int32_t extends_a_little(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_extend(ctx, 1000)); /* no limit while RUNNING */
  CHECK_INT(podkeep_context_time_left(ctx), -1);
  event_set(p->data);
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  CHECK_OK(podkeep_context_extend(ctx, 1));
  CHECK(podkeep_context_time_left(ctx) > p->options.grace_ms / 2);
  CHECK_OK(podkeep_context_extend(ctx, 0));
  CHECK(podkeep_context_time_left(ctx) > p->options.grace_ms / 2);
  return 0;
}

TEST(S8_extend__never_shortens) {
  probe *p = probe_new("frugal");
  p->data = world_alloc(sizeof(event));
  p->run.does = extends_a_little;
  probe_start(p);
  event_wait(p->data);
  probe_close(p, PODKEEP_OK);
}

/* "extend beyond its maximum is cut short, OK": extend_max_ms bounds the sum of an incarnation. */
static int32_t extends_too_much(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  int64_t from = now_ms(), before = podkeep_context_time_left(ctx);
  for (int i = 0; i < 10; i++) CHECK_OK(podkeep_context_extend(ctx, LIMIT_MS * 10));
  int64_t left = podkeep_context_time_left(ctx);
  CHECK(left <= p->options.grace_ms + p->options.extend_max_ms);
  CHECK(left + (now_ms() - from) > before + p->options.extend_max_ms / 2);
  event_wait(p->data);
  return 0;
}

TEST_WITH(S8_extend__beyond_the_maximum_is_cut_short, NOT_MAIN(EXIT)) {
  probe *p = probe_new("greedy");
  p->options.grace_ms = slow_ms(1000); /* the word must be said by then */
  p->options.extend_max_ms = slow_ms(300);
  p->data = world_alloc(sizeof(event));
  p->run.does = extends_too_much;
  p->s_may_die = true;
  podkeep_pod *pod = probe_running(p);
  uint64_t start = now_ns();
  CHECK_STATUS(podkeep_pod_close(pod), forced_status());
  CHECK(now_ns() - start >= (uint64_t)slow_ms(1290) * 1000000u);
  event_set(p->data);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* Beside the grace: S may be cut off while it asks; each answer is OK, and the end is one of the two. */
static int32_t extends_at_the_edge(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  while (podkeep_context_time_left(ctx) > 1) pass_us(200); /* up to the edge */
  CHECK_OK(podkeep_context_extend(ctx, slow_ms(1000)));
  return 0;
}

TEST_WITH(S8_extend__at_the_last_moment, NOT_MAIN(EXIT)) {
  for (int i = 0; i < rounds(40); i++) {
    probe *p = probe_new("at the edge");
    p->options.grace_ms = 5;
    p->no_hook = true;
    p->run.does = extends_at_the_edge;
    p->s_may_die = true;
    podkeep_pod *pod = probe_running(p);
    podkeep_status status = podkeep_pod_close(pod);
    CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_TIMEOUT || status == PODKEEP_ERR_FAILED);
    status = podkeep_pod_join(pod, LIMIT_MS);
    CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
    probe_free(p);
  }
}

TEST(S8_extend__negative_times_are_invalid) {
  probe *p = probe_new("negative");
  probe_running(p);
  CHECK_STATUS(ctx_extend(p, -1), PODKEEP_ERR_INVALID_ARGUMENT); /* FOREVER is not for extend */
  CHECK_STATUS(ctx_extend(p, INT64_MIN), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_OK(ctx_extend(p, INT64_MAX));
  probe_close(p, PODKEEP_OK);
}

/* --- Status and heartbeat ------------------------------------------------------------------------------------------- */

static int32_t speaks(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_OK(podkeep_context_status(ctx, "here"));
  CHECK_OK(podkeep_context_heartbeat(ctx));
  CHECK_OK(podkeep_context_extend(ctx, 1));
  CHECK_OK(podkeep_context_ready(ctx));
  return 0;
}

/* "outside their state are OK and ignored, after teardown INVALID_STATE" (Guava testNotify... in wrong states). */
TEST(S2_words_in_every_phase_and_after) {
  probe *p = probe_new("speaking");
  p->init.does = p->run.does = p->teardown.does = speaks;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_NO_FAILURE(pod);
  podkeep_context *ctx = p->ctx;
  for (int i = 0; i < 2; i++) { /* over, then freed: it is never unmapped and reads cancelled */
    CHECK(podkeep_context_cancelled(ctx));
    CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
    CHECK_STATUS(podkeep_context_status(ctx, "still here"), PODKEEP_ERR_INVALID_STATE);
    CHECK_STATUS(podkeep_context_heartbeat(ctx), PODKEEP_ERR_INVALID_STATE);
    CHECK_STATUS(podkeep_context_extend(ctx, 1), PODKEEP_ERR_INVALID_STATE);
    CHECK_STATUS(podkeep_context_ready(ctx), PODKEEP_ERR_INVALID_STATE);
    CHECK_INT(podkeep_context_fail(ctx, 3, "too late"), 3);
    if (i == 0) {
      CHECK_NO_FAILURE(pod);
      CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
      probe_free(p);
    }
  }
}

TEST(S2_status_must_be_utf8) {
  probe *p = probe_new("garbled");
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(ctx_status(p, "good"));
  CHECK_STATUS(ctx_status(p, "bad \xc3\x28"), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_TOLD_STATUS(pod, "good");
  probe_close(p, PODKEEP_OK);
}
