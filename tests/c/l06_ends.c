/* L6: which ends are clean. L7 and section 2: the failure record. */
#include "probe.h"

#include <limits.h>
#include <string.h>

/* --- L6 ------------------------------------------------------------------------------------------------------------- */

/* run_forever returns `code` by itself, or after a cancel. */
static void run_ends(const char *name, int32_t code, bool cancel, bool clean) {
  probe *p = probe_new(name);
  p->run.returns = code;
  if (!cancel) p->run.does = does_return;
  podkeep_pod *pod = cancel ? probe_running(p) : probe_start(p);
  if (cancel) CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), clean ? PODKEEP_OK : PODKEEP_ERR_FAILED);
  CHECK_STATE(pod, clean ? PODKEEP_STATE_STOPPED : PODKEEP_STATE_FAILED);
  if (clean) CHECK_NO_FAILURE(pod);
  else CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, code, NULL);
  CHECK_INT(p->teardown.count, 1);
  probe_free(p);
}

TEST(L6_run_returns__0_is_clean) { run_ends("zero", 0, false, true); }
TEST(L6_run_returns__0_after_cancel_is_clean) { run_ends("zero", 0, true, true); }
TEST(L6_run_returns__cancelled_after_cancel_is_clean) { run_ends("said so", PODKEEP_CANCELLED, true, true); }
TEST(L6_run_returns__cancelled_without_a_stop_is_a_failure) { run_ends("lied", PODKEEP_CANCELLED, false, false); }
TEST(L6_run_returns__1_is_a_failure) { run_ends("one", 1, false, false); }
TEST(L6_run_returns__1_after_cancel_is_a_failure) { run_ends("one", 1, true, false); }
TEST(L6_run_returns__minus_1_is_a_failure) { run_ends("minus one", -1, false, false); }
TEST(L6_run_returns__int_min_is_a_failure) { run_ends("least", INT32_MIN, false, false); }
TEST(L6_run_returns__int_max_is_a_failure) { run_ends("most", INT32_MAX, true, false); }

TEST(L6_init_returns__cancelled_without_a_stop_is_a_failure) {
  probe *p = probe_new("lied");
  p->init.returns = PODKEEP_CANCELLED;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_INIT, PODKEEP_KIND_RETURNED, PODKEEP_CANCELLED, NULL);
  probe_free(p);
}

/* The word is for init and run_forever; from teardown it is a failure like any other. */
TEST(L6_teardown_returns__cancelled_is_a_failure) {
  probe *p = probe_new("lied late");
  p->teardown.returns = PODKEEP_CANCELLED;
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_RETURNED, PODKEEP_CANCELLED, NULL);
  probe_free(p);
}

/* The stop need not be a user's: a ready timeout asked for it, too. */
TEST(L6_run_returns__cancelled_after_ready_timeout_adds_nothing) {
  probe *p = probe_new("not ready");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = 1;
  p->run.returns = PODKEEP_CANCELLED;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_READY, PODKEEP_KIND_TIMEOUT, podkeep_failure_code(f), NULL);
  CHECK(podkeep_failure_secondary(f) == NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* Guava testServiceExitingOnItsOwn / UnrequestedStop: teardown reads not cancelled, the hook is not called, the history is plain. */
TEST(L6_natural_return) {
  probe *p = probe_new("done");
  p->run.held = p->teardown.held = true;
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  CHECK_EVENT(m, NEW, NEW);
  p->init.held = true;
  probe_start(p);
  CHECK_EVENT(m, NEW, STARTING);
  event_set(&p->init.go);
  CHECK_EVENT(m, STARTING, RUNNING);
  event_set(&p->run.go);
  CHECK_EVENT(m, RUNNING, STOPPING);
  event_wait(&p->teardown.entered);
  CHECK(!p->teardown.saw_cancelled);
  event_set(&p->teardown.go);
  CHECK_EVENT(m, STOPPING, STOPPED);
  CHECK_MONITOR_ENDED(m);
  CHECK_OK(podkeep_monitor_free(m));
  CHECK_OK(podkeep_pod_cancel(pod)); /* later: no effect */
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  CHECK_INT(p->hook.count, 0);
  probe_free(p);
}

/* --- Section 2: what counts ----------------------------------------------------------------------------------------- */

static int32_t fails_with_text(probe *p, podkeep_context *ctx) {
  (void)p;
  return podkeep_context_fail(ctx, 42, "kaboom");
}

/* Guava testServiceThrowOnStartUp: code, text, phase; run not called; whoever waits learns of it. */
TEST(S2_failure__init) {
  probe *p = probe_new("startup");
  p->init.does = fails_with_text;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_HAS(podkeep_last_error(), "kaboom");
  CHECK_HAS(podkeep_last_error(), "startup");
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATE(pod, PODKEEP_STATE_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_INIT, PODKEEP_KIND_RETURNED, 42, "kaboom");
  CHECK_STR(history_text(&p->called), "init");
  probe_free(p);
}

/* Guava testServiceThrowOnRun. */
TEST(S2_failure__run) {
  probe *p = probe_new("runner");
  p->run.does = fails_with_text;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_HAS(podkeep_last_error(), "kaboom");
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 42, "kaboom");
  CHECK_STR(history_text(&p->called), "init run teardown");
  probe_free(p);
}

