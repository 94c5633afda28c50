/* group: redis, a web server that waits for it, and a worker that crashes at random, kept together.
 *
 *   group [REDIS_PORT [WEB_PORT [WEB_DIRECTORY]]]      until SIGINT or SIGTERM; needs redis-server and python3
 *
 * Kill any of them with any signal, at any time: it comes back, when those it needs are there, and a redis that comes back
 * takes along those that came after it. Each change of state is printed as it is told. In the end all go down in reverse. */
#define _GNU_SOURCE /* for signalfd.h and the like, under -std=c99 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <podkeep.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int failed(const char *what) {
  fprintf(stderr, "group: %s: %s\n", what, podkeep_last_error());
  return 1;
}

/* --- The worker: in a child process, which is this program again ------------------------------------------------------- */

struct worker { int redis; };

static int32_t worker_init(podkeep_context *ctx, void *config, void **state) {
  static struct worker worker;
  struct sockaddr_in redis = {.sin_family = AF_INET};
  size_t len = 0;
  const void *port = podkeep_context_args(ctx, &len);
  (void)config;
  if (len != sizeof redis.sin_port) return podkeep_context_fail(ctx, 1, "the port of redis is missing");
  memcpy(&redis.sin_port, port, len);
  redis.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  worker.redis = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (worker.redis < 0) return podkeep_context_fail(ctx, errno, strerror(errno));
  if (connect(worker.redis, (struct sockaddr *)&redis, sizeof redis) != 0) {
    int error = errno;
    close(worker.redis); /* a failed init cleans up after itself */
    return podkeep_context_fail(ctx, error, strerror(error));
  }
  srand((unsigned)(time(NULL) ^ getpid()));
  *state = &worker;
  return 0;
}

static int32_t worker_run(podkeep_context *ctx, void *state) {
  struct worker *worker = state;
  static const char count[] = "INCR podkeep:jobs\r\n";
  char answer[64];
  while (podkeep_context_wait(ctx, 20) == PODKEEP_ERR_TIMEOUT) {
    if (send(worker->redis, count, sizeof count - 1, MSG_NOSIGNAL) < 0 || recv(worker->redis, answer, sizeof answer, 0) <= 0)
      return podkeep_context_fail(ctx, 2, "redis has hung up");
    switch (rand() % 100) { /* its bugs */
      case 0: return podkeep_context_fail(ctx, 3, "a bug that is noticed");
      case 1: _exit(4);
      case 2: raise(SIGKILL); break;
      default: break;
    }
  }
  return 0;
}

static int32_t worker_teardown(podkeep_context *ctx, void *state) {
  (void)ctx;
  return close(((struct worker *)state)->redis);
}

/* --- The group ------------------------------------------------------------------------------------------------------------ */

/* What all three have in common: processes that come back after a failure, as often as need be. */
static podkeep_pod_options kept(void) {
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  options.host = PODKEEP_HOST_PROCESS;
  options.restart = PODKEEP_RESTART_ALWAYS;
  options.max_restarts = UINT32_MAX;
  options.backoff_max_ms = 250;
  options.ready_timeout_ms = 20000;
  return options;
}

/* Kept for print: for the group alone they could be freed at once. */
static podkeep_pod *pods[3];
static int pod_count;

static podkeep_status add(podkeep_group *group, podkeep_runtime *runtime, const podkeep_pod_options *options, const char *after) {
  const char *names[] = {after, NULL};
  podkeep_member_options member = PODKEEP_MEMBER_OPTIONS_INIT;
  podkeep_pod **pod = &pods[pod_count++];
  member.after = names;
  podkeep_status status = podkeep_pod_new(runtime, options, pod);
  return status == PODKEEP_OK ? podkeep_group_add(group, *pod, &member) : status;
}

static podkeep_status add_server(podkeep_group *group, const char *name, const char *const argv[], int port, const char *after) {
  podkeep_runtime *runtime = NULL;
  podkeep_pod_options options = kept();
  options.ready = PODKEEP_READY_PORT; /* when it listens there, itself and no other */
  options.ready_port = port;
  podkeep_status status = podkeep_runtime_from_command(name, argv, &runtime);
  if (status == PODKEEP_OK) status = add(group, runtime, &options, after);
  podkeep_runtime_free(runtime);
  return status;
}

