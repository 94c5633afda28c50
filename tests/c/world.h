/* world.h: what every conformance case stands on: assertions, things to wait for, and a look at the process's world.
 *
 * Everything a callback of a pod touches lives in memory from world_alloc(): it is shared with the children of the case at
 * one address, and so are `event` and `barrier`, so that a case does not notice when its pod runs elsewhere than in a thread.
 * The program is linked at a fixed address, too: a pointer to one of its own functions or constants is good in the child, a
 * pointer into a library is not.
 *
 * No case sleeps to wait: it waits for an event, within LIMIT_MS, which is a safety net and not a measurement.
 */
#ifndef PODKEEP_TESTS_WORLD_H
#define PODKEEP_TESTS_WORLD_H

#include "cases.h"

#include <podkeep.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- Assertions: the first that fails ends the case, with file, line and the library's last error --------------- */

__attribute__((noreturn, format(printf, 3, 4))) void check_failed(const char *file, int line, const char *format, ...);
void check_int(const char *file, int line, const char *what, long long got, long long want);
void check_status(const char *file, int line, const char *what, podkeep_status got, podkeep_status want);
void check_str(const char *file, int line, const char *what, const char *got, const char *want);
void check_has(const char *file, int line, const char *what, const char *text, const char *part);
void check_state(const char *file, int line, podkeep_pod *pod, podkeep_state want);
void until_failed(const char *file, int line, const char *what);
void world_heed(void); /* fails the case when an assertion in one of its children has failed */

#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, "not so: %s", #cond))
#define CHECK_INT(expr, want) check_int(__FILE__, __LINE__, #expr, (long long)(expr), (long long)(want))
#define CHECK_STATUS(expr, want) check_status(__FILE__, __LINE__, #expr, (expr), (want))
#define CHECK_OK(expr) CHECK_STATUS(expr, PODKEEP_OK)
#define CHECK_STR(expr, want) check_str(__FILE__, __LINE__, #expr, (expr), (want))
#define CHECK_HAS(text, part) check_has(__FILE__, __LINE__, #text, (text), (part)) /* letter case does not matter */
#define CHECK_STATE(pod, want) check_state(__FILE__, __LINE__, (pod), (want))

/* For what has no event to wait for (a thread asleep, a file of /proc): looks again each millisecond, up to LIMIT_MS. */
#define UNTIL(cond)                                                     \
  do {                                                                  \
    int64_t until_ = now_ms() + LIMIT_MS;                               \
    while (!(cond)) {                                                   \
      if (now_ms() > until_) until_failed(__FILE__, __LINE__, #cond);   \
      world_heed();                                                     \
      pass_ms(1);                                                       \
    }                                                                   \
  } while (0)

/* --- Time ------------------------------------------------------------------------------------------------------ */

double slow_factor(void);          /* PODKEEP_TEST_SLOW, 1 or more: a machine or a tool that is that much slower */
int64_t slow_ms(int64_t ms);       /* a limit or a grace of a case, stretched by it, and twofold where S is a process */
int rounds(int n);                 /* rounds of a racing loop, shrunk by it, eightfold where S is a process; never below 3 */
#define LIMIT_MS slow_ms(10000)
#define SHORT_MS slow_ms(60)       /* long enough to tell "at once" from "not yet" */

int64_t now_ms(void);              /* CLOCK_MONOTONIC */
uint64_t now_ns(void);
void pass_ms(int64_t ms);          /* lets time pass, where time itself is the subject */
void pass_us(long us);             /* a shift between two racing threads */
/* That something comes in time is seen when the machine has time for us, on a busy one in every other try: it must be so in one of
 * fifteen. What must be so in each of them, the try checks itself. A machine that is slow by PODKEEP_TEST_SLOW need not be in
 * time. */
void in_time_once(bool (*in_time)(void));
uint32_t random_below(uint32_t n); /* reproducible: seeded by the case's name */

/* --- Shared memory, order -------------------------------------------------------------------------------------- */

void *world_alloc(size_t size);    /* zeroed, 16-byte aligned, lives as long as the case */
uint32_t tick(void);               /* 1, 2, 3 ...: the order in which things happened */
#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define STORE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_SEQ_CST)
#define ADD(x, v) __atomic_add_fetch(&(x), (v), __ATOMIC_SEQ_CST)

/* An event is set once and for all (until event_clear); setting is async-signal-safe. Zeroed memory is a clear event. */
typedef struct event {
  uint32_t set;
} event;
void event_set(event *e);
void event_clear(event *e);
bool event_is_set(const event *e);
bool event_wait_for(event *e, int64_t ms);
void event_wait_at(event *e, const char *what, const char *file, int line);
#define event_wait(e) event_wait_at((e), #e, __FILE__, __LINE__) /* past LIMIT_MS the case fails */

/* All parties go on when the last has come; usable again at once. Zeroed memory is a barrier. */
typedef struct barrier {
  uint32_t arrived, round;
} barrier;
void barrier_wait(barrier *b, uint32_t parties);

/* Words in the order in which they were said, by any thread. */
typedef struct history {
  uint32_t count;
  char words[48][16];
} history;
void history_add(history *h, const char *word);
const char *history_text(const history *h); /* "init run teardown"; this thread's until its next call */

/* --- Threads of the case itself ---------------------------------------------------------------------------------- */

typedef struct worker {
  pthread_t thread;
  void (*does)(void *);
  void *arg;
  int64_t tid;
  event started, done;
} worker;
void worker_start(worker *w, void (*does)(void *), void *arg); /* returns when the thread runs; *w must outlive it */
void worker_join(worker *w);
int64_t own_tid(void);
bool thread_sleeps(int64_t tid);            /* blocked in the kernel */
#define worker_asleep(w) UNTIL(thread_sleeps((w)->tid) || event_is_set(&(w)->done)) /* or it is through already */
int threads_named(const char *name);        /* how many threads of this process bear it */

/* --- The world ---------------------------------------------------------------------------------------------------- */

void world_open(const char *case_name, test_host host); /* first of all, by the runner */
void world_enter(void);                     /* the same in a child: the world of the case it belongs to */
bool world_is_child(void);
test_host world_host(void);                 /* where the pods of this run are */
void world_baseline(void);                  /* threads and descriptors as they are now are the measure */
void world_close(bool cold);                /* threads, descriptors and children are back at the measure, or the case fails */

#endif
