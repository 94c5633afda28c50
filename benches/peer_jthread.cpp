// C++20 as the standard library offers it: std::jthread, its stop_token, a latch for ready, condition_variable_any to
// sleep until the stop is asked for.
#include "peers.h"
#include <condition_variable>
#include <latch>
#include <mutex>
#include <pthread.h>
#include <stop_token>
#include <thread>

namespace {

struct One {
  std::jthread thread;
  std::latch ready{1};
  std::mutex mutex;
  std::condition_variable_any stopped;
};

void prepare(std::size_t stack_size) {
  // jthread takes no attributes: the size of every new thread's stack is set for the process.
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  if (stack_size != 0 &&
      (pthread_attr_setstacksize(&attr, stack_size) != 0 || pthread_setattr_default_np(&attr) != 0))
    die("pthread_setattr_default_np");
  pthread_attr_destroy(&attr);
}

void *make() { return new One; }

void start(void *pointer) {
  One *one = static_cast<One *>(pointer);
  one->thread = std::jthread([one](std::stop_token stop) {
    one->ready.count_down();
    std::unique_lock lock(one->mutex);
    one->stopped.wait(lock, stop, [] { return false; });
    note_wake();
  });
}

void wait_ready(void *pointer) { static_cast<One *>(pointer)->ready.wait(); }

void cancel(void *pointer) { static_cast<One *>(pointer)->thread.request_stop(); }

void join(void *pointer) {
  One *one = static_cast<One *>(pointer);
  one->thread.join();
  delete one;
}

}  // namespace

extern "C" {
const struct peer peer_jthread = {"std::jthread + stop_token", prepare, make, start, wait_ready, cancel, join};

double flag_jthread(long count) {
  std::stop_source source;
  std::stop_token token = source.get_token();
  bool stopped = false;
  const uint64_t began = now_ns();
  for (long i = 0; i < count; i++) {
    stopped |= token.stop_requested();
    asm volatile("" : "+r"(stopped) : : "memory");
  }
  return static_cast<double>(now_ns() - began) / static_cast<double>(count);
}
}
