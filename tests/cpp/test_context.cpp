// Context, stop_token.
#include "check.hpp"

#include <poll.h>

#include <algorithm>
#include <fstream>
#include <iterator>

namespace {
bool readable(int fd, int limit_ms) {
  ::pollfd one = {fd, POLLIN, 0};
  return ::poll(&one, 1, limit_ms) == 1;
}
}  // namespace

CASE(context_tells_and_waits) {
  static check::Event looked;
  podkeep::Options options;
  options.name = "inside";
  options.args = std::string("a\0b", 3);
  options.grace = 30s;
  podkeep::Pod pod(options, [](podkeep::Context &context) {
    REQUIRE(context.name() == "inside");
    REQUIRE(context.args() == std::string_view("a\0b", 3));
    REQUIRE(reinterpret_cast<std::uintptr_t>(context.args().data()) % 16 == 0);
    REQUIRE(context.incarnation() == 0);
    REQUIRE(context.native_handle());
    REQUIRE(!context.cancelled() && !context.wait(0ms) && !context.wait(1ms) && !context.time_left());
    const int fd = context.fd();
    REQUIRE(fd >= 0 && !readable(fd, 0));
    context.status("looked");
    context.heartbeat();
    context.extend(1s);
    looked.set();
    REQUIRE(readable(fd, 20000));
    REQUIRE(context.cancelled() && context.wait(0ms) && context.wait(podkeep::forever));
    context.wait();
    REQUIRE(context.time_left() && *context.time_left() > 0ms && *context.time_left() <= 31s);
  });
  pod.start();
  REQUIRE(looked.wait());
  pod.close();
  podkeep::Pod([](podkeep::Context &context) { REQUIRE(context.args().empty()); }).start().join();
}

CASE(context_ready_is_the_pods_own_word) {
  static check::Event go;
  podkeep::Options options;
  options.ready = podkeep::Ready::Notify;
  podkeep::Pod pod(options, [](podkeep::Context &context) {
    REQUIRE(go.wait());
    context.ready();
    context.wait();
  });
  pod.start();
  REQUIRE_STATUS(Timeout, pod.wait_ready(1ms));
  REQUIRE(pod.state() == podkeep::State::Starting);
  go.set();
  pod.wait_ready();
  REQUIRE(pod.state() == podkeep::State::Running);
  pod.close();

  podkeep::Pod never(options, [] {});
  never.start();
  REQUIRE_STATUS(Ended, never.wait_ready());
}

CASE(ready_timeout_is_a_failure) {
  podkeep::Options options;
  options.name = "late";
  options.ready = podkeep::Ready::Notify;
  options.ready_timeout = 20ms;
  podkeep::Pod pod(options, [](podkeep::Context &context) { context.wait(); });
  pod.start();
  const podkeep::Error error = ERROR_OF(pod.wait_ready());
  REQUIRE(error.status() == podkeep::Status::Failed);
  REQUIRE(error.failure() && error.failure()->phase == podkeep::Phase::Ready && error.failure()->kind == podkeep::Kind::Timeout);
}

CASE(context_bad_calls_are_errors) {
  podkeep::Pod([](podkeep::Context &context) {
    REQUIRE_STATUS(InvalidArgument, context.status("\xff"));
    REQUIRE_STATUS(InvalidArgument, context.extend(-1s));
  }).start().join();
}

CASE(a_copy_of_a_context_is_harmless_afterwards) {
  std::optional<podkeep::Context> copy;
  {
    podkeep::Pod pod([&](podkeep::Context &context) { copy = context; });
    pod.start().join();
  }
  REQUIRE(copy->cancelled());
  REQUIRE(copy->wait(10s) && copy->wait(podkeep::forever));
  REQUIRE_STATUS(InvalidState, copy->ready());
  REQUIRE_STATUS(InvalidState, copy->status("late"));
  REQUIRE(copy->fail(3, "late") == 3);
#ifdef __cpp_lib_jthread
  REQUIRE(copy->stop_token().stop_requested());
#endif
}

CASE(other_threads_of_the_runtime_use_the_context) {
  podkeep::Pod pod([](podkeep::Context &context) {
    std::thread beside([context] { context.wait(); });
    beside.join();
  });
  pod.start().wait_ready();
  pod.close();
}

#ifdef __cpp_lib_jthread
CASE(stop_token_stops_run_forever) {
  static check::Event asked;
  podkeep::Pod pod([](podkeep::Context &context) {
    const std::stop_token token = context.stop_token();
    REQUIRE(token.stop_possible() && !token.stop_requested());
    REQUIRE(token == context.stop_token());  // one an incarnation
    std::mutex lock;
    std::condition_variable_any changed;
    std::unique_lock<std::mutex> guard(lock);
    asked.set();
    REQUIRE(!changed.wait(guard, token, [] { return false; }));
    REQUIRE(token.stop_requested() && context.cancelled());
  });
  pod.start();
  REQUIRE(asked.wait());
  pod.close();
}

