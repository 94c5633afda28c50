/* vfork and posix_spawn of a program, with two pipes: the child says ready on one, and the end of the other cancels it. */
#include "processes.h"
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct one {
  pid_t pid;
  int cancel;
};

static char *program;

static void prepare_static(void) { program = beside("child-static"); }
static void prepare_dynamic(void) { program = beside("child-dynamic"); }
static void prepare_linked(void) { program = beside("child-linked"); }

static pid_t by_vfork(int in, int out, char *const argv[]) {
  const pid_t pid = vfork();
  if (pid < 0) die("vfork");
  if (pid == 0) {
    if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0) execve(program, argv, environ);
    _exit(127);
  }
  return pid;
}

static pid_t by_spawn(int in, int out, char *const argv[]) {
  posix_spawn_file_actions_t actions;
  pid_t pid;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  if (posix_spawn(&pid, program, &actions, NULL, argv, environ) != 0) die("posix_spawn");
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

static void *begin_by(pid_t (*spawn)(int, int, char *const[])) {
  struct one *one = malloc(sizeof *one);
  char *argv[] = {program, NULL}, byte;
  int in[2], out[2];
  if (one == NULL || pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) die("pipe");
  one->pid = spawn(in[0], out[1], argv);
  one->cancel = in[1];
  close(in[0]);
  close(out[1]);
  if (read(out[0], &byte, 1) != 1) die("the child's word");
  close(out[0]);
  return one;
}
static void *begin_vfork(void) { return begin_by(by_vfork); }
static void *begin_spawn(void) { return begin_by(by_spawn); }

static void end(void *of) {
  struct one *one = of;
  int status;
  close(one->cancel);
  if (waitpid(one->pid, &status, 0) != one->pid || status != 0) die("waitpid");
  free(one);
}

static pid_t child(void *of) { return ((struct one *)of)->pid; }

const struct process_peer peer_vfork = {prepare_static, begin_vfork, end, child};
const struct process_peer peer_spawn_static = {prepare_static, begin_spawn, end, child};
const struct process_peer peer_spawn_dynamic = {prepare_dynamic, begin_spawn, end, child};
const struct process_peer peer_spawn_linked = {prepare_linked, begin_spawn, end, child};
