/* L14: a TIMEOUT says why: name, state, phase, time in phase, last status text, last heartbeat, system call and wait channel. */
#include "probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where S hangs: in an accept that ends when somebody comes. */
typedef struct door {
  event open;
  uint16_t port;
} door;

static struct sockaddr_in loopback(uint16_t port) {
  struct sockaddr_in at;
  memset(&at, 0, sizeof at);
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  at.sin_port = port;
  return at;
}

static int32_t hangs_in_accept(probe *p, podkeep_context *ctx) {
  door *d = p->data;
  struct sockaddr_in at = loopback(0);
  socklen_t size = sizeof at;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 8) == 0);
  CHECK_INT(getsockname(fd, (struct sockaddr *)&at, &size), 0);
  d->port = at.sin_port;
  CHECK_OK(podkeep_context_status(ctx, "waiting for the first of 7 guests"));
  CHECK_OK(podkeep_context_heartbeat(ctx));
  event_set(&d->open);
  int guest = accept(fd, NULL, NULL);
  CHECK(guest >= 0);
  close(guest);
  close(fd);
  return 0;
}

static void unblock(probe *p) {
  struct sockaddr_in at = loopback(((door *)p->data)->port);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
  close(fd);
}

static probe *hanging(const char *name) {
  probe *p = probe_new(name);
  p->data = world_alloc(sizeof(door));
  p->no_hook = true;
  return p;
}

static void hangs(probe *p, step *s) {
  event_wait(&((door *)p->data)->open);
  UNTIL(thread_sleeps(s->tid));
  CHECK_TOLD_STATUS(p->pod, "waiting for the first of 7 guests");
}

/* What this kernel tells us of a thread in accept(); hardened ones keep it to themselves, and then the library cannot know. */
static bool kernel_tells(int64_t tid, const char *file, const char *what) {
  char path[80], text[256];
  snprintf(path, sizeof path, "/proc/%lld/%s", (long long)tid, file);
  FILE *f = fopen(path, "r");
  size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
  if (f) fclose(f);
  text[n] = '\0';
  return strstr(text, what) != NULL;
}

typedef struct told {
  bool call, channel;
} told;

static told by_the_kernel(int64_t tid) { /* while S hangs in its accept */
  char number[16];
  snprintf(number, sizeof number, "%d ", (int)SYS_accept);
  told t = {kernel_tells(tid, "syscall", number), kernel_tells(tid, "wchan", "inet_csk_accept")};
  return t;
}

static void check_sentence(const char *text, told t, const char *name, const char *state, const char *phase) {
  CHECK_HAS(text, name);
  CHECK_HAS(text, state);
  CHECK_HAS(text, phase);
  CHECK_HAS(text, "waiting for the first of 7 guests");
  CHECK_HAS(text, "heartbeat");
  if (t.call) CHECK_HAS(text, "(accept)");
  if (t.channel) CHECK_HAS(text, "inet_csk_accept");
}

/* wait_ready, while init hangs. */
TEST(L14_wait_ready_says_why) {
  probe *p = hanging("Greeter");
  p->init.does = hangs_in_accept;
  podkeep_pod *pod = probe_start(p);
  hangs(p, &p->init);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 1), PODKEEP_ERR_TIMEOUT);
  check_sentence(podkeep_last_error(), by_the_kernel(p->init.tid), "Greeter", "STARTING", "init");
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 0), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "Greeter");
  unblock(p);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  probe_close(p, PODKEEP_OK);
}

