/* A bare fork() at any moment: in the child the handles of before are dead and say so, nothing of the parent's runs
 * there, new ones work; the parent notices nothing. */
#include "check.h"
#include "document.h"
#include "world.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t home; /* the process whose callbacks may run */
static int strays, drops;
static void at_home(void) {
  if (getpid() != home) ADD(strays, 1);
}

/* A whole life with all there is: init, ready, hook, monitor, descriptor, failure. */
static int32_t life_init(podkeep_context *ctx, void *config, void **state) {
  at_home();
  CHECK(!podkeep_context_cancelled(ctx));
  *state = config;
  return 0;
}
static int32_t life_run(podkeep_context *ctx, void *state) {
  struct pollfd p = { -1, POLLIN, 0 };
  (void)state;
  at_home();
  p.fd = podkeep_context_fd(ctx);
  CHECK(p.fd >= 0);
  EQ(poll(&p, 1, slow(10000)), 1);
  return podkeep_context_wait(ctx, PODKEEP_FOREVER) == PODKEEP_OK ? PODKEEP_CANCELLED : 1;
}
static int32_t life_teardown(podkeep_context *ctx, void *state) {
  (void)state;
  at_home();
  return podkeep_context_fail(ctx, 9, "on purpose");
}
static void life_hook(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  at_home();
}
static void life_drop(void *config) {
  (void)config;
  at_home();
  ADD(drops, 1);
}
static podkeep_runtime *life_runtime(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  spec.name = "life";
  spec.init = life_init;
  spec.run_forever = life_run;
  spec.teardown = life_teardown;
  spec.cancel = life_hook;
  spec.drop = life_drop;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  return runtime;
}
static void live(void) {
  podkeep_runtime *runtime = life_runtime();
  podkeep_pod *pod = make_pod(runtime);
  podkeep_monitor *monitor;
  podkeep_event event = PODKEEP_EVENT_INIT;
  podkeep_failure *failure;
  int before = LOAD(drops);
  IS(podkeep_monitor_new(pod, &monitor), PODKEEP_OK);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
  IS(podkeep_pod_cancel(pod), PODKEEP_OK);
  IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_ERR_FAILED);
  IS(podkeep_pod_failure(pod, &failure), PODKEEP_OK);
  EQ(podkeep_failure_code(failure), 9);
  while (podkeep_monitor_next(monitor, &event, slow(10000)) == PODKEEP_OK) {}
  EQ(event.to, PODKEEP_STATE_FAILED);
  IS(podkeep_failure_free(failure), PODKEEP_OK);
  IS(podkeep_monitor_free(monitor), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  UNTIL(LOAD(drops) > before);
}

/* Each function with each old handle answers what calls.md says, at once. */
static void all_old_handles_are_dead(const struct world *w) {
  int i, wrong = 0, column = column_of("in a forked child");
  for (i = 0; i < every_count; i++) {
    const char *want = line_of(every[i].key)->cell[column], *got;
    int64_t began = now_ms();
    if (every[i].takes == NOTHING) continue;
    got = every[i].call(w);
    if (strcmp(got, want) != 0) wrong++, fprintf(stderr, "    in the child %s: \"%s\", not \"%s\"\n", every[i].key, got, want);
    if (now_ms() - began > slow(5000)) wrong++, fprintf(stderr, "    in the child %s took its time\n", every[i].key);
  }
  CHECK(wrong == 0);
  IS(podkeep_pod_start(w->pod), PODKEEP_ERR_FORKED);
  SAYS("fork");
}

/* --- Children ---------------------------------------------------------------------------------------------------------- */

