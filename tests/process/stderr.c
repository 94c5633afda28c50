/* stderr.c: what a child says on its stderr: kept, passed through, told to the log, and never in anybody's way. */
#include "actor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

enum { KEPT = 64 * 1024 };

/* This process's stderr becomes the file (or descriptor); failures of checks go to the runner's own all the same. */
static void stderr_to_file(const char *path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0666);
  CHECK(fd >= 0 && dup2(fd, 2) == 2);
  close(fd);
}
static int64_t size_of(const char *path) {
  struct stat s;
  return stat(path, &s) == 0 ? (int64_t)s.st_size : -1;
}

static int32_t act_say_and_exit(actor *a, podkeep_context *ctx) {
  (void)ctx;
  for (int i = 0; i < a->numbers[1]; i++) fprintf(stderr, "line %06d of what it has to say\n", i);
  fprintf(stderr, "the last line\n");
  _exit((int)a->numbers[0]);
}
TEST(S2_the_end_of_stderr_is_attached) {
  actor *a = actor_like("speaker", act_say_and_exit);
  a->numbers[0] = 3;
  a->numbers[1] = 4000; /* about 140 KB: more than is kept */
  stderr_to_file("/dev/null");
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, RUN, EXIT, 3, "exited with code 3");
  const char *kept = failure_stderr(a->pod);
  size_t n = strlen(kept);
  CHECK(n <= KEPT && n > KEPT - 100);
  CHECK_STR(kept + n - 14, "the last line\n");
  CHECK_HAS(kept, "line 003999");
  CHECK_HASNT(kept, "line 000001 ");
  CHECK_HAS(failure_message(a->pod), "; the end of its stderr:\n");
  CHECK_HAS(failure_message(a->pod), "the last line");
  CHECK_HAS(failure_message(a->pod), "line 003000"); /* never cut silently: all that is kept */
  actor_free(a);
}
static int32_t act_say_and_fail(actor *a, podkeep_context *ctx) {
  (void)a;
  fprintf(stderr, "before it failed\n");
  return podkeep_context_fail(ctx, 7, "its own word");
}
TEST(S2_a_word_keeps_its_message_and_has_the_stderr_beside_it) {
  actor *a = actor_like("worded", act_say_and_fail);
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, RUN, RETURNED, 7, NULL);
  CHECK_STR(failure_message(a->pod), "its own word");
  CHECK_STR(failure_stderr(a->pod), "before it failed\n");
  actor_free(a);
}
TEST(S2_no_stderr_no_word_of_it) {
  podkeep_pod *pod = shell_start("silent", "exit 3", NULL);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_HAS(failure_message(pod), "exited with code 3");
  CHECK_HASNT(failure_message(pod), "stderr");
  CHECK_STR(failure_stderr(pod), "");
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S2_every_pod_has_its_own_stderr) {
  enum { PODS = 10 };
  podkeep_pod *pods[PODS];
  for (int i = 0; i < PODS; i++) {
    char script[100];
    snprintf(script, sizeof script, "echo i am number %d >&2; exit 1", i);
    pods[i] = shell_start("one-of-many", script, NULL);
  }
  for (int i = 0; i < PODS; i++) {
    char want[100];
    snprintf(want, sizeof want, "i am number %d\n", i);
    CHECK_STATUS(podkeep_pod_join(pods[i], LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_STR(failure_stderr(pods[i]), want);
    CHECK_OK(podkeep_pod_free(pods[i]));
  }
}
TEST(S2_what_is_no_utf8_is_made_readable) { /* a message is UTF-8 and a C string: bytes that are neither do not end it */
  podkeep_pod *pod = shell_start("odd-bytes", "printf 'one\\377two\\000three\\n' >&2; exit 4", NULL);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, RUN, EXIT, 4, "one");
  CHECK_HAS(failure_message(pod), "two");
  CHECK_HAS(failure_message(pod), "three");
  CHECK(strchr(failure_message(pod), '\377') == NULL);
  CHECK_OK(podkeep_pod_free(pod));
}

/* --- The log ---------------------------------------------------------------------------------------------------------------- */

TEST(S2_lines_are_told_to_the_log) {
  log_keep(3);
  podkeep_pod *pod = shell_start("teller", "echo first >&2; printf sec >&2; echo ond >&2; printf unfinished >&2; exit 0", NULL);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  UNTIL(log_has("teller", "unfinished")); /* the log has a thread of its own */
  CHECK(log_has("teller", "first"));
  CHECK(log_has("teller", "second"));
  CHECK_OK(podkeep_pod_free(pod));
  log_drop();
}
TEST(S2_lines_arrive_while_it_lives) {
  log_keep(3);
  podkeep_pod *pod = shell_start("living", "echo i live >&2; sleep 1000", NULL);
  UNTIL(log_has("living", "i live"));
  CHECK_STATE(pod, RUNNING);
  pod_close(pod, PODKEEP_OK);
  log_drop();
}
TEST(S2_below_its_level_the_log_is_spared) {
  log_keep(2);
  podkeep_pod *pod = shell_start("spared", "echo not told >&2; exit 0", NULL);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_OK(podkeep_pod_free(pod));
  log_drop();
  CHECK(!log_has("spared", "not told"));
}
TEST(S2_a_line_without_end_hangs_nobody) {
  log_keep(3);
  stderr_to_file("/dev/null");
  podkeep_pod *pod = shell_start("endless", "head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 5", NULL);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_INT(strlen(failure_stderr(pod)), KEPT);
  CHECK_OK(podkeep_pod_free(pod));
  log_drop();
}

/* --- Passed through ------------------------------------------------------------------------------------------------------- */

TEST(S4_stderr_is_passed_through_byte_by_byte) {
  const char *file = world_path("passed");
  static char got[4096], want[4096];
  stderr_to_file(file);
  podkeep_pod *pod = shell_start("passing", "printf 'a\\377b\\001\\ttext\\n\\nwithout end' >&2", NULL);
  pod_join(pod, PODKEEP_OK);
  snprintf(want, sizeof want, "a\377b\001\ttext\n\nwithout end");
  UNTIL(size_of(file) >= (int64_t)strlen(want));
  read_file(file, got, sizeof got);
  CHECK_STR(got, want);
}
TEST(S4_stdout_is_inherited) {
  const char *file = world_path("out");
  int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  CHECK(fd >= 0 && dup2(fd, 1) == 1);
  close(fd);
  pod_join(shell_start("printing", "echo on stdout", NULL), PODKEEP_OK);
  char got[100];
  read_file(file, got, sizeof got);
  CHECK_STR(got, "on stdout\n");
}

static const char FLOOD[] = "head -c 10000000 /dev/zero | tr '\\0' '\\n' >&2";

TEST(S2_a_flood_of_10_mb_hangs_nobody) {
  const char *file = world_path("flood");
  stderr_to_file(file);
  actor *other = actor_new("other");
  actor_running(other);
  int64_t begun = now_ms();
  pod_join(shell_start("flood", FLOOD, NULL), PODKEEP_OK);
  note("10 MB of stderr in %lld ms", (long long)(now_ms() - begun));
  CHECK_INT(size_of(file), 10000000);
  actor_close(other, PODKEEP_OK);
}
/* A host's stderr that takes no more: a pipe that nobody reads. Who floods it waits, as it would with that stderr itself;
 * nobody else does, and its close is bounded. */
static void flood_into(int fd, bool takes) {
  CHECK(dup2(fd, 2) == 2);
  actor *other = actor_new("other");
  actor_running(other);
  podkeep_pod_options o = process_options();
  o.grace_ms = slow_ms(300), o.kill_after_ms = slow_ms(300);
  podkeep_pod *flood = shell_start("flood", FLOOD, &o);
  actor *third = actor_new("third");
  actor_running(third); /* while the flood is on */
  CHECK(kill(other->pid, SIGKILL) == 0); /* deaths are still seen ... */
  CHECK_STATUS(podkeep_pod_join(other->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  actor_free(other);
  actor_close(third, PODKEEP_OK); /* ... and words heard */
  podkeep_pod *speaker = shell_start("speaker", "echo still kept >&2; exit 3", NULL);
  CHECK_STATUS(podkeep_pod_join(speaker, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STR(failure_stderr(speaker), "still kept\n");
  CHECK_OK(podkeep_pod_free(speaker));
  if (takes) CHECK_OK(podkeep_pod_join(flood, LIMIT_MS));
  int64_t begun = now_ms();
  podkeep_status status = podkeep_pod_close(flood);
  CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(300 + 300 + SLACK));
  CHECK_OK(podkeep_pod_free(flood));
}
static int fill_pipe(int nonblocking, int *reader) {
  int ends[2];
  char block[4096];
  memset(block, 'f', sizeof block);
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  CHECK(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
  while (write(ends[1], block, sizeof block) > 0) {}
  while (write(ends[1], block, 1) > 0) {}
  CHECK(fcntl(ends[1], F_SETFL, nonblocking) == 0);
  *reader = ends[0];
  return ends[1];
}
TEST(S4_a_full_stderr_of_the_host_hangs_nobody) {
  int reader, kept = dup(2), fd = fill_pipe(0, &reader);
  flood_into(fd, false);
  CHECK_INT(fcntl(2, F_GETFL) & O_NONBLOCK, 0); /* the host's descriptor is as it was */
  close(fd), close(reader), dup2(kept, 2), close(kept);
}
TEST(S4_a_full_nonblocking_stderr_of_the_host_hangs_nobody) {
  int reader, kept = dup(2), fd = fill_pipe(O_NONBLOCK, &reader);
  flood_into(fd, false);
  close(fd), close(reader), dup2(kept, 2), close(kept);
}
TEST(S4_a_broken_stderr_of_the_host_hurts_nobody) { /* its reader is gone: a write would raise SIGPIPE */
  int ends[2], kept = dup(2);
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  close(ends[0]);
  flood_into(ends[1], true);
  close(ends[1]), dup2(kept, 2), close(kept);
}
/* What a child has left is passed on when the host's stderr takes it: after the end, which waits for nobody. */
static void read_filler(int reader, int64_t size) {
  char piece[4096];
  while (size > 0) {
    ssize_t n = read(reader, piece, size < (int64_t)sizeof piece ? (size_t)size : sizeof piece);
    CHECK(n > 0);
    for (ssize_t i = 0; i < n; i++) CHECK(piece[i] == 'f');
    size -= n;
  }
}
static int64_t bytes_in(int pipe) {
  int n = 0;
  CHECK(ioctl(pipe, FIONREAD, &n) == 0);
  return n;
}
TEST(S4_what_an_ended_child_left_is_passed_on_when_it_is_taken) {
  enum { LINES = 3000 }; /* 42 KB: its own pipe takes them all */
  int reader, kept = dup(2), fd = fill_pipe(0, &reader);
  int64_t filler = bytes_in(reader);
  CHECK(dup2(fd, 2) == 2);
  char script[200];
  snprintf(script, sizeof script, "i=0; while [ $i -lt %d ]; do printf 'line %%08d\\n' $i; i=$((i+1)); done >&2; exit 3", LINES);
  podkeep_pod *pod = shell_start("leaving", script, NULL);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_HAS(failure_message(pod), "; the end of its stderr:\n"); /* nothing is given up */
  podkeep_pod *later = shell_start("later", "echo and then another >&2", NULL);
  CHECK_INT(bytes_in(reader), filler);
  read_filler(reader, filler);
  FILE *rest = fdopen(reader, "r");
  char line[100], want[100];
  for (int i = 0; i < LINES; i++) {
    snprintf(want, sizeof want, "line %08d\n", i);
    CHECK(fgets(line, sizeof line, rest) != NULL);
    CHECK_STR(line, want);
  }
  CHECK(fgets(line, sizeof line, rest) != NULL);
  CHECK_STR(line, "and then another\n"); /* not before */
  pod_join(later, PODKEEP_OK);
  CHECK_OK(podkeep_pod_free(pod));
  fclose(rest), close(fd), dup2(kept, 2), close(kept);
}
TEST(S4_a_failure_says_that_its_stderr_was_not_all_passed_on) {
  enum { CHILDREN = 24 }; /* 60 KB each: more than is kept for a stderr that takes nothing */
  int reader, kept = dup(2), fd = fill_pipe(0, &reader);
  CHECK(dup2(fd, 2) == 2);
  for (int i = 0; i < CHILDREN; i++) {
    podkeep_pod *pod = shell_start("unheard", "head -c 60000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 3", NULL);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    const char *said = i == CHILDREN - 1 ? "; the end of its stderr, not all of it passed on:\n" : i == 0 ? "; the end of its stderr:\n" : "stderr";
    CHECK_HAS(failure_message(pod), said);
    CHECK_HAS(failure_message(pod), "the end");
    CHECK_INT(strlen(failure_stderr(pod)), 60008);
    CHECK_OK(podkeep_pod_free(pod));
  }
  close(reader), close(fd), dup2(kept, 2), close(kept); /* nobody will read it: it is let go */
}
TEST(S10_run_gives_a_stuck_stderr_up) {
  int reader, kept = dup(2), fd = fill_pipe(0, &reader);
  CHECK(dup2(fd, 2) == 2);
  podkeep_pod *pod = command_make("stuck", (const char *const[]){"sh", "-c", "echo last words >&2; exit 3", NULL}, NULL);
  int32_t code = -1;
  CHECK_OK(podkeep_pod_run(pod, &code));
  CHECK_INT(code, 3);
  CHECK_HAS(failure_message(pod), "; the end of its stderr, not all of it passed on:\nlast words");
  CHECK_OK(podkeep_pod_free(pod));
  close(reader), close(fd), dup2(kept, 2), close(kept);
}
TEST(S4_a_full_stderr_whose_reader_goes_holds_nobody) {
  int reader, kept = dup(2), fd = fill_pipe(0, &reader);
  CHECK(dup2(fd, 2) == 2);
  podkeep_pod *flood = shell_start("flood", FLOOD, NULL);
  UNTIL(process_letter(pod_pid(flood)) == 'S');
  close(reader);
  pod_join(flood, PODKEEP_OK);
  close(fd), dup2(kept, 2), close(kept);
}

/* --- A terminal ----------------------------------------------------------------------------------------------------------- */

/* It takes less than a write has, and what it did not take comes next. As whom the host acts: of a terminal that is another
 * user's nothing can be opened anew. */
static void on_a_terminal(bool own) {
  enum { LINES = 100000 };
  if (!own && geteuid() != 0) skip("only root can become another user");
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), kept = fcntl(2, F_DUPFD_CLOEXEC, 10);
  CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
  int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
  CHECK(slave >= 0);
  struct termios raw;
  CHECK(tcgetattr(slave, &raw) == 0);
  cfmakeraw(&raw);
  raw.c_oflag |= OPOST | ONLCR; /* as people have it: a byte may need room for two */
  CHECK(tcsetattr(slave, TCSANOW, &raw) == 0);
  CHECK(fchmod(slave, 0600) == 0);
  if (!own) CHECK(setegid(65534) == 0 && seteuid(65534) == 0);
  CHECK(dup2(slave, 2) == 2);
  podkeep_pod *pod = shell_start("on-a-terminal", "exec seq 100000 >&2", NULL);
  UNTIL(process_letter(pod_pid(pod)) == 'S'); /* nothing takes more of it ... */
  pod_join(shell_start("beside-it", "exit 0", NULL), PODKEEP_OK); /* ... and that holds nobody else */
  FILE *screen = fdopen(master, "r");
  char line[100], want[100];
  for (int i = 1; i <= LINES; i++) {
    snprintf(want, sizeof want, "%d\r\n", i);
    CHECK(fgets(line, sizeof line, screen) != NULL);
    CHECK_STR(line, want);
  }
  pod_join(pod, PODKEEP_OK);
  if (!own) CHECK(seteuid(0) == 0 && setegid(0) == 0);
  fclose(screen), close(slave), dup2(kept, 2), close(kept);
}
TEST(S4_a_terminal_gets_every_byte) { on_a_terminal(true); }
TEST(S4_another_users_terminal_gets_every_byte) { on_a_terminal(false); }

TEST(S4_a_closed_stderr_of_the_host_hurts_nobody) {
  /* Number 2 is free and would be given to the next that the library opens, three for each child: nothing that a child says may
   * be written into that. */
  int kept = fcntl(2, F_DUPFD_CLOEXEC, 10);
  actor *all[4];
  for (int i = 0; i < 4; i++) {
    if (i == 1) close(2);
    all[i] = actor_new("bystander");
    actor_running(all[i]);
  }
  pod_join(shell_start("to-nowhere", "for i in 1 2 3 4 5 6 7 8 9; do echo nobody hears of line $i >&2; done", NULL), PODKEEP_OK);
  podkeep_pod *speaker = shell_start("speaker", "echo still kept >&2; exit 3", NULL);
  CHECK_STATUS(podkeep_pod_join(speaker, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STR(failure_stderr(speaker), "still kept\n");
  CHECK_OK(podkeep_pod_free(speaker));
  for (int i = 0; i < 4; i++) {
    CHECK_STATE(all[i]->pod, RUNNING);
    int64_t begun = now_ms();
    actor_close(all[i], PODKEEP_OK); /* it hears its cancel */
    CHECK_BELOW(now_ms() - begun, slow_ms(2000));
  }
  char target[200];
  ssize_t n = readlink("/proc/self/fd/2", target, sizeof target - 1);
  if (n >= 0) check_failed(__FILE__, __LINE__, "descriptor 2 is %.*s", (int)n, target);
  dup2(kept, 2), close(kept);
}
TEST(S4_an_escaped_grandchild_that_holds_stderr_delays_nothing) {
  /* It leaves its session on purpose and so outlives the pod; the pod's end does not wait for its end of the pipe. */
  char script[1000];
  snprintf(script, sizeof script, "echo said >&2; setsid sh -c 'echo $$ >%s; exec sleep 1000' & while ! test -s %s; do sleep 0.01; done; exit 3",
           world_path("escaped"), world_path("escaped"));
  podkeep_pod *pod = shell_start("escaper", script, NULL);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STR(failure_stderr(pod), "said\n");
  CHECK_OK(podkeep_pod_free(pod));
  char text[32];
  read_file(world_path("escaped"), text, sizeof text);
  pid_t escaped = atoi(text);
  CHECK(escaped > 1 && alive(escaped));
  CHECK(kill(escaped, SIGKILL) == 0);
}
