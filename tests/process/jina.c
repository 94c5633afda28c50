/* jina.c: what was measured of our predecessor's Pod, row by row, and its opposite here. README.md lists the rows. */
#include "actor.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { AT_ONCE = 2000, GRACE = 300, KILL_AFTER = 300 }; /* ms; there: 5 to 60 s, or never */

/* For those that do not end otherwise; what ends cleanly has the time it needs. */
static actor *forced_soon(const char *name) {
  actor *a = actor_new(name);
  a->options.grace_ms = slow_ms(GRACE), a->options.kill_after_ms = slow_ms(KILL_AFTER);
  return a;
}
static int64_t begun;
#define WITHIN(ms) CHECK_BELOW(now_ms() - begun, slow_ms(ms))

static int32_t act_secret(actor *a, podkeep_context *ctx) {
  (void)a;
  return podkeep_context_fail_as(ctx, PODKEEP_KIND_EXCEPTION, 1, "ValueError: my-secret-reason");
}
TEST(J01_init_that_fails_tells_its_type_and_text) {
  actor *a = actor_new("J01");
  DOES(a->init, act_secret);
  begun = now_ms();
  actor_start(a);
  CHECK_STATUS(podkeep_pod_wait_ready(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  WITHIN(AT_ONCE);
  CHECK_HAS(podkeep_last_error(), "my-secret-reason");
  CHECK_FAILURE(a->pod, INIT, EXCEPTION, 1, "ValueError: my-secret-reason");
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  actor_free(a);
}
TEST(J02_init_that_fails_under_an_event_loop_is_told_by_its_descriptor) {
  actor *a = actor_new("J02");
  DOES(a->init, act_secret);
  podkeep_monitor *m;
  podkeep_event event = PODKEEP_EVENT_INIT;
  int fd;
  actor_make(a);
  CHECK_OK(podkeep_monitor_new(a->pod, &m));
  CHECK_OK(podkeep_monitor_fd(m, &fd));
  actor_start(a);
  do { /* a loop that only polls */
    struct pollfd p = {fd, POLLIN, 0};
    CHECK(poll(&p, 1, (int)LIMIT_MS) == 1);
    CHECK_OK(podkeep_monitor_next(m, &event, 0));
    CHECK(event.to != PODKEEP_STATE_RUNNING);
  } while (event.to != PODKEEP_STATE_FAILED);
  CHECK_HAS(podkeep_failure_message(event.failure), "my-secret-reason");
  CHECK_STATUS(podkeep_pod_wait_ready(a->pod, 0), PODKEEP_ERR_FAILED);
  CHECK_OK(podkeep_monitor_free(m));
  actor_free(a);
}
TEST(J03_one_of_three_fails_and_closing_all_hangs_nobody) {
  actor *all[3];
  for (int i = 0; i < 3; i++) {
    all[i] = actor_new("J03");
    if (i == 1) DOES(all[i]->init, act_secret);
    actor_start(all[i]);
  }
  CHECK_STATUS(podkeep_pod_wait_ready(all[1]->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  begun = now_ms();
  for (int i = 0; i < 3; i++) actor_close(all[i], i == 1 ? PODKEEP_ERR_FAILED : PODKEEP_OK);
  WITHIN(AT_ONCE);
}
TEST(J04_sigkill_of_a_ready_child_is_noticed) {
  actor *a = actor_new("J04");
  actor_running(a);
  begun = now_ms();
  CHECK(kill(a->pid, SIGKILL) == 0);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATE(a->pod, FAILED);
  CHECK_FAILURE(a->pod, RUN, SIGNAL, SIGKILL, NULL);
  actor_close(a, PODKEEP_ERR_FAILED);
  WITHIN(AT_ONCE);
}
TEST(J05_death_in_init_does_not_wait_for_the_ready_timeout) {
  for (int i = 0; i < 2; i++) {
    actor *a = actor_new("J05");
    a->options.ready_timeout_ms = 600000;
    a->numbers[0] = 3;
    if (i) DOES(a->init, act_exit);
    else DOES(a->init, act_kill_self);
    begun = now_ms();
    actor_start(a);
    CHECK_STATUS(podkeep_pod_wait_ready(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    WITHIN(AT_ONCE);
    if (i) CHECK_FAILURE(a->pod, INIT, EXIT, 3, NULL);
    else CHECK_FAILURE(a->pod, INIT, SIGNAL, SIGKILL, NULL);
    actor_free(a);
  }
}
static actor *exits(const char *name, step *(*where)(actor *), int code) {
  actor *a = actor_new(name);
  a->numbers[0] = code;
  DOES(*where(a), act_exit);
  begun = now_ms();
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  WITHIN(AT_ONCE);
  return a;
}
static step *its_init(actor *a) { return &a->init; }
static step *its_run(actor *a) { return &a->run; }
TEST(J06_an_exit_7_while_it_serves_is_known) {
  actor *a = exits("J06", its_run, 7);
  CHECK_FAILURE(a->pod, RUN, EXIT, 7, NULL);
  actor_close(a, PODKEEP_ERR_FAILED);
  WITHIN(AT_ONCE);
}
TEST(J07_an_exit_0_while_it_serves_is_a_failure_and_told) {
  actor *a = exits("J07", its_run, 0);
  CHECK_FAILURE(a->pod, RUN, EXIT, 0, NULL);
  actor_free(a);
}
static int32_t act_interrupt_self(actor *a, podkeep_context *ctx) {
  raise(SIGINT);
  return act_deaf(a, ctx);
}
TEST(J08_an_exit_code_or_an_interrupt_in_init_is_reported) {
  actor *a = exits("J08", its_init, 9);
  CHECK_FAILURE(a->pod, INIT, EXIT, 9, NULL);
  actor_free(a);
  a = actor_new("J08");
  DOES(a->init, act_interrupt_self);
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, INIT, SIGNAL, SIGINT, NULL);
  actor_free(a);
}
static void closes_and_is_gone(actor *a) {
  pid_t pid = a->pid;
  begun = now_ms();
  CHECK_STATUS(podkeep_pod_close(a->pod), PODKEEP_ERR_FAILED);
  WITHIN(GRACE + KILL_AFTER + SLACK);
  CHECK_INT(process_letter(pid), 0);
  actor_free(a);
}
TEST(J09_a_child_that_ignores_sigterm_is_gone_after_close) {
  actor *a = forced_soon("J09");
  DOES(a->run, act_ignore_term);
  actor_running(a);
  event_wait(&a->events[0]);
  closes_and_is_gone(a);
}
TEST(J10_a_stopped_child_is_gone_after_close) {
  actor *a = forced_soon("J10");
  actor_running(a);
  CHECK(kill(a->pid, SIGSTOP) == 0);
  UNTIL(process_letter(a->pid) == 'T');
  closes_and_is_gone(a);
}
TEST(J11_a_segfault_ends_the_child_and_is_named) {
  actor *a = actor_new("J11");
  DOES(a->run, act_segfault);
  begun = now_ms();
  actor_start(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  WITHIN(AT_ONCE);
  CHECK_FAILURE(a->pod, RUN, SIGNAL, SIGSEGV, "SIGSEGV");
  CHECK_INT(process_letter(a->pid), 0);
  actor_free(a);
}
static int32_t act_init_in_12_s(actor *a, podkeep_context *ctx) { /* deaf to the cancel, as a load of a model */
  (void)ctx;
  event_set(&a->events[0]);
  pass_ms(12000); /* the time itself is the subject */
  return 0;
}
static int32_t act_init_that_looks(actor *a, podkeep_context *ctx) { /* 12 s in pieces, and a look between them */
  event_set(&a->events[0]);
  podkeep_context_wait(ctx, 12000);
  return 0;
}
TEST(J12_close_in_init_leaves_no_child_and_pairs_the_teardown) {
  actor *a = actor_new("J12");
  DOES(a->init, act_init_that_looks);
  actor_start(a);
  event_wait(&a->events[0]);
  begun = now_ms();
  CHECK_OK(podkeep_pod_close(a->pod));
  WITHIN(AT_ONCE);
  CHECK_INT(process_letter(a->pid), 0);
  CHECK_INT(a->run.count, 0);
  CHECK_INT(a->teardown.count, 1);
  actor_free(a);
  a = forced_soon("J12");
  DOES(a->init, act_init_in_12_s);
  actor_start(a);
  event_wait(&a->events[0]);
  closes_and_is_gone(a);
}
enum { READY_WITHIN = 3000 }; /* init is entered before */
TEST(J13_a_ready_timeout_ends_the_child) {
  actor *a = forced_soon("J13");
  a->options.ready_timeout_ms = slow_ms(READY_WITHIN);
  DOES(a->init, act_deaf);
  begun = now_ms();
  actor_start(a);
  event_wait(&a->init.entered);
  CHECK_STATUS(podkeep_pod_wait_ready(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_join(a->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  WITHIN(READY_WITHIN + GRACE + KILL_AFTER + SLACK);
  CHECK_TIMED_OUT(a->pod, READY);
  CHECK_INT(process_letter(a->pid), 0);
  actor_free(a);
}
/* J14, a second pod on a busy port: port.c (L13_port__two_pods_on_one_port) and real.c, with real servers. */
TEST(J15_a_wait_takes_the_time_it_was_given) {
  actor *a = actor_new("J15");
  a->init.held = true;
  actor_start(a);
  begun = now_ms();
  CHECK_STATUS(podkeep_pod_wait_ready(a->pod, 50), PODKEEP_ERR_TIMEOUT);
  CHECK(now_ms() - begun >= 49);
  WITHIN(AT_ONCE);
  event_set(&a->init.go);
  actor_close(a, PODKEEP_OK);
}
static int32_t act_busy(actor *a, podkeep_context *ctx) { /* serves a request that takes its whole thread */
  event_set(&a->events[0]);
  while (!event_is_set(&a->events[1])) {}
  return act_wait(a, ctx);
}
TEST(J16_a_pod_that_works_hard_is_still_running) {
  actor *a = actor_new("J16");
  DOES(a->run, act_busy);
  actor_running(a);
  event_wait(&a->events[0]);
  for (int i = 0; i < 100; i++) {
    begun = now_ms();
    CHECK_STATE(a->pod, RUNNING);
    CHECK_OK(podkeep_pod_wait_ready(a->pod, 0));
    WITHIN(AT_ONCE);
  }
  event_set(&a->events[1]);
  actor_close(a, PODKEEP_OK);
}
static int32_t act_serve_one(actor *a, podkeep_context *ctx) { /* answers after the cancel has come: the request was there before */
  int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)a->numbers[0]), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  CHECK(bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 5) == 0);
  podkeep_context_ready(ctx);
  int client = accept(fd, NULL, NULL);
  event_set(&a->events[0]);
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  pass_ms(200); /* what is left of the work */
  CHECK(write(client, "answered\n", 9) == 9);
  close(client), close(fd);
  return 0;
}
TEST(J17_a_request_in_flight_is_answered_within_the_grace) {
  actor *a = actor_new("J17");
  a->options.grace_ms = LIMIT_MS;
  a->options.ready = PODKEEP_READY_NOTIFY;
  a->numbers[0] = free_port();
  DOES(a->run, act_serve_one);
  actor_running(a);
  int fd = connect_to((int)a->numbers[0]);
  CHECK(fd >= 0);
  event_wait(&a->events[0]);
  begun = now_ms();
  CHECK_OK(podkeep_pod_close(a->pod));
  WITHIN(200 + AT_ONCE); /* when it is done, not when the grace is over */
  char answer[16] = "";
  CHECK(read(fd, answer, sizeof answer) == 9);
  CHECK_STR(answer, "answered\n");
  close(fd);
  actor_free(a);
}
/* J18, a host killed by SIGKILL, SIGTERM, SIGHUP: orphans.c. */
static podkeep_pod *interrupted;
static void on_interrupt(int number) {
  (void)number;
  podkeep_pod_cancel(interrupted); /* async-signal-safe */
}
TEST(J19_an_interrupt_of_the_terminals_group_is_the_hosts_alone) { /* Ctrl-C, twice: the children have groups of their own */
  actor *a = actor_new("J19");
  actor_running(a);
  interrupted = a->pod;
  signal(SIGINT, on_interrupt);
  begun = now_ms();
  CHECK(kill(-getpgrp(), SIGINT) == 0);
  CHECK(kill(-getpgrp(), SIGINT) == 0);
  CHECK_OK(podkeep_pod_join(a->pod, LIMIT_MS));
  CHECK_OK(podkeep_pod_close(a->pod));
  WITHIN(AT_ONCE);
  CHECK_INT(a->teardown.count, 1);
  CHECK_NO_FAILURE(a->pod);
  actor_free(a);
}
static void exit_code_is(actor *a, int want) {
  int32_t code = -1;
  actor_make(a);
  CHECK_OK(podkeep_pod_run(a->pod, &code));
  CHECK_INT(code, want);
  actor_free(a);
}
TEST(J20_a_main_pod_that_fails_ends_with_its_code) {
  actor *a = actor_new("J20");
  DOES(a->init, act_fail);
  a->numbers[0] = 23;
  exit_code_is(a, 23);
  a = actor_new("J20");
  DOES(a->run, act_exit);
  a->numbers[0] = 5;
  exit_code_is(a, 5);
  a = actor_new("J20");
  DOES(a->run, act_kill_self);
  exit_code_is(a, 128 + SIGKILL);
  a = actor_new("J20");
  DOES(a->run, act_return);
  exit_code_is(a, 0);
}
TEST(J21_a_server_that_never_ends_is_ended) {
  actor *a = forced_soon("J21");
  DOES(a->run, act_deaf);
  actor_running(a);
  closes_and_is_gone(a);
}
TEST(J22_a_teardown_that_fails_is_told) {
  actor *a = actor_new("J22");
  DOES(a->teardown, act_fail);
  a->numbers[0] = 31;
  actor_running(a);
  CHECK_STATUS(podkeep_pod_close(a->pod), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(a->pod, TEARDOWN, RETURNED, 31, "as it was told");
  actor_free(a);
}
TEST(J23_close_twice_close_before_start_start_twice_join_before_start) {
  actor *a = actor_new("J23");
  actor_make(a);
  CHECK_STATUS(podkeep_pod_join(a->pod, 0), PODKEEP_ERR_INVALID_STATE);
  CHECK_STATUS(podkeep_pod_wait_ready(a->pod, 0), PODKEEP_ERR_INVALID_STATE);
  actor_running(a);
  CHECK_STATUS(podkeep_pod_start(a->pod), PODKEEP_ERR_INVALID_STATE);
  CHECK_OK(podkeep_pod_close(a->pod));
  CHECK_OK(podkeep_pod_close(a->pod));
  CHECK_STATUS(podkeep_pod_start(a->pod), PODKEEP_ERR_INVALID_STATE);
  actor_free(a);
  a = actor_new("J23");
  actor_make(a);
  begun = now_ms();
  CHECK_OK(podkeep_pod_close(a->pod));
  WITHIN(AT_ONCE);
  CHECK_STATE(a->pod, STOPPED);
  actor_free(a);
}
/* J24, an exception in a with body: the Python package's tests. J25, the parent's own variable deleted: inherit.c
 * (S4_env_is_laid_over_the_inherited_one). */
static void *start_and_leave(void *pod) {
  CHECK_OK(podkeep_pod_start(pod));
  return NULL;
}
TEST(J26_started_from_a_thread_that_ends) { /* works there, too; with PDEATHSIG alone the child would die with that thread */
  actor *a = actor_new("J26");
  podkeep_pod *pod = actor_make(a), *command = shell_start("J26-command", "sleep 1000", NULL);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, start_and_leave, pod) == 0);
  pthread_join(thread, NULL);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  event_wait(&a->run.entered);
  UNTIL(process_letter(a->pid) == 'S');
  CHECK_STATUS(podkeep_pod_join(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(pod, RUNNING);
  actor_close(a, PODKEEP_OK);
  pod_close(command, PODKEEP_OK);
}
