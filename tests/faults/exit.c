/* The end of a process with pods alive, by each door there is: its own exit code, no teardown, no crash, at once. Each
 * scenario is this program again, as `--host SCENARIO`. And the end of S's own thread from inside. */
#include "check.h"
#include "world.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *self;
#define LIST_AND_EXIT "ls /proc/self/fd | wc -l; exit 47"

/* --- The host program ------------------------------------------------------------------------------------------------ */

static void shout(const char *word) {
  if (write(STDOUT_FILENO, word, strlen(word)) < 0) _exit(3);
}
static volatile uint64_t work;
static void spin_on(void) { for (;;) work = work + 1; }
static void block_on(void) { for (;;) pause(); }

enum shape { BUSY, BLOCKED, BLOCKED_IN_INIT, BUSY_IN_HOOK, BLOCKED_IN_TEARDOWN, POLITE, SHAPES };
static int here[SHAPES];
static int32_t shape_init(podkeep_context *ctx, void *config, void **state) {
  (void)ctx;
  *state = config;
  if (*(enum shape *)config == BLOCKED_IN_INIT) {
    STORE(here[BLOCKED_IN_INIT], 1);
    block_on();
  }
  return 0;
}
static int32_t shape_run(podkeep_context *ctx, void *state) {
  enum shape shape = *(enum shape *)state;
  if (shape == BUSY || shape == BLOCKED) STORE(here[shape], 1);
  if (shape == BUSY) spin_on();
  if (shape == BLOCKED) block_on();
  if (shape == POLITE) STORE(here[shape], 1);
  if (shape == BUSY_IN_HOOK) UNTIL(LOAD(here[shape])); /* a hook comes only while this has not returned */
  return podkeep_context_wait(ctx, PODKEEP_FOREVER) == PODKEEP_OK ? 0 : 1;
}
static int32_t shape_teardown(podkeep_context *ctx, void *state) {
  (void)ctx;
  if (*(enum shape *)state == BLOCKED_IN_TEARDOWN) {
    STORE(here[BLOCKED_IN_TEARDOWN], 1);
    block_on();
  }
  shout("teardown ");
  return 0;
}
static void shape_hook(podkeep_context *ctx, void *state) {
  (void)ctx;
  if (*(enum shape *)state != BUSY_IN_HOOK) return;
  STORE(here[BUSY_IN_HOOK], 1);
  spin_on();
}
static enum shape shapes[SHAPES] = { BUSY, BLOCKED, BLOCKED_IN_INIT, BUSY_IN_HOOK, BLOCKED_IN_TEARDOWN, POLITE };
static void pods_of_every_shape(void) {
  int i;
  for (i = 0; i < SHAPES; i++) {
    podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
    podkeep_runtime *runtime;
    podkeep_pod *pod;
    podkeep_monitor *monitor;
    spec.name = "shape";
    spec.init = shape_init;
    spec.run_forever = shape_run;
    spec.teardown = shape_teardown;
    spec.cancel = shape_hook;
    spec.config = &shapes[i];
    IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
    pod = make_pod(runtime);
    IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK); /* left open */
    IS(podkeep_pod_start(pod), PODKEEP_OK);
    if (i == BUSY_IN_HOOK || i == BLOCKED_IN_TEARDOWN) {
      IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
      IS(podkeep_pod_cancel(pod), PODKEEP_OK);
    }
  }
  for (i = 0; i < SHAPES; i++) UNTIL(LOAD(here[i]));
}
static void farewell(void) { shout("atexit "); }
static void *exits_50(void *unused) {
  (void)unused;
  exit(50);
}
static void *joins(void *pod) {
  IS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_OK);
  return NULL;
}
static int32_t run_exits(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  exit(51);
}
static int32_t run_underscore_exits(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  _exit(52);
}
static void hook_exits(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  exit(53);
}
static void drop_exits(void *config) {
  (void)config;
  exit(54);
}
static void log_exits(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)pod, (void)message, (void)user_data;
  exit(55);
}
static int32_t run_blocked(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  block_on();
  return 0;
}
static podkeep_pod *of_spec(podkeep_runtime_spec spec) {
  podkeep_runtime *runtime;
  spec.name = "ender";
  if (!spec.run_forever) spec.run_forever = run_until_cancelled;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  return make_running(runtime);
}

