/* Every call of the header, as a row that can be made from anywhere: the walk of docs/reference/calls.md, the fuzz of
 * handles and the forked child all go through this one table. A row's key is the first cell of its line in calls.md. */
#ifndef FAULTS_EVERY_H
#define FAULTS_EVERY_H
#include <podkeep.h>

/* What a call needs. `other` is a second pod that is NEW. */
struct world {
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_pod *other;
  podkeep_context *ctx;
  podkeep_failure *failure;
  podkeep_monitor *monitor;
  podkeep_group *group; /* NEW, without members */
  podkeep_control *control; /* at a private socket */
};

/* The handle a row takes; it says which member of the world a fuzz replaces. */
enum takes { NOTHING, RUNTIME, POD, CONTEXT, FAILURE, MONITOR, GROUP, CONTROL };

struct every {
  const char *key;
  const char *function;
  enum takes takes;
  const char *(*call)(const struct world *w); /* the answer, one of the words of calls.md; allocates nothing itself */
};
extern const struct every every[];
extern const int every_count;

const char *status_word(podkeep_status status); /* "TIMEOUT"; async-signal-safe */

#endif
