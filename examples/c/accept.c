/* accept: an echo server on plain blocking calls, kept in a pod.
 *
 *     cc -std=c99 accept.c $(pkg-config --cflags --libs podkeep) -o accept
 *     ./accept [port]           a port of 0, the default, lets the kernel pick one
 *
 * The server sits in accept(), or in recv() for the one client it serves at a time: no event loop, no timeout, nothing
 * to poll. There is no cancel hook either. What gets it out is the EINTR kick: with `kick_signal` set, a stop sends
 * that signal to the pod's thread, again and again until it has seen the cancel, so that a call which was just about to block
 * is caught as well. The code does what any careful POSIX code does: after EINTR it looks whether it should go on.
 *
 * The library installs an empty handler for the kick signal when it has none, and unblocks it in the pod's thread only.
 * SIGINT and SIGTERM cancel the pod.
 * Exit status: 0 after a clean end, 1 when the pod failed (the failure is on stderr), 2 for wrong usage.
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <podkeep.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct server {
  int port; /* in: the port that is wanted; out, from init: the port that the server has */
  int listener;
};

/* --- The runtime: what the pod calls, all on the pod's thread ------------------------------------------------------ */

static int32_t fail(podkeep_context *ctx, int code, const char *call) {
  char message[256];
  snprintf(message, sizeof message, "%s: %s", call, strerror(code));
  return podkeep_context_fail(ctx, code, message);
}

static int32_t init(podkeep_context *ctx, void *config, void **state) {
  struct server *server = config;
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  const int on = 1;
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons((uint16_t)server->port);
  server->listener = socket(AF_INET, SOCK_STREAM, 0);
  if (server->listener < 0) return fail(ctx, errno, "socket");
  if (setsockopt(server->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(server->listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(server->listener, 128) != 0 ||
      getsockname(server->listener, (struct sockaddr *)&address, &length) != 0) {
    const int error = errno;
    char call[64];
    snprintf(call, sizeof call, "cannot listen on 127.0.0.1:%d", server->port);
    close(server->listener); /* no teardown follows a failed init */
    return fail(ctx, error, call);
  }
  server->port = ntohs(address.sin_port);
  *state = server;
  return 0;
}

/* Sends back what the client says until it hangs up, or until the pod is cancelled. */
static void echo(const podkeep_context *ctx, int client) {
  char buffer[4096];
  for (;;) {
    ssize_t count = recv(client, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EINTR && !podkeep_context_cancelled(ctx)) continue;
    if (count <= 0) return; /* it hung up, or its connection broke: its affair, not the server's */
    for (ssize_t sent = 0; sent < count;) {
      ssize_t more = send(client, buffer + sent, (size_t)(count - sent), MSG_NOSIGNAL);
      if (more < 0 && errno == EINTR && !podkeep_context_cancelled(ctx)) continue;
      if (more < 0) return;
      sent += more;
    }
  }
}

static int32_t run_forever(podkeep_context *ctx, void *state) {
  struct server *server = state;
  char text[64]; /* shown in the reasons of timeouts */
  snprintf(text, sizeof text, "listening on 127.0.0.1:%d", server->port);
  podkeep_context_status(ctx, text);
  while (!podkeep_context_cancelled(ctx)) {
    int client = accept(server->listener, NULL, NULL);
    if (client >= 0) {
      echo(ctx, client);
      close(client);
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return fail(ctx, errno, "accept");
    }
  }
  return 0;
}

static int32_t teardown(podkeep_context *ctx, void *state) {
  struct server *server = state;
  return close(server->listener) == 0 ? 0 : fail(ctx, errno, "close");
}

/* --- The program: make the pod, wait for its end, leave with its result -------------------------------------------- */

static podkeep_pod *pod;

/* podkeep_pod_cancel is async-signal-safe, and a handle that is dead by now only gives a status. */
static void on_signal(int signal_number) {
  (void)signal_number;
  podkeep_pod_cancel(pod);
}

/* The first of these calls that failed said why; a pod that failed has its own record of it. */
static int trouble(const char *call) {
  podkeep_failure *failure = NULL;
  if (pod != NULL && podkeep_pod_failure(pod, &failure) == PODKEEP_OK && failure != NULL)
    fprintf(stderr, "%s failed: %s\n", podkeep_failure_pod_name(failure), podkeep_failure_message(failure));
  else
    fprintf(stderr, "accept: %s: %s\n", call, podkeep_last_error());
  podkeep_failure_free(failure);
  return EXIT_FAILURE;
}

int main(int argc, char **argv) {
  struct server server = {0, -1};
  char *end = NULL;
  long port = argc > 1 ? strtol(argv[1], &end, 10) : 0;
  if (argc > 2 || port < 0 || port > 65535 || (end != NULL && (end == argv[1] || *end != '\0'))) {
    fprintf(stderr, "usage: accept [port]\n");
    return 2;
  }
  server.port = (int)port;

  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "accept";
  spec.init = init;
  spec.run_forever = run_forever;
  spec.teardown = teardown;
  spec.config = &server;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  options.kick_signal = SIGUSR1;

  podkeep_runtime *runtime = NULL;
  if (podkeep_runtime_new(&spec, &runtime) != PODKEEP_OK) return trouble("podkeep_runtime_new");
  if (podkeep_pod_new(runtime, &options, &pod) != PODKEEP_OK) return trouble("podkeep_pod_new");

  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);

  podkeep_status status = podkeep_pod_start(pod);
  if (status == PODKEEP_OK) status = podkeep_pod_wait_ready(pod, 10000);
  if (status == PODKEEP_OK) {
    printf("echo on 127.0.0.1:%d\n", server.port); /* init wrote the port before the pod was ready */
    fflush(stdout);
  }
  /* Not ready in time, or a signal came first (ENDED, INVALID_STATE)? Cancelling again does no harm, and join says how it
   * ended. */
  if (status != PODKEEP_OK) podkeep_pod_cancel(pod);
  int code = podkeep_pod_join(pod, PODKEEP_FOREVER) == PODKEEP_OK ? EXIT_SUCCESS : trouble("podkeep_pod_join");
  podkeep_pod_free(pod);
  podkeep_runtime_free(runtime);
  return code;
}
