/* The floor: a joinable pthread and one futex word. A word is set with one exchange; a system call follows only when
 * somebody sleeps on it. No name, no signal mask, no state for anybody else to see. The second peer names its thread, as
 * podkeep promises to: what that alone costs. */
#include "peers.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { INIT = 0, READY = 1, CANCEL = 2, SLEEPER = 4 };

struct one {
  pthread_t thread;
  uint32_t word;
};

static pthread_attr_t attr;
static void *(*entry)(void *);

static void set(uint32_t *word, uint32_t value) {
  if (__atomic_exchange_n(word, value, __ATOMIC_ACQ_REL) & SLEEPER)
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void wait_for(uint32_t *word, uint32_t value) {
  uint32_t seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
  while ((seen & ~(uint32_t)SLEEPER) < value) {
    if ((seen & SLEEPER) ||
        __atomic_compare_exchange_n(word, &seen, seen | SLEEPER, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen | SLEEPER, NULL, NULL, 0);
      seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    }
  }
}

static void *hosted(void *argument) {
  struct one *one = argument;
  set(&one->word, READY);
  wait_for(&one->word, CANCEL);
  note_wake();
  return NULL;
}

static void *hosted_named(void *argument) {
  prctl(PR_SET_NAME, "bench");
  return hosted(argument);
}

static void prepare_with(size_t stack_size, void *(*body)(void *)) {
  entry = body;
  pthread_attr_init(&attr);
  if (stack_size != 0 && pthread_attr_setstacksize(&attr, stack_size) != 0) die("pthread_attr_setstacksize");
}
static void prepare(size_t stack_size) { prepare_with(stack_size, hosted); }
static void prepare_named(size_t stack_size) { prepare_with(stack_size, hosted_named); }

static void *make(void) {
  struct one *one = calloc(1, sizeof *one);
  if (one == NULL) die("calloc");
  return one;
}

static void start(void *pointer) {
  struct one *one = pointer;
  if (pthread_create(&one->thread, &attr, entry, one) != 0) die("pthread_create");
}

static void wait_ready(void *pointer) { wait_for(&((struct one *)pointer)->word, READY); }

static void cancel(void *pointer) { set(&((struct one *)pointer)->word, CANCEL); }

static void join(void *pointer) {
  pthread_join(((struct one *)pointer)->thread, NULL);
  free(pointer);
}

const struct peer peer_pthread = {"pthread + futex", prepare, make, start, wait_ready, cancel, join};
const struct peer peer_pthread_named = {"the same, with a name", prepare_named, make, start,
                                        wait_ready,      cancel, join};
