#include "processes.h"
#include "rounds.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void die(const char *what) {
  perror(what);
  exit(EXIT_FAILURE);
}

char *beside(const char *name) {
  char *path = calloc(1, 4096);
  if (path == NULL || readlink("/proc/self/exe", path, 3000) < 0) die("/proc/self/exe");
  strcpy(strrchr(path, '/') + 1, name);
  return path;
}

static void report(int measure, int peer, double value) { printf("%d %d %.6f\n", measure, peer, value); }

static void lives(const struct process_peer *peer, int number, long cycles, int big) {
  const long warm = cycles / 10 + 1;
  double *life = calloc((size_t)cycles, sizeof *life), *ready = calloc((size_t)cycles, sizeof *ready),
         *reaped = calloc((size_t)cycles, sizeof *reaped);
  if (life == NULL || ready == NULL || reaped == NULL) die("calloc");
  for (long i = -warm; i < cycles; i++) {
    const uint64_t t0 = now_ns();
    void *one = peer->begin();
    const uint64_t t1 = now_ns();
    peer->end(one);
    const uint64_t t2 = now_ns();
    if (i < 0) continue;
    life[i] = (double)(t2 - t0);
    ready[i] = (double)(t1 - t0);
    reaped[i] = (double)(t2 - t1);
  }
  report(big ? P_LIFE_BIG : P_LIFE, number, median(life, cycles));
  if (big) return;
  report(P_READY, number, median(ready, cycles));
  report(P_REAPED, number, median(reaped, cycles));
}

/* 512 MiB in pages of 4 KiB, each written to: what a fork would have to copy the tables of. */
static void grow(void) {
  const size_t size = (size_t)512 << 20;
  char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap");
  madvise(memory, size, MADV_NOHUGEPAGE);
  for (size_t at = 0; at < size; at += 4096) memory[at] = 1;
}

/* A line of /proc/PID/smaps_rollup, in KiB. */
static double kib_of(pid_t pid, const char *key) {
  char path[64], line[256];
  double kib = 0;
  snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", (long)pid);
  FILE *file = fopen(path, "r");
  if (file == NULL) die(path);
  while (fgets(line, sizeof line, file) != NULL)
    if (strncmp(line, key, strlen(key)) == 0) kib = strtod(line + strlen(key), NULL);
  fclose(file);
  return kib;
}

/* The descriptors of this process; *guardian, if there is one: the process of podkeep's that one of them stands for. */
static long descriptors(pid_t *guardian) {
  long count = 0;
  struct dirent *entry;
  DIR *all = opendir("/proc/self/fdinfo");
  if (all == NULL) die("/proc/self/fdinfo");
  while ((entry = readdir(all)) != NULL) {
    char path[512], line[256];
    long pid = 0;
    if (entry->d_name[0] == '.') continue;
    count++;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%s", entry->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue; /* the one that reads the directory may be gone */
    while (fgets(line, sizeof line, file) != NULL)
      if (sscanf(line, "Pid: %ld", &pid) == 1) break;
    fclose(file);
    if (pid <= 0) continue;
    snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
    file = fopen(path, "r");
    if (file == NULL) continue;
    const size_t length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    for (size_t at = 0; at < length; at += strlen(line + at) + 1) {
      line[sizeof line - 1] = '\0';
      if (strcmp(line + at, "__guard") == 0) *guardian = (pid_t)pid;
    }
  }
  closedir(all);
  return count;
}

static void many(const struct process_peer *peer, int number, long count) {
  void **all = calloc((size_t)count, sizeof *all);
  pid_t guardian = 0;
  double pss = 0, rss = 0;
  if (all == NULL) die("calloc");
  memset(all, 0, (size_t)count * sizeof *all);
  for (int i = 0; i < 4; i++) peer->end(peer->begin()); /* what the first ones bring along is not a child's cost */
  const double before = kib_of(getpid(), "Rss:");
  const long fds = descriptors(&guardian);
  for (long i = 0; i < count; i++) all[i] = peer->begin();
  const double after = kib_of(getpid(), "Rss:");
  const long more = descriptors(&guardian) - fds;
  for (long i = 0; i < count; i++) {
    pss += kib_of(peer->child(all[i]), "Pss:");
    rss += kib_of(peer->child(all[i]), "Rss:");
  }
  report(P_CHILD_PSS, number, pss / (double)count);
  report(P_CHILD_RSS, number, rss / (double)count);
  report(P_HOST_RSS, number, (after - before) / (double)count);
  report(P_HOST_FDS, number, (double)more / (double)count);
  if (guardian != 0) {
    report(P_GUARDIAN, number, kib_of(guardian, "Pss:"));
    report(P_GUARDIAN_OWN, number, kib_of(guardian, "Anonymous:"));
  }
  for (long i = 0; i < count; i++) peer->end(all[i]);
  free(all);
}

int measure_process(const char *what, const struct process_peer *peer, int number, long size) {
  if (size <= 0) return EXIT_FAILURE;
  alarm(300); /* a safety net: nothing here may hang for ever */
  peer->prepare();
  if (strcmp(what, "big") == 0) grow();
  if (strcmp(what, "many") == 0)
    many(peer, number, size);
  else
    lives(peer, number, size, strcmp(what, "big") == 0);
  return EXIT_SUCCESS;
}