CASE(stop_token_first_asked_for_when_all_is_over) {
  podkeep::Pod pod([](podkeep::Context &context) {
    // As a thread sees it that is late: the incarnation has been ended, and is not cancelled.
    const auto shared = std::make_shared<podkeep::detail::Incarnation>();
    shared->end();
    const podkeep::Context late(context.native_handle(), shared);
    const int threads = check::threads();
    REQUIRE(!late.cancelled() && late.stop_token().stop_requested());
    REQUIRE(check::threads() == threads);
  });
  pod.start().join();
}

CASE(stop_token_as_the_argument) {
  podkeep::Pod pod([](std::stop_token token) {
    check::Event stopped;
    std::stop_callback callback(token, [&] { stopped.set(); });
    REQUIRE(stopped.wait());
  });
  pod.start().wait_ready();
  pod.close();
}

CASE(stop_token_in_the_constructor_and_in_teardown) {
  static check::Event asked;
  static std::atomic<bool> torn{false};
  struct Slow : podkeep::Runtime {
    std::stop_token token;
    podkeep::Context context;
    explicit Slow(podkeep::Context &given) : token(given.stop_token()), context(given) {
      check::Event stopped;
      std::stop_callback callback(token, [&] { stopped.set(); });
      asked.set();
      REQUIRE(stopped.wait());
    }
    void run_forever(podkeep::Context &) override { REQUIRE(false); }
    void teardown() override {
      REQUIRE(token.stop_requested() && context.stop_token() == token);
      torn = true;
    }
  };
  podkeep::Pod pod = podkeep::Pod::make<Slow>({});
  pod.start();
  REQUIRE(asked.wait());
  pod.close();
  REQUIRE(torn);
}

CASE(stop_token_first_asked_for_after_the_cancel) {
  podkeep::Pod pod([](podkeep::Context &context) {
    context.wait();
    REQUIRE(context.stop_token().stop_requested());
  });
  pod.start().wait_ready();
  pod.close();
}

CASE(stop_token_outlives_the_pod) {
  std::stop_token token;
  podkeep::Pod pod([&](podkeep::Context &context) { token = context.stop_token(); });
  pod.start().join();
  REQUIRE(token.stop_requested());
}

CASE(stop_tokens_leave_no_thread_and_no_descriptor) {
  const auto one = [](auto function) {
    podkeep::Pod pod(std::move(function));
    pod.start();
    try {
      pod.close();
    } catch (const podkeep::Error &error) {
      REQUIRE(error.failure() && error.failure()->kind == podkeep::Kind::Exit);
    }
  };
  const auto asks = [](podkeep::Context &context) { (void)context.stop_token(); };
  one(asks);
  one(asks);
  const int threads = check::threads(), descriptors = check::descriptors();
  for (int i = 0; i < 100; ++i) one(asks);
  for (int i = 0; i < 100; ++i) one([](std::stop_token) { ::pthread_exit(nullptr); });
  REQUIRE(check::eventually([&] { return check::threads() <= threads && check::descriptors() <= descriptors; }));
}

CASE(stop_token_of_a_life_that_was_ended_from_inside) {
  const auto one = [] {
    std::stop_token first;
    podkeep::Options options;
    options.restart = podkeep::Restart::OnFailure;
    options.backoff = 1ms;
    options.ready = podkeep::Ready::Notify;
    podkeep::Pod pod(options, [&first](podkeep::Context &context) {
      if (context.incarnation() == 0) {
        first = context.stop_token();
        ::pthread_exit(nullptr);  // no teardown comes
      }
      REQUIRE(first.stop_requested());
      context.ready();
      context.wait();
    });
    pod.start().wait_ready(20s);
  };
  // A thread that nobody joined is gone from the kernel's list, but its stack and the guard below it stay.
  const auto mappings = [] {
    std::ifstream file("/proc/self/maps");
    return std::count(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>(), '\n');
  };
  for (int i = 0; i < 5; ++i) one();
  const int threads = check::threads(), descriptors = check::descriptors();
  const auto mapped = mappings();
  for (int i = 0; i < 50; ++i) one();
  REQUIRE(check::eventually([&] { return check::threads() <= threads && check::descriptors() <= descriptors; }));
  REQUIRE(mappings() < mapped + 50);
}
#endif
