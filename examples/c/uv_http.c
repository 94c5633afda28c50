/* uv_http: a small HTTP server on libuv, kept in a pod.
 *
 *     cc -std=c99 uv_http.c $(pkg-config --cflags --libs podkeep libuv) -o uv_http
 *     ./uv_http [port]          a port of 0, the default, lets the kernel pick one
 *
 * `uv_run` blocks its thread for as long as the server lives, and nothing but libuv itself can wake it. So:
 *   init         makes the loop and listens; whatever fails here is the pod's failure, with its reason
 *   run_forever  says that it is ready and blocks in uv_run
 *   cancel       (the hook) wakes the loop from outside: uv_async_send, the one call libuv allows from another thread
 *   teardown     closes every handle and the loop, however run_forever ended
 *
 * The main thread watches the pod's life through a monitor and prints it. SIGINT and SIGTERM cancel the pod.
 * Exit status: 0 after a clean end, 1 when the pod failed (the failure is on stderr), 2 for wrong usage.
 */
#define _POSIX_C_SOURCE 200809L
#include <podkeep.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct config {
  int port; /* in: the port that is wanted; out, from init: the port that the server has */
};

struct server {
  uv_loop_t loop;
  uv_async_t stop;
  uv_tcp_t listener;
  unsigned long served;
};

struct client {
  uv_tcp_t tcp;
  uv_write_t write;
  size_t used;
  char request[2048];
  char reply[1024];
};

/* --- The HTTP part: one request a connection, GET only ------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle) { free(handle->data); } /* a client's memory; NULL for the server's handles */

static void close_handle(uv_handle_t *handle, void *unused) {
  (void)unused;
  if (!uv_is_closing(handle)) uv_close(handle, on_closed);
}

static void on_written(uv_write_t *write, int status) {
  (void)status; /* a client that went away is not the server's failure */
  close_handle((uv_handle_t *)write->handle, NULL);
}

static void answer(struct client *client) {
  struct server *server = client->tcp.loop->data;
  const char *status = "200 OK";
  char page[512];
  if (strncmp(client->request, "GET ", 4) != 0) {
    status = "405 Method Not Allowed";
    snprintf(page, sizeof page, "<!doctype html><title>405</title><p>Only GET is served here.</p>\n");
  } else if (strncmp(client->request + 4, "/ ", 2) != 0) {
    status = "404 Not Found";
    snprintf(page, sizeof page, "<!doctype html><title>404</title><p>There is one page here: /</p>\n");
  } else {
    snprintf(page, sizeof page,
             "<!doctype html><title>Hello from a C pod</title>\n"
             "<h1>Hello from a C pod</h1>\n"
             "<p>libuv %s blocks in uv_run on the thread of the pod. This is page %lu.</p>\n",
             uv_version_string(), ++server->served);
  }
  int length = snprintf(client->reply, sizeof client->reply,
                        "HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %zu\r\n"
                        "Connection: close\r\n\r\n%s",
                        status, strlen(page), page);
  uv_buf_t out = uv_buf_init(client->reply, (unsigned)length);
  if (uv_write(&client->write, (uv_stream_t *)&client->tcp, &out, 1, on_written) != 0)
    close_handle((uv_handle_t *)&client->tcp, NULL);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
  struct client *client = handle->data;
  (void)suggested;
  /* A request that does not fit leaves no room: libuv then calls on_read with UV_ENOBUFS, which closes. */
  *out = uv_buf_init(client->request + client->used, (unsigned)(sizeof client->request - 1 - client->used));
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *unused) {
  struct client *client = stream->data;
  (void)unused;
  if (count < 0) {
    close_handle((uv_handle_t *)stream, NULL);
    return;
  }
  client->used += (size_t)count;
  client->request[client->used] = '\0';
  if (strstr(client->request, "\r\n\r\n") != NULL) {
    uv_read_stop(stream);
    answer(client);
  }
}

