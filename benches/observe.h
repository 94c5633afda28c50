/* A peer of bench-supervision is a program that keeps something that fails, or sleeps, for ever, and is watched from
 * outside: what it does for its own measurement is nearly nothing.
 *
 *     PROGRAM fail|capped|idle|fed WORD COUNT
 *
 * It prints "ready" when COUNT of them are on their way, answers each line it is sent with the number of restarts until
 * now, and ends with the end of its input. */
#ifndef PODKEEP_BENCHES_OBSERVE_H
#define PODKEEP_BENCHES_OBSERVE_H
#include "peers.h"

/* What a peer saw within the window. */
struct seen {
  double seconds;
  double restarts;
  double cpu_seconds; /* of the program, its children, and theirs */
};

/* Runs a peer, lets it settle, watches it for a window, ends it. With `restarts`, for more of them until there was one (a
 * busy machine). Dies when it does not end well. */
struct seen observe(char *const argv[], long settle_ms, long window_ms, int restarts);

/* The peer's side: says ready, answers, returns at the end of the input. */
void answer(uint64_t (*restarts)(void));

#endif
