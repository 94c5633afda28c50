/* Section 5: six ways to see a cancel, one truth; no wake is lost between the check and the sleep. (The sixth, a TERMINATE
 * message, is what the others stand on when S is a child.) */
#include "probe.h"

#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static bool readable(int fd, int64_t ms) {
  struct pollfd p = {fd, POLLIN, 0};
  int n = poll(&p, 1, (int)ms);
  CHECK(n >= 0);
  return n == 1 && (p.revents & POLLIN);
}

/* Whichever way tells of it, all others agree: no order between them is left open to the one who looks. */
static void all_agree(podkeep_context *ctx, int fd) {
  CHECK(podkeep_context_cancelled(ctx));
  CHECK_OK(podkeep_context_wait(ctx, 0));
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  CHECK(readable(fd, LIMIT_MS));
  CHECK(podkeep_context_time_left(ctx) >= 0);
}

static void nobody_has_seen_it(podkeep_context *ctx, int fd) {
  CHECK(!podkeep_context_cancelled(ctx));
  CHECK_STATUS(podkeep_context_wait(ctx, 0), PODKEEP_ERR_TIMEOUT);
  CHECK(!readable(fd, 0));
  CHECK_INT(podkeep_context_time_left(ctx), -1);
}

static int32_t by_flag(probe *p, podkeep_context *ctx) {
  nobody_has_seen_it(ctx, podkeep_context_fd(ctx));
  event_set(p->data);
  while (!podkeep_context_cancelled(ctx)) pass_us(50); /* a loop that polls is the subject */
  all_agree(ctx, podkeep_context_fd(ctx));
  return 0;
}

static int32_t by_wait(probe *p, podkeep_context *ctx) {
  nobody_has_seen_it(ctx, podkeep_context_fd(ctx));
  event_set(p->data);
  CHECK_OK(podkeep_context_wait(ctx, LIMIT_MS));
  all_agree(ctx, podkeep_context_fd(ctx));
  return 0;
}

static int32_t by_descriptor(probe *p, podkeep_context *ctx) {
  int fd = podkeep_context_fd(ctx);
  CHECK(fd >= 0);
  CHECK_INT(podkeep_context_fd(ctx), fd); /* one a context */
  nobody_has_seen_it(ctx, fd);
  event_set(p->data);
  CHECK(readable(fd, LIMIT_MS));
  all_agree(ctx, fd);
  CHECK(readable(fd, 0)); /* and stays so: nobody has to read it */
  return 0;
}

static int32_t by_epoll(probe *p, podkeep_context *ctx) {
  int loop = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e;
  memset(&e, 0, sizeof e);
  e.events = EPOLLIN | EPOLLET;
  CHECK(loop >= 0 && epoll_ctl(loop, EPOLL_CTL_ADD, podkeep_context_fd(ctx), &e) == 0);
  event_set(p->data);
  CHECK_INT(epoll_wait(loop, &e, 1, (int)LIMIT_MS), 1);
  close(loop);
  all_agree(ctx, podkeep_context_fd(ctx));
  return 0;
}

static int32_t by_time_left(probe *p, podkeep_context *ctx) {
  event_set(p->data);
  while (podkeep_context_time_left(ctx) < 0) pass_us(50); /* a loop that polls is the subject */
  CHECK(podkeep_context_time_left(ctx) <= p->options.grace_ms);
  all_agree(ctx, podkeep_context_fd(ctx));
  return 0;
}

static int32_t hook_looks(probe *p, podkeep_context *ctx) {
  (void)p;
  all_agree(ctx, podkeep_context_fd(ctx));
  return 0;
}

static int32_t by_hook(probe *p, podkeep_context *ctx) {
  event_set(p->data);
  event_wait(&p->hook.left);
  all_agree(ctx, podkeep_context_fd(ctx));
  return 0;
}

