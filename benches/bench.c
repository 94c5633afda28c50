/* bench: podkeep beside its peers. README.md tells the method. This is the parent: it runs children in shuffled order,
 * round by round, and prints the table.
 *
 *     bench [--quick] [--rounds N] [--threads N]
 *     bench --child life|cold|flag|many PEER SIZE     one child by hand (for strace, perf, callgrind); PEER counts from 0,
 *                                                     in the order of the table
 */
#include "measure.h"
#include <math.h>
#include <podkeep.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ROUNDS = 101 };

static struct {
  int rounds, many_rounds;
  long life, cold, flag, threads;
} sizes = {21, 5, 1000, 120, 100000, 10000};

static double values[MEASURES][PEERS][MAX_ROUNDS]; /* NAN: not measured in this round */
static int failed, quick;

/* --- Running the children ------------------------------------------------------------------------------------------ */

static void run_child(const char *what, int peer, long size, int round) {
  extern char **environ;
  char peer_text[16], size_text[32], line[128];
  char *argv[] = {"bench", "--child", (char *)what, peer_text, size_text, NULL};
  int out[2], status;
  pid_t child;
  snprintf(peer_text, sizeof peer_text, "%d", peer);
  snprintf(size_text, sizeof size_text, "%ld", size);
  posix_spawn_file_actions_t actions;
  if (pipe(out) != 0) die("pipe");
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, out[0]);
  posix_spawn_file_actions_addclose(&actions, out[1]);
  if (posix_spawn(&child, "/proc/self/exe", &actions, NULL, argv, environ) != 0) die("posix_spawn");
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  FILE *lines = fdopen(out[0], "r");
  if (lines == NULL) die("fdopen");
  while (fgets(line, sizeof line, lines) != NULL) {
    int measure, who;
    double value;
    if (sscanf(line, "%d %d %lf", &measure, &who, &value) == 3 && measure >= 0 && measure < MEASURES && who >= 0 &&
        who < PEERS)
      values[measure][who][round] = value;
  }
  fclose(lines);
  if (waitpid(child, &status, 0) != child) die("waitpid");
  if (status != 0) {
    fprintf(stderr, "bench: %s of %s failed (wait status %d)\n", what, peers[peer]->name, status);
    failed = 1;
  }
}

static void shuffle(int *order, int count) {
  for (int i = 0; i < count; i++) order[i] = i;
  for (int i = count - 1; i > 0; i--) {
    const int j = rand() % (i + 1), swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
}

/* The peers of one kind of run follow each other closely (the machine changes its pace within seconds), in an order of
 * their own, and so do the kinds. */
static void run_round(int round) {
  const struct {
    const char *what;
    long size;
  } kinds[] = {{"life", sizes.life}, {"cold", sizes.cold}, {"flag", sizes.flag}, {"many", sizes.threads}};
  int kind_order[4], peer_order[PEERS];
  shuffle(kind_order, 4);
  for (int i = 0; i < 4; i++) {
    const int kind = kind_order[i];
    shuffle(peer_order, PEERS);
    if (kind == 3 && round >= sizes.many_rounds) continue;
    for (int j = 0; j < PEERS; j++)
      if (kind != 2 || peer_order[j] == PODKEEP) /* the flag child measures all peers by itself */
        run_child(kinds[kind].what, peer_order[j], kinds[kind].size, round);
  }
}

/* --- The table ----------------------------------------------------------------------------------------------------- */

static void print_time(double ns) {
  if (ns < 1e3)
    printf("%9.2f ns", ns);
  else if (ns < 1e6)
    printf("%9.2f us", ns / 1e3);
  else
    printf("%9.2f ms", ns / 1e6);
}

static void print_row(int measure, int peer, const char *name, double aim) {
  double mine[MAX_ROUNDS], ratio[MAX_ROUNDS];
  int count = 0;
  for (int round = 0; round < sizes.rounds; round++) {
    const double value = values[measure][peer][round], floor_value = values[measure][PTHREAD][round];
    if (isnan(value) || isnan(floor_value)) continue;
    mine[count] = value;
    ratio[count++] = value / floor_value;
  }
  printf("  %-36s", name);
  if (count == 0) {
    printf("  not measured\n");
    return;
  }
  const double typical = median(mine, count), times = median(ratio, count); /* median sorts: ratio[0] is the least */
  if (measure == RSS)
    printf("%8.2f KiB", typical);
  else
    print_time(typical);
  printf("  x %5.2f  (%.2f to %.2f)", times, ratio[count / 4], ratio[count - 1 - count / 4]);
  const double compared = measure == RSS ? typical : times;
  if (aim > 0 && !quick)
    printf("   aim %s %.2f: %s", measure == RSS ? "KiB <=" : "x <=", aim, compared <= aim ? "met" : "missed");
  printf("\n");
}

static void print_table(void) {
  static const struct {
    int measure;
    const char *title;
    double aim;
  } sections[] = {
      {LIFE, "whole life: make, start, wait until ready, cancel, join, free; back to back", 1.1},
      {READY, "start to ready, back to back", 0},
      {JOIN, "cancel to joined, back to back", 0},
      {READY_COLD, "start to ready, after an idle gap", 0},
      {WAKE, "wake: cancel to the hosted code running again, after an idle gap", 1.1},
      {JOIN_COLD, "cancel to joined, after an idle gap", 0},
      {FLAG, "one look at the flag", 1.15},
      {RSS, "resident memory a thread, 64 KiB stacks", 10},
      {START_ALL, "start all, until all are ready", 0},
      {STOP_ALL, "cancel all, join all", 0},
  };
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
    const int measure = sections[i].measure;
    printf("\n%s", sections[i].title);
    if (measure >= RSS) printf(" (%ld of them, %d rounds)", sizes.threads, sizes.many_rounds);
    printf("\n");
    for (int peer = 0; peer < PEERS; peer++) {
      const char *name = peers[peer]->name;
      if (measure == FLAG && !has_flag(peer)) continue;
      if (measure == FLAG && peer == FLOOR_CALL) name = "a bare load behind a call";
      if (measure == FLAG && peer == JTHREAD) name = "std::stop_token (inline, no call)";
      print_row(measure, peer, name, peer == PODKEEP ? sections[i].aim : 0);
    }
  }
}

