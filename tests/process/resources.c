/* resources.c: nothing to be had: a clear status, the pod NEW, nothing left behind (contract, section 6). */
#include "actor.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void limit_to(int what, rlim_t most) {
  struct rlimit limit;
  CHECK(getrlimit(what, &limit) == 0);
  limit.rlim_cur = most < limit.rlim_max ? most : limit.rlim_max;
  CHECK(setrlimit(what, &limit) == 0);
}
/* With room for 0, 1, 2 ... more descriptors: refused without a trace until there is enough. */
static void without_descriptors(podkeep_pod *(*make)(void), bool cold) {
  struct rlimit before;
  CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
  int refusals = 0, room = 0;
  podkeep_pod *pod = make();
  int used = open_descriptors(), top = fcntl(0, F_DUPFD_CLOEXEC, 0); /* the lowest that is free */
  close(top);
  for (bool started = false; !started; room++) {
    CHECK(room < 64);
    limit_to(RLIMIT_NOFILE, (rlim_t)(top + room));
    podkeep_status status = podkeep_pod_start(pod);
    char sentence[2000];
    snprintf(sentence, sizeof sentence, "%s", podkeep_last_error());
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    started = status == PODKEEP_OK;
    if (started) break;
    CHECK_STATUS(status, PODKEEP_ERR_RESOURCES);
    CHECK(strlen(sentence) > 10);
    CHECK_STATE(pod, NEW);
    CHECK_NO_FAILURE(pod);
    int now = open_descriptors();
    if (now < used) used = now; /* the last of the warm-up's were still on their way */
    if (!cold) CHECK_INT(now, used); /* a cold library may keep what it has made for all pods */
    refusals++;
  }
  note("%d refusals, then it starts with room for %d descriptors", refusals, room);
  if (cold) UNTIL(children_of(getppid(), "__guard", NULL) == 1); /* those of the refusals are gone */
  CHECK(refusals > 0);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  pod_close(pod, PODKEEP_OK);
}
static podkeep_pod *make_actor(void) { return actor_make(actor_new("poor")); }
static podkeep_pod *make_command(void) {
  const char *const argv[] = {"/bin/sh", "-c", "sleep 1000", NULL};
  return command_make("poor", argv, NULL);
}
/* The library's own, which meets this one: as a kernel that has no memory, process or file for a new program. */
static int exec_error;
int execve(const char *path, char *const argv[], char *const envp[]) {
  if (exec_error != 0) return errno = exec_error, -1;
  return (int)syscall(SYS_execve, path, argv, envp);
}
TEST(S6_nothing_to_be_had_for_the_program) {
  const int errors[] = {ENOMEM, EAGAIN, EMFILE, ENFILE};
  podkeep_pod *pod = make_command();
  for (int i = 0; i < 4; i++) {
    exec_error = errors[i];
    CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_RESOURCES);
    CHECK_STATE(pod, NEW);
    CHECK_NO_FAILURE(pod);
  }
  exec_error = 0;
  CHECK_OK(podkeep_pod_start(pod));
  pod_close(pod, PODKEEP_OK);
  exec_error = ENOEXEC; /* of the program's own */
  CHECK_OK(podkeep_pod_start(pod = make_command()));
  exec_error = 0;
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, SPAWN, EXIT, 126, NULL);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S6_no_descriptors__callbacks) { without_descriptors(make_actor, false); }
TEST(S6_no_descriptors__command) { without_descriptors(make_command, false); }
TEST_WITH(S6_no_descriptors__first_pod, COLD, 60) { without_descriptors(make_actor, true); }
TEST_WITH(S6_no_descriptors__first_command, COLD, 60) { without_descriptors(make_command, true); }

