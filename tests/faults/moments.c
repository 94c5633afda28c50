/* Something comes between two steps of the library that stand close to each other: a thread is held up there until it has
 * happened. Some of the places are calls of functions that are replaced in this program; the others are every single instruction
 * of a call, one after the other, by the processor's own single-step. */
#include "check.h"
#include "world.h"

#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* --- Held up in a call -------------------------------------------------------------------------------------------------- */

enum call { NO_CALL, CLOCK, CREATE, ALLOCATE, SEND };
static __thread enum call held_at; /* in the calls of this thread: the countdown-th of these */
static __thread int countdown;
static __thread void (*meanwhile)(void);
static void passes(enum call call) {
  if (held_at != call || --countdown != 0) return;
  held_at = NO_CALL;
  meanwhile();
}
static void hold_at(enum call call, int nth, void (*what)(void)) {
  countdown = nth;
  meanwhile = what;
  held_at = call;
}

/* How often each thread was joined or detached. */
static pthread_t given_back[64];
static int backs, joining;
static __thread int makes_successor;
static pthread_t successor;
static void give_back(pthread_t thread) {
  int at = __atomic_fetch_add(&backs, 1, __ATOMIC_SEQ_CST);
  CHECK(at < 64);
  STORE(given_back[at], thread);
}
static int times_given_back(pthread_t thread) {
  int i, n = 0;
  for (i = 0; i < LOAD(backs); i++) n += LOAD(given_back[i]) == thread;
  return n;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
  passes(CLOCK);
  return real(clock, now);
}
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*f)(void *), void *argument) {
  static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  int error;
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
  passes(CREATE);
  error = real(thread, attr, f, argument);
  if (makes_successor && error == 0) STORE(successor, *thread);
  return error;
}
int pthread_clockjoin_np(pthread_t thread, void **value, clockid_t clock, const struct timespec *until) {
  static int (*real)(pthread_t, void **, clockid_t, const struct timespec *);
  int error;
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_clockjoin_np");
  STORE(joining, 1);
  error = real(thread, value, clock, until);
  if (error == 0) give_back(thread);
  return error;
}
int pthread_detach(pthread_t thread) {
  static int (*real)(pthread_t);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_detach");
  give_back(thread);
  return real(thread);
}
/* The header's type is not ISO C's; this one is the same to the machine. */
ssize_t sendto(int socket, const void *bytes, size_t size, int flags, const void *to, unsigned to_size);
ssize_t sendto(int socket, const void *bytes, size_t size, int flags, const void *to, unsigned to_size) {
  static ssize_t (*real)(int, const void *, size_t, int, const void *, unsigned);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "sendto");
  passes(SEND);
  return real(socket, bytes, size, flags, to, to_size);
}
void *__libc_malloc(size_t size);
void *malloc(size_t size) {
  passes(ALLOCATE);
  return __libc_malloc(size);
}

/* --- A pod of many lives ------------------------------------------------------------------------------------------------ */

enum { GRACE = 4000 };
static podkeep_pod *pod;
static podkeep_context *context; /* of the present life, while it runs */
static int life;                 /* how many have entered run_forever */
static int let_go;               /* how many of them may leave their teardown */
static int64_t limit;            /* of its stop, on now_ms's clock */

