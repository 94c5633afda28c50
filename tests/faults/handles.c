/* Contract section 3: a handle is checked before it is followed. NULL, freed, foreign and random values answer, with
 * the word that calls.md has under "with a bad handle", and disturb nobody. */
#include "check.h"
#include "document.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

static uint64_t seed = 0x9e3779b97f4a7c15u;
static uint64_t random64(void) { /* splitmix64: the same values in every run, so that a find can be found again */
  uint64_t z = (seed += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* One value in every place. */
static struct world all_of(uintptr_t value) {
  struct world w;
  w.runtime = (podkeep_runtime *)value;
  w.pod = w.other = (podkeep_pod *)value;
  w.ctx = (podkeep_context *)value;
  w.failure = (podkeep_failure *)value;
  w.monitor = (podkeep_monitor *)value;
  w.group = (podkeep_group *)value;
  w.control = (podkeep_control *)value;
  return w;
}

static int wrong;
static void expect(const struct every *e, uintptr_t value, const char *want) {
  struct world w = all_of(value);
  const char *got = e->call(&w);
  if (strcmp(got, want) == 0) return;
  if (wrong++ < 20) fprintf(stderr, "    %s with %#llx: \"%s\", not \"%s\"\n", e->key, (unsigned long long)value, got, want);
}

/* Every function that takes a handle. */
static void expect_all(uintptr_t value) {
  int i, column = column_of("with a bad handle");
  for (i = 0; i < every_count; i++)
    if (every[i].takes != NOTHING) expect(&every[i], value, line_of(every[i].key)->cell[column]);
}

static int is_live(const struct world *w, uintptr_t value) {
  return value == (uintptr_t)w->runtime || value == (uintptr_t)w->pod || value == (uintptr_t)w->other ||
         value == (uintptr_t)w->ctx || value == (uintptr_t)world_over || value == (uintptr_t)w->failure || value == (uintptr_t)w->monitor || value == (uintptr_t)w->group || value == (uintptr_t)w->control ||
         value == (uintptr_t)podkeep_failure_secondary(w->failure);
}

static void null_is_a_bad_handle_and_may_be_freed(void) {
  int i, column = column_of("with a bad handle");
  for (i = 0; i < every_count; i++) {
    const struct every *e = &every[i];
    if (e->takes == NOTHING) continue;
    if (strstr(e->function, "_free") || strcmp(e->function, "podkeep_monitor_new") == 0) expect(e, 0, "OK");
    else expect(e, 0, line_of(e->key)->cell[column]);
  }
  CHECK(wrong == 0);
}

static void random_values(void) {
  struct world w;
  int n = fewer(20000);
  world_make(&w);
  while (n--) {
    uintptr_t value = (uintptr_t)random64();
    if (n % 4 == 1) value &= 0xffffffffu;                                           /* small */
    if (n % 4 == 2) value |= 1;                                                     /* odd, as handles are */
    if (n % 4 == 3) value = (uintptr_t)&w + (value & 0xffff) - 0x8000;              /* near something mapped */
    if (value && !is_live(&w, value)) expect_all(value);
  }
  CHECK(wrong == 0);
  world_free(&w);
}

static void bit_flips_of_live_handles(void) {
  struct world w;
  uintptr_t live[8];
  int i, a, b;
  world_make(&w);
  live[0] = (uintptr_t)w.runtime, live[1] = (uintptr_t)w.pod, live[2] = (uintptr_t)w.ctx;
  live[3] = (uintptr_t)w.failure, live[4] = (uintptr_t)w.monitor, live[5] = (uintptr_t)w.other, live[6] = (uintptr_t)w.group;
  live[7] = (uintptr_t)w.control;
  for (i = 0; i < 8; i++)
    for (a = 0; a < 64; a++)
      for (b = a; b < 64; b += 1 + (fewer(100) < 100) * 9) {
        uintptr_t value = live[i] ^ ((uintptr_t)1 << a) ^ (a == b ? 0 : (uintptr_t)1 << b);
        if (value && !is_live(&w, value)) expect_all(value);
      }
  CHECK(wrong == 0);
  world_free(&w);
}

static void handles_of_another_kind(void) {
  struct world w;
  enum takes kind;
  int column = column_of("with a bad handle"), i;
  world_make(&w);
  for (kind = RUNTIME; kind <= CONTROL; kind = (enum takes)(kind + 1)) {
    uintptr_t value = kind == RUNTIME   ? (uintptr_t)w.runtime
                      : kind == POD     ? (uintptr_t)w.pod
                      : kind == CONTEXT ? (uintptr_t)w.ctx
                      : kind == FAILURE ? (uintptr_t)w.failure
                      : kind == MONITOR ? (uintptr_t)w.monitor
                      : kind == GROUP   ? (uintptr_t)w.group
                                        : (uintptr_t)w.control;
    for (i = 0; i < every_count; i++)
      if (every[i].takes != NOTHING && every[i].takes != kind)
        expect(&every[i], value, line_of(every[i].key)->cell[column]);
  }
  CHECK(wrong == 0);
  world_free(&w);
}

static void freed_handles(void) {
  int rounds = fewer(50);
  while (rounds--) {
    struct world w, old;
    world_make(&w);
    old = w;
    world_free(&w);
    expect_all((uintptr_t)old.runtime);
    expect_all((uintptr_t)old.pod);
    expect_all((uintptr_t)old.other);
    expect_all((uintptr_t)old.failure);
    expect_all((uintptr_t)old.monitor);
    IS(podkeep_pod_free(old.pod), PODKEEP_ERR_INVALID_HANDLE);
    SAYS("pod");
    IS(podkeep_runtime_free(old.runtime), PODKEEP_ERR_INVALID_HANDLE);
    SAYS("runtime");
    IS(podkeep_monitor_free(old.monitor), PODKEEP_ERR_INVALID_HANDLE);
    SAYS("monitor");
    IS(podkeep_failure_free(old.failure), PODKEEP_ERR_INVALID_HANDLE);
    SAYS("failure");
    CHECK(podkeep_context_cancelled(old.ctx));
  }
  CHECK(wrong == 0);
}

static void borrowed_failures_are_not_freed(void) {
  struct world w;
  podkeep_failure *second;
  world_make(&w);
  second = (podkeep_failure *)(uintptr_t)podkeep_failure_secondary(w.failure);
  IS(podkeep_failure_free(second), PODKEEP_ERR_INVALID_ARGUMENT);
  SAYS("failure");
  EQ(podkeep_failure_code(second), 8);
  world_free(&w);
  EQ(podkeep_failure_code(second), -2); /* dead with what it hung on */
  STR(podkeep_failure_message(second), "");
}

static int by_value(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}
static void a_value_is_never_used_twice(void) {
  int rounds = fewer(40000), n = 0, i, per_round = 6;
  uint64_t *seen = malloc(sizeof *seen * (size_t)(rounds * per_round));
  podkeep_runtime *failing = make_runtime("failing", run_and_fail);
  podkeep_pod *failed = make_pod(failing);
  IS(podkeep_pod_start(failed), PODKEEP_OK);
  IS(podkeep_pod_join(failed, slow(10000)), PODKEEP_ERR_FAILED);
  CHECK(seen != NULL);
  for (i = 0; i < rounds; i++) {
    podkeep_runtime *runtime = make_runtime("r", NULL);
    podkeep_pod *pod = make_pod(runtime), *second = i % 3 ? NULL : make_pod(runtime);
    podkeep_monitor *monitor;
    podkeep_failure *failure;
    IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
    IS(podkeep_pod_failure(failed, &failure), PODKEEP_OK);
    seen[n++] = (uintptr_t)runtime;
    seen[n++] = (uintptr_t)pod;
    seen[n++] = (uintptr_t)monitor;
    seen[n++] = (uintptr_t)failure;
    if (second) seen[n++] = (uintptr_t)second;
    IS(podkeep_failure_free(failure), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
    IS(podkeep_runtime_free(runtime), PODKEEP_OK);
    IS(podkeep_monitor_free(monitor), PODKEEP_OK);
    IS(podkeep_pod_free(second), PODKEEP_OK);
  }
  qsort(seen, (size_t)n, sizeof *seen, by_value);
  for (i = 1; i < n; i++) CHECK(seen[i - 1] != seen[i]);
  for (i = 0; i < n; i++) CHECK(seen[i] & 1); /* odd: no pointer of the program's own ever looks like one */
  free(seen);
  IS(podkeep_pod_free(failed), PODKEEP_OK);
  IS(podkeep_runtime_free(failing), PODKEEP_OK);
}

/* The contexts of many lives, too: one that is over stays over while others come. */
static uintptr_t context_seen[3000];
static int contexts;
static int32_t note_context(podkeep_context *ctx, void *state) {
  (void)state;
  context_seen[contexts++] = (uintptr_t)ctx;
  return 0;
}
static void a_context_is_never_used_twice(void) {
  podkeep_runtime *runtime = make_runtime("r", note_context);
  int i, k, n = fewer(1500);
  for (i = 0; i < n; i++) {
    podkeep_pod *pod = make_pod(runtime);
    IS(podkeep_pod_start(pod), PODKEEP_OK);
    IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
  }
  EQ(contexts, n);
  for (i = 0; i < n; i++) {
    CHECK(podkeep_context_cancelled((podkeep_context *)context_seen[i]));
    IS(podkeep_context_ready((podkeep_context *)context_seen[i]), PODKEEP_ERR_INVALID_STATE);
    for (k = 0; k < i; k++) CHECK(context_seen[i] != context_seen[k]);
  }
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

/* Many live at one time: more than any first table holds, freed in another order. */
static void many_live_handles(void) {
  int n = fewer(20000), i;
  podkeep_pod **pods = calloc((size_t)n, sizeof *pods);
  podkeep_runtime *runtime = make_runtime("r", NULL);
  CHECK(pods != NULL);
  for (i = 0; i < n; i++) pods[i] = make_pod(runtime);
  for (i = 0; i < n; i += 2) IS(podkeep_pod_free(pods[i]), PODKEEP_OK);
  for (i = 0; i < n; i++) {
    podkeep_state state = -1;
    IS(podkeep_pod_state(pods[i], &state), i % 2 ? PODKEEP_OK : PODKEEP_ERR_INVALID_HANDLE);
    if (i % 2) EQ(state, PODKEEP_STATE_NEW);
  }
  for (i = 1; i < n; i += 2) IS(podkeep_pod_free(pods[i]), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  free(pods);
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(null_is_a_bad_handle_and_may_be_freed), CASE_LIMIT(random_values, 60), CASE_LIMIT(bit_flips_of_live_handles, 60),
    CASE(handles_of_another_kind), CASE(freed_handles), CASE(borrowed_failures_are_not_freed),
    CASE_LIMIT(a_value_is_never_used_twice, 60), CASE(a_context_is_never_used_twice), CASE(many_live_handles),
  };
  read_document();
  return RUN(all);
}
