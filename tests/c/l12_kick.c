/* L12: the EINTR kick: a chosen signal, repeated until S leaves its system call. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int listener(void) {
  struct sockaddr_in at;
  memset(&at, 0, sizeof at);
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 8) == 0);
  return fd;
}

/* Each blocks in one system call for as long as it gives anything but EINTR after a cancel; none looks at the flag in between
 * "check" and "block", so that only a repeated kick ends it for sure. */
static int32_t accepts(probe *p, podkeep_context *ctx) {
  while (!podkeep_context_cancelled(ctx)) {
    int fd = accept(p->fd, NULL, NULL);
    if (fd >= 0) close(fd);
    else CHECK_INT(errno, EINTR);
  }
  return 0;
}

static int32_t reads(probe *p, podkeep_context *ctx) {
  while (!podkeep_context_cancelled(ctx)) {
    char byte;
    CHECK_INT(read(p->fd, &byte, 1), -1);
    CHECK_INT(errno, EINTR);
  }
  return 0;
}

static int32_t sleeps(probe *p, podkeep_context *ctx) {
  (void)p;
  while (!podkeep_context_cancelled(ctx)) {
    struct timespec long_time = {3600, 0};
    CHECK_INT(nanosleep(&long_time, NULL), -1);
    CHECK_INT(errno, EINTR);
  }
  return 0;
}

static probe *kicked(const char *name, int signal_number, int32_t (*does)(probe *, podkeep_context *)) {
  probe *p = probe_new(name);
  p->options.kick_signal = signal_number;
  p->no_hook = true;
  p->run.does = does;
  return p;
}

static void blocks_and_is_freed(probe *p) {
  podkeep_pod *pod = probe_running(p);
  UNTIL(thread_sleeps(p->run.tid));
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_NO_FAILURE(pod);
  CHECK_INT(p->teardown.count, 1);
  probe_free(p);
}

TEST_WITH(L12_kick_unblocks__accept, NOT_PROCESS(KICK)) {
  probe *p = kicked("accepting", SIGUSR1, accepts);
  int fd = p->fd = listener();
  blocks_and_is_freed(p);
  close(fd);
}

TEST_WITH(L12_kick_unblocks__read, NOT_PROCESS(KICK)) {
  int ends[2];
  CHECK_INT(pipe(ends), 0);
  probe *p = kicked("reading", SIGUSR2, reads);
  p->fd = ends[0];
  blocks_and_is_freed(p);
  close(ends[0]);
  close(ends[1]);
}

TEST_WITH(L12_kick_unblocks__nanosleep, NOT_PROCESS(KICK)) { blocks_and_is_freed(kicked("sleeping", SIGRTMIN + 3, sleeps)); }

TEST_WITH(L12_kick_unblocks__init, NOT_PROCESS(KICK)) {
  probe *p = kicked("connecting", SIGUSR1, NULL);
  p->init.does = sleeps;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->init.entered);
  UNTIL(thread_sleeps(p->init.tid));
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK_STR(history_text(&p->called), "init teardown");
  probe_free(p);
}

/* For whatever stop reason. */
TEST_WITH(L12_kick_comes__on_free, NOT_PROCESS(KICK)) {
  probe *p = kicked("freed", SIGUSR1, sleeps);
  probe_running(p);
  UNTIL(thread_sleeps(p->run.tid));
  probe_free(p);
}

TEST_WITH(L12_kick_comes__on_ready_timeout, NOT_PROCESS(KICK)) {
  probe *p = kicked("late", SIGUSR1, sleeps);
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(100);
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* The race the repetition is for: the cancel falls anywhere between the look at the flag and the call. */
TEST_WITH(L12_kick_is_repeated, NOT_PROCESS(KICK)) {
  int fd = listener();
  for (int i = 0; i < rounds(300); i++) {
    probe *p = kicked("raced", SIGUSR1, accepts);
    p->fd = fd;
    podkeep_pod *pod = probe_start(p);
    CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    pass_us((long)random_below(30));
    CHECK_OK(podkeep_pod_cancel(pod));
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    probe_free(p);
  }
  close(fd);
}

/* Without being asked for, no signal is sent: S stays in its call until its grace is spent. */
static int32_t reads_once(probe *p, podkeep_context *ctx) {
  (void)ctx;
  char byte;
  return read(p->fd, &byte, 1) == 1 ? 0 : 1;
}

TEST_WITH(L12_no_kick_unless_asked_for, NOT_PROCESS(KICK), NOT_MAIN(EXIT)) {
  int ends[2];
  CHECK_INT(pipe(ends), 0);
  probe *p = kicked("left alone", 0, reads_once);
  p->fd = ends[0];
  p->options.grace_ms = SHORT_MS;
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_TIMEOUT);
  CHECK(!event_is_set(&p->run.left));
  CHECK_INT(write(ends[1], "x", 1), 1);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_INT(p->run.result, 0);
  probe_free(p);
  close(ends[0]);
  close(ends[1]);
}

