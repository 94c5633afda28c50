/* real.c: programs that nobody wrote for us: redis-server (sd_notify), nginx and Python's http.server (port). A machine that
 * lacks one of them skips its cases, and says so. */
#include "actor.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void need(const char *program) {
  char script[200];
  snprintf(script, sizeof script, "command -v %s >/dev/null 2>&1", program);
  if (system(script) != 0) skip("there is no %s", program);
}
/* One request, and what comes back until the other end is silent or closes. */
static const char *ask(int port, const char *request, const char *expected) {
  static char answer[8192];
  size_t have = 0;
  int fd = connect_to(port);
  CHECK(fd >= 0);
  CHECK(write(fd, request, strlen(request)) == (ssize_t)strlen(request));
  answer[0] = '\0';
  while (have + 1 < sizeof answer && strstr(answer, expected) == NULL) {
    struct pollfd p = {fd, POLLIN, 0};
    if (poll(&p, 1, (int)LIMIT_MS) != 1) break;
    ssize_t n = read(fd, answer + have, sizeof answer - 1 - have);
    if (n <= 0) break;
    have += (size_t)n;
    answer[have] = '\0';
  }
  close(fd);
  return answer;
}
static podkeep_pod_options server_options(podkeep_ready_mode ready, int port) {
  podkeep_pod_options o = process_options();
  o.ready = ready;
  o.ready_port = ready == PODKEEP_READY_PORT ? port : 0;
  o.ready_timeout_ms = LIMIT_MS;
  o.grace_ms = LIMIT_MS;
  o.cwd = world_directory();
  return o;
}

/* --- redis: says READY=1 itself ------------------------------------------------------------------------------------------ */