static void grandchild(void *world) {
  all_old_handles_are_dead(world);
  home = getpid();
  live();
}
static void child(void *world) {
  podkeep_pod *pod;
  podkeep_runtime *runtime;
  struct world *w = world;
  all_old_handles_are_dead(w);
  EQ(LOAD(strays), 0);
  home = getpid();
  live();
  all_old_handles_are_dead(w);
  runtime = make_runtime("the child's own", NULL);
  pod = make_running(runtime);
  EQ(in_child(grandchild, w, slow(15000)), 0);
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  IS(podkeep_shutdown(slow(10000), NULL), PODKEEP_OK);
}
static void old_handles_are_dead_and_new_ones_work(void) {
  struct world w;
  int i;
  home = getpid();
  for (i = 0; i < fewer(10); i++) {
    world_make(&w);
    EQ(in_child(child, &w, slow(15000)), 0);
    world_free(&w); /* undisturbed, and still in working order */
  }
}

/* Before the library was ever used, the child is as good as any. */
static void only_lives(void *unused) {
  (void)unused;
  home = getpid();
  live();
}
static void fork_before_the_first_call(void) {
  EQ(in_child(only_lives, NULL, slow(15000)), 0);
  home = getpid();
  live();
  EQ(in_child(only_lives, NULL, slow(15000)), 0);
}

/* The child ends by exit(), with all its atexit and destructors; no callback and no drop of the parent's there. */
static void exits(void *unused) {
  (void)unused;
  exit(LOAD(strays) ? 1 : 33);
}
static void frees_and_exits(void *world) {
  struct world *w = world;
  IS(podkeep_pod_free(w->pod), PODKEEP_ERR_FORKED);
  IS(podkeep_runtime_free(w->runtime), PODKEEP_ERR_FORKED);
  IS(podkeep_set_log(NULL, 0, NULL, NULL), PODKEEP_OK);
  EQ(LOAD(drops), 0);
  EQ(LOAD(strays), 0);
  exit(34);
}
static void on_log(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)pod, (void)message, (void)user_data;
  at_home();
}
static void nothing_of_the_parent_runs_in_the_child(void) {
  podkeep_pod *pod;
  struct world w;
  home = getpid();
  world_make(&w);
  w.runtime = life_runtime();
  w.pod = make_running(w.runtime);
  IS(podkeep_set_log(on_log, 4, &w, life_drop), PODKEEP_OK);
  EQ(in_child(exits, NULL, slow(10000)), 33);
  EQ(in_child(frees_and_exits, &w, slow(10000)), 34);
  IS(podkeep_runtime_free(w.runtime), PODKEEP_OK);
  pod = w.pod;
  IS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED); /* code 9, from its teardown: it ran here */
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  UNTIL(LOAD(drops) == 1);
  IS(podkeep_set_log(NULL, 0, NULL, NULL), PODKEEP_OK);
  UNTIL(LOAD(drops) == 2);
}

/* --- While others are at work --------------------------------------------------------------------------------------- */