static int host(const char *scenario) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  signal(SIGALRM, SIG_DFL);
  alarm((unsigned)slow(30)); /* nobody else would end a process whose end hangs */
  if (atexit(farewell) != 0) return 2;
  if (strcmp(scenario, "never used") == 0) return 40;
  if (strcmp(scenario, "only looked at") == 0) return podkeep_version()[0] ? 41 : 1;
  pods_of_every_shape();
  if (strcmp(scenario, "return from main") == 0) return 43;
  if (strcmp(scenario, "exit") == 0) exit(42);
  if (strcmp(scenario, "_exit") == 0) _exit(44);
  if (strcmp(scenario, "quick_exit") == 0) quick_exit(45);
  if (strcmp(scenario, "exit in another thread") == 0) {
    start_thread(exits_50, NULL);
    block_on();
  }
  if (strcmp(scenario, "exit under waiters") == 0) {
    pod = make_running(make_runtime("waited for", NULL));
    start_thread(joins, pod);
    start_thread(joins, pod);
    exit(46);
  }
  if (strcmp(scenario, "exit in run_forever") == 0) {
    spec.run_forever = run_exits;
    spec.name = "ender";
    IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
    IS(podkeep_pod_start(make_pod(runtime)), PODKEEP_OK);
    block_on();
  }
  if (strcmp(scenario, "_exit in run_forever") == 0) {
    spec.run_forever = run_underscore_exits;
    spec.name = "ender";
    IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
    IS(podkeep_pod_start(make_pod(runtime)), PODKEEP_OK);
    block_on();
  }
  if (strcmp(scenario, "exit in the hook") == 0) {
    spec.run_forever = run_blocked;
    spec.cancel = hook_exits;
    IS(podkeep_pod_close(of_spec(spec)), PODKEEP_OK);
  }
  if (strcmp(scenario, "exit in a drop") == 0) {
    spec.name = "ender";
    spec.run_forever = run_until_cancelled;
    spec.drop = drop_exits;
    IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
    IS(podkeep_runtime_free(runtime), PODKEEP_OK);
    block_on();
  }
  if (strcmp(scenario, "exit in a log callback") == 0) {
    IS(podkeep_set_log(log_exits, 4, NULL, NULL), PODKEEP_OK);
    IS(podkeep_pod_start(make_pod(make_runtime("failing", run_and_fail))), PODKEEP_OK);
    block_on();
  }
  if (strcmp(scenario, "pthread_exit of main") == 0) { /* the process lives on in its pods: one of them must end it */
    start_thread(exits_50, NULL);
    pthread_exit(NULL);
  }
  if (strcmp(scenario, "abort") == 0) abort();
  if (strcmp(scenario, "exec") == 0) {
    execl("/bin/sh", "sh", "-c", LIST_AND_EXIT, (char *)NULL);
    return 1;
  }
  if (strcmp(scenario, "exit after shutdown") == 0) {
    uint32_t left = 99;
    IS(podkeep_shutdown(10, &left), PODKEEP_ERR_TIMEOUT);
    CHECK(left >= 5 && left <= 6);
    exit(48);
  }
  return 2;
}

static void ends(const char *scenario, int want, const char *prints, int times) {
  times = fewer(times);
  while (times--) {
    char *argv[] = { self, (char *)(uintptr_t)"--host", (char *)(uintptr_t)scenario, NULL };
    char out[400] = "";
    int code = run_program(argv, out, sizeof out, slow(35000));
    if (code != want) {
      fprintf(stderr, "    %s: code %d, printed \"%s\"\n", scenario, code, out);
      EQ(code, want);
    }
    STR(out, prints);
  }
}
static void never_used(void) { ends("never used", 40, "atexit ", 1), ends("only looked at", 41, "atexit ", 1); }
static void exit_with_pods_of_every_shape(void) { ends("exit", 42, "atexit ", 100); }
static void return_from_main(void) { ends("return from main", 43, "atexit ", 100); }
static void underscore_exit(void) { ends("_exit", 44, "", 30), ends("quick_exit", 45, "", 30); }
static void exit_in_another_thread(void) { ends("exit in another thread", 50, "atexit ", 30); }
static void exit_under_waiters(void) { ends("exit under waiters", 46, "atexit ", 30); }
static void exit_in_callbacks(void) {
  ends("exit in run_forever", 51, "atexit ", 20);
  ends("_exit in run_forever", 52, "", 20);
  ends("exit in the hook", 53, "atexit ", 20);
  ends("exit in a drop", 54, "atexit ", 20);
  ends("exit in a log callback", 55, "atexit ", 20);
}
static void pthread_exit_of_main(void) { ends("pthread_exit of main", 50, "atexit ", 20); }
static void abort_is_an_abort(void) { ends("abort", 128 + SIGABRT, "", 5); }
/* The new program has none of the library's descriptors: as many as one that was never near it. */
static void exec_with_pods(void) {
  char *argv[] = { (char *)(uintptr_t)"/bin/sh", (char *)(uintptr_t)"-c", (char *)(uintptr_t)LIST_AND_EXIT, NULL }, bare[100];
  EQ(run_program(argv, bare, sizeof bare, slow(35000)), 47);
  ends("exec", 47, bare, 20);
}
/* The polite one may be torn down within the ten milliseconds, and may say so when main has gone on. */
static void exit_after_a_shutdown_that_timed_out(void) {
  char *argv[] = { self, (char *)(uintptr_t)"--host", (char *)(uintptr_t)"exit after shutdown", NULL }, out[100] = "";
  EQ(run_program(argv, out, sizeof out, slow(35000)), 48);
  CHECK(strcmp(out, "atexit ") == 0 || strcmp(out, "teardown atexit ") == 0 || strcmp(out, "atexit teardown ") == 0);
}

/* --- The end of a thread ------------------------------------------------------------------------------------------------ */

