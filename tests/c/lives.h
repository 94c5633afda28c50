/* lives.h: pods of several lives (section 8) as the cases about them want them, and what is seen of such a pod. */
#ifndef LIVES_H
#define LIVES_H

#include "probe.h"

/* Its first n - 1 lives end by themselves, returning 1, 2, 3 ...; the last one waits for the cancel. Restarted at once. */
probe *restarting(const char *name, uint32_t n);
/* A second life that is a minute away. */
probe *far_away(const char *name);

uint32_t restarts_of(podkeep_pod *pod);
podkeep_state state_of(podkeep_pod *pod);
void until_restarting(podkeep_pod *pod);
/* The next event of a change to that state; those before it are dropped, none of them the pod's last. */
podkeep_event next_to(podkeep_monitor *m, podkeep_state to);

#endif