static int over;
static void *churn(void *unused) {
  (void)unused;
  while (!LOAD(over)) live();
  return NULL;
}
static podkeep_pod *passing;
static void *pass_handles(void *runtime) {
  while (!LOAD(over)) {
    podkeep_pod *pod = make_pod(runtime);
    STORE(passing, pod);
    if ((uintptr_t)pod % 3) IS(podkeep_pod_start(pod), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
  }
  return NULL;
}
static void amid_child(void *world) {
  podkeep_state state;
  podkeep_status s = podkeep_pod_state(LOAD(passing), &state);
  if (s != PODKEEP_ERR_INVALID_HANDLE) IS(s, PODKEEP_ERR_FORKED);
  all_old_handles_are_dead(world);
  EQ(LOAD(strays), 0);
  home = getpid();
  live();
  IS(podkeep_shutdown(slow(10000), NULL), PODKEEP_OK);
}
static void fork_amid_the_work_of_other_threads(void) {
  struct world w;
  podkeep_runtime *passed;
  void *threads[3];
  int i, n = fewer(200);
  home = getpid();
  world_make(&w);
  passed = make_runtime("passed", NULL);
  threads[0] = start_thread(churn, NULL);
  threads[1] = start_thread(churn, NULL);
  threads[2] = start_thread(pass_handles, passed);
  for (i = 0; i < n; i++) EQ(in_child(amid_child, &w, slow(20000)), 0);
  STORE(over, 1);
  for (i = 0; i < 3; i++) join_thread(threads[i]);
  world_free(&w);
  EQ(LOAD(strays), 0);
}

/* Old handles wake nobody: a child that cancels, frees and shuts down leaves the parent's pods as they are. */
static void vandal(void *world) {
  struct world *w = world;
  IS(podkeep_pod_cancel(w->pod), PODKEEP_ERR_FORKED);
  IS(podkeep_pod_close(w->pod), PODKEEP_ERR_FORKED);
  IS(podkeep_shutdown(slow(5000), NULL), PODKEEP_OK);
  IS(podkeep_monitor_free(w->monitor), PODKEEP_ERR_FORKED);
}
static int joining; /* the kernel's id of the thread that does */
static void *joiner(void *pod) {
  STORE(joining, own_tid());
  IS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_OK);
  return NULL;
}
static void the_parent_is_undisturbed(void) {
  podkeep_event event = PODKEEP_EVENT_INIT;
  struct world w;
  struct pollfd p = { -1, POLLIN, 0 };
  void *thread;
  int i;
  home = getpid();
  world_make(&w);
  thread = start_thread(joiner, w.pod);
  UNTIL(LOAD(joining) != 0 && thread_waits(LOAD(joining))); /* it joins before the handle is freed */
  IS(podkeep_monitor_fd(w.monitor, &p.fd), PODKEEP_OK);
  IS(podkeep_monitor_next(w.monitor, &event, 0), PODKEEP_OK);
  for (i = 0; i < 10; i++) {
    EQ(in_child(vandal, &w, slow(10000)), 0);
    EQ(poll(&p, 1, 0), 0);
    CHECK(!podkeep_context_cancelled(w.ctx));
    IS(podkeep_context_wait(w.ctx, 0), PODKEEP_ERR_TIMEOUT);
  }
  world_free(&w);
  join_thread(thread);
}

/* --- Fork from inside ----------------------------------------------------------------------------------------------- */

enum where { IN_INIT, IN_RUN, IN_TEARDOWN, IN_HOOK };
static enum where where;
static int child_returns, forked_once, hook_done;
static int told[2]; /* the child's last word: what it called after the fork */
static pid_t forked;
static void in_callback(podkeep_context *ctx, enum where here) {
  char letter = (char)('A' + here);
  if (getpid() != home && write(told[1], &letter, 1) < 0) _exit(3);
  if (here != where || forked_once) return;
  forked_once = 1;
  forked = fork();
  if (forked != 0) return;
  CHECK(podkeep_context_cancelled(ctx));
  IS(podkeep_context_ready(ctx), PODKEEP_ERR_FORKED);
  if (!child_returns) _exit(35);
}
static int32_t in_init(podkeep_context *ctx, void *config, void **state) {
  (void)config, (void)state;
  in_callback(ctx, IN_INIT);
  return 0;
}
static int32_t in_run(podkeep_context *ctx, void *state) {
  (void)state;
  in_callback(ctx, IN_RUN);
  if (getpid() != home) return 0;
  while (where == IN_HOOK && !LOAD(hook_done)) nap(); /* a hook comes only while this has not returned */
  return podkeep_context_wait(ctx, PODKEEP_FOREVER);
}
static int32_t in_teardown(podkeep_context *ctx, void *state) {
  (void)state;
  in_callback(ctx, IN_TEARDOWN);
  return 0;
}
static void in_hook(podkeep_context *ctx, void *state) {
  (void)state;
  in_callback(ctx, IN_HOOK);
  if (getpid() == home) STORE(hook_done, 1);
}
static void fork_in(enum where place, int returns) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  char after[8] = "";
  int code;
  home = getpid();
  where = place;
  child_returns = returns;
  forked_once = hook_done = 0;
  CHECK(pipe(told) == 0);
  spec.name = "forking";
  spec.init = in_init;
  spec.run_forever = in_run;
  spec.teardown = in_teardown;
  spec.cancel = in_hook;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  pod = make_running(runtime);
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  code = child_code(forked, slow(5000)); /* -1: it never ended */
  if (returns) CHECK(code >= 0 && code < 128);
  else EQ(code, 35);
  close(told[1]);
  EQ(read(told[0], after, sizeof after - 1), 0); /* no other callback ran in the child */
  STR(after, "");
  close(told[0]);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}
