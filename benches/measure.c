#include "measure.h"
#include "rounds.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

uint64_t woke_ns;
bool floor_look(const void *flag);

const struct peer *const peers[PEERS] = {&peer_pthread,      &peer_pthread_named, &peer_jthread,
                                         &peer_gcancellable, &peer_podkeep,       &peer_podkeep_hook};

void die(const char *what) {
  perror(what);
  exit(EXIT_FAILURE);
}

static void report(int measure, int peer, double value) { printf("%d %d %.6f\n", measure, peer, value); }

static void idle(long microseconds) {
  struct timespec gap = {0, microseconds * 1000};
  nanosleep(&gap, NULL);
}

static double *samples(long count) {
  double *values = calloc((size_t)count, sizeof *values);
  if (values == NULL) die("calloc");
  return values;
}

/* Lives one after the other. With `gaps` (cold) both sides have been idle before each step, so that the hosted code is
 * really asleep when it is cancelled, and the wake is measured by itself. */
static void lives(int peer, long cycles, int gaps) {
  const struct peer *p = peers[peer];
  const long warm = cycles / 10 + 1;
  double *life = samples(cycles), *ready = samples(cycles), *wake = samples(cycles), *join = samples(cycles);
  p->prepare(0);
  for (long i = -warm; i < cycles; i++) {
    if (gaps) idle(500);
    const uint64_t t0 = now_ns();
    void *one = p->make();
    const uint64_t t1 = now_ns();
    p->start(one);
    p->wait_ready(one);
    const uint64_t t2 = now_ns();
    if (gaps) idle(200);
    const uint64_t t3 = now_ns();
    p->cancel(one);
    p->join(one);
    const uint64_t t4 = now_ns();
    if (i < 0) continue;
    life[i] = (double)(t4 - t0);
    ready[i] = (double)(t2 - t1);
    wake[i] = (double)(__atomic_load_n(&woke_ns, __ATOMIC_RELAXED) - t3);
    join[i] = (double)(t4 - t3);
  }
  if (!gaps) report(LIFE, peer, median(life, cycles));
  report(gaps ? READY_COLD : READY, peer, median(ready, cycles));
  report(gaps ? JOIN_COLD : JOIN, peer, median(join, cycles));
  if (gaps) report(WAKE, peer, median(wake, cycles));
}

__attribute__((noinline)) double look_cost(look_fn look, const void *object, long count) {
  const uint64_t began = now_ns();
  bool cancelled = false;
  for (long i = 0; i < count; i++) cancelled |= look(object);
  const uint64_t ended = now_ns();
  if (cancelled) die("a flag that nobody has set reads true");
  return (double)(ended - began) / (double)count;
}

bool has_flag(int peer) { return peer != PTHREAD_NAMED && peer != PODKEEP_HOOK; }

static void flags(long count) {
  enum { TURNS = 101 }; /* short ones: most are over before anything else gets the CPU */
  double turns[PEERS][TURNS];
  bool *flag = calloc(1, 64); /* not on the stack, whose lines the calls themselves write to */
  if (flag == NULL) die("calloc");
  for (int turn = 0; turn < TURNS; turn++) { /* side by side in one process: the clock of the CPU is the same for all */
    turns[FLOOR_CALL][turn] = look_cost(floor_look, flag, count);
    turns[PODKEEP][turn] = flag_podkeep(count);
    turns[GCANCELLABLE][turn] = flag_gcancellable(count);
    turns[JTHREAD][turn] = flag_jthread(count);
  }
  free(flag);
  for (int peer = 0; peer < PEERS; peer++)
    if (has_flag(peer)) report(FLAG, peer, median(turns[peer], TURNS));
}

static long rss_kib(void) {
  char line[256];
  long kib = -1;
  FILE *status = fopen("/proc/self/status", "r");
  if (status == NULL) die("/proc/self/status");
  while (fgets(line, sizeof line, status) != NULL)
    if (sscanf(line, "VmRSS: %ld kB", &kib) == 1) break;
  fclose(status);
  return kib;
}

static void many(int peer, long count) {
  const struct peer *p = peers[peer];
  struct rlimit files;
  void **all = calloc((size_t)count, sizeof *all);
  if (all == NULL) die("calloc");
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* GCancellable needs a descriptor a thread */
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  memset(all, 0, (size_t)count * sizeof *all); /* resident before the first look */
  p->prepare(64 * 1024);
  for (int i = 0; i < 4; i++) { /* what the first ones bring along is not a thread's cost */
    void *one = p->make();
    p->start(one);
    p->wait_ready(one);
    p->cancel(one);
    p->join(one);
  }
  const long before = rss_kib();
  const uint64_t t0 = now_ns();
  for (long i = 0; i < count; i++) p->start(all[i] = p->make());
  for (long i = 0; i < count; i++) p->wait_ready(all[i]);
  const uint64_t t1 = now_ns();
  idle(999 * 1000); /* ready is said before the sleep: let the last ones fall asleep, for the stop that is measured */
  const long after = rss_kib();
  const uint64_t t2 = now_ns();
  for (long i = 0; i < count; i++) p->cancel(all[i]);
  for (long i = 0; i < count; i++) p->join(all[i]);
  const uint64_t t3 = now_ns();
  free(all);
  report(START_ALL, peer, (double)(t1 - t0));
  report(RSS, peer, (double)(after - before) / (double)count);
  report(STOP_ALL, peer, (double)(t3 - t2));
}

int measure(const char *what, int peer, long size) {
  if (peer < 0 || peer >= PEERS || size <= 0) return EXIT_FAILURE;
  alarm(300); /* a safety net: nothing here may hang for ever */
  if (strcmp(what, "life") == 0)
    lives(peer, size, 0);
  else if (strcmp(what, "cold") == 0)
    lives(peer, size, 1);
  else if (strcmp(what, "flag") == 0)
    flags(size);
  else if (strcmp(what, "many") == 0)
    many(peer, size);
  else
    return EXIT_FAILURE;
  return EXIT_SUCCESS;
}
