/* worker.c: a shared library with runtimes in it. Its args are the path of a file to which each callback appends its word. */
#include <podkeep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void word(podkeep_context *ctx, const char *text) {
  char path[4096];
  size_t n = 0;
  const void *args = podkeep_context_args(ctx, &n);
  if (args == NULL || n >= sizeof path) return;
  memcpy(path, args, n);
  path[n] = '\0';
  FILE *f = fopen(path, "a");
  if (f == NULL) return;
  fprintf(f, "%s %d\n", text, (int)getpid());
  fclose(f);
}
static int ends[2];
static int32_t init(podkeep_context *ctx, void *config, void **state) {
  *state = config;
  if (pipe(ends) != 0) return 4;
  word(ctx, "init");
  return 0;
}
static int32_t run(podkeep_context *ctx, void *state) {
  if (strcmp(state, "its own config") != 0) return 5;
  word(ctx, "run");
  podkeep_context_ready(ctx);
  char byte;
  return read(ends[0], &byte, 1) == 1 ? PODKEEP_CANCELLED : 1; /* what cannot poll: its hook writes there */
}
static int32_t teardown(podkeep_context *ctx, void *state) {
  (void)state;
  word(ctx, "teardown");
  close(ends[0]), close(ends[1]);
  return 0;
}
static void cancel(podkeep_context *ctx, void *state) {
  (void)state;
  word(ctx, "cancel");
  if (write(ends[1], "", 1) != 1) abort();
}
static void drop(void *config) { /* a library's drop is not called */
  (void)config;
  abort();
}
const podkeep_runtime_spec *worker(void);
const podkeep_runtime_spec *worker(void) {
  static podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "worker";
  spec.init = init;
  spec.run_forever = run;
  spec.teardown = teardown;
  spec.cancel = cancel;
  spec.config = (void *)(uintptr_t)"its own config";
  spec.drop = drop;
  return &spec;
}

static int32_t run_failing(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_fail(ctx, 17, "the library's own words");
}
const podkeep_runtime_spec *failing(void);
const podkeep_runtime_spec *failing(void) {
  static podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "failing";
  spec.run_forever = run_failing;
  return &spec;
}
static int32_t run_crashing(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  abort();
}
const podkeep_runtime_spec *crashing(void);
const podkeep_runtime_spec *crashing(void) {
  static podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "crashing";
  spec.run_forever = run_crashing;
  return &spec;
}

const podkeep_runtime_spec *nothing(void); /* symbols that keep their promise badly */
const podkeep_runtime_spec *nothing(void) { return NULL; }
const podkeep_runtime_spec *runless(void);
const podkeep_runtime_spec *runless(void) {
  static podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "runless";
  return &spec;
}
