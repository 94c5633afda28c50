/* L14: a TIMEOUT says why: name, state, phase, time in phase, last status text, last heartbeat, system call and wait channel. */
#include "probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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

/* Ends an accept from the outside, as another thread's shutdown() does. */
static void unblock(int fd) { CHECK_INT(shutdown(fd, SHUT_RDWR), 0); }

static int32_t hangs_in_accept(probe *p, podkeep_context *ctx) {
  CHECK_OK(podkeep_context_status(ctx, "waiting for the first of 7 guests"));
  CHECK_OK(podkeep_context_heartbeat(ctx));
  event_set(p->data);
  CHECK_INT(accept(p->fd, NULL, NULL), -1);
  return 0;
}

static probe *hanging(const char *name) {
  probe *p = probe_new(name);
  p->fd = listener();
  p->data = world_alloc(sizeof(event));
  p->no_hook = true;
  return p;
}

/* What this kernel tells us of a thread in accept(); hardened ones keep it to themselves, and then the library cannot know. */
static bool kernel_tells(int64_t tid, const char *file, const char *what) {
  char path[80], text[256];
  snprintf(path, sizeof path, "/proc/self/task/%lld/%s", (long long)tid, file);
  FILE *f = fopen(path, "r");
  size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
  if (f) fclose(f);
  text[n] = '\0';
  return strstr(text, what) != NULL;
}

/* To be called while S hangs in its accept. */
static void check_sentence(const char *text, int64_t tid, const char *name, const char *state, const char *phase) {
  CHECK_HAS(text, name);
  CHECK_HAS(text, state);
  CHECK_HAS(text, phase);
  CHECK_HAS(text, "waiting for the first of 7 guests");
  CHECK_HAS(text, "heartbeat");
  char number[16];
  snprintf(number, sizeof number, "%d ", (int)SYS_accept);
  if (kernel_tells(tid, "syscall", number)) CHECK_HAS(text, "(accept)");
  if (kernel_tells(tid, "wchan", "inet_csk_accept")) CHECK_HAS(text, "inet_csk_accept");
}

/* wait_ready, while init hangs. */
TEST_THREAD(L14_wait_ready_says_why) {
  probe *p = hanging("Greeter");
  p->init.does = hangs_in_accept;
  podkeep_pod *pod = probe_start(p);
  event_wait(p->data);
  UNTIL(thread_sleeps(p->init.tid));
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 1), PODKEEP_ERR_TIMEOUT);
  check_sentence(podkeep_last_error(), p->init.tid, "Greeter", "STARTING", "init");
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 0), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "Greeter");
  unblock(p->fd);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  close(p->fd);
  probe_close(p, PODKEEP_OK);
}

/* join, while run does what it should. */
TEST_THREAD(L14_join_says_why) {
  probe *p = hanging("Listener");
  p->run.does = hangs_in_accept;
  podkeep_pod *pod = probe_running(p);
  event_wait(p->data);
  UNTIL(thread_sleeps(p->run.tid));
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  check_sentence(podkeep_last_error(), p->run.tid, "Listener", "RUNNING", "run");
  CHECK_HAS(podkeep_last_error(), "last heartbeat"); /* there was one, and it counted */
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  check_sentence(podkeep_last_error(), p->run.tid, "Listener", "STOPPING", "run");
  unblock(p->fd);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  close(p->fd);
  probe_free(p);
}

/* close, and the TIMEOUT failure it stands for. */
static void close_gives_up(probe *p, step *s, const char *phase) {
  p->options.grace_ms = s == &p->teardown ? slow_ms(300) : SHORT_MS; /* S must be in its call when it is spent */
  s->does = hangs_in_accept;
  podkeep_pod *pod = probe_start(p);
  if (s == &p->teardown) {
    CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    CHECK_OK(podkeep_pod_cancel(pod));
  }
  event_wait(p->data);
  UNTIL(thread_sleeps(s->tid));
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_TIMEOUT);
  check_sentence(podkeep_last_error(), s->tid, p->name, "ABANDONED", phase);
  podkeep_failure *f = FAILURE_OF(pod);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
  check_sentence(podkeep_failure_message(f), s->tid, p->name, "STOPPING", phase);
  CHECK_OK(podkeep_failure_free(f));
  unblock(p->fd);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  close(p->fd);
  probe_free(p);
}

TEST_THREAD(L14_close_and_its_failure_say_why__init) {
  probe *p = hanging("Stubborn");
  close_gives_up(p, &p->init, "init");
}

TEST_THREAD(L14_close_and_its_failure_say_why__run) {
  probe *p = hanging("Stubborn");
  close_gives_up(p, &p->run, "run");
}

TEST_THREAD(L14_close_and_its_failure_say_why__teardown) {
  probe *p = hanging("Stubborn");
  close_gives_up(p, &p->teardown, "teardown");
}

TEST_THREAD(L14_ready_timeout_says_why) {
  probe *p = hanging("Unready");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->options.ready_timeout_ms = slow_ms(200); /* S must be in its call by then */
  p->run.does = hangs_in_accept;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f = FAILURE_OF(pod);
  check_sentence(podkeep_failure_message(f), p->run.tid, "Unready", "STARTING", "run");
  CHECK_OK(podkeep_failure_free(f));
  unblock(p->fd);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  close(p->fd);
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
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_HAS(podkeep_last_error(), "then I thought that: \xe2\x9c\x93");
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