/* No kick before the stop, and none once S has seen the cancel and is at its teardown. */
static uint32_t hits;
static int64_t hit_tid;
static void count_hit(int signal_number) {
  (void)signal_number;
  STORE(hit_tid, own_tid());
  ADD(hits, 1u);
}

static void install(int signal_number) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = count_hit;
  sigemptyset(&action.sa_mask);
  CHECK_INT(sigaction(signal_number, &action, NULL), 0);
}

static int32_t is_not_kicked(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  pass_ms(SHORT_MS / 4); /* one that was on its way when run returned may still arrive */
  uint32_t before = LOAD(hits);
  pass_ms(slow_ms(150)); /* nothing must come in a stretch of several kick intervals */
  CHECK(LOAD(hits) <= before + 1); /* the keeper may have lost its processor between its look and its kick, once */
  return 0;
}

TEST_WITH(L12_kick_keeps_a_handler_of_the_host_and_stops_in_time, NOT_PROCESS(KICK)) {
  install(SIGUSR1);
  probe *p = kicked("handled", SIGUSR1, sleeps);
  p->teardown.does = is_not_kicked;
  podkeep_pod *pod = probe_running(p);
  UNTIL(thread_sleeps(p->run.tid));
  CHECK_INT(LOAD(hits), 0);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  CHECK(LOAD(hits) >= 1);
  CHECK_INT(LOAD(hit_tid), p->run.tid); /* it goes to S and to no one else */
  struct sigaction now;
  CHECK_INT(sigaction(SIGUSR1, NULL, &now), 0);
  CHECK(now.sa_handler == count_hit);
  probe_free(p);
}

static void installs_an_empty_handler(void (*before)(int)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = before;
  sigemptyset(&action.sa_mask);
  CHECK_INT(sigaction(SIGUSR2, &action, NULL), 0);
  blocks_and_is_freed(kicked("disposed", SIGUSR2, sleeps));
  CHECK_INT(sigaction(SIGUSR2, NULL, &action), 0);
  CHECK(action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
  CHECK_INT(action.sa_flags & SA_RESTART, 0);
}

TEST_WITH(L12_kick_installs_an_empty_handler__over_the_default, NOT_PROCESS(KICK)) { installs_an_empty_handler(SIG_DFL); }
TEST_WITH(L12_kick_installs_an_empty_handler__over_ignore, NOT_PROCESS(KICK)) { installs_an_empty_handler(SIG_IGN); }

/* The signal is unblocked in S, even when the thread that starts the pod blocks it; in the starter nothing changes. */
TEST_WITH(L12_kick_is_unblocked_in_S, NOT_PROCESS(KICK)) {
  sigset_t set, before, after;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  CHECK_INT(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
  CHECK_INT(pthread_sigmask(SIG_BLOCK, NULL, &before), 0);
  blocks_and_is_freed(kicked("unblocked", SIGUSR1, sleeps));
  CHECK_INT(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
  for (int s = 1; s < 32; s++) CHECK_INT(sigismember(&after, s), sigismember(&before, s));
}

TEST_WITH(L12_kick_signals_that_are_refused, NOT_PROCESS(KICK)) {
  probe *p = probe_new("refused");
  probe_make_runtime(p);
  int bad[] = {-1, 65, 1000, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, 32, 33};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    p->options.kick_signal = bad[i];
    CHECK_STATUS(podkeep_pod_new(p->runtime, &p->options, &p->pod), PODKEEP_ERR_INVALID_ARGUMENT);
    CHECK_HAS(podkeep_last_error(), "kick_signal");
    CHECK(p->pod == NULL);
  }
  probe_free(p);
}
