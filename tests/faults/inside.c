/* Forks, ends and cancellations that happen inside the library's calls and on its own threads. */
#include "check.h"
#include "world.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static pid_t home, forked;
static int told[2]; /* what a child calls after it was forked */
static void tell(char letter) {
  if (getpid() != home && write(told[1], &letter, 1) < 0) _exit(3);
}
static void open_book(void) {
  home = getpid();
  forked = 0;
  CHECK(pipe(told) == 0);
}
/* The child that returned from its callback has ended, and nothing else was called in it. */
static void book_is_empty(void) {
  char after[8] = "";
  int code = child_code(forked, slow(5000)); /* -1: it never ended */
  if (code < 0 || code >= 128) EQ(code, 0);
  close(told[1]);
  EQ(read(told[0], after, sizeof after - 1), 0);
  close(told[0]);
}

/* --- Fork on the library's threads ------------------------------------------------------------------------------------- */

static int lines;
static void log_forks(int32_t level, const char *pod, const char *message, void *user_data) {
  pid_t pid;
  (void)level, (void)pod, (void)message, (void)user_data;
  tell('L');
  if (LOAD(lines) == 0) {
    ADD(lines, 1);
    pid = fork();
    if (pid > 0) STORE(forked, pid);
    return; /* the child, too */
  }
  ADD(lines, 1);
}
static void fork_in_a_log_callback_and_return_from_it(void) {
  podkeep_runtime *runtime = make_runtime("logged", run_and_fail);
  int i;
  open_book();
  IS(podkeep_set_log(log_forks, 4, NULL, NULL), PODKEEP_OK);
  for (i = 0; i < 5; i++) {
    podkeep_pod *pod = make_pod(runtime);
    IS(podkeep_pod_start(pod), PODKEEP_OK);
    IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_ERR_FAILED);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
  }
  UNTIL(LOAD(lines) >= 5 && LOAD(forked) > 0);
  book_is_empty();
  IS(podkeep_set_log(NULL, 0, NULL, NULL), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

static int dropped;
static void drop_forks(void *config) {
  pid_t pid;
  (void)config;
  tell('D');
  ADD(dropped, 1);
  pid = fork();
  if (pid > 0) STORE(forked, pid);
}
static int32_t tell_teardown(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  tell('T');
  return 0;
}
static void fork_in_a_drop_after_a_life_and_return_from_it(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod, *other = make_running(make_runtime("beside", NULL));
  open_book();
  spec.name = "dropped";
  spec.run_forever = run_until_cancelled;
  spec.teardown = tell_teardown;
  spec.drop = drop_forks;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  pod = make_running(runtime);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  IS(podkeep_pod_cancel(pod), PODKEEP_OK);
  IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_OK);
  UNTIL(LOAD(forked) > 0);
  book_is_empty();
  EQ(LOAD(dropped), 1);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_pod_close(other), PODKEEP_OK);
}

/* A child that was forked in a callback is nobody's S: it may wait, shut down and have pods of its own. */
static int in_hook_too;
static void use_it_all(void) {
  podkeep_runtime *runtime = make_runtime("the child's own", NULL);
  podkeep_pod *pod = make_running(runtime);
  IS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  IS(podkeep_shutdown(slow(5000), NULL), PODKEEP_OK);
  IS(podkeep_shutdown(PODKEEP_FOREVER, NULL), PODKEEP_OK);
  _exit(39);
}
static void fork_and_use_it_all(void) {
  pid_t pid = fork();
  if (pid == 0) use_it_all();
  EQ(child_code(pid, slow(8000)), 39);
}
static int32_t init_forks(podkeep_context *ctx, void *config, void **state) {
  (void)ctx, (void)config, (void)state;
  fork_and_use_it_all();
  return 0;
}
static int32_t run_forks(podkeep_context *ctx, void *state) {
  (void)state;
  fork_and_use_it_all();
  while (!LOAD(in_hook_too)) nap();
  return podkeep_context_wait(ctx, PODKEEP_FOREVER);
}
static int32_t teardown_forks(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  fork_and_use_it_all();
  return 0;
}
static void hook_forks(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  fork_and_use_it_all();
  STORE(in_hook_too, 1);
}
static void drop_forks_and_uses(void *config) {
  (void)config;
  fork_and_use_it_all();
  ADD(dropped, 1);
}
static void a_child_of_a_callback_is_free(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  spec.name = "forking";
  spec.init = init_forks;
  spec.run_forever = run_forks;
  spec.teardown = teardown_forks;
  spec.cancel = hook_forks;
  spec.drop = drop_forks_and_uses;
  options.grace_ms = slow(60000);
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  UNTIL(LOAD(dropped) == 1);
}

