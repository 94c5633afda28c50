/* probe.h: the pod under test: a runtime whose callbacks do what a case tells them to, and keep book.
 *
 * Each callback is a `step`. As it comes, a probe has all four (and drop), init and teardown return 0, and run_forever
 * waits for the cancel. A case changes that before the start: `held` makes a step wait for its `go` as soon as it is
 * entered, deaf to any cancel; `returns` is what it returns; `does` replaces its body. Probes are in the world, and a child
 * keeps the same book.
 *
 * Every probe of a case is looked at once more in the end: each callback at most once, teardown exactly if init
 * succeeded (L2), drop exactly once (L3). A pod that is restarted has steps of its own for each incarnation (probe_lives), and
 * each is looked at like that.
 */
#ifndef PODKEEP_TESTS_PROBE_H
#define PODKEEP_TESTS_PROBE_H

#include "hosts.h"

typedef struct probe probe;

typedef struct step {
  int32_t (*does)(probe *p, podkeep_context *ctx);
  int32_t returns;
  bool held;
  event entered, go, left;
  uint32_t count;
  uint32_t entered_at, left_at; /* ticks */
  int64_t tid;
  int32_t result;               /* what it did return */
  bool saw_cancelled;           /* the flag at its entry */
  podkeep_state saw_state;      /* the pod's state at its entry; -1 when the handle is dead or S is a child */
} step;

/* One of several incarnations of a pod: its own plan, its own book. */
typedef struct incarnation {
  step init, run, teardown, hook;
  bool s_may_die;               /* as a probe's, of this one */
  podkeep_context *ctx;         /* good in S's process only */
  int64_t pid;                  /* S's process */
} incarnation;

typedef struct question { /* see ctx_cancelled and the others */
  podkeep_context *ctx;
  const char *text;
  int64_t number, answer;
} question;

struct probe {
  podkeep_pod_options options;  /* read by probe_make */
  recipe recipe;
  question question;
  bool no_hook, no_init, no_teardown, no_drop;
  bool s_may_die;               /* S is ended from inside, by force, or the library is shut down: teardown may be missing */
  step init, run, teardown, hook, drop;
  incarnation *lives;           /* probe_lives; then the plan and the book of all but the drop are here */
  uint32_t life_count;
  history called;               /* init, run, cancel, teardown, drop */
  podkeep_runtime *runtime;     /* NULL once freed */
  podkeep_pod *pod;             /* NULL once freed */
  podkeep_context *ctx;         /* as seen in the (last incarnation's) first callback; good in S's process only */
  void *data;                   /* the case's own, from world_alloc */
  int fd;
  char name[64];
  probe *next;
};

probe *probe_new(const char *name);
podkeep_runtime_spec probe_spec(probe *p);
void probe_make_runtime(probe *p);
podkeep_pod *probe_make(probe *p);    /* runtime (unless there is one) and pod; NEW */
podkeep_pod *probe_start(probe *p);   /* made (unless it is) and started */
podkeep_pod *probe_running(probe *p); /* started, run_forever entered and RUNNING shown */
void probe_free(probe *p);            /* pod and runtime; waits for the drop */
void probe_close(probe *p, podkeep_status want); /* podkeep_pod_close must say so; then probe_free */
void probes_check(void);

/* From here on each of the first n incarnations has steps of its own, as planned by now; the case may change each before its
 * pod is started. More of them than n fail the case. */
incarnation *probe_lives(probe *p, uint32_t n);

int32_t does_return(probe *p, podkeep_context *ctx);   /* run_forever that returns `returns` at once */
int32_t does_wait_for_hook(probe *p, podkeep_context *ctx); /* run_forever that only the hook ends, as a blocking call */
int32_t does_exit(probe *p, podkeep_context *ctx);     /* ends S from inside: a thread by pthread_exit, a child by _exit(0) */

/* What S does by itself is shown here at once, and of a child a moment later, when the word of it has crossed: the pod is in
 * this state, or comes to it. */
void check_told_state(const char *file, int line, podkeep_pod *pod, podkeep_state want);
#define CHECK_TOLD_STATE(pod, want) check_told_state(__FILE__, __LINE__, (pod), (want))
/* The same for a status text: the sentence of a join that gives up has it. */
void check_told_status(const char *file, int line, podkeep_pod *pod, const char *text);
#define CHECK_TOLD_STATUS(pod, text) check_told_status(__FILE__, __LINE__, (pod), (text))

/* The context's calls, made in S's process on another thread than S (in_S). */
bool ctx_cancelled(probe *p);
podkeep_status ctx_wait(probe *p, int64_t timeout_ms);
int64_t ctx_time_left(probe *p);
podkeep_status ctx_ready(probe *p);
podkeep_status ctx_extend(probe *p, int64_t ms);
podkeep_status ctx_status(probe *p, const char *text);
int ctx_fd(probe *p);

/* The failure of a pod: *secondary_ is checked to be there or not; message NULL: any. */
void check_failure(const char *file, int line, const podkeep_failure *f, podkeep_phase phase, podkeep_kind kind, int32_t code,
                   const char *message);
void check_failure_in(const char *file, int line, const podkeep_failure *f, uint32_t incarnation, podkeep_phase phase,
                      podkeep_kind kind, int32_t code, const char *message);
podkeep_failure *failure_of(const char *file, int line, podkeep_pod *pod);
#define CHECK_FAILURE(f, phase, kind, code, message) check_failure(__FILE__, __LINE__, (f), (phase), (kind), (code), (message))
#define CHECK_FAILURE_IN(f, incarnation, phase, kind, code, message) \
  check_failure_in(__FILE__, __LINE__, (f), (incarnation), (phase), (kind), (code), (message))
#define FAILURE_OF(pod) failure_of(__FILE__, __LINE__, (pod))
/* One failure and no other. */
#define CHECK_ONLY_FAILURE(pod, phase, kind, code, message)        \
  do {                                                             \
    podkeep_failure *only_ = FAILURE_OF(pod);                      \
    CHECK_FAILURE(only_, phase, kind, code, message);              \
    CHECK(podkeep_failure_secondary(only_) == NULL);               \
    CHECK_OK(podkeep_failure_free(only_));                         \
  } while (0)
#define CHECK_NO_FAILURE(pod)                       \
  do {                                              \
    podkeep_failure *none_ = NULL;                  \
    CHECK_OK(podkeep_pod_failure((pod), &none_));   \
    CHECK(none_ == NULL);                           \
  } while (0)

/* The next event of a monitor, within the limit; it must be this change, with nothing merged into it. */
podkeep_event next_event(const char *file, int line, podkeep_monitor *m);
void check_event(const char *file, int line, podkeep_monitor *m, podkeep_state from, podkeep_state to);
podkeep_monitor *watch(podkeep_pod *pod);
#define NEXT_EVENT(m) next_event(__FILE__, __LINE__, (m))
#define CHECK_EVENT(m, from, to) check_event(__FILE__, __LINE__, (m), PODKEEP_STATE_##from, PODKEEP_STATE_##to)
#define CHECK_MONITOR_ENDED(m)                                             \
  do {                                                                     \
    podkeep_event ended_ = PODKEEP_EVENT_INIT;                             \
    CHECK_STATUS(podkeep_monitor_next((m), &ended_, LIMIT_MS), PODKEEP_ERR_ENDED); \
  } while (0)
const char *state_word(podkeep_state state); /* "RUNNING" */

#endif