/* join, while run does what it should. */
TEST(L14_join_says_why) {
  probe *p = hanging("Listener");
  p->run.does = hangs_in_accept;
  podkeep_pod *pod = probe_running(p);
  hangs(p, &p->run);
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  check_sentence(podkeep_last_error(), by_the_kernel(p->run.tid), "Listener", "RUNNING", "run");
  CHECK_HAS(podkeep_last_error(), "last heartbeat"); /* there was one, and it counted */
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  check_sentence(podkeep_last_error(), by_the_kernel(p->run.tid), "Listener", "STOPPING", "run");
  unblock(p);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* close, and the TIMEOUT failure it stands for. */
static void close_gives_up(probe *p, step *s, const char *phase) {
  p->options.grace_ms = s == &p->teardown ? slow_ms(1000) : SHORT_MS; /* S must be in its call when it is spent */
  s->does = hangs_in_accept;
  podkeep_pod *pod = probe_start(p);
  if (s == &p->teardown) {
    CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    CHECK_OK(podkeep_pod_cancel(pod));
  }
  hangs(p, s);
  told t = by_the_kernel(s->tid);
  p->s_may_die = true;
  CHECK_STATUS(podkeep_pod_close(pod), forced_status());
  check_sentence(podkeep_last_error(), t, p->name, S_is_elsewhere() ? "STOPPING" : "ABANDONED", phase);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
  check_sentence(podkeep_failure_message(f), t, p->name, "STOPPING", phase);
  CHECK_OK(podkeep_failure_free(f));
  if (!S_is_elsewhere()) unblock(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

TEST_WITH(L14_close_and_its_failure_say_why__init, NOT_MAIN(EXIT)) {
  probe *p = hanging("Stubborn");
  close_gives_up(p, &p->init, "init");
}

TEST_WITH(L14_close_and_its_failure_say_why__run, NOT_MAIN(EXIT)) {
  probe *p = hanging("Stubborn");
  close_gives_up(p, &p->run, "run");
}

TEST_WITH(L14_close_and_its_failure_say_why__teardown, NOT_MAIN(EXIT)) {
  probe *p = hanging("Stubborn");
  close_gives_up(p, &p->teardown, "teardown");
}

TEST(L14_ready_timeout_says_why) {
  probe *p = hanging("Unready");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(500); /* S must be in its call by then */
  p->run.does = hangs_in_accept;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  check_sentence(podkeep_failure_message(f), by_the_kernel(p->run.tid), "Unready", "STARTING", "run");
  CHECK_OK(podkeep_failure_free(f));
  unblock(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

/* The last status is the one that is told; NULL takes it back or is refused, and never crashes. */
static int32_t says_two_things(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_status(ctx, "first I thought this"));
  CHECK_OK(podkeep_context_status(ctx, "then I thought that: \xe2\x9c\x93"));
  event_set(p->data);
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  return 0;
}

TEST(L14_the_last_status_is_told) {
  probe *p = probe_new("talker");
  p->data = world_alloc(sizeof(event));
  p->run.does = says_two_things;
  podkeep_pod *pod = probe_running(p);
  event_wait(p->data);
  CHECK_TOLD_STATUS(pod, "then I thought that: \xe2\x9c\x93");
  CHECK(strstr(podkeep_last_error(), "first I thought this") == NULL);
  probe_close(p, PODKEEP_OK);
}

/* A pod that has said nothing has a sentence, too. */
TEST(L14_without_a_status) {
  probe *p = probe_new("Silent");
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "Silent");
  CHECK_HAS(podkeep_last_error(), "RUNNING");
  CHECK_HAS(podkeep_last_error(), "in phase run for ");
  CHECK_HAS(podkeep_last_error(), "no status");
  CHECK_HAS(podkeep_last_error(), "no heartbeat");
  probe_close(p, PODKEEP_OK);
}

/* The sentence is the calling thread's: another thread's failing call does not replace it. */
static void fails_elsewhere(void *arg) {
  CHECK_STR(podkeep_last_error(), "");
  CHECK_STATUS(podkeep_pod_join(arg, -5), PODKEEP_ERR_INVALID_ARGUMENT);
  CHECK_HAS(podkeep_last_error(), "-5");
}

TEST(L14_last_error_is_the_threads_own) {
  probe *p = probe_new("Owned");
  podkeep_pod *pod = probe_running(p);
  char mine[2048];
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  snprintf(mine, sizeof mine, "%s", podkeep_last_error());
  worker w;
  worker_start(&w, fails_elsewhere, pod);
  worker_join(&w);
  CHECK_STR(podkeep_last_error(), mine);
  CHECK_OK(podkeep_pod_wait_ready(pod, 0)); /* a call that succeeds leaves it */
  CHECK_STR(podkeep_last_error(), mine);
  probe_close(p, PODKEEP_OK);
}
