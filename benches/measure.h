/* What is measured. A child process measures one peer once and prints lines "measure peer value"; the parent (bench.c)
 * runs many children and compares. */
#ifndef PODKEEP_BENCHES_MEASURE_H
#define PODKEEP_BENCHES_MEASURE_H
#include "peers.h"

enum { LIFE, READY, JOIN, READY_COLD, WAKE, JOIN_COLD, FLAG, RSS, START_ALL, STOP_ALL, MEASURES };
enum { PTHREAD, PTHREAD_NAMED, JTHREAD, GCANCELLABLE, PODKEEP, PODKEEP_HOOK, PEERS };
enum { FLOOR_CALL = PTHREAD }; /* in FLAG the floor is not pthread but a bare load behind a call */

extern const struct peer *const peers[PEERS];

/* The body of a child: `what` is life, cold, flag or many; `peer` is an index; `size` counts cycles, looks or threads.
 * Values are printed in ns, RSS in KiB a thread. */
int measure(const char *what, int peer, long size);
bool has_flag(int peer);         /* whether it has a way of its own to look at the flag */

#endif