static int32_t run_one_of_many(podkeep_context *ctx, void *state) {
  int64_t left;
  (void)state;
  STORE(context, ctx);
  ADD(life, 1);
  while (LOAD(life) > LOAD(let_go) && podkeep_context_wait(ctx, 1) == PODKEEP_ERR_TIMEOUT) {}
  left = podkeep_context_time_left(ctx);
  STORE(limit, now_ms() + left); /* in this order: a thread that is held up here finds it later, not earlier */
  return 0;
}
static void make_many(int32_t (*run)(podkeep_context *, void *), int32_t (*teardown)(podkeep_context *, void *)) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime;
  spec.name = "many";
  spec.run_forever = run;
  spec.teardown = teardown;
  options.restart = PODKEEP_RESTART_ALWAYS;
  options.max_restarts = UINT32_MAX;
  options.backoff_ms = options.backoff_max_ms = 1;
  options.grace_ms = slow(GRACE);
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  IS(podkeep_pod_new(runtime, &options, &pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
}
/* Ends the present life and waits for the next; at most for so long. */
static int next_life_within(int ms) {
  int present = LOAD(life);
  STORE(let_go, present);
  for (; ms > 0 && LOAD(life) == present; ms--) nap();
  return LOAD(life) > present;
}
static void next_life(void) { CHECK(next_life_within(slow(10000))); }

/* --- Limits of a life that is over (L12) -------------------------------------------------------------------------------- */

static int in_teardown;
static int32_t first_teardown_is_held(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  STORE(in_teardown, 1);
  UNTIL(LOAD(let_go) > 0);
  return 0;
}
static int32_t run_first_and_return(podkeep_context *ctx, void *state) {
  if (LOAD(life) > 0) return run_one_of_many(ctx, state);
  ADD(life, 1);
  return 0;
}
static void *join_held_up(void *unused) {
  (void)unused;
  hold_at(CLOCK, 1, next_life);
  IS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_OK);
  EQ(held_at, NO_CALL);
  return NULL;
}
/* A joiner that has seen STOPPING and goes on when the next life runs says nothing about that one's stop. */
static void a_late_joiner_spends_nobodys_grace(void) {
  int64_t asked;
  void *joiner;
  make_many(run_first_and_return, first_teardown_is_held);
  UNTIL(LOAD(in_teardown));
  joiner = start_thread(join_held_up, NULL);
  UNTIL(LOAD(life) == 2);
  asked = now_ms() + slow(GRACE) / 4;
  UNTIL(now_ms() > asked); /* a limit that began in the first life is as much shorter by now */
  IS(podkeep_pod_cancel(pod), PODKEEP_OK);
  join_thread(joiner);
  CHECK(LOAD(limit) > asked + slow(GRACE) * 7 / 8);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
}

/* --- Threads that are ended from inside (L2) ---------------------------------------------------------------------------- */

static pthread_t first;
static void cancel_and_let_join(void) {
  int64_t until = now_ms() + slow(200); /* what must not happen has so much time */
  IS(podkeep_pod_cancel(pod), PODKEEP_OK);
  while (!LOAD(joining) && now_ms() < until) nap();
}
static int32_t run_and_end_the_thread(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  STORE(first, pthread_self());
  makes_successor = 1;
  hold_at(CREATE, 1, cancel_and_let_join);
  pthread_exit(NULL);
}
/* A cancel and a join come while S, on its way out, makes the thread of the next life: both threads are given back. */
static void a_join_while_the_next_thread_is_made(void) {
  make_many(run_and_end_the_thread, NULL);
  IS(podkeep_pod_join(pod, PODKEEP_FOREVER), PODKEEP_OK);
  UNTIL(times_given_back(first) == 1);
  UNTIL(LOAD(successor) == 0 || times_given_back(successor) == 1);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
}

