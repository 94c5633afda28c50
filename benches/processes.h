/* Process pods and their peers: ways to keep a blocking procedure in a child process. The child of every peer says that
 * it is ready, blocks until it is cancelled, and exits. */
#ifndef PODKEEP_BENCHES_PROCESSES_H
#define PODKEEP_BENCHES_PROCESSES_H
#include "peers.h"
#include <sys/types.h>

/* peer_multiprocessing.py knows these numbers, too. */
enum { P_LIFE, P_READY, P_REAPED, P_LIFE_BIG, P_CHILD_PSS, P_CHILD_RSS, P_HOST_RSS, P_HOST_FDS, P_GUARDIAN,
       P_GUARDIAN_OWN };
enum {
  STATIC_CHILD, /* the floor */
  SPAWN_STATIC,
  SPAWN_DYNAMIC,
  SPAWN_LINKED,
  UV_SPAWN,
  OWN_CALLBACKS,
  COMMAND_NOTIFY,
  COMMAND_ON_RUN,
  FORKSERVER,
  SPAWN_PYTHON,
  PYTHON_POD,
  PROCESS_PEERS
};

struct process_peer {
  void (*prepare)(void);      /* once a process */
  void *(*begin)(void);       /* starts one and returns when it is ready */
  void (*end)(void *one);     /* cancels it and returns when it has been reaped; frees */
  pid_t (*child)(void *one);
};
extern const struct process_peer peer_vfork, peer_spawn_static, peer_spawn_dynamic, peer_spawn_linked, peer_uv,
    peer_own_callbacks, peer_command_notify, peer_command_on_run;

/* The body of a measurement: `what` is life, big (the same in a host with 512 MiB) or many; `size` counts cycles or
 * children. Prints lines "measure peer value": ns, KiB, or a number. */
int measure_process(const char *what, const struct process_peer *peer, int number, long size);

/* A program beside this one; the text lives as long as the process. */
char *beside(const char *name);

#endif