/* --- What else kept this CPU busy ---------------------------------------------------------------------------------- */

static double busy_seconds(int cpu) {
  char line[256], name[16];
  double busy = 0;
  FILE *stat = fopen("/proc/stat", "r");
  if (stat == NULL) return 0;
  snprintf(name, sizeof name, "cpu%d ", cpu);
  while (fgets(line, sizeof line, stat) != NULL) {
    unsigned long long user, nice, system, idle, iowait, irq, softirq;
    if (strncmp(line, name, strlen(name)) == 0 &&
        sscanf(line, "%*s %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &iowait, &irq, &softirq) == 7)
      busy = (double)(user + nice + system + irq + softirq) / (double)sysconf(_SC_CLK_TCK);
  }
  fclose(stat);
  return busy;
}

static double own_seconds(void) {
  double total = 0;
  for (int who = 0; who < 2; who++) {
    struct rusage usage;
    if (getrusage(who == 0 ? RUSAGE_SELF : RUSAGE_CHILDREN, &usage) != 0) return 0;
    total += (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
             (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  }
  return total;
}

/* The only CPU that this process may use, or -1. */
static int only_cpu(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) != 1) return -1;
  int cpu = 0;
  while (!CPU_ISSET(cpu, &set)) cpu++;
  return cpu;
}

/* --- The program --------------------------------------------------------------------------------------------------- */

static int usage(void) {
  fprintf(stderr, "usage: bench [--quick] [--rounds N] [--threads N]\n"
                  "       bench --child life|cold|flag|many PEER SIZE\n");
  return 2;
}

int main(int argc, char **argv) {
  if (argc == 5 && strcmp(argv[1], "--child") == 0) return measure(argv[2], atoi(argv[3]), atol(argv[4]));
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--quick") == 0) {
      quick = 1;
      sizes.rounds = sizes.many_rounds = 1;
      sizes.life = sizes.cold = 20;
      sizes.flag = 1000;
      sizes.threads = 50;
    } else if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0) {
      sizes.rounds = atoi(argv[++i]);
    } else if (i + 1 < argc && strcmp(argv[i], "--threads") == 0) {
      sizes.threads = atol(argv[++i]);
    } else {
      return usage();
    }
  }
  if (sizes.rounds < 1 || sizes.rounds > MAX_ROUNDS || sizes.threads < 1) return usage();
  if (sizes.many_rounds > sizes.rounds) sizes.many_rounds = sizes.rounds;
  for (int measure = 0; measure < MEASURES; measure++)
    for (int peer = 0; peer < PEERS; peer++)
      for (int round = 0; round < MAX_ROUNDS; round++) values[measure][peer][round] = NAN;

  const int cpu = only_cpu();
  printf("podkeep %s beside its peers, ", podkeep_version());
  if (cpu >= 0)
    printf("all on CPU %d", cpu);
  else
    printf("on every CPU allowed (for the figures of record: taskset -c 0)");
  printf("; %d round%s\nmedian over the rounds; x: median of the ratios to the first row in the same round (its quartiles)\n",
         sizes.rounds, sizes.rounds == 1 ? "" : "s");
  fflush(stdout);

  srand((unsigned)now_ns());
  const uint64_t began = now_ns();
  const double busy = busy_seconds(cpu), own = own_seconds();
  for (int round = 0; round < sizes.rounds; round++) run_round(round);
  print_table();
  const double wall = (double)(now_ns() - began) / 1e9;
  printf("\n%.0f s", wall);
  if (cpu >= 0) {
    const double others = (busy_seconds(cpu) - busy) - (own_seconds() - own);
    printf("; other work took %.0f %% of this CPU meanwhile (above 20 %%: measure again)", 100 * fmax(others, 0) / wall);
  }
  printf("\n");
  return failed;
}