static int hook_begun, hook_may_end;
static int sleeper; /* the kernel's id of a thread */
static void note_this_thread(void) { STORE(sleeper, (int)syscall(SYS_gettid)); }
static int it_sleeps(void) {
  char path[64], text[256] = "";
  FILE *f;
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", LOAD(sleeper));
  f = fopen(path, "r");
  if (!f) return 1; /* it is gone */
  if (!fgets(text, sizeof text, f)) text[0] = 0;
  fclose(f);
  return strstr(text, ") S ") != NULL;
}
static void hook_until_s_waits(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  STORE(hook_begun, 1);
  UNTIL(LOAD(hook_may_end) && it_sleeps());
}
static void cancel_and_let_the_hook_begin(void) {
  int64_t until = now_ms() + slow(100); /* it does not come when S has ended before */
  IS(podkeep_pod_cancel(pod), PODKEEP_OK);
  while (!LOAD(hook_begun) && now_ms() < until) nap();
  STORE(hook_may_end, 1);
}
static int nth_allocation, was_held;
static int32_t run_and_end_the_thread_slowly(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  note_this_thread();
  hold_at(ALLOCATE, nth_allocation, cancel_and_let_the_hook_begin);
  pthread_exit(NULL);
}
/* The hook begins at any moment of S's way out: the end from inside is told once. */
static void a_hook_begins_while_s_dies(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  podkeep_failure *failure;
  spec.name = "dying";
  spec.run_forever = run_and_end_the_thread_slowly;
  spec.cancel = hook_until_s_waits;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  for (nth_allocation = 1; nth_allocation < 200; nth_allocation++) {
    hook_begun = hook_may_end = 0;
    pod = make_pod(runtime);
    IS(podkeep_pod_start(pod), PODKEEP_OK);
    IS(podkeep_pod_join(pod, slow(10000)), PODKEEP_ERR_FAILED);
    IS(podkeep_pod_failure(pod, &failure), PODKEEP_OK);
    EQ(podkeep_failure_kind(failure), PODKEEP_KIND_EXIT);
    if (podkeep_failure_secondary(failure)) {
      fprintf(stderr, "    held up at allocation %d\n", nth_allocation);
      STR(podkeep_failure_message(podkeep_failure_secondary(failure)), "");
    }
    IS(podkeep_failure_free(failure), PODKEEP_OK);
    IS(podkeep_pod_free(pod), PODKEEP_OK);
    was_held += LOAD(hook_begun);
    if (!LOAD(hook_may_end)) break; /* so many allocations are not made */
  }
  CHECK(was_held > 1 && nth_allocation < 200);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

/* --- A fork while the one above is told (section 3) ----------------------------------------------------------------------- */

static int32_t run_and_tell(podkeep_context *ctx, void *state) {
  IS(podkeep_context_status(ctx, "in the copy"), PODKEEP_OK);
  return run_until_cancelled(ctx, state);
}
static void tell_in_the_copy(void *unused) {
  podkeep_pod *copy = make_running(make_runtime("copy", run_and_tell));
  (void)unused;
  IS(podkeep_pod_close(copy), PODKEEP_OK);
}
static int code_of_the_copy = -9;
static void *fork_now(void *unused) {
  code_of_the_copy = in_child(tell_in_the_copy, NULL, slow(8000));
  return unused;
}
static void fork_in_another_thread(void) { join_thread(start_thread(fork_now, NULL)); }
static int32_t run_and_tell_above(podkeep_context *ctx, void *state) {
  (void)state;
  hold_at(SEND, 1, fork_in_another_thread);
  IS(podkeep_context_status(ctx, "in the host"), PODKEEP_OK);
  return 0;
}
/* A main pod's words to the service manager are under way: a pod of the child's has words, too, and nobody to tell. */
static void a_fork_while_the_manager_is_told(void) {
  podkeep_runtime *runtime;
  int32_t code = -1;
  setenv("NOTIFY_SOCKET", "@podkeep-test-nobody", 1);
  runtime = make_runtime("main", run_and_tell_above);
  pod = make_pod(runtime);
  IS(podkeep_pod_run(pod, &code), PODKEEP_OK);
  EQ(code, 0);
  EQ(code_of_the_copy, 0);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  IS(podkeep_runtime_free(runtime), PODKEEP_OK);
}

/* --- At every instruction (section 5) ----------------------------------------------------------------------------------- */

#if defined __x86_64__
enum { TRAP_FLAG = 0x100 };
static volatile int step, held_at_step, stepped_over;
static void at_each_step(int signal, siginfo_t *info, void *where) {
  ucontext_t *thread = where;
  (void)signal, (void)info;
  if (++step < held_at_step) return;
  thread->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
  if (step == held_at_step) stepped_over = next_life_within(slow(10)); /* it cannot come while this thread has a lock of it */
}
static void watch_steps(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = at_each_step;
  action.sa_flags = SA_SIGINFO;
  CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
}
/* Below the stack's red zone. */
#define STEP_FROM_HERE()                                                                                               \
  __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; orq $0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::: "memory", "cc")
#define STEP_NO_MORE() (held_at_step = 0)