static void fork_in_a_callback_and_exit(void) {
  int i;
  for (i = IN_INIT; i <= IN_HOOK; i++) fork_in((enum where)i, 0);
}
static void fork_in_a_callback_and_return_from_it(void) {
  int i;
  for (i = IN_INIT; i <= IN_HOOK; i++) fork_in((enum where)i, 1);
}

/* A child in a new pid namespace of its own can have the very number of its parent: comparing ids would not tell. */
static void in_a_namespace(void *unused) {
  struct world w;
  (void)unused;
  home = getpid();
  EQ(home, 1);
  world_make(&w);
  if (unshare(CLONE_NEWPID) != 0) _exit(77);
  fflush(NULL);
  {
    pid_t pid = fork();
    if (pid == 0) {
      EQ(getpid(), 1);
      all_old_handles_are_dead(&w);
      live();
      _exit(0);
    }
    EQ(child_code(pid, slow(15000)), 0);
  }
  world_free(&w);
}
static void the_same_process_id_in_a_nested_namespace(void) {
  int code;
  if (unshare(CLONE_NEWPID) != 0) skip("no pid namespaces to be had");
  code = in_child(in_a_namespace, NULL, slow(18000));
  if (code == 77) skip("no nested pid namespaces to be had");
  EQ(code, 0);
}

/* The child of a fork in the log's thread: that has no part in the child's own log, neither while it lives nor by its end. */
static int telling, parting, log_child;
static void tells(int32_t level, const char *pod, const char *message, void *user_data) {
  char *copy = strdup(message);
  int i;
  (void)level, (void)pod, (void)user_data;
  STORE(telling, 1);
  while (!LOAD(parting)) nap();
  for (i = 0; i < 100; i++) nap(); /* the other thread ends meanwhile */
  _exit(strcmp(copy, message) == 0 ? 60 : 61);
}
static void forks_and_parts(int32_t level, const char *pod, const char *message, void *user_data) {
  pid_t pid;
  (void)level, (void)pod, (void)message, (void)user_data;
  if (LOAD(log_child)) return;
  pid = fork();
  STORE(log_child, (int)pid);
  if (pid != 0) return;
  IS(podkeep_set_log(tells, 4, NULL, NULL), PODKEEP_OK);
  IS(podkeep_pod_start(make_pod(make_runtime("told", run_and_fail))), PODKEEP_OK);
  while (!LOAD(telling)) nap();
  STORE(parting, 1);
  pthread_exit(NULL);
}
static void fork_in_a_log_callback_that_ends_its_thread(void) {
  podkeep_runtime *runtime = make_runtime("telling", run_and_fail);
  podkeep_pod *pod = make_pod(runtime);
  IS(podkeep_set_log(forks_and_parts, 4, NULL, NULL), PODKEEP_OK);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  UNTIL(LOAD(log_child) != 0);
  EQ(child_code(LOAD(log_child), slow(15000)), 60);
  IS(podkeep_set_log(NULL, 0, NULL, NULL), PODKEEP_OK);
  IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_ERR_FAILED);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

/* --- Main pods ----------------------------------------------------------------------------------------------------------- */

