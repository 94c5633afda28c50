/* Bad arguments: each gets its status, a sentence with the argument and the value, and leaves nothing behind; `drop` is
 * counted on every failing path (L3). */
#include "check.h"
#include "world.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static int drops;
static void count_drop(void *config) {
  (void)config;
  ADD(drops, 1);
}
static podkeep_runtime_spec good_spec(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "good";
  spec.run_forever = run_until_cancelled;
  spec.drop = count_drop;
  STORE(drops, 0);
  return spec;
}
/* runtime_new fails with this status, and drop has run `dropped` times when it returns. */
static void refused(const podkeep_runtime_spec *spec, podkeep_status status, const char *says, int dropped) {
  podkeep_runtime *out = NULL;
  IS(podkeep_runtime_new(spec, &out), status);
  SAYS(says);
  EQ(LOAD(drops), dropped);
  CHECK(out == NULL);
}
static void accepted(const podkeep_runtime_spec *spec) {
  podkeep_runtime *out;
  IS(podkeep_runtime_new(spec, &out), PODKEEP_OK);
  EQ(LOAD(drops), 0);
  IS(podkeep_runtime_free(out), PODKEEP_OK);
  UNTIL(LOAD(drops) == 1);
}

/* --- Runtime ------------------------------------------------------------------------------------------------------- */

