/* hosts.h: the one place that knows where the pods of a run are: started in a thread, in a child process, or by a thread of
 * the case's that calls podkeep_pod_run. Cases use these and need not ask which.
 */
#ifndef PODKEEP_TESTS_HOSTS_H
#define PODKEEP_TESTS_HOSTS_H

#include "world.h"

/* What a runtime is made of, kept in the world: a child of the case, which is this program started anew, finds it there and
 * makes the same runtime of the same callbacks, but for the drop, which is the host's. */
typedef struct recipe {
  podkeep_runtime_spec spec;
  char name[256];
  char place[64];        /* what tells the child where it is ... */
  const char *env[2];    /* ... in its environment */
  int32_t (*after)(void *config, int32_t exit_code); /* in the child, once its pod's life is over: what main returns */
  void (*does)(void *); /* what in_S asks for */
  void *arg;
  event asked, answered;
} recipe;

/* recipe_options adds what the host needs to a case's own options. */
void recipe_keep(recipe *r, const podkeep_runtime_spec *spec);
podkeep_runtime *recipe_runtime(recipe *r);           /* made, and exported if need be */
void recipe_export(podkeep_runtime *runtime);
void recipe_options(recipe *r, podkeep_pod_options *options);
podkeep_pod *recipe_pod(recipe *r, podkeep_runtime *runtime); /* with no other options */

/* podkeep_pod_start; where the pod is to be the main one, a new thread calls podkeep_pod_run, and this returns when it has
 * begun or was refused, with its status. Of each such run the exit code is checked. There is one main pod at a time: further
 * ones of a case are in threads beside it. */
podkeep_status start_pod(podkeep_pod *pod);

/* Runs `does` in S's process, on another thread than S, and returns when it is done. Not after the end of S. */
void in_S(recipe *r, void (*does)(void *), void *arg);

bool S_is_elsewhere(void); /* in a child: what is the host's alone is not to be asked for there, and the reverse */

/* What close answers when the grace is spent (L12), and the state it comes to; a main pod ends the program instead. */
podkeep_status forced_status(void);
podkeep_state forced_state(void);

/* First thing in main: in a child of a case, runs its pod and answers true with the exit code. Elsewhere it says that this
 * program may have children, if it will. */
bool child_main(bool has_children, int32_t *exit_code);

/* Ends S from inside and without a word: a thread by pthread_exit, a child by _exit(0). */
__attribute__((noreturn)) void end_S(void);

#endif
