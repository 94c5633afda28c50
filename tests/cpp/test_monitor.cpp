// Monitor, shutdown, log.
#include "check.hpp"

#include <poll.h>

CASE(monitor_of_one_pod_sees_its_life_and_ends) {
  podkeep::Options options;
  options.name = "watched";
  podkeep::Pod pod(options, [](podkeep::Context &context) {
    context.wait();
    throw std::runtime_error("at last");
  });
  podkeep::Monitor monitor(pod);
  const auto before = std::chrono::steady_clock::now();
  pod.start().wait_ready();
  pod.cancel();
  std::vector<podkeep::State> seen;
  std::uint64_t sequence = 0;
  podkeep::Failure failure;
  while (const auto event = monitor.next()) {
    if (seen.empty()) REQUIRE(event->from == event->to);
    else REQUIRE(event->from == seen.back() || event->missed);
    REQUIRE(event->sequence > sequence);
    sequence = event->sequence;
    REQUIRE(event->pod == pod.native_handle() && event->name == "watched" && event->incarnation == 0);
    REQUIRE(event->time <= std::chrono::steady_clock::now());
    if (event->to != podkeep::State::New) REQUIRE(event->time >= before);
    seen.push_back(event->to);
    if (event->to == podkeep::State::Failed) {
      REQUIRE(event->failure.has_value());
      failure = *event->failure;
    }
  }
  REQUIRE(monitor.ended() && monitor.status() == podkeep::Status::Ended);
  REQUIRE(seen.front() == podkeep::State::New && seen.back() == podkeep::State::Failed);
  REQUIRE(failure.kind == podkeep::Kind::Exception && check::contains(failure.message, "at last") && !failure.exception);
  REQUIRE(!monitor.next(0ms) && monitor.ended());
}

CASE(monitor_has_ended_whatever_is_asked_since) {
  podkeep::Pod pod([](podkeep::Context &context) { context.wait(); });
  podkeep::Monitor monitor(pod);
  pod.start();
  pod.cancel();
  do {
    while (monitor.next(0ms)) {
    }
    ::pollfd one = {monitor.fd(), POLLIN, 0};
    REQUIRE(::poll(&one, 1, 20000) == 1);
  } while (!monitor.ended());
  REQUIRE(monitor.fd() >= 0 && monitor.ended() && monitor.status() == podkeep::Status::Ok);
  podkeep::Monitor moved(std::move(monitor));
  REQUIRE(moved.ended() && !monitor.ended());
}

CASE(monitor_of_all_pods_from_an_event_loop) {
  podkeep::Monitor monitor;
  const int fd = monitor.fd();
  REQUIRE(fd >= 0 && fd == monitor.fd());
  REQUIRE(!monitor.next(0ms) && !monitor.ended());
  REQUIRE(!monitor.next(1ms));
  podkeep::Options options;
  options.name = "later";
  podkeep::Pod pod(options, [](podkeep::Context &context) { context.wait(); });
  pod.start().wait_ready();
  pod.close();
  bool stopped = false;
  while (!stopped) {
    ::pollfd one = {fd, POLLIN, 0};
    REQUIRE(::poll(&one, 1, 20000) == 1);
    while (const auto event = monitor.next(0ms)) {
      REQUIRE(event->name == "later");
      stopped = event->to == podkeep::State::Stopped;
    }
  }
}

CASE(monitor_moves) {
  podkeep::Monitor monitor;
  podkeep::Monitor second(std::move(monitor));
  REQUIRE(!monitor && second);
  REQUIRE_STATUS(InvalidHandle, monitor.next(0ms));
  REQUIRE_STATUS(InvalidHandle, monitor.fd());
  REQUIRE(!second.next(0ms));
  monitor = std::move(second);
  REQUIRE(monitor && !second);
  podkeep::Monitor &same = monitor;
  monitor = std::move(same);
  REQUIRE(monitor && !monitor.next(0ms));
}

CASE(shutdown_tells_how_many_are_left) {
  static check::Event entered, release;
  podkeep::Pod quick([](podkeep::Context &context) { context.wait(); });
  podkeep::Options options;
  options.grace = 60s;
  podkeep::Pod deaf(options, [] {
    entered.set();
    REQUIRE(release.wait(60s));
  });
  quick.start().wait_ready();
  deaf.start();
  REQUIRE(entered.wait());
  // Long enough for the quick one; on a machine that is busy, in one of some tries. All are within the grace.
  REQUIRE(check::eventually([] { return podkeep::shutdown(2s) == 1; }));
  REQUIRE(quick.state() == podkeep::State::Stopped);
  release.set();
  REQUIRE(podkeep::shutdown(20s) == 0);
  std::atomic<int> alive{0};
  struct Counted {
    std::atomic<int> *count;
    explicit Counted(std::atomic<int> *where) : count(where) { ++*count; }
    Counted(const Counted &other) : count(other.count) { ++*count; }
    ~Counted() { --*count; }
  };
  REQUIRE_STATUS(InvalidState, podkeep::Pod([counted = Counted(&alive)] { (void)counted; }));
  REQUIRE(alive == 0);
}

CASE(shutdown_from_a_pod_is_a_deadlock) {
  podkeep::Pod pod([](podkeep::Context &context) {
    REQUIRE_STATUS(Deadlock, podkeep::shutdown(1s));
    REQUIRE(!context.cancelled());
  });
  pod.start().join();
  REQUIRE(podkeep::abandoned() == 0);
}

CASE(log_is_called_replaced_and_dropped_once) {
  static std::atomic<int> alive{0}, lines{0};
  static check::Event named;
  struct Log {
    Log() { ++alive; }
    Log(const Log &) { ++alive; }
    Log(Log &&) noexcept { ++alive; }
    ~Log() { --alive; }
    void operator()(podkeep::Level level, std::string_view pod, std::string_view message) {
      REQUIRE(level >= podkeep::Level::Error && level <= podkeep::Level::Debug);
      ++lines;
      if (pod == "logged" && !message.empty()) named.set();
      throw std::runtime_error("swallowed");
    }
  };
  podkeep::set_log(Log(), podkeep::Level::Debug);
  podkeep::Options options;
  options.name = "logged";
  podkeep::Pod pod(options, [] { return 3; });
  pod.start();
  REQUIRE_STATUS(Failed, pod.join());
  REQUIRE(named.wait());
  REQUIRE(alive == 1);
  podkeep::set_log([](podkeep::Level, const std::string_view &, std::string_view) {}, podkeep::Level::Error);
  REQUIRE(check::eventually([] { return alive == 0; }));
  podkeep::set_log(nullptr);
  REQUIRE_STATUS(InvalidArgument, podkeep::set_log(Log(), static_cast<podkeep::Level>(-1)));
  REQUIRE(check::eventually([] { return alive == 0; }));
}
