#include "rounds.h"
#include "peers.h"
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

int rounds, failed;

static double values[MAX_MEASURES][MAX_PEERS][MAX_ROUNDS]; /* NAN: not measured in this round */
static int cpu;
static uint64_t began;
static double busy, own;

/* --- Running the programs ------------------------------------------------------------------------------------------ */

void run_program(char *const argv[], const char *what, int round) {
  extern char **environ;
  char line[128];
  int out[2], status;
  pid_t child;
  posix_spawn_file_actions_t actions;
  if (pipe(out) != 0) die("pipe");
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, out[0]);
  posix_spawn_file_actions_addclose(&actions, out[1]);
  if (posix_spawnp(&child, argv[0], &actions, NULL, argv, environ) != 0) die("posix_spawn");
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  FILE *lines = fdopen(out[0], "r");
  if (lines == NULL) die("fdopen");
  while (fgets(line, sizeof line, lines) != NULL) {
    int measure, who;
    double value;
    if (sscanf(line, "%d %d %lf", &measure, &who, &value) == 3 && measure >= 0 && measure < MAX_MEASURES && who >= 0 &&
        who < MAX_PEERS)
      values[measure][who][round] = value;
  }
  fclose(lines);
  if (waitpid(child, &status, 0) != child) die("waitpid");
  if (status != 0) {
    fprintf(stderr, "%s failed (wait status %d)\n", what, status);
    failed = 1;
  }
}

void shuffle(int *order, int count) {
  for (int i = 0; i < count; i++) order[i] = i;
  for (int i = count - 1; i > 0; i--) {
    const int j = rand() % (i + 1), swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
}

/* --- The table ----------------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double median(double *of, long count) {
  qsort(of, (size_t)count, sizeof *of, ascending);
  return count % 2 ? of[count / 2] : (of[count / 2 - 1] + of[count / 2]) / 2;
}

static void print_value(double value, enum unit unit) {
  if (unit == KIB)
    printf("%8.2f KiB", value);
  else if (unit == COUNT)
    printf("%8.2f    ", value);
  else if (unit == RATE)
    printf("%9.0f /s", value);
  else if (unit == PERCENT)
    printf("%9.4f %%", value);
  else if (value < 1e3)
    printf("%9.2f ns", value);
  else if (value < 1e6)
    printf("%9.2f us", value / 1e3);
  else
    printf("%9.2f ms", value / 1e6);
}

void print_row(const struct row *row) {
  double mine[MAX_ROUNDS], ratio[MAX_ROUNDS];
  int count = 0;
  for (int round = 0; round < rounds; round++) {
    const double value = values[row->measure][row->peer][round];
    const double floor_value = values[row->floor_measure][row->floor_peer][round];
    if (isnan(value) || isnan(floor_value)) continue;
    mine[count] = value;
    ratio[count++] = value / floor_value;
  }
  printf("  %-46s", row->name);
  if (count == 0) {
    printf("  not measured\n");
    return;
  }
  const double typical = median(mine, count), times = median(ratio, count); /* median sorts: ratio[0] is the least */
  print_value(typical, row->unit);
  if (row->unit == TIME || row->unit == KIB)
    printf("  x %6.2f  (%.2f to %.2f)", times, ratio[count / 4], ratio[count - 1 - count / 4]);
  const double compared = row->unit == KIB || row->unit == PERCENT ? typical : times;
  const char *what = row->unit == KIB ? "KiB" : row->unit == PERCENT ? "%" : "x";
  if (row->aim > 0) printf("   aim %s <= %.2f: %s", what, row->aim, compared <= row->aim ? "met" : "missed");
  printf("\n");
}

/* --- What else kept this CPU busy ---------------------------------------------------------------------------------- */

static double busy_seconds(void) {
  char line[256], name[16];
  double seconds = 0;
  FILE *stat = fopen("/proc/stat", "r");
  if (stat == NULL) return 0;
  snprintf(name, sizeof name, "cpu%d ", cpu);
  while (fgets(line, sizeof line, stat) != NULL) {
    unsigned long long user, nice, system, idle, iowait, irq, softirq;
    if (strncmp(line, name, strlen(name)) == 0 &&
        sscanf(line, "%*s %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &iowait, &irq, &softirq) == 7)
      seconds = (double)(user + nice + system + irq + softirq) / (double)sysconf(_SC_CLK_TCK);
  }
  fclose(stat);
  return seconds;
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
  int only = 0;
  while (!CPU_ISSET(only, &set)) only++;
  return only;
}

void begin_rounds(const char *what) {
  for (int measure = 0; measure < MAX_MEASURES; measure++)
    for (int peer = 0; peer < MAX_PEERS; peer++)
      for (int round = 0; round < MAX_ROUNDS; round++) values[measure][peer][round] = NAN;
  cpu = only_cpu();
  printf("podkeep %s%s beside its peers, ", podkeep_version(), what);
  if (cpu >= 0)
    printf("all on CPU %d", cpu);
  else
    printf("on every CPU allowed (for the figures of record: taskset -c 0)");
  printf("; %d round%s\nmedian over the rounds; x: median of the ratios to the first row in the same round (its quartiles)\n",
         rounds, rounds == 1 ? "" : "s");
  fflush(stdout);
  srand((unsigned)now_ns());
  began = now_ns();
  busy = busy_seconds();
  own = own_seconds();
}

void end_rounds(void) {
  const double wall = (double)(now_ns() - began) / 1e9;
  printf("\n%.0f s", wall);
  if (cpu >= 0) {
    const double rest = (busy_seconds() - busy) - (own_seconds() - own), others = rest > 0 ? rest : 0;
    printf("; other work took %.0f %% of this CPU meanwhile (above 20 %%: measure again)", 100 * others / wall);
  }
  printf("\n");
}
