/* A peer: one way to keep a blocking procedure in a thread, with readiness, cancel and join. Every peer does the same work:
 * its hosted code says that it is ready, blocks until it is cancelled, notes the time at which it runs again, returns. */
#ifndef PODKEEP_BENCHES_PEERS_H
#define PODKEEP_BENCHES_PEERS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#ifdef __cplusplus
extern "C" {
#endif

struct peer {
  const char *name; /* the row of the table */
  void (*prepare)(size_t stack_size); /* once a process; 0: the default stack */
  void *(*make)(void);
  void (*start)(void *one);
  void (*wait_ready)(void *one);
  void (*cancel)(void *one);
  void (*join)(void *one); /* and frees */
};
extern const struct peer peer_pthread, peer_pthread_named, peer_jthread, peer_gcancellable, peer_podkeep,
    peer_podkeep_hook;

extern uint64_t woke_ns; /* written by the hosted code, read after the join */

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline void note_wake(void) { __atomic_store_n(&woke_ns, now_ns(), __ATOMIC_RELAXED); }

void die(const char *what); /* says what could not be done and ends the process with 1 */

/* The cost of one look at "am I cancelled?", in ns. Functions of shared libraries are called through a pointer in one and
 * the same loop, so that nothing but the callee differs; what is inline has a loop of its own. */
typedef bool (*look_fn)(const void *object);
double look_cost(look_fn look, const void *object, long count);
double flag_jthread(long count);
double flag_gcancellable(long count);
double flag_podkeep(long count);

#ifdef __cplusplus
}
#endif
#endif
