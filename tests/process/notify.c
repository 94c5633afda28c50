/* notify.c: what a command says by sd_notify, in all its words, and who may say it (L13). */
#include "actor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- A program that says what its words tell it to -------------------------------------------------------------------- */

/* -1: nobody is there. `fd`: passed along, -1: none. */
static int say_to(const char *address, const void *text, size_t length, int fd) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  snprintf(to.sun_path, sizeof to.sun_path, "%s", address);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(to.sun_path) + (to.sun_path[0] != '@'));
  if (to.sun_path[0] == '@') to.sun_path[0] = '\0';
  struct iovec part = {(void *)(uintptr_t)text, length};
  union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr head; } control = {{0}};
  struct msghdr message = {.msg_name = &to, .msg_namelen = size, .msg_iov = &part, .msg_iovlen = 1};
  if (fd >= 0) {
    message.msg_control = control.bytes, message.msg_controllen = sizeof control.bytes;
    control.head.cmsg_level = SOL_SOCKET, control.head.cmsg_type = SCM_RIGHTS, control.head.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
  }
  int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int result = sendmsg(s, &message, MSG_NOSIGNAL) == (ssize_t)length ? 0 : -1;
  close(s);
  return result;
}
static void say(const char *text) {
  const char *address = getenv("NOTIFY_SOCKET");
  CHECK(address != NULL);
  CHECK(say_to(address, text, strlen(text), -1) == 0);
}
static void say_barrier(void) { /* as sd_notify_barrier(3): closed when all before was heard */
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  CHECK(say_to(getenv("NOTIFY_SOCKET"), "BARRIER=1", 9, ends[1]) == 0);
  close(ends[1]);
  struct pollfd p = {ends[0], 0, 0};
  CHECK(poll(&p, 1, (int)LIMIT_MS) == 1 && (p.revents & POLLHUP));
  close(ends[0]);
}
static void on_term(int number) {
  (void)number;
  event_set(&B->events[15]);
  _exit((int)B->numbers[15]);
}
static void on_term_hold(int number) {
  (void)number;
  event_set(&B->events[15]);
}
/* Words: say:TEXT  barrier  set:N  wait:N  pass:MS  mainpid  child (the rest is done by a child, this one waits for it)
 * trap (SIGTERM sets event 15 and exits with number 15)  hold (it sets event 15)  exit:N  pause. In TEXT a ; is a new line. */
PROGRAM(speak) {
  const char *address = getenv("NOTIFY_SOCKET");
  if (address) snprintf(B->text, 200, "%s", address);
  for (int i = 0; arg_list[i] != NULL; i++) {
    char *word = arg_list[i], *rest = strchr(word, ':');
    int n = rest ? atoi(rest + 1) : 0;
    if (strncmp(word, "say:", 4) == 0) {
      for (char *c = rest; *c; c++)
        if (*c == ';') *c = '\n';
      say(rest + 1);
    } else if (strcmp(word, "barrier") == 0) {
      say_barrier();
    } else if (strncmp(word, "set:", 4) == 0) {
      event_set(&B->events[n]);
    } else if (strncmp(word, "wait:", 5) == 0) {
      event_wait(&B->events[n]);
    } else if (strncmp(word, "pass:", 5) == 0) {
      pass_ms(slow_ms(n));
    } else if (strcmp(word, "mainpid") == 0) {
      char text[64];
      snprintf(text, sizeof text, "MAINPID=%d", (int)getpid());
      STORE(B->numbers[1], getpid());
      say(text);
    } else if (strcmp(word, "child") == 0) {
      pid_t child = fork();
      if (child > 0) {
        B->numbers[0] = child;
        int status = 0;
        while (waitpid(child, &status, 0) < 0) {}
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
      }
    } else if (strcmp(word, "trap") == 0) {
      signal(SIGTERM, on_term);
    } else if (strcmp(word, "hold") == 0) {
      signal(SIGTERM, on_term_hold);
    } else if (strncmp(word, "exit:", 5) == 0) {
      _exit(n);
    } else {
      for (;;) pause();
    }
  }
}
static podkeep_pod_options notifying(void) {
  podkeep_pod_options o = process_options();
  o.ready = PODKEEP_READY_NOTIFY;
  o.grace_ms = LIMIT_MS;
  return o;
}
enum { MOST_WORDS = 16 };
static podkeep_pod *speaker(const podkeep_pod_options *options, const char *const words[]) {
  const char *argv[MOST_WORDS + 4] = {self_path(), "--do", "speak"};
  for (int i = 0; words[i]; i++) argv[3 + i] = words[i];
  return command_start("speaker", argv, options);
}
#define SPEAK(options, ...) speaker((options), (const char *const[]){__VA_ARGS__, NULL})

