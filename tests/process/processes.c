/* processes.c: looking at processes, and the look that ends every case. */
#include "world.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

void read_file(const char *path, char *into, size_t size) {
  int saved = errno, fd = open(path, O_RDONLY | O_CLOEXEC);
  size_t n = 0;
  ssize_t got;
  while (fd >= 0 && n + 1 < size && (got = read(fd, into + n, size - 1 - n)) > 0) n += (size_t)got;
  into[n] = '\0';
  if (fd >= 0) close(fd);
  errno = saved;
}
void write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) check_failed(__FILE__, __LINE__, "cannot write %s", path);
  close(fd);
}

/* Behind the name in /proc/<pid>/stat, which may itself hold spaces and parentheses: " S ppid pgrp ...". */
static const char *stat_of(pid_t pid, char *text, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  read_file(path, text, size);
  const char *after = strrchr(text, ')');
  return after && after[1] == ' ' ? after + 2 : NULL;
}
char process_letter(pid_t pid) {
  char text[512];
  const char *after = stat_of(pid, text, sizeof text);
  return after ? after[0] : 0;
}
bool alive(pid_t pid) {
  char letter = process_letter(pid);
  return letter != 0 && letter != 'Z' && letter != 'X';
}
static int for_processes(bool (*is_one)(pid_t pid, const void *what), const void *what) {
  int found = 0;
  DIR *d = opendir("/proc");
  if (d == NULL) check_failed(__FILE__, __LINE__, "no /proc");
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    pid_t pid = atoi(e->d_name);
    if (pid > 0 && is_one(pid, what)) found++;
  }
  closedir(d);
  return found;
}
static bool is_in_group(pid_t pid, const void *group) {
  char text[512], letter;
  int parent, its;
  const char *after = stat_of(pid, text, sizeof text);
  return after && sscanf(after, "%c %d %d", &letter, &parent, &its) == 3 && its == *(const pid_t *)group && letter != 'Z' &&
         letter != 'X';
}
bool group_alive(pid_t group) {
  if (kill(-group, 0) != 0 && errno == ESRCH) return false;
  return for_processes(is_in_group, &group) > 0; /* zombies, too, take signals */
}
static bool has_words(pid_t pid, const void *what) {
  char path[64], text[4096];
  snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
  if (fd >= 0) close(fd);
  if (n <= 0) return false;
  for (ssize_t i = 0; i < n; i++)
    if (text[i] == '\0') text[i] = ' ';
  text[n] = '\0';
  return pid != getpid() && strstr(text, what) != NULL;
}
typedef struct kin {
  pid_t parent, found;
  const char *words;
} kin;
static bool is_child_with(pid_t pid, const void *what) {
  kin *k = (kin *)(uintptr_t)what;
  char text[512], letter;
  int parent;
  const char *after = stat_of(pid, text, sizeof text);
  if (!after || sscanf(after, "%c %d", &letter, &parent) != 2 || parent != k->parent || !has_words(pid, k->words)) return false;
  k->found = pid;
  return true;
}
int children_of(pid_t parent, const char *text, pid_t *one) {
  kin k = {parent, 0, text};
  int n = for_processes(is_child_with, &k);
  if (one) *one = k.found;
  return n;
}
pid_t child_of(pid_t parent, const char *text) {
  pid_t one;
  children_of(parent, text, &one);
  return one;
}
int processes_with(const char *text) { return for_processes(has_words, text); }

pid_t start_self(const char *kind, const char *name, const char *const words[]) {
  char option[32];
  char *argv[40] = {NULL};
  int n = 0;
  snprintf(option, sizeof option, "--%s", kind);
  argv[n++] = (char *)self_path();
  argv[n++] = option;
  argv[n++] = (char *)name;
  for (int i = 0; words && words[i] && n < 39; i++) argv[n++] = (char *)words[i];
  pid_t pid = fork();
  if (pid == 0) {
    execv(argv[0], argv);
    _exit(125);
  }
  if (pid < 0) check_failed(__FILE__, __LINE__, "no process for %s", name);
  return pid;
}

int wait_code(pid_t pid, int64_t limit_ms) {
  int status, fd = (int)syscall(SYS_pidfd_open, pid, 0);
  struct pollfd p = {fd, POLLIN, 0};
  int64_t until = now_ms() + limit_ms;
  int ready = 0;
  if (fd < 0) check_failed(__FILE__, __LINE__, "no descriptor for process %d: %s", (int)pid, strerror(errno));
  while (ready <= 0 && now_ms() < until) ready = poll(&p, 1, (int)(until - now_ms()) + 1);
  close(fd);
  if (ready <= 0) return -1;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) check_failed(__FILE__, __LINE__, "cannot wait for process %d: %s", (int)pid, strerror(errno));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int socket_at(int port, struct sockaddr_in *at) {
  memset(at, 0, sizeof *at);
  at->sin_family = AF_INET;
  at->sin_port = htons((uint16_t)port);
  at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) check_failed(__FILE__, __LINE__, "no socket");
  return fd;
}
/* Given back before it is used, so none that the kernel gives to whoever asks for any (32768 and up, unless it was told otherwise,
 * and it may have been told to give them all), and each case looks from a place of its own. */