static podkeep_pod *redis_start(const char *name, int port) {
  char script[600];
  /* Its log goes to stdout; a pod keeps stderr. */
  snprintf(script, sizeof script, "exec redis-server --supervised systemd --daemonize no --bind 127.0.0.1 --port %d --save '' --appendonly no --dir . 1>&2", port);
  podkeep_pod_options o = server_options(PODKEEP_READY_NOTIFY, port);
  return shell_start(name, script, &o);
}
TEST(S2_redis_as_a_pod) {
  need("redis-server");
  log_keep(3);
  int port = free_port();
  podkeep_pod *pod = redis_start("redis", port);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_STATE(pod, RUNNING);
  CHECK_HAS(ask(port, "SET k from-a-pod\r\nGET k\r\n", "from-a-pod"), "+OK");
  CHECK_HAS(ask(port, "PING\r\n", "PONG"), "+PONG"); /* ready, and answering at once: no retry above */
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_NO_FAILURE(pod);
  UNTIL(log_has("redis", "Ready to accept connections"));
  UNTIL(log_has("redis", "Redis is now ready to exit"));
  CHECK(connect_to(port) < 0);
  CHECK_OK(podkeep_pod_free(pod));
  log_drop();
}
TEST(L13_two_redis_on_one_port) {
  need("redis-server");
  int port = free_port();
  podkeep_pod *first = redis_start("first", port);
  CHECK_OK(podkeep_pod_wait_ready(first, LIMIT_MS));
  podkeep_pod *second = redis_start("second", port);
  CHECK_STATUS(podkeep_pod_wait_ready(second, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(second, READY, EXIT, 1, "Address already in use");
  CHECK_HAS(failure_stderr(second), "Failed listening on port");
  CHECK_OK(podkeep_pod_free(second));
  CHECK_STATE(first, RUNNING);
  CHECK_HAS(ask(port, "PING\r\n", "PONG"), "+PONG");
  pod_close(first, PODKEEP_OK);
}
TEST(S2_redis_killed) {
  need("redis-server");
  podkeep_pod *pod = redis_start("redis", free_port());
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK(kill(pod_pid(pod), SIGKILL) == 0);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, RUN, SIGNAL, SIGKILL, "Ready to accept connections"); /* the end of its log is with it */
  CHECK_OK(podkeep_pod_free(pod));
}

/* --- nginx: a master with workers ---------------------------------------------------------------------------------------- */

static podkeep_pod *nginx_start(const char *name, int port) {
  char text[4000];
  const char *d = world_directory();
  snprintf(text, sizeof text,
           "daemon off;\nworker_processes 2;\npid %s/%s.pid;\nerror_log stderr notice;\n%s"
           "events {}\nhttp {\n access_log off;\n client_body_temp_path %s/body;\n proxy_temp_path %s/proxy;\n"
           " fastcgi_temp_path %s/fastcgi;\n uwsgi_temp_path %s/uwsgi;\n scgi_temp_path %s/scgi;\n"
           " server { listen 127.0.0.1:%d; location / { return 200 'served by a pod\\n'; } }\n}\n",
           d, name, geteuid() == 0 ? "user root;\n" : "", d, d, d, d, d, port);
  char file[64];
  snprintf(file, sizeof file, "%s.conf", name);
  write_file(world_path(file), text);
  const char *const argv[] = {"nginx", "-p", world_directory(), "-e", "stderr", "-c", world_path(file), NULL};
  podkeep_pod_options o = server_options(PODKEEP_READY_PORT, port);
  o.stop_signal = SIGQUIT; /* its word for "finish what you serve" */
  return command_start(name, argv, &o);
}
TEST(S2_nginx_as_a_pod) {
  need("nginx");
  int port = free_port();
  podkeep_pod *pod = nginx_start("nginx", port);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_HAS(ask(port, "GET / HTTP/1.0\r\n\r\n", "served by a pod"), "200 OK");
  pid_t group = pod_pid(pod);
  CHECK_OK(podkeep_pod_close(pod));
  UNTIL(!group_alive(group)); /* the workers, too */
  CHECK_NO_FAILURE(pod);
  CHECK(connect_to(port) < 0);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S2_nginx_killed_takes_its_workers_along) {
  need("nginx");
  int port = free_port();
  podkeep_pod *pod = nginx_start("nginx", port);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  pid_t group = pod_pid(pod);
  CHECK(kill(group, SIGKILL) == 0); /* the master alone: left to themselves its workers would go on serving */
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(pod, RUN, SIGNAL, SIGKILL, NULL);
  UNTIL(!group_alive(group));
  UNTIL(connect_to(port) < 0);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L13_two_nginx_on_one_port) {
  need("nginx");
  int port = free_port();
  podkeep_pod *first = nginx_start("first", port);
  CHECK_OK(podkeep_pod_wait_ready(first, LIMIT_MS));
  podkeep_pod *second = nginx_start("second", port); /* it tries for some seconds, deceived by nobody meanwhile */
  CHECK_STATUS(podkeep_pod_wait_ready(second, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(second, READY, EXIT, 1, "Address already in use");
  CHECK_OK(podkeep_pod_free(second));
  CHECK_STATE(first, RUNNING);
  CHECK_HAS(ask(port, "GET / HTTP/1.0\r\n\r\n", "served by a pod"), "200 OK");
  pod_close(first, PODKEEP_OK);
}

/* --- Python's http.server ----------------------------------------------------------------------------------------------------- */

static podkeep_pod *python_start(const char *name, int port) {
  char text[16];
  snprintf(text, sizeof text, "%d", port);
  /* As `python3 -m http.server`, which asks for the address's name, of whom it may concern, before it serves. */
  static const char script[] =
      "import runpy, socket; socket.getfqdn = str; runpy.run_module('http.server', run_name='__main__', alter_sys=True)";
  const char *const argv[] = {"python3", "-u", "-c", script, "--bind", "127.0.0.1", text, NULL};
  podkeep_pod_options o = server_options(PODKEEP_READY_PORT, port);
  char directory[64];
  snprintf(directory, sizeof directory, "served");
  mkdir(world_path(directory), 0755);
  write_file(world_path("served/page.txt"), "a page of the pod's own directory\n");
  o.cwd = world_path(directory);
  return command_start(name, argv, &o);
}
TEST(S2_http_server_as_a_pod) {
  need("python3");
  log_keep(3);
  int port = free_port();
  podkeep_pod *pod = python_start("http", port);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_HAS(ask(port, "GET /page.txt HTTP/1.0\r\n\r\n", "own directory"), "200 OK");
  CHECK_OK(podkeep_pod_close(pod));
  CHECK_NO_FAILURE(pod);
  UNTIL(log_has("http", "GET /page.txt"));
  CHECK(connect_to(port) < 0);
  CHECK_OK(podkeep_pod_free(pod));
  log_drop();
}
TEST(L13_two_http_servers_on_one_port) {
  need("python3");
  int port = free_port();
  podkeep_pod *first = python_start("first", port);
  CHECK_OK(podkeep_pod_wait_ready(first, LIMIT_MS));
  podkeep_pod *second = python_start("second", port);
  CHECK_STATUS(podkeep_pod_wait_ready(second, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_FAILURE(second, READY, EXIT, 1, "Address already in use");
  CHECK_OK(podkeep_pod_free(second));
  CHECK_STATE(first, RUNNING);
  CHECK_HAS(ask(port, "GET /page.txt HTTP/1.0\r\n\r\n", "own directory"), "200 OK");
  pod_close(first, PODKEEP_OK);
}