static void print(const podkeep_event *event) {
  static const char *const states[] = {"new", "starting", "running", "stopping", "restarting", "stopped", "failed", "abandoned"};
  int64_t pid = 0;
  if (event->to == PODKEEP_STATE_RUNNING) podkeep_pod_id(event->pod, &pid); /* it may be dead again by now: then 0 */
  printf("%-6s %-10s", event->name, states[event->to]);
  if (pid > 0) printf(" process %lld", (long long)pid);
  if (event->failure) printf(" %.*s", (int)strcspn(podkeep_failure_message(event->failure), "\n"), podkeep_failure_message(event->failure));
  printf("\n");
  fflush(stdout);
}

int main(int argc, char **argv) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *worker = NULL;
  int32_t code = 0;
  spec.name = "worker";
  spec.init = worker_init;
  spec.run_forever = worker_run;
  spec.teardown = worker_teardown;
  if (podkeep_runtime_new(&spec, &worker) != PODKEEP_OK || podkeep_export(worker) != PODKEEP_OK) return failed("worker");
  if (podkeep_child_run(&code) == PODKEEP_OK) return code; /* this is the worker's process */

  const char *redis_port = argc > 1 ? argv[1] : "6390", *web_port = argc > 2 ? argv[2] : "8090";
  const char *const redis[] = {"redis-server", "--bind", "127.0.0.1", "--port", redis_port, "--save", "", "--logfile", "/dev/null", NULL};
  const char *const web[] = {"python3", "-m", "http.server", web_port, "--bind", "127.0.0.1", "--directory", argc > 3 ? argv[3] : ".", NULL};
  podkeep_group_options options = PODKEEP_GROUP_OPTIONS_INIT;
  podkeep_group *group = NULL;
  podkeep_monitor *monitor = NULL;
  options.name = "site";
  options.strategy = PODKEEP_REST_FOR_ONE;
  podkeep_pod_options work = kept();
  uint16_t port = htons((uint16_t)atoi(redis_port));
  work.args = &port;
  work.args_len = sizeof port;
  if (podkeep_group_new(&options, &group) != PODKEEP_OK) return failed("group");
  if (add_server(group, "redis", redis, atoi(redis_port), NULL) != PODKEEP_OK) return failed("redis");
  if (add_server(group, "web", web, atoi(web_port), "redis") != PODKEEP_OK) return failed("web");
  if (add(group, worker, &work, "redis") != PODKEEP_OK) return failed("worker");
  podkeep_runtime_free(worker);

  struct pollfd fds[2] = {{-1, POLLIN, 0}, {-1, POLLIN, 0}};
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGINT);
  sigaddset(&stop, SIGTERM);
  sigprocmask(SIG_BLOCK, &stop, NULL);
  fds[0].fd = signalfd(-1, &stop, SFD_CLOEXEC);
  if (podkeep_monitor_new_group(group, &monitor) != PODKEEP_OK) return failed("monitor");
  if (podkeep_monitor_fd(monitor, &fds[1].fd) != PODKEEP_OK) return failed("monitor");
  if (podkeep_group_start(group) != PODKEEP_OK) return failed("start");
  for (podkeep_status told = PODKEEP_OK; told != PODKEEP_ERR_ENDED;) { /* it has, and all is read */
    struct signalfd_siginfo signal;
    podkeep_event event = PODKEEP_EVENT_INIT;
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return perror("poll"), 1;
    if ((fds[0].revents & POLLIN) && read(fds[0].fd, &signal, sizeof signal) > 0) podkeep_group_cancel(group);
    while ((told = podkeep_monitor_next(monitor, &event, 0)) == PODKEEP_OK)
      if (event.from != event.to) print(&event);
    if (told != PODKEEP_ERR_TIMEOUT && told != PODKEEP_ERR_ENDED) return failed("monitor");
  }
  podkeep_status status = podkeep_group_close(group);
  if (status != PODKEEP_OK) failed("the end");
  podkeep_monitor_free(monitor);
  for (int i = 0; i < pod_count; i++) podkeep_pod_free(pods[i]);
  podkeep_group_free(group);
  return status != PODKEEP_OK;
}
