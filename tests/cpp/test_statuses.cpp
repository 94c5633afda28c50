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
CASE(statuses_of_a_group) {
  podkeep::GroupOptions options;
  options.name = "site";
  podkeep::Group group(options);
  podkeep::Pod pod = podkeep::Pod::make<Waits>(named("member"), 0), same = podkeep::Pod::make<Waits>(named("member"), 0);
  REQUIRE(group && group.join(0s) == Status::InvalidState);
  REQUIRE(group.add(pod) == Status::Ok && group.add(same) == Status::InvalidArgument);
  REQUIRE(check::contains(podkeep::last_error(), "member"));
  REQUIRE(group.add(same, {{"nobody"}}) == Status::InvalidArgument && group.add(podkeep::Pod()) == Status::InvalidHandle);
  REQUIRE(group.add(podkeep::Pod::make<Waits>(named("late"), 3), {{pod}, true}) == Status::Ok);
  REQUIRE(group.add(same, {{std::string("a\0", 2)}}) == Status::InvalidArgument && check::contains(podkeep::last_error(), "NUL"));
  podkeep::Monitor monitor(group);
  REQUIRE(monitor && monitor.next(0ms)->to == podkeep::State::New);
  REQUIRE(group.start() == Status::Ok && group.wait_ready(20s) == Status::Ok && group.state() == podkeep::State::Running);
  REQUIRE(group.start() == Status::InvalidState && pod.close() == Status::InvalidState && pod.start() == Status::InvalidState);
  REQUIRE(group.join(1ms) == Status::Timeout && check::contains(podkeep::last_error(), "site"));
  group.cancel();
  REQUIRE(group.join() == Status::Failed && check::contains(podkeep::last_error(), "late"));
  REQUIRE(group.failure()->pod_name == "late" && group.failure()->code == 3 && group.failure()->message == "on request");
  REQUIRE(group.close() == Status::Failed && pod.join() == Status::Ok && Waits::torn == 2);
}
CASE(statuses_of_a_group_that_cannot_be_made) {
  podkeep::GroupOptions options;
  options.grace = -1s;
  podkeep::Group group(options);
  REQUIRE(check::contains(podkeep::last_error(), "grace"));
  REQUIRE(!group && !group.native_handle());
  REQUIRE(group.add(podkeep::Pod([] {})) == Status::InvalidArgument && group.start() == Status::InvalidArgument);
  REQUIRE(group.wait_ready(1s) == Status::InvalidArgument && group.join() == Status::InvalidArgument && group.close() == Status::InvalidArgument);
  REQUIRE(static_cast<int>(group.state()) == PODKEEP_ERR_INVALID_ARGUMENT && !group.failure());
  group.cancel();
  podkeep::Group moved = std::move(group);
  REQUIRE(static_cast<int>(moved.state()) == PODKEEP_ERR_INVALID_ARGUMENT && group.join() == Status::InvalidHandle);
  REQUIRE(podkeep::Monitor(moved).status() == Status::InvalidHandle);
}
CASE(statuses_of_control) {
  podkeep::Control control;
  const std::string address = control.address();
  REQUIRE(control && !address.empty());
  podkeep::Pod good = podkeep::Pod::make<Waits>(named("good"), 0), bad = podkeep::Pod::make<Waits>(named("bad"), 3);
  REQUIRE(good.start() == Status::Ok && good.wait_ready(20s) == Status::Ok && bad.start() == Status::Ok && bad.wait_ready(20s) == Status::Ok);
  REQUIRE(podkeep::query(address, "good", 20s) == podkeep::State::Running);
  REQUIRE(podkeep::terminate(address, "good", 20s) == Status::Ok && good.state() == podkeep::State::Stopped);
  REQUIRE(podkeep::terminate(address, "bad", 20s) == Status::Failed && check::contains(podkeep::last_error(), "on request"));
  REQUIRE(podkeep::terminate(address, "nobody", 20s) == Status::NotFound && check::contains(podkeep::last_error(), "nobody"));
  REQUIRE(static_cast<int>(podkeep::query(address, "nobody", 20s)) == PODKEEP_ERR_NOT_FOUND);
  REQUIRE(podkeep::terminate(address, std::string("a\0", 2)) == Status::InvalidArgument && check::contains(podkeep::last_error(), "NUL"));
  REQUIRE(control.close() == Status::Ok && control.close() == Status::Ok && !control && control.address().empty());
  REQUIRE(podkeep::terminate(address, "good") == Status::Unreachable);

  podkeep::ControlOptions open;
  open.address = "tcp:0.0.0.0:0";
  podkeep::Control denied(open);
  REQUIRE(!denied && check::contains(podkeep::last_error(), "TLS") && denied.address().empty());
  podkeep::Control moved = std::move(denied);
  REQUIRE(moved.close() == Status::Denied && denied.close() == Status::InvalidHandle && podkeep::Control().close() == Status::Ok);
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
