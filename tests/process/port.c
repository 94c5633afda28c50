/* port.c: READY_PORT: ready is the child's own listener, and nothing that merely answers there (L13). */
#include "actor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int bound(int family, int port, bool shared) {
  int one = 1, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (shared) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_loopback};
  int bad = family == AF_INET ? bind(fd, (struct sockaddr *)&four, sizeof four) : bind(fd, (struct sockaddr *)&six, sizeof six);
  if (bad == 0) return fd;
  fprintf(stderr, "port %d: %s\n", port, strerror(errno));
  close(fd);
  return -1;
}
/* numbers[0]: the port; [1]: AF_INET6; [2]: a child of it listens; [3]: the port may be shared. It binds, waits for event 0,
 * listens, then says so by event 1. */
PROGRAM(serve) {
  int fd = bound(B->numbers[1] ? AF_INET6 : AF_INET, (int)B->numbers[0], B->numbers[3] != 0);
  if (fd < 0) exit(1);
  event_set(&B->events[2]);
  event_wait(&B->events[0]);
  if (B->numbers[2]) {
    pid_t child = fork();
    if (child > 0) {
      close(fd);
      for (;;) pause();
    }
  }
  CHECK(listen(fd, 5) == 0);
  event_set(&B->events[1]);
  for (;;) pause();
}
static podkeep_pod_options at_port(int port) {
  podkeep_pod_options o = process_options();
  o.ready = PODKEEP_READY_PORT;
  o.ready_port = port;
  B->numbers[0] = port;
  return o;
}
static void becomes_ready(podkeep_pod *pod) {
  event_wait(&B->events[2]);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT); /* bound is not listening */
  CHECK_STATE(pod, STARTING);
  event_set(&B->events[0]);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_STATE(pod, RUNNING);
  CHECK(event_is_set(&B->events[1]) || event_wait_for(&B->events[1], LIMIT_MS));
}
TEST(L13_port__ready_when_the_child_listens) {
  podkeep_pod_options o = at_port(free_port());
  podkeep_pod *pod = program_start("server", "serve", &o);
  becomes_ready(pod);
  int fd = connect_to(o.ready_port);
  CHECK(fd >= 0);
  close(fd);
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_port__ready_when_a_grandchild_listens) {
  podkeep_pod_options o = at_port(free_port());
  B->numbers[2] = 1;
  podkeep_pod *pod = program_start("server", "serve", &o);
  becomes_ready(pod);
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_port__ipv6) {
  podkeep_pod_options o = at_port(free_port());
  int fd = bound(AF_INET6, o.ready_port, false);
  if (fd < 0) skip("no IPv6 here");
  close(fd);
  B->numbers[1] = 1;
  podkeep_pod *pod = program_start("server", "serve", &o);
  becomes_ready(pod);
  pod_close(pod, PODKEEP_OK);
}
TEST(L13_port__a_strangers_listener_is_never_ready) { /* the host itself answers there */
  podkeep_pod_options o = at_port(free_port());
  int fd = bound(AF_INET, o.ready_port, false);
  CHECK(fd >= 0 && listen(fd, 5) == 0);
  o.ready_timeout_ms = slow_ms(2000); /* and the first wait is over before */
  podkeep_pod *pod = shell_start("deceived", "sleep 1000", &o);
  int answers = connect_to(o.ready_port);
  CHECK(answers >= 0);
  close(answers);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, READY, TIMEOUT, TIMED_OUT, "deceived");
  CHECK_OK(podkeep_pod_free(pod));
  close(fd);
}
TEST(L13_port__another_pods_listener_is_not_its_own) {
  podkeep_pod_options o = at_port(free_port());
  event_set(&B->events[0]);
  podkeep_pod *first = program_start("first", "serve", &o);
  CHECK_OK(podkeep_pod_wait_ready(first, LIMIT_MS));
  podkeep_pod *second = shell_start("second", "sleep 1000", &o);
  CHECK_STATUS(podkeep_pod_wait_ready(second, slow_ms(400)), PODKEEP_ERR_TIMEOUT);
  CHECK_STATE(second, STARTING);
  CHECK_OK(podkeep_pod_close(second));
  CHECK_STATE(first, RUNNING);
  CHECK_OK(podkeep_pod_free(second));
  pod_close(first, PODKEEP_OK);
}
TEST(L13_port__shared_with_a_stranger) { /* SO_REUSEPORT: both listen; the child's own counts */
  podkeep_pod_options o = at_port(free_port());
  int fd = bound(AF_INET, o.ready_port, true);
  CHECK(fd >= 0 && listen(fd, 5) == 0);
  B->numbers[3] = 1;
  podkeep_pod *pod = program_start("sharing", "serve", &o);
  becomes_ready(pod);
  pod_close(pod, PODKEEP_OK);
  close(fd);
}
TEST(L13_port__two_pods_on_one_port) { /* Jina: the second start succeeded because the first answered its health check */
  podkeep_pod_options o = at_port(free_port());
  event_set(&B->events[0]);
  podkeep_pod *first = program_start("first", "serve", &o);
  CHECK_OK(podkeep_pod_wait_ready(first, LIMIT_MS));
  podkeep_pod *second = program_start("second", "serve", &o);
  CHECK_STATUS(podkeep_pod_wait_ready(second, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(second, READY, EXIT, 1, "Address already in use"); /* the program's own words */
  CHECK_OK(podkeep_pod_free(second));
  CHECK_STATE(first, RUNNING);
  int fd = connect_to(o.ready_port);
  CHECK(fd >= 0);
  close(fd);
  pod_close(first, PODKEEP_OK);
}
TEST(L13_port__falls_when_the_child_dies) {
  podkeep_pod_options o = at_port(free_port());
  event_set(&B->events[0]);
  podkeep_pod *pod = program_start("mortal", "serve", &o);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK(kill(pod_pid(pod), SIGKILL) == 0);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, 0), PODKEEP_ERR_FAILED);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L13_port__gone_before_it_listened) {
  podkeep_pod_options o = at_port(free_port());
  podkeep_pod *pod = shell_start("gone", "echo no port for me >&2; exit 6", &o);
  CHECK_STATUS(podkeep_pod_wait_ready(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, READY, EXIT, 6, "no port for me");
  CHECK_OK(podkeep_pod_free(pod));
}