/* --- READY ------------------------------------------------------------------------------------------------------------------ */

TEST(L13_notify__ready_when_it_says_so) {
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "set:0", "wait:1", "say:READY=1", "pause");
  event_wait(&B->events[0]);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, STARTING);
  event_set(&B->events[1]);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_STATE(pod, RUNNING);
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_notify__ready_among_other_words) {
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "say:X_OWN=1;STATUS=up;READY=1;RELOADING=0;", "pause");
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_notify__ready_by_a_grandchild) {
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "child", "say:READY=1", "pause");
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_notify__other_values_are_not_ready) {
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "say:READY=0", "say:READY=", "say:READY", "say:NOTREADY=1", "say:ready=1", "say:STATUS=READY=1",
                           "barrier", "set:0", "pause");
  event_wait(&B->events[0]);
  CHECK_STATE(pod, STARTING);
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_notify__gone_before_ready_fails_at_once) {
  podkeep_pod_options o = notifying();
  o.ready_timeout_ms = 600000;
  podkeep_pod *pod = SPEAK(&o, "exit:3");
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, READY, EXIT, 3, NULL);
  CHECK_OK(podkeep_pod_free(pod));
  pod = SPEAK(&o, "exit:0");
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_ENDED);
  CHECK_STATE(pod, STOPPED);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L13_notify__said_just_before_the_end_is_heard) {
  for (int i = 0; i < 20; i++) { /* both are there at once: the word comes before the end */
    podkeep_pod_options o = notifying();
    podkeep_pod *pod = SPEAK(&o, "say:READY=1", "exit:0");
    podkeep_monitor *m;
    podkeep_event event = PODKEEP_EVENT_INIT;
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    CHECK_OK(podkeep_monitor_new(pod, &m));
    CHECK_OK(podkeep_monitor_next(m, &event, LIMIT_MS));
    CHECK_INT(event.to, PODKEEP_STATE_STOPPED);
    CHECK_OK(podkeep_monitor_free(m));
    CHECK_OK(podkeep_pod_wait_ready(pod, 0)); /* it has been ready and has not failed */
    CHECK_OK(podkeep_pod_free(pod));
  }
}
TEST(L13_notify__ready_timeout) {
  podkeep_pod_options o = notifying();
  o.ready_timeout_ms = slow_ms(2000); /* its word is here before */
  int64_t begun = now_ms();
  podkeep_pod *pod = SPEAK(&o, "say:STATUS=still reading its files", "pause");
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_BELOW(slow_ms(2000) - 2, now_ms() - begun);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, READY, TIMEOUT, TIMED_OUT, "still reading its files");
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L13_notify__without_the_mode_ready_is_on_exec) {
  podkeep_pod *pod = SPEAK(NULL, "wait:0", "say:READY=1", "say:STATUS=x", "barrier", "set:1", "pause");
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  event_set(&B->events[0]);
  event_wait(&B->events[1]);
  CHECK_STATE(pod, RUNNING);
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_notify__ready_after_a_cancel_is_too_late) {
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "hold", "set:0", "wait:1", "say:READY=1", "barrier", "set:2", "wait:3", "exit:0");
  event_wait(&B->events[0]);
  CHECK_OK(podkeep_pod_cancel(pod));
  event_wait(&B->events[15]);
  event_set(&B->events[1]);
  event_wait(&B->events[2]);
  CHECK_STATE(pod, STOPPING);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_ENDED);
  event_set(&B->events[3]);
  pod_join(pod, PODKEEP_OK);
}

/* --- The other words -------------------------------------------------------------------------------------------------------- */

