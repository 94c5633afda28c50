/* One of everything, for tests that need live handles of each kind; and the small runtimes they are made of. */
#ifndef FAULTS_WORLD_H
#define FAULTS_WORLD_H
#include "check.h"
#include "every.h"

/* A running pod with its context, a NEW one, a failure with a secondary, a monitor of the running pod. */
void world_make(struct world *w);
extern podkeep_context *world_over; /* the context of the pod that failed, whose life is over */
void world_free(struct world *w); /* checks that all of it still works, then frees it */

/* run_forever of most pods here: waits until cancelled. */
int32_t run_until_cancelled(podkeep_context *ctx, void *state);
int32_t run_and_fail(podkeep_context *ctx, void *state); /* code 7 */

podkeep_runtime *make_runtime(const char *name, int32_t (*run)(podkeep_context *, void *)); /* run NULL: until cancelled */
podkeep_pod *make_pod(podkeep_runtime *runtime);
podkeep_pod *make_running(podkeep_runtime *runtime); /* started and ready */

void *start_thread(void *(*f)(void *), void *argument); /* for join_thread */
void join_thread(void *thread);

/* C99 has no atomics; both compilers have these. */
#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define STORE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_SEQ_CST)
#define ADD(x, n) ((void)__atomic_fetch_add(&(x), (n), __ATOMIC_SEQ_CST))

#endif