/* --- S ends its thread beside the hook ------------------------------------------------------------------------------------ */

enum { FRESH = 1, DEAD = 2 };
static int hooks;
static int32_t exits_once_cancelled(podkeep_context *ctx, void *state) {
  int i;
  (void)state;
  while (!podkeep_context_cancelled(ctx)) {}
  for (i = 0; i < (int)((uintptr_t)ctx >> 22) % 64; i++) (void)podkeep_context_cancelled(ctx); /* early and late */
  pthread_exit(NULL);
}
static void hook_uses_config(podkeep_context *ctx, void *state) {
  int *config = state, i;
  ADD(hooks, 1);
  for (i = 0; i < 200; i++) {
    EQ(LOAD(*config), FRESH);
    (void)podkeep_context_cancelled(ctx);
  }
}
static void drop_marks(void *config) {
  STORE(*(int *)config, DEAD);
  ADD(dropped, 1);
}
static void a_hook_is_over_before_the_drop_when_s_ends_its_thread(void) {
  int i, n = fewer(1000), *configs = calloc((size_t)n, sizeof *configs);
  CHECK(configs != NULL);
  for (i = 0; i < n; i++) {
    podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
    podkeep_runtime *runtime;
    podkeep_pod *pod;
    configs[i] = FRESH;
    spec.name = "ending";
    spec.run_forever = exits_once_cancelled;
    spec.cancel = hook_uses_config;
    spec.config = &configs[i];
    spec.drop = drop_marks;
    IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
    pod = make_running(runtime);
    IS(podkeep_runtime_free(runtime), PODKEEP_OK);
    IS(podkeep_pod_cancel(pod), PODKEEP_OK);
    IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_ERR_FAILED);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
  }
  UNTIL(LOAD(dropped) == n);
  free(configs);
}

/* --- A host thread that is cancelled inside a call ------------------------------------------------------------------------ */

static int entered;
static podkeep_monitor *watched;
static void *joins(void *pod) {
  ADD(entered, 1);
  IS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_OK);
  pthread_testcancel();
  return NULL;
}
static void *joins_a_while(void *pod) {
  ADD(entered, 1);
  IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_OK);
  pthread_testcancel();
  return NULL;
}
static void *nexts(void *pod) {
  podkeep_event event = PODKEEP_EVENT_INIT;
  (void)pod;
  ADD(entered, 1);
  while (podkeep_monitor_next(watched, &event, PODKEEP_FOREVER) == PODKEEP_OK) {}
  pthread_testcancel();
  return NULL;
}
static void *times_out(void *pod) { /* the sentence of a timeout is read from /proc: open, read and close are cancellation points */
  ADD(entered, 1);
  while (podkeep_pod_join(pod, 1) == PODKEEP_ERR_TIMEOUT) {}
  pthread_testcancel();
  return NULL;
}
static void no_call_is_a_cancellation_point(void) {
  static void *(*const calls[])(void *) = { joins, joins_a_while, nexts, times_out };
  podkeep_runtime *runtime;
  size_t i;
  runtime = make_runtime("joined", NULL);
  for (i = 0; i < sizeof calls / sizeof calls[0]; i++) {
    struct timespec moment = { 0, 20000000 };
    podkeep_pod *pod = make_running(runtime);
    pthread_t thread;
    void *result;
    STORE(entered, 0);
    IS(podkeep_monitor_new(pod, &watched), PODKEEP_OK);
    CHECK(pthread_create(&thread, NULL, calls[i], pod) == 0);
    UNTIL(LOAD(entered) == 1);
    nanosleep(&moment, NULL); /* so that it sleeps in its call; that has no event */
    CHECK(pthread_cancel(thread) == 0);
    nanosleep(&moment, NULL); /* what would be cut off here has its time */
    IS(podkeep_pod_close(pod), PODKEEP_OK);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED); /* after the call, by its own pthread_testcancel */
    IS(podkeep_monitor_free(watched), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
  }
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(fork_in_a_log_callback_and_return_from_it), CASE(fork_in_a_drop_after_a_life_and_return_from_it),
    CASE_LIMIT(a_child_of_a_callback_is_free, 60), CASE_LIMIT(a_hook_is_over_before_the_drop_when_s_ends_its_thread, 60),
    CASE(no_call_is_a_cancellation_point),
  };
  return RUN(all);
}