static int teardowns, late_drops, hooks;
static pthread_t thread_of_s;
static int32_t pe_init_ok(podkeep_context *ctx, void *config, void **state) {
  (void)ctx;
  *state = config;
  return 0;
}
static int32_t pe_init(podkeep_context *ctx, void *config, void **state) {
  (void)ctx, (void)config, (void)state;
  pthread_exit(NULL);
}
static int32_t pe_run(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  pthread_exit((void *)(uintptr_t)3);
}
static int32_t pe_teardown(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  pthread_exit(NULL);
}
static int32_t count_teardown(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  ADD(teardowns, 1);
  return 0;
}
static void count_drop(void *config) {
  (void)config;
  ADD(late_drops, 1);
}
static int32_t run_in_pause(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  thread_of_s = pthread_self();
  STORE(here[0], 1);
  block_on();
  return 0;
}
static int32_t run_until_hooked(podkeep_context *ctx, void *state) {
  (void)state;
  while (!LOAD(hooks)) nap();
  return podkeep_context_cancelled(ctx) ? 0 : 1;
}
static void pe_hook(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  STORE(hooks, 1);
  pthread_exit(NULL);
}

static podkeep_runtime_spec ending(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "ending";
  spec.init = pe_init_ok;
  spec.run_forever = run_until_cancelled;
  spec.teardown = count_teardown;
  spec.drop = count_drop;
  return spec;
}
static void fails_as_exit(podkeep_runtime_spec spec, podkeep_phase phase, int cancel, int kill_it) {
  podkeep_runtime *runtime;
  podkeep_failure *failure;
  podkeep_pod *pod;
  int drops_before = LOAD(late_drops);
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  pod = make_pod(runtime);
  STORE(here[0], 0);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  if (cancel) {
    IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
    IS(podkeep_pod_cancel(pod), PODKEEP_OK);
  }
  if (kill_it) {
    UNTIL(LOAD(here[0]));
    CHECK(pthread_cancel(thread_of_s) == 0);
  }
  IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_ERR_FAILED);
  IS(podkeep_pod_failure(pod, &failure), PODKEEP_OK);
  EQ(podkeep_failure_kind(failure), PODKEEP_KIND_EXIT);
  EQ(podkeep_failure_code(failure), 0);
  EQ(podkeep_failure_phase(failure), phase);
  EQ(LOAD(teardowns), 0);
  IS(podkeep_failure_free(failure), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  UNTIL(LOAD(late_drops) == drops_before + 1);
}
static void pthread_exit_in_init(void) {
  podkeep_runtime_spec spec = ending();
  spec.init = pe_init;
  fails_as_exit(spec, PODKEEP_PHASE_INIT, 0, 0);
}
static void pthread_exit_in_run(void) {
  podkeep_runtime_spec spec = ending();
  int i, threads;
  spec.run_forever = pe_run;
  fails_as_exit(spec, PODKEEP_PHASE_RUN, 0, 0);
  threads = count_threads();
  for (i = 0; i < fewer(100); i++) fails_as_exit(spec, PODKEEP_PHASE_RUN, 0, 0);
  UNTIL(count_threads() <= threads);
}
static void pthread_exit_in_teardown(void) {
  podkeep_runtime_spec spec = ending();
  spec.teardown = pe_teardown;
  fails_as_exit(spec, PODKEEP_PHASE_TEARDOWN, 1, 0);
}
static void pthread_cancel_of_s(void) {
  podkeep_runtime_spec spec = ending();
  int i;
  spec.run_forever = run_in_pause;
  for (i = 0; i < fewer(30); i++) fails_as_exit(spec, PODKEEP_PHASE_RUN, 0, 1);
}
/* A hook that ends the library's thread under it harms its own pod at most: that one ends, and so do others. */
static void pthread_exit_in_the_hook(void) {
  podkeep_runtime_spec spec = ending();
  podkeep_runtime *runtime;
  podkeep_status s;
  int i;
  spec.run_forever = run_until_hooked;
  spec.cancel = pe_hook;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  for (i = 0; i < 5; i++) {
    podkeep_pod *pod;
    STORE(hooks, 0);
    pod = make_running(runtime);
    s = podkeep_pod_close(pod);
    CHECK(s == PODKEEP_OK || s == PODKEEP_ERR_FAILED);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
  }
  EQ(LOAD(teardowns), 5);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(never_used), CASE_LIMIT(exit_with_pods_of_every_shape, 120), CASE_LIMIT(return_from_main, 120),
    CASE_LIMIT(underscore_exit, 60), CASE_LIMIT(exit_in_another_thread, 60), CASE_LIMIT(exit_under_waiters, 60),
    CASE_LIMIT(exit_in_callbacks, 120), CASE_LIMIT(pthread_exit_of_main, 60), CASE(abort_is_an_abort),
    CASE_LIMIT(exec_with_pods, 60), CASE(exit_after_a_shutdown_that_timed_out), CASE(pthread_exit_in_init),
    CASE(pthread_exit_in_run), CASE(pthread_exit_in_teardown), CASE(pthread_cancel_of_s), CASE(pthread_exit_in_the_hook),
  };
  self = argv[0];
  if (argc == 3 && strcmp(argv[1], "--host") == 0) return host(argv[2]);
  return RUN(all);
}