/* Guava testServiceThrowOnShutDown. */
TEST(S2_failure__teardown) {
  probe *p = probe_new("shutdown");
  p->teardown.does = fails_with_text;
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_TEARDOWN, PODKEEP_KIND_RETURNED, 42, "kaboom");
  probe_free(p);
}

/* In the hook a record counts by itself: the hook has nothing to return. */
TEST(S2_failure__hook) {
  probe *p = probe_new("hooked");
  p->hook.does = fails_with_text;
  p->run.does = does_wait_for_hook;
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_INT(p->hook.count, 1);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_CANCEL, PODKEEP_KIND_RETURNED, 42, "kaboom");
  probe_free(p);
}

static int32_t fails_with_zero(probe *p, podkeep_context *ctx) {
  (void)p;
  int32_t code = podkeep_context_fail(ctx, 0, "zero");
  CHECK_INT(code, -1);
  return code;
}

TEST(S2_fail_with_code_0_returns_minus_1) {
  probe *p = probe_new("zero");
  p->run.does = fails_with_zero;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, -1, "zero");
  probe_free(p);
}

static int32_t returns_another_code(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_INT(podkeep_context_fail(ctx, 5, "five"), 5);
  return 7;
}

TEST(S2_the_returned_code_wins) {
  probe *p = probe_new("seven");
  p->run.does = returns_another_code;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 7, "five");
  probe_free(p);
}

static int32_t fails_twice(probe *p, podkeep_context *ctx) {
  (void)p;
  podkeep_context_fail_as(ctx, PODKEEP_KIND_PANIC, 1, "first");
  return podkeep_context_fail_as(ctx, PODKEEP_KIND_EXCEPTION, 2, "second");
}

TEST(S2_the_last_fail_before_the_return_wins) {
  probe *p = probe_new("twice");
  p->run.does = fails_twice;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_EXCEPTION, 2, "second");
  probe_free(p);
}

static int32_t fails_but_returns_0(probe *p, podkeep_context *ctx) {
  (void)p;
  podkeep_context_fail(ctx, 5, "never mind");
  return 0;
}