TEST(L14_notify__status_is_told_by_timeouts) {
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "say:STATUS=first", "say:STATUS=loading 42 of 99", "barrier", "set:0", "pause");
  event_wait(&B->events[0]);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "loading 42 of 99");
  CHECK_HAS(podkeep_last_error(), "speaker");
  CHECK_HASNT(podkeep_last_error(), "first");
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_notify__barrier) { /* returns, and everything before has been heard by then: seen without any wait */
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "say:READY=1", "barrier", "set:0", "barrier", "barrier", "set:1", "pause");
  event_wait(&B->events[0]);
  CHECK_OK(podkeep_pod_wait_ready(pod, 0));
  event_wait(&B->events[1]);
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_notify__extend_timeout) {
  podkeep_pod_options o = notifying();
  o.ready_timeout_ms = slow_ms(2000);
  char word[64];
  snprintf(word, sizeof word, "say:EXTEND_TIMEOUT_USEC=%lld", (long long)slow_ms(20000) * 1000);
  int64_t begun = now_ms();
  podkeep_pod *pod = SPEAK(&o, word, "pass:2500", "say:READY=1", "pause"); /* beyond the limit: time is the subject */
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_BELOW(slow_ms(2400), now_ms() - begun);
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_notify__extend_is_bounded_by_its_maximum) {
  podkeep_pod_options o = notifying();
  o.ready_timeout_ms = slow_ms(200);
  o.extend_max_ms = slow_ms(200);
  podkeep_pod *pod = SPEAK(&o, "say:EXTEND_TIMEOUT_USEC=18446744073709551615", "say:EXTEND_TIMEOUT_USEC=600000000", "pause");
  int64_t begun = now_ms();
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(200 + 200 + SLACK));
  pod_join(pod, PODKEEP_ERR_FAILED);
}
TEST(S8_notify__the_watchdog_is_told_and_a_host_is_not_asked_for_it) { /* as sd_watchdog_enabled(3) looks for it */
  const char *const argv[] = {"/bin/sh", "-c", "echo \"usec ${WATCHDOG_USEC-none} pid ${WATCHDOG_PID-none}\" >&2; exit 3", NULL};
  setenv("WATCHDOG_USEC", "7", 1), setenv("WATCHDOG_PID", "1", 1); /* what the host itself is asked for */
  for (int watched = 0; watched < 2; watched++) {
    podkeep_pod_options o = process_options();
    o.watchdog_ms = watched ? 90500 : 0;
    podkeep_pod *pod = command_start("asked", argv, &o);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_STR(failure_stderr(pod), watched ? "usec 90500000 pid none\n" : "usec none pid none\n");
    CHECK_OK(podkeep_pod_free(pod));
  }
  unsetenv("WATCHDOG_USEC"), unsetenv("WATCHDOG_PID");
}
TEST(S8_notify__a_triggered_watchdog) { /* also where no heartbeat is asked for; before it is RUNNING nothing watches it */
  for (int watched = 0; watched < 2; watched++) {
    podkeep_pod_options o = notifying();
    o.watchdog_ms = watched ? LIMIT_MS : 0;
    podkeep_pod *pod = SPEAK(&o, "say:WATCHDOG=trigger", "say:WATCHDOG=trigge", "barrier", "say:STATUS=lost the database", "say:READY=1",
                             watched ? "wait:1" : "wait:0", "say:WATCHDOG=trigger", "pause");
    CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    CHECK_STATE(pod, RUNNING);
    event_set(&B->events[watched]);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_FAILURE(pod, RUN, WATCHDOG, 0, "lost the database");
    CHECK_OK(podkeep_pod_free(pod));
  }
}
TEST(S1_notify__stopping) {
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "say:READY=1", "wait:0", "say:STOPPING=1", "barrier", "set:1", "wait:2", "exit:0");
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  event_set(&B->events[0]);
  event_wait(&B->events[1]);
  CHECK_STATE(pod, STOPPING); /* as an own run_forever that has returned */
  event_set(&B->events[2]);
  pod_join(pod, PODKEEP_OK);
}
TEST(L12_notify__stopping_has_its_grace) { /* it says that it stops, and does not: one budget for any reason */
  podkeep_pod_options o = notifying();
  o.grace_ms = slow_ms(200), o.kill_after_ms = slow_ms(200);
  podkeep_pod *pod = SPEAK(&o, "say:READY=1", "say:STOPPING=1", "pause");
  int64_t begun = now_ms();
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(200 + 200 + SLACK));
  CHECK_TIMED_OUT(pod, RUN);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L6_notify__mainpid_gets_the_stop_signal) {
  podkeep_pod_options o = notifying();
  B->numbers[15] = 0;
  podkeep_pod *pod = SPEAK(&o, "child", "trap", "mainpid", "say:READY=1", "pause");
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK(alive((pid_t)LOAD(B->numbers[1])) && LOAD(B->numbers[1]) != pod_pid(pod));
  pod_close(pod, PODKEEP_OK); /* its child trapped the signal, the parent waited for it and ended with its 0 */
  CHECK(event_is_set(&B->events[15]));
}
static volatile sig_atomic_t host_was_hit;
static void host_hit(int number) {
  (void)number;
  host_was_hit = 1;
}
TEST(L6_notify__mainpid_of_a_stranger_is_not_believed) {
  char word[64];
  podkeep_pod_options o = notifying();
  pid_t stranger = fork();
  if (stranger == 0)
    for (;;) pause();
  signal(SIGTERM, host_hit);
  const int wrong[] = {getpid(), 1, stranger, 0, -1};
  for (int i = 0; i < 5; i++) {
    snprintf(word, sizeof word, "say:MAINPID=%d", wrong[i]);
    podkeep_pod *pod = SPEAK(&o, word, "say:MAINPID=99999999999999999999", "say:MAINPID=x", "say:READY=1", "pause");
    CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    pod_close(pod, PODKEEP_OK); /* the child itself got the signal */
  }
  CHECK(!host_was_hit);
  CHECK(alive(stranger));
  kill(stranger, SIGKILL);
  CHECK_INT(wait_code(stranger, LIMIT_MS), 128 + SIGKILL);
}