static void on_connection(uv_stream_t *listener, int status) {
  if (status < 0) return; /* that client's trouble (or no descriptor just now): go on listening */
  struct client *client = calloc(1, sizeof *client);
  if (client == NULL) return;
  if (uv_tcp_init(listener->loop, &client->tcp) != 0) {
    free(client);
    return;
  }
  client->tcp.data = client;
  if (uv_accept(listener, (uv_stream_t *)&client->tcp) != 0 ||
      uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_read) != 0)
    close_handle((uv_handle_t *)&client->tcp, NULL);
}

/* --- The runtime: what the pod calls, all on the pod's thread but the hook ----------------------------------------- */

static void on_stop(uv_async_t *async) { uv_stop(async->loop); }

static int listen_on(struct server *server, struct config *config) {
  struct sockaddr_in address;
  int length = sizeof address;
  int error;
  /* The wake-up exists before run_forever is entered: a cancel that comes before uv_run has begun must stick. */
  if ((error = uv_async_init(&server->loop, &server->stop, on_stop)) != 0) return error;
  if ((error = uv_tcp_init(&server->loop, &server->listener)) != 0) return error;
  if ((error = uv_ip4_addr("127.0.0.1", config->port, &address)) != 0) return error;
  if ((error = uv_tcp_bind(&server->listener, (const struct sockaddr *)&address, 0)) != 0) return error;
  if ((error = uv_listen((uv_stream_t *)&server->listener, 128, on_connection)) != 0) return error;
  if ((error = uv_tcp_getsockname(&server->listener, (struct sockaddr *)&address, &length)) != 0) return error;
  config->port = ntohs(address.sin_port);
  return 0;
}

static int close_server(struct server *server) {
  uv_walk(&server->loop, close_handle, NULL);
  uv_run(&server->loop, UV_RUN_DEFAULT); /* until the last on_closed has run */
  int error = uv_loop_close(&server->loop);
  free(server);
  return error;
}

static int32_t fail(podkeep_context *ctx, int code, const char *what) {
  char message[256];
  snprintf(message, sizeof message, "%s: %s", what, uv_strerror(code));
  return podkeep_context_fail(ctx, code, message);
}

static int32_t init(podkeep_context *ctx, void *argument, void **state) {
  struct config *config = argument;
  struct server *server = calloc(1, sizeof *server);
  if (server == NULL) return fail(ctx, UV_ENOMEM, "the server's memory");
  int error = uv_loop_init(&server->loop);
  if (error != 0) {
    free(server);
    return fail(ctx, error, "uv_loop_init");
  }
  server->loop.data = server;
  if ((error = listen_on(server, config)) != 0) { /* no teardown follows a failed init: clean up here */
    char what[64];
    snprintf(what, sizeof what, "cannot listen on 127.0.0.1:%d", config->port);
    close_server(server);
    return fail(ctx, error, what);
  }
  *state = server;
  return 0;
}

static int32_t run_forever(podkeep_context *ctx, void *state) {
  struct server *server = state;
  struct sockaddr_in address;
  int length = sizeof address;
  if (uv_tcp_getsockname(&server->listener, (struct sockaddr *)&address, &length) == 0) {
    char text[64]; /* shown in the reasons of timeouts */
    snprintf(text, sizeof text, "listening on 127.0.0.1:%d", ntohs(address.sin_port));
    podkeep_context_status(ctx, text);
  }
  podkeep_context_ready(ctx); /* it listens: the kernel queues what comes before uv_run accepts it */
  uv_run(&server->loop, UV_RUN_DEFAULT);
  return 0;
}

static void cancel(podkeep_context *ctx, void *state) {
  struct server *server = state;
  (void)ctx;
  uv_async_send(&server->stop);
}

static int32_t teardown(podkeep_context *ctx, void *state) {
  int error = close_server(state);
  return error == 0 ? 0 : fail(ctx, error, "uv_loop_close");
}

/* --- The program: make the pod, watch its life, leave with its result ---------------------------------------------- */

static podkeep_pod *pod;