TEST(S6_no_descriptors__standard_ones_closed) { /* each is made twice then, and either may be refused */
  int kept = fcntl(1, F_DUPFD_CLOEXEC, 10);
  int fill[16]; /* no low number is free but these three */
  CHECK(kept >= 10);
  for (int i = 0; i < 16; i++) CHECK((fill[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
  close(0), close(1), close(2);
  struct rlimit before;
  CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
  int used = open_descriptors(), top = 0;
  for (int fd = 3; fd < 200; fd++)
    if (fcntl(fd, F_GETFD) >= 0) top = fd + 1;
  for (int room = 0; room < 40; room++) {
    podkeep_pod *pod = room % 2 ? make_command() : make_actor();
    limit_to(RLIMIT_NOFILE, (rlim_t)(top - 8 + room)); /* among the numbers in use some are free */
    podkeep_status status = podkeep_pod_start(pod);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    if (status == PODKEEP_OK) {
      CHECK_OK(podkeep_pod_close(pod));
    } else {
      CHECK_STATUS(status, PODKEEP_ERR_RESOURCES);
      CHECK_STATE(pod, NEW);
    }
    CHECK_OK(podkeep_pod_free(pod));
    int64_t until = now_ms() + LIMIT_MS;
    while (open_descriptors() > used && now_ms() < until) pass_ms(1);
    if (open_descriptors() > used) check_failed(__FILE__, __LINE__, "with a limit of %d a descriptor is left behind", top - 8 + room);
  }
  CHECK(open("/dev/null", O_RDONLY) == 0 && dup2(kept, 1) == 1 && dup2(kept, 2) == 2);
  close(kept);
  for (int i = 0; i < 16; i++) close(fill[i]);
}

/* --- No room in files, which memory that is shared counts as ---------------------------------------------------------------------- */

TEST_WITH(S6_no_room_for_what_is_shared, COLD, 60) { /* by default the kernel's answer is a signal that ends the process */
  podkeep_pod *pods[2] = {make_actor(), make_command()};
  int used = open_descriptors();
  limit_to(RLIMIT_FSIZE, 100 << 10);
  for (int i = 0; i < 2; i++) {
    CHECK_STATUS(podkeep_pod_start(pods[i]), PODKEEP_ERR_RESOURCES);
    CHECK_HAS(podkeep_last_error(), "File too large");
    CHECK_STATE(pods[i], NEW);
    CHECK(open_descriptors() <= used);
  }
  limit_to(RLIMIT_FSIZE, RLIM_INFINITY);
  for (int i = 0; i < 2; i++) {
    CHECK_OK(podkeep_pod_start(pods[i]));
    CHECK_OK(podkeep_pod_wait_ready(pods[i], LIMIT_MS));
    pod_close(pods[i], PODKEEP_OK);
  }
}

/* --- No processes ---------------------------------------------------------------------------------------------------------------- */

/* What is on its way out has gone: a descriptor's end has no event. */
static int settled_descriptors(void) {
  int64_t until = now_ms() + LIMIT_MS;
  int before, now = open_descriptors();
  do {
    before = now;
    pass_ms(10);
    now = open_descriptors();
  } while (now != before && now_ms() < until);
  return now;
}
HOST(crowded) { /* as a user who may have no more of them than he has */
  actor *first = actor_new("first");
  actor_running(first); /* the library's threads and its guardian are there */
  int used = settled_descriptors();
  limit_to(RLIMIT_NPROC, 1);
  podkeep_pod *pods[2] = {make_actor(), make_command()};
  for (int i = 0; i < 2; i++) {
    CHECK_STATUS(podkeep_pod_start(pods[i]), PODKEEP_ERR_RESOURCES);
    CHECK(strlen(podkeep_last_error()) > 10);
    CHECK_STATE(pods[i], NEW);
    CHECK_INT(open_descriptors(), used);
  }
  CHECK_STATE(first->pod, RUNNING);
  CHECK(kill(first->pid, SIGKILL) == 0); /* what is there is still kept */
  CHECK_STATUS(podkeep_pod_join(first->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  actor_free(first);
  limit_to(RLIMIT_NPROC, RLIM_INFINITY);
  for (int i = 0; i < 2; i++) {
    CHECK_OK(podkeep_pod_start(pods[i]));
    CHECK_OK(podkeep_pod_wait_ready(pods[i], LIMIT_MS));
    pod_close(pods[i], PODKEEP_OK);
  }
  event_set(&B->events[0]);
}
TEST_WITH(S6_no_processes, COLD, 60) {
  if (geteuid() != 0) skip("only root can become a user without processes");
  uid_t user = 60000 + (uid_t)(getpid() % 5000); /* nobody's */
  pid_t pid = fork();
  if (pid == 0) {
    if (setgroups(0, NULL) != 0 || setresgid(user, user, user) != 0 || setresuid(user, user, user) != 0) _exit(99);
    execl(self_path(), self_path(), "--host", "crowded", (char *)NULL);
    _exit(98);
  }
  int code = wait_code(pid, LIMIT_MS);
  if (code == 98) skip("another user cannot execute this program where it is");
  CHECK_INT(code, 0);
  CHECK(event_is_set(&B->events[0]));
}

/* --- No podkeep program --------------------------------------------------------------------------------------------------------- */

static void not_found(podkeep_pod *pod, const char *part) {
  for (int i = 0; i < 2; i++) {
    CHECK_STATUS(podkeep_pod_start(pod), PODKEEP_ERR_NOT_FOUND);
    CHECK_HAS(podkeep_last_error(), part);
    CHECK_HAS(podkeep_last_error(), "podkeep_set_program");
    CHECK_STATE(pod, NEW);
  }
}
TEST_WITH(S6_no_podkeep_program, COLD, 60) {
  setenv("PODKEEP_PROGRAM", "/no/such/podkeep", 1);
  podkeep_pod *pod = make_actor(), *command = make_command();
  not_found(pod, "/no/such/podkeep");
  not_found(command, "/no/such/podkeep");
  CHECK_STATUS(podkeep_set_program("/nor/here"), PODKEEP_ERR_NOT_FOUND);
  CHECK_HAS(podkeep_last_error(), "/nor/here");
  unsetenv("PODKEEP_PROGRAM"); /* looked for anew at each start: beside the library */
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_OK(podkeep_pod_start(command));
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  pod_close(pod, PODKEEP_OK);
  pod_close(command, PODKEEP_OK);
}
TEST_WITH(S6_podkeep_program_by_option_and_environment, COLD, 60) {
  /* A program that says by which way it was found, then is the real one. */
  char script[6000], real[4096] = "";
  const char *const ways[] = {"by-environment", "by-option"};
  FILE *maps = fopen("/proc/self/maps", "re"); /* the library is at lib/, the program at bin/ beside it */
  for (char line[4096]; fgets(line, sizeof line, maps);) {
    char *path = strchr(line, '/');
    if (path && strstr(path, "/libpodkeep.so")) snprintf(real, sizeof real, "%s", path);
  }
  fclose(maps);
  CHECK(real[0] != '\0');
  strcpy(strstr(real, "/lib/libpodkeep"), "/bin/podkeep");
  for (int i = 0; i < 2; i++) {
    snprintf(script, sizeof script, "#!/bin/sh\necho \"$@\" >>%s/told-%s\nexec %s \"$@\"\n", world_directory(), ways[i], real);
    write_file(world_path(ways[i]), script);
    CHECK(chmod(world_path(ways[i]), 0755) == 0);
  }
  setenv("PODKEEP_PROGRAM", world_path("by-environment"), 1);
  actor *a = actor_new("found");
  actor_running(a);
  UNTIL(access(world_path("told-by-environment"), F_OK) == 0);
  actor_close(a, PODKEEP_OK);
  CHECK_OK(podkeep_set_program(world_path("by-option")));
  char library[4096];
  snprintf(library, sizeof library, "%s", self_path());
  strcpy(strrchr(library, '/') + 1, "worker.so");
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_pod_options o = process_options();
  CHECK_OK(podkeep_runtime_from_library(library, "failing", &runtime));
  CHECK_OK(podkeep_pod_new(runtime, &o, &pod));
  CHECK_OK(podkeep_runtime_free(runtime));
  CHECK_OK(podkeep_pod_start(pod));
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, RUN, RETURNED, 17, NULL);
  CHECK_OK(podkeep_pod_free(pod));
  CHECK(access(world_path("told-by-option"), F_OK) == 0); /* the option goes before the environment */
}
