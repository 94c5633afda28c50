// Without exceptions (and without RTTI): every call answers with a status.
#include "check.hpp"

#if PODKEEP_CPP_EXCEPTIONS
#error "compile this with -fno-exceptions"
#endif

using podkeep::Status;

namespace {
struct Waits : podkeep::Runtime {
  static inline std::atomic<int> torn{0}, hooks{0};
  int code;
  explicit Waits(podkeep::Context &context, int given) : code(given) {
    if (code == 1) context.fail(1, "not today");
  }
  void run_forever(podkeep::Context &context) override {
    REQUIRE(context.status("waiting") == Status::Ok);
    REQUIRE(context.ready() == Status::Ok && context.heartbeat() == Status::Ok && context.extend(1ms) == Status::Ok);
    REQUIRE(context.status("\xff") == Status::InvalidArgument);
    context.wait();
    if (code) context.fail(code, "on request");
  }
  void cancel() override { ++hooks; }
  void teardown() override { ++torn; }
};
podkeep::Options named(const char *name) {
  podkeep::Options options;
  options.name = name;
  return options;
}
}  // namespace

CASE(statuses_of_a_good_life) {
  podkeep::Pod pod = podkeep::Pod::make<Waits>(named("good"), 0);
  REQUIRE(pod);
  REQUIRE(pod.start() == Status::Ok);
  REQUIRE(pod.wait_ready(20s) == Status::Ok);
  REQUIRE(pod.state() == podkeep::State::Running && pod.name() == "good" && pod.id() > 0 && pod.restarts() == 0);
  REQUIRE(pod.join(1ms) == Status::Timeout);
  REQUIRE(check::contains(podkeep::last_error(), "good"));
  REQUIRE(pod.start() == Status::InvalidState);
  pod.cancel();
  REQUIRE(pod.join() == Status::Ok);
  REQUIRE(pod.close() == Status::Ok);
  REQUIRE(!pod.failure() && Waits::torn == 1);
}
CASE(statuses_of_failures) {
  podkeep::Pod init = podkeep::Pod::make<Waits>({}, 1);
  REQUIRE(init.start() == Status::Ok);
  REQUIRE(init.wait_ready() == Status::Failed);
  REQUIRE(init.failure()->phase == podkeep::Phase::Init && init.failure()->code == 1 && init.failure()->message == "not today");
  REQUIRE(Waits::torn == 0);

  podkeep::Pod run = podkeep::Pod::make<Waits>({}, 2);
  REQUIRE(run.start() == Status::Ok && run.wait_ready() == Status::Ok && run.close() == Status::Failed);
  REQUIRE(run.failure()->phase == podkeep::Phase::Run && run.failure()->message == "on request" && !run.failure()->exception);

  podkeep::Pod lambda([](podkeep::Context &) { return 3; });
  REQUIRE(lambda.start() == Status::Ok && lambda.join() == Status::Failed && lambda.failure()->code == 3);
}
CASE(statuses_of_a_pod_that_cannot_be_made) {
  podkeep::Options bad = named("bad");
  bad.grace = -1s;
  std::atomic<int> alive{0};
  struct Counted {
    std::atomic<int> *count;
    explicit Counted(std::atomic<int> *where) : count(where) { ++*count; }
    Counted(const Counted &other) : count(other.count) { ++*count; }
    ~Counted() { --*count; }
  };
  podkeep::Pod pod(bad, [counted = Counted(&alive)] { (void)counted; });
  REQUIRE(alive == 0);
  REQUIRE(check::contains(podkeep::last_error(), "grace"));
  REQUIRE(!pod && !pod.native_handle());
  REQUIRE(pod.start() == Status::InvalidArgument && pod.wait_ready(1s) == Status::InvalidArgument);
  REQUIRE(pod.join() == Status::InvalidArgument && pod.close() == Status::InvalidArgument);
  REQUIRE(static_cast<int>(pod.state()) == PODKEEP_ERR_INVALID_ARGUMENT && pod.name().empty() && pod.id() == 0 && pod.restarts() == 0);
  REQUIRE(!pod.failure());
  pod.cancel();
  const podkeep::Pod moved = std::move(pod);
  REQUIRE(static_cast<int>(moved.state()) == PODKEEP_ERR_INVALID_ARGUMENT);
  REQUIRE(podkeep::Pod().join() == Status::InvalidHandle);
}
CASE(statuses_of_the_rest) {
  REQUIRE(!podkeep::version().empty());
  REQUIRE(podkeep::set_log([](podkeep::Level, std::string_view, std::string_view) {}) == Status::Ok);
  REQUIRE(podkeep::set_log(nullptr) == Status::Ok);
  podkeep::Pod pod = podkeep::Pod::make<Waits>(named("watched"), 0);
  podkeep::Monitor monitor(pod);
  REQUIRE(monitor && monitor.fd() >= 0);
  REQUIRE(monitor.next(0ms)->to == podkeep::State::New);
  REQUIRE(!monitor.next(0ms) && monitor.status() == Status::Timeout && !monitor.ended());
  REQUIRE(pod.close() == Status::Ok);
  while (monitor.next()) {
  }
  REQUIRE(monitor.ended());
  podkeep::Monitor none{podkeep::Pod()};
  REQUIRE(!none && !none.next(1s) && none.fd() == -1 && none.status() == Status::InvalidHandle);
  REQUIRE(podkeep::abandoned() == 0);
  std::uint32_t left = 9;
  REQUIRE(podkeep::shutdown(20s, &left) == Status::Ok && left == 0);
  REQUIRE(podkeep::shutdown(0s) == Status::Ok);
  REQUIRE(podkeep::Pod([] {}).start() == Status::InvalidState);
}
CASE(pthread_exit_passes_here_too) {
  podkeep::Pod pod([] { ::pthread_exit(nullptr); });
  REQUIRE(pod.start() == Status::Ok && pod.join() == Status::Failed && pod.failure()->kind == podkeep::Kind::Exit);
}
#ifdef __cpp_lib_jthread
CASE(stop_token_without_exceptions) {
  podkeep::Pod pod([](std::stop_token token) {
    check::Event stopped;
    const std::stop_callback callback(token, [&] { stopped.set(); });
    REQUIRE(stopped.wait());
  });
  REQUIRE(pod.start() == Status::Ok && pod.wait_ready() == Status::Ok && pod.close() == Status::Ok);
}
#endif

int main(int argc, char **argv) { return check::run(argc, argv); }
