/* The floor under restarts: loops that make a thread and join it, or start a child and reap it; "delayed": after a sleep
 * that is drawn as podkeep draws its least delay. Each loop is a thread of its own. And under those that do nothing:
 * threads that sleep, for ever or a second at a time.
 *
 *     bench-loops fail|idle|fed threads|threads-delayed|vfork|vfork-delayed COUNT
 */
#include "observe.h"
#include "processes.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static uint64_t restarts;
static char *program;
static int delayed;

static void *fails(void *nothing) { return nothing; }

static void thread_life(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, fails, NULL) != 0) die("pthread_create");
  pthread_join(thread, NULL);
}

static void child_life(void) {
  char *argv[] = {program, "fail", NULL};
  int status;
  const pid_t pid = vfork();
  if (pid < 0) die("vfork");
  if (pid == 0) {
    execve(program, argv, environ);
    _exit(127);
  }
  if (waitpid(pid, &status, 0) != pid) die("waitpid");
}

static void (*life)(void);

__attribute__((noreturn)) static void *loop(void *number) {
  unsigned seed = (unsigned)(uintptr_t)number;
  for (;;) {
    life();
    __atomic_fetch_add(&restarts, 1, __ATOMIC_RELAXED);
    struct timespec delay = {0, 750000 + rand_r(&seed) % 250000};
    if (delayed) nanosleep(&delay, NULL);
  }
}

__attribute__((noreturn)) static void *sleeps(void *seconds) {
  struct timespec time = {(time_t)(uintptr_t)seconds, 0};
  for (;;) nanosleep(&time, NULL);
}

static uint64_t counted(void) { return __atomic_load_n(&restarts, __ATOMIC_RELAXED); }

int main(int argc, char **argv) {
  pthread_attr_t small;
  pthread_t thread;
  if (argc != 4) return fprintf(stderr, "usage: bench-loops fail|idle|fed WORD COUNT\n"), 2;
  const int fail = strcmp(argv[1], "fail") == 0;
  program = beside("child-static");
  delayed = strstr(argv[2], "-delayed") != NULL;
  life = strncmp(argv[2], "threads", 7) == 0 ? thread_life : child_life;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 * 1024);
  for (long i = 0; i < atol(argv[3]); i++) {
    const uintptr_t argument = fail ? (uintptr_t)i : strcmp(argv[1], "fed") == 0 ? 1 : 1000000;
    if (pthread_create(&thread, &small, fail ? loop : sleeps, (void *)argument) != 0) die("pthread_create");
  }
  answer(counted);
  return 0;
}