static void spec_null_and_out_null(void) {
  podkeep_runtime_spec spec = good_spec();
  refused(NULL, PODKEEP_ERR_INVALID_ARGUMENT, "spec", 0);
  IS(podkeep_runtime_new(&spec, NULL), PODKEEP_ERR_INVALID_ARGUMENT);
  SAYS("out");
  EQ(LOAD(drops), 1);
  IS(podkeep_runtime_new(NULL, NULL), PODKEEP_ERR_INVALID_ARGUMENT);
  EQ(LOAD(drops), 1);
}
static void run_forever_is_required(void) {
  podkeep_runtime_spec spec = good_spec();
  spec.run_forever = NULL;
  refused(&spec, PODKEEP_ERR_INVALID_ARGUMENT, "run_forever", 1);
}
static char *text_of(size_t length, char with) {
  char *text = calloc(length + 1, 1);
  CHECK(text != NULL);
  return memset(text, with, length), text;
}
static void name_is_1_to_255_bytes(void) {
  podkeep_runtime_spec spec = good_spec();
  char *longest = text_of(255, 'n'), *too_long = text_of(256, 'n'), *much_too_long = text_of(1000000, 'n');
  spec.name = NULL;
  refused(&spec, PODKEEP_ERR_INVALID_ARGUMENT, "name", 1);
  spec = good_spec(), spec.name = "";
  refused(&spec, PODKEEP_ERR_INVALID_ARGUMENT, "name", 1);
  spec = good_spec(), spec.name = too_long;
  refused(&spec, PODKEEP_ERR_INVALID_ARGUMENT, "256", 1);
  SAYS("name");
  spec = good_spec(), spec.name = much_too_long;
  refused(&spec, PODKEEP_ERR_INVALID_ARGUMENT, "name", 1);
  spec = good_spec(), spec.name = longest;
  accepted(&spec);
  spec = good_spec(), spec.name = "n";
  accepted(&spec);
  free(longest), free(too_long), free(much_too_long);
}
static const char *const not_utf8[] = { "\xff", "ab\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                        "\xf0\x9f\x92", "x\xc3(y" };
static const char *const utf8[] = { "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x92\xa9", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf" };
enum { BAD_TEXTS = sizeof not_utf8 / sizeof not_utf8[0], GOOD_TEXTS = sizeof utf8 / sizeof utf8[0] };
static void name_is_utf8(void) {
  int i;
  for (i = 0; i < BAD_TEXTS; i++) {
    podkeep_runtime_spec spec = good_spec();
    spec.name = not_utf8[i];
    refused(&spec, PODKEEP_ERR_INVALID_ARGUMENT, "UTF-8", 1);
    SAYS("name");
  }
  for (i = 0; i < GOOD_TEXTS; i++) {
    podkeep_runtime_spec spec = good_spec();
    spec.name = utf8[i];
    accepted(&spec);
  }
}

struct longer_spec { podkeep_runtime_spec spec; unsigned char tail[256]; };
static void struct_size_of_the_spec(void) {
  struct longer_spec longer;
  size_t size;
  podkeep_runtime_spec spec;
  for (size = 0; size < sizeof spec; size++) { /* too small for drop to be read: it is not called */
    spec = good_spec();
    spec.struct_size = size;
    refused(&spec, PODKEEP_ERR_INVALID_ARGUMENT, "struct_size", 0);
  }
  for (size = sizeof spec + 1; size <= sizeof longer; size += 5) {
    memset(&longer, 0, sizeof longer);
    memset(longer.tail + (size - sizeof spec), 0xff, sizeof longer - size); /* what lies beyond is not looked at */
    longer.spec = good_spec();
    longer.spec.struct_size = size;
    accepted(&longer.spec);
    longer.tail[size - sizeof spec - 1] = 1;
    longer.spec = good_spec();
    longer.spec.struct_size = size;
    refused(&longer.spec, PODKEEP_ERR_INVALID_ARGUMENT, "spec", 1);
    SAYS("byte");
  }
  memset(&longer, 0, sizeof longer);
  longer.spec = good_spec();
  longer.spec.struct_size = SIZE_MAX;
  longer.tail[0] = 1;
  refused(&longer.spec, PODKEEP_ERR_INVALID_ARGUMENT, "spec", 1);
}
static void a_refused_spec_leaves_nothing(void) {
  int i, threads = count_threads(), descriptors = count_descriptors();
  for (i = 0; i < 1000; i++) run_forever_is_required();
  EQ(count_threads(), threads);
  EQ(count_descriptors(), descriptors);
}
static void after_shutdown_new_is_refused_and_dropped(void) {
  podkeep_runtime_spec spec = good_spec();
  podkeep_runtime *runtime = make_runtime("r", NULL);
  podkeep_pod *pod = NULL;
  IS(podkeep_shutdown(slow(10000), NULL), PODKEEP_OK);
  refused(&spec, PODKEEP_ERR_INVALID_STATE, "shut", 1);
  IS(podkeep_pod_new(runtime, NULL, &pod), PODKEEP_ERR_INVALID_STATE);
  SAYS("shut");
  CHECK(pod == NULL);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

/* --- Waits --------------------------------------------------------------------------------------------------------- */

static const int64_t below[] = { -2, -1000, INT64_MIN, INT64_MIN + 1 };
enum { BELOW = sizeof below / sizeof below[0] };
static int32_t waits_badly(podkeep_context *ctx, void *state) {
  int i;
  char number[32];
  (void)state;
  for (i = 0; i < BELOW; i++) {
    snprintf(number, sizeof number, "%lld", (long long)below[i]);
    IS(podkeep_context_wait(ctx, below[i]), PODKEEP_ERR_INVALID_ARGUMENT);
    SAYS("timeout_ms"), SAYS(number);
    IS(podkeep_context_extend(ctx, below[i]), PODKEEP_ERR_INVALID_ARGUMENT);
    SAYS("ms"), SAYS(number);
  }
  IS(podkeep_context_extend(ctx, PODKEEP_FOREVER), PODKEEP_ERR_INVALID_ARGUMENT);
  IS(podkeep_context_extend(ctx, 0), PODKEEP_OK);
  IS(podkeep_context_extend(ctx, INT64_MAX), PODKEEP_OK);
  for (i = 0; i < BAD_TEXTS; i++) {
    IS(podkeep_context_status(ctx, not_utf8[i]), PODKEEP_ERR_INVALID_ARGUMENT);
    SAYS("text");
    EQ(podkeep_context_fail(ctx, 3, not_utf8[i]), 3);
  }
  EQ(podkeep_context_fail(ctx, 0, NULL), -1);
  EQ(podkeep_context_fail_as(ctx, 99, 4, NULL), 4);
  EQ(podkeep_context_fail_as(ctx, -1, 0, "kind -1"), -1);
  (void)podkeep_context_status(ctx, NULL);
  CHECK(podkeep_context_args(ctx, NULL) == NULL);
  return podkeep_context_wait(ctx, INT64_MAX) == PODKEEP_OK ? 0 : 1;
}
static void negative_waits(void) {
  podkeep_runtime *runtime = make_runtime("waits", waits_badly);
  podkeep_pod *pod = make_running(runtime);
  podkeep_monitor *monitor;
  podkeep_event event = PODKEEP_EVENT_INIT;
  int i;
  char number[32];
  IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
  for (i = 0; i < BELOW; i++) {
    snprintf(number, sizeof number, "%lld", (long long)below[i]);
    IS(podkeep_pod_wait_ready(pod, below[i]), PODKEEP_ERR_INVALID_ARGUMENT);
    SAYS("timeout_ms"), SAYS(number);
    IS(podkeep_pod_join(pod, below[i]), PODKEEP_ERR_INVALID_ARGUMENT);
    SAYS("timeout_ms"), SAYS(number);
    IS(podkeep_monitor_next(monitor, &event, below[i]), PODKEEP_ERR_INVALID_ARGUMENT);
    SAYS("timeout_ms"), SAYS(number);
    IS(podkeep_shutdown(below[i], NULL), PODKEEP_ERR_INVALID_ARGUMENT);
    SAYS("timeout_ms"), SAYS(number);
  }
  IS(podkeep_pod_wait_ready(pod, INT64_MAX), PODKEEP_OK);
  IS(podkeep_monitor_next(monitor, &event, INT64_MAX), PODKEEP_OK);
  IS(podkeep_pod_cancel(pod), PODKEEP_OK);
  IS(podkeep_pod_join(pod, INT64_MAX), PODKEEP_OK);
  IS(podkeep_monitor_free(monitor), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_shutdown(INT64_MAX, NULL), PODKEEP_OK); /* the refused ones did not shut anything */
}

/* --- Out pointers ---------------------------------------------------------------------------------------------------- */

static void null_out_pointers(void) {
  podkeep_runtime *runtime = make_runtime("r", NULL);
  podkeep_pod *pod = make_pod(runtime);
  podkeep_monitor *monitor;
  podkeep_event event = PODKEEP_EVENT_INIT;
  IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
#define NO_OUT(call) (IS(call, PODKEEP_ERR_INVALID_ARGUMENT), SAYS("out"))
  NO_OUT(podkeep_pod_new(runtime, NULL, NULL));
  NO_OUT(podkeep_pod_state(pod, NULL));
  NO_OUT(podkeep_pod_name(pod, NULL));
  NO_OUT(podkeep_pod_id(pod, NULL));
  NO_OUT(podkeep_pod_restarts(pod, NULL));
  NO_OUT(podkeep_pod_failure(pod, NULL));
  NO_OUT(podkeep_monitor_new(pod, NULL));
  NO_OUT(podkeep_monitor_new(NULL, NULL));
  NO_OUT(podkeep_monitor_fd(monitor, NULL));
  NO_OUT(podkeep_monitor_next(monitor, NULL, 0));
  NO_OUT(podkeep_monitor_next(monitor, NULL, PODKEEP_FOREVER));
  NO_OUT(podkeep_abandoned(NULL));
  IS(podkeep_monitor_next(monitor, &event, 0), PODKEEP_OK); /* it was not lost to the calls before */
  EQ(event.to, PODKEEP_STATE_NEW);
  IS(podkeep_monitor_free(monitor), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

struct longer_event { podkeep_event event; unsigned char tail[256]; };
static void struct_size_of_an_event(void) {
  podkeep_runtime *runtime = make_runtime("r", NULL);
  podkeep_pod *pod = make_pod(runtime);
  struct longer_event longer;
  size_t size, i;
  for (size = 0; size <= sizeof longer; size++) {
    podkeep_monitor *monitor;
    memset(&longer, 0xaa, sizeof longer);
    longer.event.struct_size = size;
    IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
    if (size < sizeof longer.event) {
      IS(podkeep_monitor_next(monitor, &longer.event, 0), PODKEEP_ERR_INVALID_ARGUMENT);
      SAYS("struct_size");
      for (i = sizeof longer.event.struct_size; i < sizeof longer; i++) EQ(((unsigned char *)&longer)[i], 0xaa);
    } else {
      IS(podkeep_monitor_next(monitor, &longer.event, 0), PODKEEP_OK);
      EQ(longer.event.struct_size, size);
      STR(longer.event.name, "r");
      CHECK(longer.event.pod == pod && longer.event.failure == NULL && longer.event.missed == 0);
      for (i = 0; i < sizeof longer.tail; i++) EQ(longer.tail[i], i < size - sizeof longer.event ? 0 : 0xaa);
    }
    IS(podkeep_monitor_free(monitor), PODKEEP_OK);
  }
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

/* --- The rest ---------------------------------------------------------------------------------------------------------- */

static void on_log(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)pod, (void)message, (void)user_data;
}
static void the_drop_of_a_log_runs_once(void) {
  static const int32_t levels[] = { 0, 1, 4, 5, -1, INT32_MAX, INT32_MIN };
  size_t i;
  for (i = 0; i < sizeof levels / sizeof levels[0]; i++) { /* taken or refused */
    STORE(drops, 0);
    (void)podkeep_set_log(on_log, levels[i], &drops, count_drop);
    IS(podkeep_set_log(NULL, 0, NULL, NULL), PODKEEP_OK);
    UNTIL(LOAD(drops) == 1);
    (void)podkeep_set_log(NULL, levels[i], &drops, count_drop);
    IS(podkeep_set_log(NULL, 0, NULL, NULL), PODKEEP_OK);
    UNTIL(LOAD(drops) == 2);
    IS(podkeep_set_log(NULL, 0, NULL, NULL), PODKEEP_OK);
    EQ(LOAD(drops), 2);
  }
}

static void status_names(void) {
  int32_t status;
  for (status = -14; status <= 0; status++) CHECK(strncmp(podkeep_status_name(status), "PODKEEP_", 8) == 0);
  STR(podkeep_status_name(PODKEEP_OK), "PODKEEP_OK");
  STR(podkeep_status_name(PODKEEP_ERR_NOT_FOUND), "PODKEEP_ERR_NOT_FOUND");
  CHECK(podkeep_status_name(1) && podkeep_status_name(1)[0]);
  CHECK(podkeep_status_name(-15) && podkeep_status_name(-15)[0]);
  CHECK(podkeep_status_name(INT32_MIN) && podkeep_status_name(INT32_MAX));
}

static void *other_thread(void *unused) {
  (void)unused;
  STR(podkeep_last_error(), "");
  IS(podkeep_pod_start(NULL), PODKEEP_ERR_INVALID_HANDLE);
  SAYS("pod");
  return NULL;
}
static void last_error_is_the_threads_own_and_stays(void) {
  char before[300];
  podkeep_runtime *runtime;
  STR(podkeep_last_error(), "");
  IS(podkeep_runtime_free((podkeep_runtime *)(uintptr_t)0x51), PODKEEP_ERR_INVALID_HANDLE);
  SAYS("runtime"), SAYS("0x51");
  snprintf(before, sizeof before, "%s", podkeep_last_error());
  join_thread(start_thread(other_thread, NULL));
  STR(podkeep_last_error(), before);
  runtime = make_runtime("r", NULL);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  STR(podkeep_last_error(), before);
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(spec_null_and_out_null), CASE(run_forever_is_required), CASE(name_is_1_to_255_bytes), CASE(name_is_utf8),
    CASE(struct_size_of_the_spec), CASE(a_refused_spec_leaves_nothing), CASE(after_shutdown_new_is_refused_and_dropped),
    CASE(negative_waits), CASE(null_out_pointers), CASE(struct_size_of_an_event), CASE(the_drop_of_a_log_runs_once),
    CASE(status_names), CASE(last_error_is_the_threads_own_and_stays),
  };
  return RUN(all);
}
