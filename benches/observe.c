#include "observe.h"
#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Those that stay: the program itself, and what it has started before the window. Children that come and go within it
 * count when they are reaped. */
enum { MOST = 2048 };
struct tree {
  int count;
  pid_t pids[MOST];
  double before[MOST];
};

static void add_tree(struct tree *tree, pid_t pid) {
  char path[64];
  if (tree->count == MOST) return;
  tree->pids[tree->count++] = pid;
  snprintf(path, sizeof path, "/proc/%ld/task", (long)pid);
  DIR *tasks = opendir(path);
  if (tasks == NULL) return; /* gone */
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
    char file[512];
    long child;
    if (entry->d_name[0] == '.') continue;
    snprintf(file, sizeof file, "%s/%s/children", path, entry->d_name);
    FILE *children = fopen(file, "r");
    if (children == NULL) continue;
    while (fscanf(children, "%ld", &child) == 1) add_tree(tree, (pid_t)child);
    fclose(children);
  }
  closedir(tasks);
}

/* Seconds of CPU of a process, its ended threads included, and of its reaped children; below 0: it is gone. */
static double cpu_of(pid_t pid) {
  struct timespec own;
  clockid_t clock;
  char path[64];
  unsigned long long user = 0, system = 0;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &own) != 0) return -1;
  snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
  FILE *stat = fopen(path, "r");
  if (stat == NULL) return -1;
  const int found = fscanf(stat, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %llu %llu", &user, &system);
  fclose(stat);
  if (found != 2) return -1;
  return (double)own.tv_sec + (double)own.tv_nsec / 1e9 + (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void pass(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

static double ask(FILE *to, FILE *from) {
  unsigned long long restarts;
  if (fputc('\n', to) == EOF || fflush(to) != 0 || fscanf(from, "%llu", &restarts) != 1) die("a peer's answer");
  return (double)restarts;
}

struct seen observe(char *const argv[], long settle_ms, long window_ms, int restarts) {
  extern char **environ;
  static struct tree tree;
  struct seen seen = {0, 0, 0};
  posix_spawn_file_actions_t actions;
  int in[2], out[2], status;
  char word[16];
  pid_t peer;
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) die("pipe");
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  if (posix_spawnp(&peer, argv[0], &actions, NULL, argv, environ) != 0) die(argv[0]);
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  FILE *to = fdopen(in[1], "w"), *from = fdopen(out[0], "r");
  if (to == NULL || from == NULL) die("fdopen");
  if (fscanf(from, "%15s", word) != 1) die("a peer's first word");

  pass(settle_ms);
  add_tree(&tree, peer);
  const double first = ask(to, from);
  const uint64_t began = now_ns();
  for (int i = 0; i < tree.count; i++) tree.before[i] = cpu_of(tree.pids[i]);
  do {
    pass(window_ms);
  } while (restarts && ask(to, from) == first);
  for (int i = 0; i < tree.count; i++) {
    const double after = cpu_of(tree.pids[i]);
    if (tree.before[i] >= 0 && after >= 0) seen.cpu_seconds += after - tree.before[i];
  }
  seen.seconds = (double)(now_ns() - began) / 1e9;
  seen.restarts = ask(to, from) - first;

  fclose(to);
  if (waitpid(peer, &status, 0) != peer) die("waitpid");
  fclose(from);
  if (status != 0) {
    fprintf(stderr, "%s ended with wait status %d\n", argv[0], status);
    exit(EXIT_FAILURE);
  }
  return seen;
}