static void seen(int32_t (*does)(probe *, podkeep_context *)) {
  probe *p = probe_new("seeing");
  p->data = world_alloc(sizeof(event));
  p->run.does = does;
  p->hook.does = hook_looks;
  podkeep_pod *pod = probe_start(p);
  event_wait(p->data);
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

TEST(S5_seen_by__flag) { seen(by_flag); }
TEST(S5_seen_by__wait) { seen(by_wait); }
TEST(S5_seen_by__descriptor) { seen(by_descriptor); }
TEST(S5_seen_by__epoll_edge_triggered) { seen(by_epoll); }
TEST(S5_seen_by__time_left) { seen(by_time_left); }
TEST(S5_seen_by__hook) { seen(by_hook); }

/* In S's process: where the descriptor is. */
static void is_readable(void *arg) {
  int fd = podkeep_context_fd(((probe *)arg)->ctx);
  CHECK(fd >= 0);
  CHECK(readable(fd, LIMIT_MS));
}

static void is_not_readable(void *arg) {
  int fd = podkeep_context_fd(((probe *)arg)->ctx);
  CHECK(fd >= 0);
  CHECK(!readable(fd, 0));
}

/* Asked for only after the cancel, the descriptor is readable at once (stop_token: "callback now"). */
TEST(S5_descriptor_asked_for_after_the_cancel) {
  probe *p = probe_new("late look");
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_OK(podkeep_pod_cancel(pod));
  in_S(&p->recipe, is_readable, p);
  event_set(&p->run.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* ... and never readable when nothing came (stop_token: "callback never"). */
TEST(S5_nothing_is_seen_after_a_natural_return) {
  probe *p = probe_new("uncancelled");
  p->run.held = p->teardown.held = true;
  podkeep_pod *pod = probe_running(p);
  in_S(&p->recipe, is_not_readable, p);
  event_set(&p->run.go);
  event_wait(&p->teardown.entered);
  CHECK_TOLD_STATE(pod, PODKEEP_STATE_STOPPING);
  CHECK(!ctx_cancelled(p));
  CHECK_STATUS(ctx_wait(p, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  in_S(&p->recipe, is_not_readable, p);
  /* a cancel that comes now is seen in this very teardown */
  CHECK_OK(podkeep_pod_cancel(pod));
  CHECK(ctx_cancelled(p));
  CHECK_OK(ctx_wait(p, PODKEEP_FOREVER));
  in_S(&p->recipe, is_readable, p);
  event_set(&p->teardown.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* The descriptor is the pod's, and goes with it: the world's count is the witness. */
TEST(S5_descriptors_go_with_their_pods) {
  for (int i = 0; i < rounds(100); i++) {
    probe *p = probe_new("descriptive");
    probe_running(p);
    CHECK(ctx_fd(p) >= 0);
    probe_close(p, PODKEEP_OK);
  }
}

/* Ten threads ask at one moment: one descriptor. */
typedef struct askers {
  podkeep_context *ctx;
  barrier all;
  int fd[10];
  uint32_t next;
  worker w[10];
} askers;

static void ask(void *arg) {
  askers *a = arg;
  uint32_t mine = ADD(a->next, 1u) - 1;
  barrier_wait(&a->all, 10);
  a->fd[mine] = podkeep_context_fd(a->ctx);
}

static void ten_ask(void *arg) {
  askers *a = arg;
  for (int k = 0; k < 10; k++) worker_start(&a->w[k], ask, a);
}

static void ten_have_asked(void *arg) {
  askers *a = arg;
  for (int k = 0; k < 10; k++) worker_join(&a->w[k]);
}

TEST(S5_ten_threads_ask_for_the_descriptor) {
  for (int i = 0; i < rounds(20); i++) {
    probe *p = probe_new("asked");
    p->teardown.held = true;
    askers *a = world_alloc(sizeof *a);
    podkeep_pod *pod = probe_running(p);
    a->ctx = p->ctx;
    in_S(&p->recipe, ten_ask, a);
    if (i % 2) CHECK_OK(podkeep_pod_cancel(pod));
    in_S(&p->recipe, ten_have_asked, a);
    for (int k = 0; k < 10; k++) CHECK(a->fd[k] == a->fd[0]);
    CHECK(a->fd[0] >= 0);
    event_set(&p->teardown.go);
    probe_close(p, PODKEEP_OK);
  }
}

/* Many threads of S sleep on one context: all wake. */
typedef struct sleepers {
  podkeep_context *ctx;
  uint32_t count, woke;
  worker w[12];
} sleepers;

static void sleep_on_it(void *arg) {
  sleepers *s = arg;
  CHECK_OK(podkeep_context_wait(s->ctx, PODKEEP_FOREVER));
  ADD(s->woke, 1u);
}

static void go_to_sleep(void *arg) {
  sleepers *s = arg;
  for (uint32_t i = 0; i < s->count; i++) {
    worker_start(&s->w[i], sleep_on_it, s);
    worker_asleep(&s->w[i]);
  }
}

static void get_up(void *arg) {
  sleepers *s = arg;
  for (uint32_t i = 0; i < s->count; i++) worker_join(&s->w[i]);
}

static sleepers *sleeping(probe *p, uint32_t count) {
  sleepers *s = world_alloc(sizeof *s);
  s->ctx = p->ctx;
  s->count = count;
  in_S(&p->recipe, go_to_sleep, s);
  return s;
}

TEST(S5_all_sleepers_wake) {
  probe *p = probe_new("dormitory");
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  sleepers *s = sleeping(p, 12);
  CHECK_INT(LOAD(s->woke), 0);
  CHECK_OK(podkeep_pod_cancel(pod));
  in_S(&p->recipe, get_up, s);
  CHECK_INT(s->woke, 12);
  event_set(&p->run.go);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  probe_free(p);
}

/* A state change that is not a cancel wakes nobody who waits for the cancel. */
static int32_t says_ready_and_waits(probe *p, podkeep_context *ctx) {
  event_wait(p->data);
  CHECK_OK(podkeep_context_ready(ctx));
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  CHECK(podkeep_context_cancelled(ctx));
  return 0;
}

TEST(S5_ready_is_not_a_cancel) {
  probe *p = probe_new("ready");
  p->options.ready = PODKEEP_READY_NOTIFY;
  p->data = world_alloc(sizeof(event));
  p->run.does = says_ready_and_waits;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->run.entered);
  sleepers *s = sleeping(p, 1);
  event_set(p->data);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK(!event_wait_for(&s->w[0].done, SHORT_MS));
  p->teardown.held = true;
  CHECK_OK(podkeep_pod_cancel(pod));
  in_S(&p->recipe, get_up, s);
  event_set(&p->teardown.go);
  probe_free(p);
}

/* --- No lost wake --------------------------------------------------------------------------------------------------- */

/* S goes to sleep and the cancel comes, at every distance from each other; whoever misses it sleeps past the case's limit. */
static int32_t races_wait(probe *p, podkeep_context *ctx) {
  barrier_wait(p->data, 2);
  pass_us((long)random_below(30));
  CHECK_OK(podkeep_context_wait(ctx, PODKEEP_FOREVER));
  return 0;
}

static int32_t races_timed_wait(probe *p, podkeep_context *ctx) {
  barrier_wait(p->data, 2);
  CHECK_OK(podkeep_context_wait(ctx, LIMIT_MS));
  return 0;
}

static int32_t races_short_waits(probe *p, podkeep_context *ctx) {
  barrier_wait(p->data, 2);
  while (podkeep_context_wait(ctx, 1) == PODKEEP_ERR_TIMEOUT) CHECK(!event_is_set(&p->teardown.entered));
  CHECK(podkeep_context_cancelled(ctx));
  return 0;
}

static int32_t races_descriptor(probe *p, podkeep_context *ctx) {
  int fd = podkeep_context_fd(ctx);
  barrier_wait(p->data, 2);
  pass_us((long)random_below(30));
  if (!podkeep_context_cancelled(ctx)) CHECK(readable(fd, LIMIT_MS)); /* check, then sleep */
  return 0;
}

static int32_t races_new_descriptor(probe *p, podkeep_context *ctx) {
  barrier_wait(p->data, 2);
  pass_us((long)random_below(30));
  CHECK(readable(podkeep_context_fd(ctx), LIMIT_MS)); /* made while the cancel comes */
  return 0;
}

static void no_lost_wake(int32_t (*does)(probe *, podkeep_context *), int n, bool hook) {
  for (int i = 0; i < rounds(n); i++) {
    probe *p = probe_new("raced");
    p->data = world_alloc(sizeof(barrier));
    p->run.does = does;
    p->no_hook = !hook;
    podkeep_pod *pod = probe_start(p);
    barrier_wait(p->data, 2);
    pass_us((long)random_below(30));
    CHECK_OK(podkeep_pod_cancel(pod));
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    probe_free(p);
  }
}

TEST(S5_no_lost_wake__wait) { no_lost_wake(races_wait, 1000, false); }
TEST(S5_no_lost_wake__wait_with_hook) { no_lost_wake(races_wait, 300, true); }
TEST(S5_no_lost_wake__timed_wait) { no_lost_wake(races_timed_wait, 1000, false); }
TEST(S5_no_lost_wake__short_waits) { no_lost_wake(races_short_waits, 500, false); }
TEST(S5_no_lost_wake__descriptor) { no_lost_wake(races_descriptor, 600, false); }
TEST(S5_no_lost_wake__descriptor_made_meanwhile) { no_lost_wake(races_new_descriptor, 600, false); }

/* The hook's wake, too: a run that only the hook can end ends each time. */
TEST(S5_no_lost_wake__hook) {
  for (int i = 0; i < rounds(500); i++) {
    probe *p = probe_new("raced");
    p->run.does = does_wait_for_hook;
    podkeep_pod *pod = probe_start(p);
    if (i % 2) CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
    pass_us((long)random_below(60));
    CHECK_OK(podkeep_pod_cancel(pod));
    CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
    CHECK_INT(p->hook.count, p->run.count);
    probe_free(p);
  }
}
