/* storm.c: process pods started and ended at random moments by random means: no orphan, no zombie, no descriptor left, every
 * record right. PODKEEP_TEST_STORM: how many; PODKEEP_TEST_SEED: the seed that a bad run has printed. */
#include "actor.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH = 10, DEFAULT_STORM = 2000 };
enum { BY_SIGKILL, BY_SEGFAULT, BY_EXIT_3, BY_STOP_AND_CLOSE, BY_CLOSE, BY_RETURN, BY_FAILURE, BY_COMMANDS_EXIT, BY_COMMANDS_CLOSE, MEANS };

static int number_of(const char *variable, int otherwise) {
  const char *text = getenv(variable);
  return text && atoi(text) > 0 ? atoi(text) : otherwise;
}
/* At a random moment of its run, from inside. */
static int32_t act_later(actor *a, podkeep_context *ctx) {
  pass_us(a->numbers[1]); /* the random moment is the subject */
  switch (a->numbers[0]) {
    case BY_SEGFAULT: return act_segfault(a, ctx);
    case BY_EXIT_3: _exit(3);
    case BY_RETURN: return 0;
    case BY_FAILURE: return podkeep_context_fail(ctx, 7, "stormy");
    default: return act_wait(a, ctx);
  }
}
typedef struct drop {
  int means;
  actor *a; /* NULL: a command */
  podkeep_pod *pod;
  pid_t pid;
} drop;

static void fall(drop *d) {
  d->means = (int)random_below(MEANS);
  if (d->means >= BY_COMMANDS_EXIT) {
    char script[100];
    snprintf(script, sizeof script, d->means == BY_COMMANDS_EXIT ? "sleep 1000 & exit 3" : "sleep 1000 & sleep 1000");
    d->a = NULL;
    d->pod = shell_start("storm-command", script, NULL);
  } else {
    d->a = actor_like("storm", act_later);
    d->a->numbers[0] = d->means;
    d->a->numbers[1] = random_below(3000);
    if (d->means == BY_STOP_AND_CLOSE) d->a->options.grace_ms = slow_ms(50), d->a->options.kill_after_ms = slow_ms(500);
    d->pod = actor_start(d->a);
  }
  int64_t id = 0;
  CHECK_OK(podkeep_pod_id(d->pod, &id)); /* 0: it has ended already */
  d->pid = (pid_t)id;
}
/* What is done to it from outside. Only a pod of ours that has not ended is signalled, by its own number. */
static void strike(drop *d) {
  if (random_below(2)) pass_us(random_below(2000));
  if (d->means == BY_SIGKILL && d->pid) kill(d->pid, SIGKILL);
  if (d->means == BY_STOP_AND_CLOSE && d->pid) kill(d->pid, SIGSTOP);
  if (d->means == BY_STOP_AND_CLOSE || d->means == BY_CLOSE || d->means == BY_COMMANDS_CLOSE) CHECK_OK(podkeep_pod_cancel(d->pod));
}
static void clear(drop *d) {
  podkeep_status status = podkeep_pod_join(d->pod, LIMIT_MS);
  podkeep_failure *f = NULL;
  CHECK_OK(podkeep_pod_failure(d->pod, &f));
  int phase = podkeep_failure_phase(f), kind = podkeep_failure_kind(f), code = podkeep_failure_code(f);
  bool clean = f == NULL && status == PODKEEP_OK, failed = f != NULL && status == PODKEEP_ERR_FAILED, right = false;
  switch (d->means) {
    case BY_SIGKILL: right = failed && kind == PODKEEP_KIND_SIGNAL && code == SIGKILL && phase <= PODKEEP_PHASE_RUN; break;
    case BY_SEGFAULT: right = failed && kind == PODKEEP_KIND_SIGNAL && code == SIGSEGV && phase == PODKEEP_PHASE_RUN; break;
    case BY_EXIT_3: right = failed && kind == PODKEEP_KIND_EXIT && code == 3 && phase == PODKEEP_PHASE_RUN; break;
    case BY_COMMANDS_EXIT: right = failed && kind == PODKEEP_KIND_EXIT && code == 3 && phase == PODKEEP_PHASE_RUN; break;
    case BY_FAILURE: right = failed && kind == PODKEEP_KIND_RETURNED && code == 7 && phase == PODKEEP_PHASE_RUN; break;
    case BY_STOP_AND_CLOSE: right = failed && kind == PODKEEP_KIND_TIMEOUT; break;
    default: right = clean; break;
  }
  if (!right)
    check_failed(__FILE__, __LINE__, "means %d: status %s, phase %d, kind %d, code %d: %s", d->means, podkeep_status_name(status),
                 phase, kind, code, podkeep_failure_message(f));
  CHECK_OK(podkeep_failure_free(f));
  CHECK_OK(podkeep_pod_free(d->pod));
  if (d->pid) UNTIL(!group_alive(d->pid));
}

/* --- A host that is killed in the midst of it; numbers: [10...] groups, [0] their count, [1] forked before, [2] the seed ---- */

HOST(storm_host) {
  random_seed((uint32_t)B->numbers[2]);
  if (B->numbers[1]) {
    pid_t copy = fork();
    if (copy == 0)
      for (;;) pause();
    B->numbers[3] = copy;
  }
  for (int i = 0; i < BATCH; i++) {
    drop d;
    fall(&d);
    if (d.pid) STORE(B->numbers[10 + i], d.pid);
    STORE(B->numbers[0], i + 1);
    if (i == BATCH / 2) event_set(&B->events[0]);
    if (B->numbers[1] == 2 && i == BATCH / 3) { /* now with pods running */
      pid_t copy = fork();
      if (copy == 0)
        for (;;) pause();
      B->numbers[4] = copy;
    }
    if (d.means != BY_CLOSE && d.means != BY_COMMANDS_CLOSE) strike(&d);
  }
  for (;;) pause();
}
static void storm_over_a_host(void) {
  memset(&B->numbers, 0, sizeof B->numbers);
  STORE(B->events[0].set, 0u);
  B->numbers[1] = random_below(3);
  B->numbers[2] = random_below(1u << 31) + 1;
  pid_t host = start_self("host", "storm_host", NULL);
  event_wait(&B->events[0]);
  pass_us(random_below(8000));
  CHECK(kill(host, SIGKILL) == 0);
  CHECK_INT(wait_code(host, LIMIT_MS), 128 + SIGKILL);
  for (int i = 0; i < BATCH; i++)
    if (B->numbers[10 + i]) UNTIL(!group_alive((pid_t)LOAD(B->numbers[10 + i])));
  for (int i = 3; i <= 4; i++)
    if (B->numbers[i]) CHECK(kill((pid_t)B->numbers[i], SIGKILL) == 0);
}
TEST_WITH(S4_storm, PLAIN, 600) {
  int total = number_of("PODKEEP_TEST_STORM", (int)(DEFAULT_STORM / slow_factor()));
  int seed = number_of("PODKEEP_TEST_SEED", (int)((unsigned)now_ns() % 1000000000u) + 1);
  note("PODKEEP_TEST_SEED=%d, %d pods", seed, total);
  random_seed((uint32_t)seed);
  for (int done = 0, batch = 0; done < total; done += BATCH, batch++) {
    if (batch % 5 == 4) {
      storm_over_a_host();
      continue;
    }
    drop drops[BATCH];
    for (int i = 0; i < BATCH; i++) fall(&drops[i]);
    for (int i = 0; i < BATCH; i++) strike(&drops[i]);
    for (int i = 0; i < BATCH; i++) clear(&drops[i]);
  }
}