TEST(S2_a_clean_return_discards) {
  probe *p = probe_new("forgiven");
  p->init.does = p->run.does = p->teardown.does = fails_but_returns_0;
  podkeep_pod *pod = probe_start(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STATE(pod, PODKEEP_STATE_STOPPED);
  CHECK_NO_FAILURE(pod);
  probe_free(p);
}

/* What a clean return discarded does not come back with a later callback's plain failure. */
TEST(S2_a_discarded_record_stays_discarded) {
  probe *p = probe_new("forgotten");
  p->init.does = fails_but_returns_0;
  p->run.does = does_return;
  p->run.returns = 3;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 3, NULL);
  CHECK(strstr(podkeep_failure_message(f), "never mind") == NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

static int32_t fails_then_cancelled(probe *p, podkeep_context *ctx) {
  (void)p;
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  podkeep_context_fail(ctx, 5, "interrupted");
  return PODKEEP_CANCELLED;
}

TEST(S2_a_clean_cancelled_discards) {
  probe *p = probe_new("interrupted");
  p->run.does = fails_then_cancelled;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_NO_FAILURE(pod);
  probe_free(p);
}

/* Each kind a runtime can name for itself arrives as it was given, in each phase. */
static int32_t raises_kind(probe *p, podkeep_context *ctx) {
  int32_t kind = *(int32_t *)p->data;
  return podkeep_context_fail_as(ctx, kind, 100 + kind, "as told");
}

static void kinds(step *(*of)(probe *), podkeep_phase phase) {
  for (int32_t kind = PODKEEP_KIND_RETURNED; kind <= PODKEEP_KIND_EXCEPTION; kind++) {
    probe *p = probe_new("kinds");
    p->data = world_alloc(sizeof kind);
    *(int32_t *)p->data = kind;
    if (phase == PODKEEP_PHASE_CANCEL) p->run.does = does_wait_for_hook;
    of(p)->does = raises_kind;
    podkeep_pod *pod = probe_start(p);
    if (phase != PODKEEP_PHASE_INIT && phase != PODKEEP_PHASE_RUN) {
      event_wait(&p->run.entered);
      CHECK_OK(podkeep_pod_cancel(pod));
    }
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_ONLY_FAILURE(pod, phase, kind, 100 + kind, "as told");
    probe_free(p);
  }
}

static step *init_of(probe *p) { return &p->init; }
static step *run_of(probe *p) { return &p->run; }
static step *teardown_of(probe *p) { return &p->teardown; }
static step *hook_of(probe *p) { return &p->hook; }
TEST(S2_fail_as_kinds__init) { kinds(init_of, PODKEEP_PHASE_INIT); }
TEST(S2_fail_as_kinds__run) { kinds(run_of, PODKEEP_PHASE_RUN); }
TEST(S2_fail_as_kinds__teardown) { kinds(teardown_of, PODKEEP_PHASE_TEARDOWN); }
TEST(S2_fail_as_kinds__hook) { kinds(hook_of, PODKEEP_PHASE_CANCEL); }

/* A record that another thread of S stores counts when the callback then fails. */
static void fail_from_aside(void *arg) { podkeep_context_fail(((probe *)arg)->ctx, 8, "from aside"); }

static int32_t helper_fails(probe *p, podkeep_context *ctx) {
  (void)ctx;
  worker w;
  worker_start(&w, fail_from_aside, p);
  worker_join(&w);
  return 9;
}

TEST(S2_fail_from_another_thread) {
  probe *p = probe_new("aside");
  p->run.does = helper_fails;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 9, "from aside");
  probe_free(p);
}

/* Bytes may travel with a record; they are copied, and the failure keeps them as long as it lives. */
static int32_t fails_with_bytes(probe *p, podkeep_context *ctx) {
  unsigned char bytes[300];
  for (int i = 0; i < 300; i++) bytes[i] = (unsigned char)i; /* any bytes, zeros and no text among them */
  int32_t code = podkeep_context_fail_with(ctx, PODKEEP_KIND_EXCEPTION, 5, "with bytes", bytes, p->no_hook ? 0 : sizeof bytes);
  memset(bytes, 0xee, sizeof bytes);
  return code;
}

static void fails_with(size_t want) {
  probe *p = probe_new("laden");
  p->no_hook = want == 0;
  p->run.does = fails_with_bytes;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  probe_free(p);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_EXCEPTION, 5, "with bytes");
  size_t len = 4711;
  const unsigned char *data = podkeep_failure_data(f, &len);
  CHECK_INT(len, want);
  CHECK((data != NULL) == (want > 0));
  for (size_t i = 0; i < len; i++) CHECK_INT(data[i], i % 256);
  CHECK_STR(podkeep_failure_stderr(f), "");
  CHECK_OK(podkeep_failure_free(f));
}

TEST(S2_bytes_travel_with_the_record) { fails_with(300); }
TEST(S2_no_bytes_travel_with_the_record) { fails_with(0); }

/* A failure without a word still has a sentence, and it is UTF-8 of the library's. */
TEST(S2_failure_without_a_word_has_a_sentence) {
  probe *p = probe_new("wordless");
  p->run.does = does_return;
  p->run.returns = 77;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_HAS(podkeep_failure_message(f), "77");
  CHECK_STR(podkeep_failure_pod_name(f), "wordless");
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

static int32_t fails_without_text(probe *p, podkeep_context *ctx) {
  (void)p;
  return podkeep_context_fail(ctx, 6, NULL);
}

TEST(S2_fail_without_a_message_keeps_the_code) {
  probe *p = probe_new("mute");
  p->run.does = fails_without_text;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_FAILURE(f, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 6, NULL);
  CHECK(podkeep_failure_message(f) != NULL);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* "never cut silently": a megabyte of text, of characters that a byte-wise cut would break. */
#define LONG_TEXT ((size_t)1 << 20)

static int32_t fails_at_length(probe *p, podkeep_context *ctx) { return podkeep_context_fail(ctx, 1, p->data); }

TEST(S2_long_messages_are_never_cut) {
  static const char *const word = "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x8b."; /* 2, 3, 4 and 1 bytes */
  probe *p = probe_new("talkative");
  char *text = p->data = world_alloc(LONG_TEXT + 1);
  for (size_t i = 0; i < LONG_TEXT - 10; i += 10) memcpy(text + i, word, 10);
  p->run.does = fails_at_length;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_INT(strlen(podkeep_failure_message(f)), strlen(text));
  CHECK(strcmp(podkeep_failure_message(f), text) == 0);
  CHECK_OK(podkeep_failure_free(f));
  probe_free(p);
}

/* The text is copied: the runtime may reuse its buffer. */
static int32_t fails_and_scribbles(probe *p, podkeep_context *ctx) {
  (void)p;
  char text[] = "as it was";
  int32_t code = podkeep_context_fail(ctx, 1, text);
  memset(text, 'x', sizeof text - 1);
  return code;
}

TEST(S2_messages_are_copied) {
  probe *p = probe_new("copied");
  p->run.does = fails_and_scribbles;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_ONLY_FAILURE(pod, PODKEEP_PHASE_RUN, PODKEEP_KIND_RETURNED, 1, "as it was");
  probe_free(p);
}