static podkeep_context *stepped;
static int descriptor, call_is_over;
static void *wait_stepping(void *unused) {
  (void)unused;
  note_this_thread();
  STEP_FROM_HERE();
  IS(podkeep_context_wait(stepped, PODKEEP_FOREVER), PODKEEP_OK);
  STEP_NO_MORE();
  STORE(call_is_over, 1);
  return NULL;
}
static void *descriptor_stepping(void *unused) {
  (void)unused;
  note_this_thread();
  STEP_FROM_HERE();
  descriptor = podkeep_context_fd(stepped);
  STEP_NO_MORE();
  STORE(call_is_over, 1);
  return NULL;
}
/* The life of the context ends, and the next begins, at each instruction of a call in turn. How many of them were met. That a call
 * has no more of them is believed when it is over before the nth so many times on end: once it may have slept for a lock. */
enum { MOST_STEPS = 20000, IN_VAIN = 3 };
static char was_met[MOST_STEPS];
static void at_the_instructions(void *(*call)(void *), void (*look)(void)) {
  int nth = 1, in_vain = 0;
  while (nth < MOST_STEPS && in_vain < IN_VAIN) {
    int64_t until;
    int before = -1;
    void *thread;
    UNTIL(LOAD(life) == LOAD(let_go) + 1);
    stepped = LOAD(context);
    step = stepped_over = call_is_over = sleeper = 0;
    held_at_step = nth;
    thread = start_thread(call, NULL);
    /* Until it is held up there, or over, or sleeps and has not come so far. */
    while (!LOAD(call_is_over) && step < nth && (step == 0 || step != before || !it_sleeps())) before = step, nap();
    if (step < nth && !LOAD(call_is_over)) next_life();
    until = now_ms() + slow(5000);
    while (!LOAD(call_is_over) && now_ms() < until) nap();
    if (!LOAD(call_is_over)) {
      fprintf(stderr, "    the next life began at instruction %d\n", nth);
      check_failed(__FILE__, __LINE__, "the call returns");
    }
    join_thread(thread);
    if (look) look();
    if (step < nth) {
      in_vain++;
      continue;
    }
    was_met[nth] |= stepped_over != 0;
    in_vain = 0, nth++;
  }
}
/* A busy machine may not bring the next life within the time that an instruction is held up; then all of them are tried again. */
static int at_every_instruction(void *(*call)(void *), void (*look)(void)) {
  int64_t until = now_ms() + slow(30000);
  int met, i;
  watch_steps();
  make_many(run_one_of_many, NULL);
  do {
    at_the_instructions(call, look);
    for (met = i = 0; i < MOST_STEPS; i++) met += was_met[i];
  } while (met <= 50 && now_ms() < until);
  UNTIL(LOAD(life) == LOAD(let_go) + 1);
  IS(podkeep_pod_close(pod), PODKEEP_OK);
  IS(podkeep_pod_free(pod), PODKEEP_OK);
  fprintf(stderr, "    the next life began at %d instructions\n", met);
  return met;
}
static void no_wake_is_lost_between_lives(void) { CHECK(at_every_instruction(wait_stepping, NULL) > 50); }

/* -1 when it came too late; else the descriptor of that life, readable or closed by now. */
static void is_no_other_lifes(void) {
  struct pollfd p;
  if (descriptor < 0 || !stepped_over) return;
  p.fd = descriptor, p.events = POLLIN, p.revents = 0;
  CHECK(poll(&p, 1, 0) == 1 && p.revents != 0);
}
static void a_descriptor_is_of_one_life(void) { CHECK(at_every_instruction(descriptor_stepping, is_no_other_lifes) > 50); }
#else
static void no_wake_is_lost_between_lives(void) { skip("single steps are x86-64's"); }
static void a_descriptor_is_of_one_life(void) { skip("single steps are x86-64's"); }
#endif

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(a_late_joiner_spends_nobodys_grace), CASE(a_join_while_the_next_thread_is_made),
    CASE_LIMIT(a_hook_begins_while_s_dies, 60), CASE_LIMIT(a_fork_while_the_manager_is_told, 60), CASE_LIMIT(no_wake_is_lost_between_lives, 120),
    CASE_LIMIT(a_descriptor_is_of_one_life, 120),
  };
  return RUN(all);
}
