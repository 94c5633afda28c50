/* libuv: uv_spawn of the dynamic child with two pipes, as its examples do it; reaped when its exit callback was called. */
#include "processes.h"
#include <stdlib.h>
#include <uv.h>

struct one {
  uv_process_t process;
  uv_pipe_t in, out;
  int ready, exited, closed;
  char buffer[16];
};

static uv_loop_t *loop;
static char *program;

static void prepare(void) {
  loop = uv_default_loop();
  program = beside("child-dynamic");
}

static void on_exit_of(uv_process_t *process, int64_t status, int signal) {
  if (status != 0 || signal != 0) die("the child of uv_spawn failed");
  ((struct one *)process->data)->exited = 1;
}

static void on_closed(uv_handle_t *handle) { ((struct one *)handle->data)->closed++; }

static void allocate(uv_handle_t *handle, size_t size, uv_buf_t *buffer) {
  struct one *one = handle->data;
  (void)size;
  *buffer = uv_buf_init(one->buffer, sizeof one->buffer);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
  (void)buffer;
  if (count > 0) ((struct one *)stream->data)->ready = 1;
  if (count < 0) uv_read_stop(stream);
}

static void *begin(void) {
  struct one *one = calloc(1, sizeof *one);
  char *argv[] = {program, NULL};
  uv_stdio_container_t stdio[3];
  uv_process_options_t options = {.exit_cb = on_exit_of, .file = program, .args = argv, .stdio_count = 3, .stdio = stdio};
  if (one == NULL) die("calloc");
  uv_pipe_init(loop, &one->in, 0);
  uv_pipe_init(loop, &one->out, 0);
  one->process.data = one->in.data = one->out.data = one;
  stdio[0].flags = UV_CREATE_PIPE | UV_READABLE_PIPE;
  stdio[0].data.stream = (uv_stream_t *)&one->in;
  stdio[1].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
  stdio[1].data.stream = (uv_stream_t *)&one->out;
  stdio[2].flags = UV_INHERIT_FD;
  stdio[2].data.fd = 2;
  if (uv_spawn(loop, &one->process, &options) != 0) die("uv_spawn");
  uv_read_start((uv_stream_t *)&one->out, allocate, on_read);
  while (!one->ready) uv_run(loop, UV_RUN_ONCE);
  return one;
}

static void end(void *of) {
  struct one *one = of;
  uv_close((uv_handle_t *)&one->in, on_closed);
  while (!one->exited) uv_run(loop, UV_RUN_ONCE);
  uv_close((uv_handle_t *)&one->out, on_closed);
  uv_close((uv_handle_t *)&one->process, on_closed);
  while (one->closed < 3) uv_run(loop, UV_RUN_ONCE);
  free(one);
}

static pid_t child(void *of) { return ((struct one *)of)->process.pid; }

const struct process_peer peer_uv = {prepare, begin, end, child};