int free_port(void) {
  char range[64];
  int end = 32000, first, lowest;
  read_file("/proc/sys/net/ipv4/ip_local_port_range", range, sizeof range);
  if (sscanf(range, "%d", &lowest) == 1 && lowest >= 2048 && lowest < end) end = lowest;
  first = end > 12000 + 1024 ? end - 12000 : 1024;
  for (int i = 0; i < end - first; i++) {
    struct sockaddr_in at;
    int port = first + (int)((unsigned)(getpid() * 16 + i) % (unsigned)(end - first)), fd = socket_at(port, &at);
    bool is_free = bind(fd, (struct sockaddr *)&at, sizeof at) == 0;
    close(fd);
    if (is_free) return port;
  }
  check_failed(__FILE__, __LINE__, "no free port");
}
int connect_to(int port) {
  struct sockaddr_in at;
  int fd = socket_at(port, &at);
  if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0) return fd;
  close(fd);
  return -1;
}

/* --- The look that ends every case ------------------------------------------------------------------------------------ */

typedef struct look {
  int own_threads;     /* all but the library's */
  int podkeep_threads; /* "podkeep..." */
  int descriptors;
} look;
static look baseline;

static int list_threads(int *rest, char *names, size_t size) {
  int ours = 0, others = 0;
  size_t used = 0;
  DIR *d = opendir("/proc/self/task");
  if (d == NULL) check_failed(__FILE__, __LINE__, "no /proc/self/task");
  if (size) names[0] = '\0';
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    char path[300], name[64];
    if (e->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
    read_file(path, name, sizeof name);
    name[strcspn(name, "\n")] = '\0';
    if (name[0] == '\0') continue; /* it has just gone */
    /* The main thread bears the executable's name, which could begin alike. */
    if (atoi(e->d_name) != getpid() && strncmp(name, "podkeep", 7) == 0) ours++;
    else others++;
    if (used < size) used += (size_t)snprintf(names + used, size - used, " %s", name);
  }
  closedir(d);
  *rest = others;
  return ours;
}
void threads_now(char *into, size_t size) {
  int rest;
  list_threads(&rest, into, size);
}
static int list_descriptors(char *names, size_t size) {
  int n = 0;
  size_t used = 0;
  DIR *d = opendir("/proc/self/fd");
  if (d == NULL) check_failed(__FILE__, __LINE__, "no /proc/self/fd");
  if (size) names[0] = '\0';
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    char path[300], target[200];
    if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(d)) continue;
    n++;
    if (used >= size) continue;
    snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
    ssize_t len = readlink(path, target, sizeof target - 1);
    if (len < 0) continue;
    target[len] = '\0';
    used += (size_t)snprintf(names + used, size - used, " %s=%s", e->d_name, target);
  }
  closedir(d);
  return n;
}
int open_descriptors(void) { return list_descriptors(NULL, 0); }

static look look_around(char *threads, size_t threads_size, char *descriptors, size_t descriptors_size) {
  look l;
  l.podkeep_threads = list_threads(&l.own_threads, threads, threads_size);
  l.descriptors = list_descriptors(descriptors, descriptors_size);
  return l;
}
void world_baseline(void) {
  /* A thread of the library bears its maker's name until it has named itself. */
  UNTIL((baseline = look_around(NULL, 0, NULL, 0)).own_threads == 1);
}
static bool world_is_clean(bool cold) {
  look l = look_around(NULL, 0, NULL, 0);
  if (l.own_threads > (cold ? 1 : baseline.own_threads)) return false;
  if (!cold && (l.podkeep_threads > baseline.podkeep_threads || l.descriptors > baseline.descriptors)) return false;
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == -1 && errno == ECHILD;
}
void world_close(bool cold) {
  int64_t until = now_ms() + LIMIT_MS;
  while (!world_is_clean(cold)) { /* the kernel's thread may outlive the final state, and that has no event */
    if (now_ms() > until) {
      char threads[2000], descriptors[4000];
      look l = look_around(threads, sizeof threads, descriptors, sizeof descriptors);
      siginfo_t info;
      bool child = !(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == -1 && errno == ECHILD);
      check_failed(__FILE__, __LINE__,
                   "the world is not clean: %d threads of the case (%d), %d of the library (%d), %d descriptors (%d), %s\n"
                   "  threads:%s\n  descriptors:%s",
                   l.own_threads, baseline.own_threads, l.podkeep_threads, baseline.podkeep_threads, l.descriptors,
                   baseline.descriptors, child ? "a child is left" : "no child", threads, descriptors);
    }
    pass_ms(1);
  }
}