/* podkeep_pod_cancel is async-signal-safe, and a handle that is dead by now only gives a status. */
static void on_signal(int signal_number) {
  (void)signal_number;
  podkeep_pod_cancel(pod);
}

static int trouble(const char *call) {
  fprintf(stderr, "uv_http: %s: %s\n", call, podkeep_last_error());
  return EXIT_FAILURE;
}

static void print_failure(const podkeep_failure *failure) {
  static const char *const phases[] = {"spawn", "init", "ready", "run", "cancel", "teardown"};
  for (; failure != NULL; failure = podkeep_failure_secondary(failure))
    fprintf(stderr, "%s failed in %s, code %d: %s\n", podkeep_failure_pod_name(failure),
            phases[podkeep_failure_phase(failure)], (int)podkeep_failure_code(failure), podkeep_failure_message(failure));
}

/* Prints every change of the pod's state as it happens, until no change can come. */
static podkeep_status watch(podkeep_monitor *monitor, const struct config *config) {
  static const char *const states[] = {"new",     "starting", "running", "stopping",
                                       "restarting", "stopped",  "failed",  "abandoned"};
  podkeep_event event = PODKEEP_EVENT_INIT;
  podkeep_status status;
  uint64_t began = 0;
  while ((status = podkeep_monitor_next(monitor, &event, PODKEEP_FOREVER)) == PODKEEP_OK) {
    if (event.from == event.to) began = event.time_ns; /* the first event: the state that the monitor found */
    printf("%9.3f ms  %s  ", (double)(event.time_ns - began) / 1e6, event.name);
    if (event.from != event.to) printf("%s -> ", states[event.from]);
    printf("%s\n", states[event.to]);
    if (event.to == PODKEEP_STATE_RUNNING) printf("http://127.0.0.1:%d/\n", config->port);
    fflush(stdout);
    if (event.to == PODKEEP_STATE_ABANDONED) return PODKEEP_ERR_ENDED; /* its thread may never come back: do not wait */
  }
  return status;
}

int main(int argc, char **argv) {
  struct config config = {0};
  char *end = NULL;
  long port = argc > 1 ? strtol(argv[1], &end, 10) : 0;
  if (argc > 2 || port < 0 || port > 65535 || (end != NULL && (end == argv[1] || *end != '\0'))) {
    fprintf(stderr, "usage: uv_http [port]\n");
    return 2;
  }
  config.port = (int)port;

  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "uv_http";
  spec.init = init;
  spec.run_forever = run_forever;
  spec.cancel = cancel;
  spec.teardown = teardown;
  spec.config = &config;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  options.ready = PODKEEP_READY_NOTIFY; /* ready when run_forever says so, not when it is entered */

  podkeep_runtime *runtime = NULL;
  podkeep_monitor *monitor = NULL;
  if (podkeep_runtime_new(&spec, &runtime) != PODKEEP_OK) return trouble("podkeep_runtime_new");
  if (podkeep_pod_new(runtime, &options, &pod) != PODKEEP_OK) return trouble("podkeep_pod_new");
  if (podkeep_monitor_new(pod, &monitor) != PODKEEP_OK) return trouble("podkeep_monitor_new");

  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);

  if (podkeep_pod_start(pod) == PODKEEP_ERR_RESOURCES) return trouble("podkeep_pod_start");
  /* (A signal that came before the start has cancelled the pod: the start was refused, and the life is told below.) */
  if (watch(monitor, &config) != PODKEEP_ERR_ENDED) return trouble("podkeep_monitor_next");

  podkeep_status result = podkeep_pod_join(pod, 0); /* it has ended: this only asks how */
  if (result == PODKEEP_ERR_FAILED) {
    podkeep_failure *failure = NULL;
    if (podkeep_pod_failure(pod, &failure) == PODKEEP_OK) print_failure(failure);
    podkeep_failure_free(failure);
  } else if (result != PODKEEP_OK) {
    trouble("podkeep_pod_join");
  }
  podkeep_monitor_free(monitor);
  podkeep_pod_free(pod);
  podkeep_runtime_free(runtime);
  return result == PODKEEP_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