static int32_t returns(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  return 0;
}
/* podkeep_pod_run, with another thread at work; the exit code. */
static int32_t run(podkeep_pod *pod, void *(*meanwhile)(void *)) {
  int32_t code = -1;
  void *thread = meanwhile ? start_thread(meanwhile, pod) : NULL;
  IS(podkeep_pod_run(pod, &code), PODKEEP_OK);
  if (thread) join_thread(thread);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  return code;
}
static void until_ready(podkeep_pod *pod) {
  UNTIL(podkeep_pod_wait_ready(pod, slow(10000)) == PODKEEP_OK); /* NEW until then */
}
static void *terminates(void *pod) {
  until_ready(pod);
  CHECK(kill(getpid(), SIGTERM) == 0);
  return NULL;
}
static void dies_by_sigterm(void *unused) {
  (void)unused;
  raise(SIGTERM);
}
static void runs_main_pods(void *unused) {
  podkeep_runtime *runtime = make_runtime("the child's own", NULL), *brief = make_runtime("brief", returns);
  (void)unused;
  EQ(run(make_pod(brief), NULL), 0);
  EQ(run(make_pod(runtime), terminates), 0);
  EQ(run(make_pod(runtime), terminates), 0); /* the first signal of this one, too */
  dies_by_sigterm(NULL);
}
static void *forks(void *pod) {
  podkeep_state state;
  until_ready(pod);
  EQ(in_child(dies_by_sigterm, NULL, slow(10000)), 128 + SIGTERM);
  EQ(in_child(runs_main_pods, NULL, slow(15000)), 128 + SIGTERM);
  IS(podkeep_pod_state(pod, &state), PODKEEP_OK);
  EQ(state, PODKEEP_STATE_RUNNING);
  CHECK(kill(getpid(), SIGTERM) == 0); /* the handler is in its place still */
  return NULL;
}
static void the_child_of_a_main_pods_process(void) {
  EQ(run(make_pod(make_runtime("main", NULL)), forks), 0);
}

/* Process 1 whose main pod is a child reaps strangers. A copy of it does not, though it has inherited the handler. */
static podkeep_pod *sleeper(void) {
  static const char *const argv[] = { "sleep", "1000", NULL };
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  options.host = PODKEEP_HOST_PROCESS;
  IS(podkeep_runtime_from_command("sleeper", argv, &runtime), PODKEEP_OK);
  IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
  return pod;
}
static void keeps_its_children(void) {
  siginfo_t info;
  pid_t pid = fork();
  int i;
  if (pid == 0) _exit(7);
  CHECK(pid > 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
  for (i = 0; i < 2; i++) { /* its thread for children looks around */
    podkeep_pod *pod = sleeper();
    IS(podkeep_pod_start(pod), PODKEEP_OK);
    IS(podkeep_pod_close(pod), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
  }
  EQ(child_code(pid, slow(10000)), 7);
}
static void *forks_a_copy(void *pod) {
  int told[2];
  char word = 0;
  until_ready(pod);
  CHECK(pipe(told) == 0);
  if (fork() == 0) { /* a stranger, which is reaped here: it says itself that it is done */
    close(told[0]);
    keeps_its_children();
    _exit(write(told[1], "k", 1) == 1 ? 0 : 1);
  }
  close(told[1]);
  EQ(read(told[0], &word, 1), 1);
  EQ(word, 'k');
  IS(podkeep_pod_cancel(pod), PODKEEP_OK);
  return NULL;
}
static void as_process_one(void *unused) {
  (void)unused;
  EQ(getpid(), 1);
  EQ(run(sleeper(), forks_a_copy), 0);
}
static void the_copy_of_process_one_reaps_no_strangers(void) {
  if (under_tool()) skip("the tool's library stands apart from the program, and valgrind has no process pods");
  if (unshare(CLONE_NEWPID) != 0) skip("no pid namespaces to be had");
  EQ(in_child(as_process_one, NULL, slow(18000)), 0);
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(old_handles_are_dead_and_new_ones_work), CASE(fork_before_the_first_call),
    CASE(nothing_of_the_parent_runs_in_the_child), CASE_LIMIT(fork_amid_the_work_of_other_threads, 120),
    CASE(the_parent_is_undisturbed), CASE(fork_in_a_callback_and_exit), CASE(fork_in_a_callback_and_return_from_it),
    CASE(fork_in_a_log_callback_that_ends_its_thread), CASE(the_same_process_id_in_a_nested_namespace),
    CASE(the_child_of_a_main_pods_process),
    CASE(the_copy_of_process_one_reaps_no_strangers),
  };
  read_document();
  return RUN(all);
}
