/* actor.h: the pod under test: callbacks in a child that do what the case in the host tells them to.
 *
 * An actor lives in the shared memory; its place in there is the pod's args. As it comes, init and teardown return 0, the
 * hook does nothing and run_forever waits for the cancel. A case changes that before the start: `held` makes a step wait for
 * its `go` as soon as it is entered, deaf to any cancel; `returns`, unless 0, is what it
 * returns whatever its body says; DOES(a->run, f) replaces the body. */
#ifndef PROCESS_ACTOR_H
#define PROCESS_ACTOR_H

#include "world.h"

typedef struct actor actor;
typedef int32_t (*act)(actor *a, podkeep_context *ctx);

typedef struct step {
  intptr_t does; /* of an `act`; 0: none */
  int32_t returns;
  bool held;
  event entered, go, left;
  uint32_t count;
  bool saw_cancelled; /* at its entry */
} step;

struct actor {
  podkeep_pod_options options; /* read by actor_make; host is PROCESS as it comes */
  step init, run, teardown, hook;
  pid_t pid;                   /* of the child, as it sees itself */
  podkeep_pod *pod;            /* the handle, of use in the host alone */
  int64_t numbers[8];          /* the case's own */
  event events[4];
  char name[48];
};
#define DOES(step_, f) ((step_).does = function_number((void (*)(void))(f)))

actor *actor_new(const char *name);
actor *actor_like(const char *name, act run);    /* with this run_forever */
podkeep_pod *actor_make(actor *a);               /* NEW */
podkeep_pod *actor_start(actor *a);              /* made (unless it is) and started */
podkeep_pod *actor_running(actor *a);            /* ready, and run_forever entered */
void actor_free(actor *a);
void actor_close(actor *a, podkeep_status want); /* podkeep_pod_close says so; then freed */
podkeep_runtime *actor_runtime(void);            /* of this process; exported by main */
void actors_export(bool exported);               /* by main */

int32_t act_return(actor *a, podkeep_context *ctx);      /* 0, at once */
int32_t act_wait(actor *a, podkeep_context *ctx);        /* as it comes: PODKEEP_CANCELLED after a cancel */
int32_t act_deaf(actor *a, podkeep_context *ctx);        /* for ever; any signal of default disposition ends it */
int32_t act_ignore_term(actor *a, podkeep_context *ctx); /* for ever, with SIGTERM ignored */
int32_t act_block_all(actor *a, podkeep_context *ctx);   /* for ever, with every signal blocked in this thread */
int32_t act_kill_self(actor *a, podkeep_context *ctx);   /* SIGKILL */
int32_t act_segfault(actor *a, podkeep_context *ctx);
int32_t act_abort(actor *a, podkeep_context *ctx);
int32_t act_exit(actor *a, podkeep_context *ctx);        /* _exit(numbers[0]) */
int32_t act_stop_self(actor *a, podkeep_context *ctx);   /* SIGSTOP, then as act_deaf */
int32_t act_fail(actor *a, podkeep_context *ctx);        /* podkeep_context_fail(numbers[0], "as it was told") */

/* A command's pod: argv of its runtime; options may be NULL and then, as always, host is PROCESS. */
podkeep_pod *command_make(const char *name, const char *const argv[], const podkeep_pod_options *options);
podkeep_pod *command_start(const char *name, const char *const argv[], const podkeep_pod_options *options);
podkeep_pod *shell_start(const char *name, const char *script, const podkeep_pod_options *options);
podkeep_pod *program_start(const char *name, const char *program, const podkeep_pod_options *options); /* a PROGRAM */
podkeep_pod_options process_options(void);
pid_t pod_pid(podkeep_pod *pod);
podkeep_state state_of(podkeep_pod *pod);
void pod_close(podkeep_pod *pod, podkeep_status want); /* and free */
void pod_join(podkeep_pod *pod, podkeep_status want);  /* and free */

/* The pod's only failure; message: a part of it, or NULL. */
void check_failure_at(const char *file, int line, podkeep_pod *pod, podkeep_phase phase, podkeep_kind kind, int32_t code,
                      const char *message);
#define CHECK_FAILURE(pod, phase, kind, code, message)                                                                 \
  check_failure_at(__FILE__, __LINE__, (pod), PODKEEP_PHASE_##phase, PODKEEP_KIND_##kind, (code), (message))
/* What force was used for; how the child then died may hang on it. */
#define CHECK_TIMED_OUT(pod, phase) CHECK_FAILURE(pod, phase, TIMEOUT, TIMED_OUT, NULL)
#define TIMED_OUT INT32_MIN
void check_no_failure_at(const char *file, int line, podkeep_pod *pod);
#define CHECK_NO_FAILURE(pod) check_no_failure_at(__FILE__, __LINE__, (pod))
const char *failure_message(podkeep_pod *pod); /* the calling thread's until its next call */
const char *failure_stderr(podkeep_pod *pod);
#define CHECK_STATE(pod, want) CHECK_INT(state_of(pod), PODKEEP_STATE_##want)

/* The lines of the library's log, kept in order; of the whole process. */
void log_keep(int32_t max_level);
bool log_has(const char *pod, const char *part);
void log_drop(void);

#endif
