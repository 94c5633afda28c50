/* GLib: a GThread, a GCancellable slept on through its descriptor (the way its documentation shows for blocking code), a
 * GMutex and a GCond for ready. */
#include "peers.h"
#include <gio/gio.h>
#include <pthread.h>

struct one {
  GThread *thread;
  GCancellable *cancellable;
  GMutex mutex;
  GCond became_ready;
  gboolean ready;
};

static gpointer hosted(gpointer argument) {
  struct one *one = argument;
  GPollFD fd;
  g_mutex_lock(&one->mutex);
  one->ready = TRUE;
  g_cond_signal(&one->became_ready);
  g_mutex_unlock(&one->mutex);
  if (!g_cancellable_make_pollfd(one->cancellable, &fd)) die("g_cancellable_make_pollfd");
  while (!g_cancellable_is_cancelled(one->cancellable)) g_poll(&fd, 1, -1);
  note_wake();
  g_cancellable_release_fd(one->cancellable);
  return NULL;
}

static void prepare(size_t stack_size) {
  /* GThread takes no attributes: the size of every new thread's stack is set for the process. */
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  if (stack_size != 0 && (pthread_attr_setstacksize(&attr, stack_size) != 0 || pthread_setattr_default_np(&attr) != 0))
    die("pthread_setattr_default_np");
  pthread_attr_destroy(&attr);
}

static void *make(void) {
  struct one *one = g_new0(struct one, 1);
  one->cancellable = g_cancellable_new();
  g_mutex_init(&one->mutex);
  g_cond_init(&one->became_ready);
  return one;
}

static void start(void *pointer) {
  struct one *one = pointer;
  one->thread = g_thread_new(NULL, hosted, one);
}

static void wait_ready(void *pointer) {
  struct one *one = pointer;
  g_mutex_lock(&one->mutex);
  while (!one->ready) g_cond_wait(&one->became_ready, &one->mutex);
  g_mutex_unlock(&one->mutex);
}

static void cancel(void *pointer) { g_cancellable_cancel(((struct one *)pointer)->cancellable); }

static void join(void *pointer) {
  struct one *one = pointer;
  g_thread_join(one->thread);
  g_object_unref(one->cancellable);
  g_mutex_clear(&one->mutex);
  g_cond_clear(&one->became_ready);
  g_free(one);
}

const struct peer peer_gcancellable = {"GThread + GCancellable", prepare, make, start, wait_ready,
                                       cancel,         join};

double flag_gcancellable(long count) {
  GCancellable *cancellable = g_cancellable_new();
  /* It returns a gboolean of 0 or 1, of which the loop reads the low byte. */
  double ns = look_cost((look_fn)(void (*)(void))g_cancellable_is_cancelled, cancellable, count);
  g_object_unref(cancellable);
  return ns;
}