TEST(L6_notify__a_main_process_that_was_stopped_hears_of_its_end) {
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "child", "trap", "mainpid", "say:READY=1", "pause");
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  pid_t main = (pid_t)LOAD(B->numbers[1]);
  CHECK(main > 1 && main != pod_pid(pod) && kill(main, SIGSTOP) == 0);
  UNTIL(process_letter(main) == 'T');
  pod_close(pod, PODKEEP_OK); /* within its grace */
}

/* A process with this number, or 0: the kernel can be told which comes next, by root alone. */
static pid_t stranger_with(pid_t number) {
  char text[32];
  for (int i = 0; i < 200 && kill(number, 0) != 0; i++) {
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC), n = snprintf(text, sizeof text, "%d", (int)number - 1);
    bool told = fd >= 0 && write(fd, text, (size_t)n) == n;
    if (fd >= 0) close(fd);
    if (!told) return 0;
    pid_t pid = fork();
    if (pid == 0)
      for (;;) pause();
    if (pid == number) return pid;
    kill(pid, SIGKILL);
    CHECK_INT(wait_code(pid, LIMIT_MS), 128 + SIGKILL);
  }
  return 0;
}
/* Its number may be a stranger's by now; the child is, in its stead. With an argument: a stranger may be made. */
HOST(main_process_that_has_ended) {
  const char *const argv[] = {"/bin/sh", "-c", "trap 'exit 0' TERM; \"$0\" --do speak mainpid barrier exit:0; : >\"$1\"; while :; do sleep 1000 & wait; done",
                              self_path(), world_path("over"), NULL};
  podkeep_pod_options o = process_options();
  o.grace_ms = slow_ms(3000);
  podkeep_pod *pod = command_start("survived", argv, &o);
  UNTIL(access(world_path("over"), F_OK) == 0);
  pid_t number = (pid_t)LOAD(B->numbers[1]);
  UNTIL(process_letter(number) == 0);
  pid_t stranger = arg_count > 0 ? stranger_with(number) : 0;
  if (stranger == 0) note("no stranger with the number of the main process could be made");
  podkeep_status status = podkeep_pod_close(pod);
  if (stranger) {
    CHECK(alive(stranger));
    CHECK(kill(stranger, SIGKILL) == 0);
    CHECK_INT(wait_code(stranger, LIMIT_MS), 128 + SIGKILL);
  }
  CHECK_STATUS(status, PODKEEP_OK);
  CHECK_OK(podkeep_pod_free(pod));
}
/* Numbers that come again are no matter of the other cases: the host has processes of its own, where that may be. */
TEST(L6_notify__a_main_process_that_has_ended_is_not_signalled) {
  pid_t host = fork();
  if (host == 0) {
    execl("/bin/sh", "sh", "-c",
          "unshare --pid --mount-proc --fork true 2>/dev/null && exec unshare --pid --mount-proc --fork \"$0\" --host \"$1\" apart; exec \"$0\" --host \"$1\"",
          self_path(), "main_process_that_has_ended", (char *)NULL);
    _exit(125);
  }
  CHECK_INT(wait_code(host, 2 * LIMIT_MS), 0);
}

/* --- Strangers, garbage ----------------------------------------------------------------------------------------------------- */

