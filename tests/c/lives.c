#include "lives.h"

probe *restarting(const char *name, uint32_t n) {
  probe *p = probe_new(name);
  p->options.restart = PODKEEP_RESTART_ON_FAILURE;
  p->options.backoff_ms = p->options.backoff_max_ms = 1;
  incarnation *lives = probe_lives(p, n);
  for (uint32_t i = 0; i + 1 < n; i++) {
    lives[i].run.does = does_return;
    lives[i].run.returns = (int32_t)i + 1;
  }
  return p;
}

probe *far_away(const char *name) {
  probe *p = restarting(name, 2);
  p->options.backoff_ms = p->options.backoff_max_ms = 60000;
  return p;
}

uint32_t restarts_of(podkeep_pod *pod) {
  uint32_t restarts = 99;
  CHECK_OK(podkeep_pod_restarts(pod, &restarts));
  return restarts;
}

podkeep_state state_of(podkeep_pod *pod) {
  podkeep_state state = -1;
  CHECK_OK(podkeep_pod_state(pod, &state));
  return state;
}

void until_restarting(podkeep_pod *pod) { UNTIL(state_of(pod) == PODKEEP_STATE_RESTARTING); }

podkeep_event next_to(podkeep_monitor *m, podkeep_state to) {
  podkeep_event e = NEXT_EVENT(m);
  while (e.to != to) {
    CHECK(e.to != PODKEEP_STATE_STOPPED && e.to != PODKEEP_STATE_FAILED);
    e = NEXT_EVENT(m);
  }
  return e;
}