TEST(L13_notify__a_strangers_word_is_ignored) {
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "set:0", "wait:1", "barrier", "set:2", "pause");
  event_wait(&B->events[0]);
  CHECK(say_to(B->text, "READY=1", 7, -1) == 0); /* the host itself is no part of its child */
  pid_t stranger = fork();
  if (stranger == 0) _exit(say_to(B->text, "READY=1\nSTATUS=mine\nMAINPID=1", 28, -1) == 0 ? 0 : 1);
  CHECK_INT(wait_code(stranger, LIMIT_MS), 0);
  podkeep_pod_options plain = process_options();
  char other[300];
  snprintf(other, sizeof other, "NOTIFY_SOCKET=%.200s", B->text);
  const char *const env[] = {other, NULL};
  plain.env = env; /* a pod that claims another's address for its own */
  const char *const words[] = {self_path(), "--do", "speak", "say:READY=1", "exit:0", NULL};
  podkeep_pod *second = command_start("second", words, &plain);
  podkeep_status ended = podkeep_pod_join(second, LIMIT_MS);
  CHECK(ended == PODKEEP_OK || ended == PODKEEP_ERR_FAILED);
  CHECK_OK(podkeep_pod_free(second));
  event_set(&B->events[1]);
  event_wait(&B->events[2]); /* the barrier: all of that has been dealt with */
  CHECK_STATE(pod, STARTING);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_HASNT(podkeep_last_error(), "mine");
  pod_close(pod, PODKEEP_OK);
}
PROGRAM(garble) { /* every sort of nonsense, with descriptors, then a word that counts */
  const char *address = getenv("NOTIFY_SOCKET");
  static char block[200000];
  random_seed(7);
  for (int i = 0; i < 2000; i++) {
    size_t n = random_below(300);
    for (size_t k = 0; k < n; k++) block[k] = (char)random_below(256);
    int fd = i % 3 ? -1 : open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(say_to(address, block, n, fd) == 0 || errno == EAGAIN || errno == EINVAL);
    if (fd >= 0) close(fd);
  }
  memset(block, 'A', sizeof block);
  memcpy(block, "STATUS=", 7);
  say_to(address, block, 9000, -1);
  say_to(address, block, sizeof block, -1);
  say_to(address, "FDSTORE=1\nFDNAME=x", 18, 0);
  say_to(address, "READY=1\0STOPPING=1", 18, -1);
  say_to(address, "", 0, -1);
  say_barrier();
  event_set(&B->events[0]);
  event_wait(&B->events[1]);
  say("READY=1");
  for (;;) pause();
}
TEST(L13_notify__garbage_harms_nobody) {
  podkeep_pod_options o = notifying();
  actor *other = actor_new("other");
  actor_running(other);
  podkeep_pod *pod = program_start("garbler", "garble", &o);
  event_wait(&B->events[0]);
  int64_t before = open_descriptors();
  CHECK_STATE(pod, STARTING);
  event_set(&B->events[1]);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK(open_descriptors() <= before); /* whatever was passed along is closed */
  CHECK_STATE(other->pod, RUNNING);
  pod_close(pod, PODKEEP_OK);
  actor_close(other, PODKEEP_OK);
}
TEST(L13_notify__a_strangers_flood_delays_nobody) { /* two strangers write as fast as they can: the library has others to see to */
  podkeep_pod_options o = notifying();
  podkeep_pod *pod = SPEAK(&o, "set:0", "wait:1", "say:READY=1", "pause");
  event_wait(&B->events[0]);
  pid_t flooders[2];
  for (int i = 0; i < 2; i++) {
    flooders[i] = fork();
    if (flooders[i] == 0)
      for (;;) say_to(B->text, "STATUS=flood\nREADY=1", 20, -1);
  }
  for (int i = 0; i < 10; i++) {
    actor *other = actor_new("other");
    actor_running(other);
    CHECK(kill(other->pid, SIGKILL) == 0);
    int64_t begun = now_ms();
    CHECK_STATUS(podkeep_pod_join(other->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    CHECK_BELOW(now_ms() - begun, slow_ms(2000));
    actor_free(other);
  }
  CHECK_STATE(pod, STARTING);
  event_set(&B->events[1]);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  pod_close(pod, PODKEEP_OK);
  for (int i = 0; i < 2; i++) {
    kill(flooders[i], SIGKILL);
    CHECK_INT(wait_code(flooders[i], LIMIT_MS), 128 + SIGKILL);
  }
}
