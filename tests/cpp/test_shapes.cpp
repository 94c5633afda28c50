// The programs users were promised, as written.
#include "check.hpp"

#include <sys/socket.h>

namespace {

std::atomic<int> tocks{0};
check::Event two_tocks;
void tock() {
  if (++tocks == 2) two_tocks.set();
}

std::atomic<int> made{0}, torn{0}, destroyed{0}, hooks{0};
std::atomic<bool> one_thread{true};
std::atomic<long> maker{0};

struct Web : podkeep::Runtime {
  explicit Web(int port);                                  // runs in S
  void run_forever(podkeep::Context& ctx) override;
  void cancel() noexcept override;                         // optional
  void teardown() override;                                // optional
  ~Web() override;

  int port_;
  int pair_[2];
};

Web::Web(int port) : port_(port) {
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair_) == 0);
  maker = ::gettid();
  ++made;
}
void Web::run_forever(podkeep::Context& ctx) {
  ctx.status("listening on " + std::to_string(port_));
  char byte;
  one_thread = one_thread && maker == ::gettid();
  REQUIRE(::read(pair_[0], &byte, 1) == 0);  // cannot poll the flag: cancel() ends it
  REQUIRE(ctx.cancelled());
}
void Web::cancel() noexcept {
  ++hooks;
  ::shutdown(pair_[0], SHUT_RDWR);
}
void Web::teardown() {
  one_thread = one_thread && maker == ::gettid();
  ++torn;
}
Web::~Web() {
  one_thread = one_thread && maker == ::gettid();
  ::close(pair_[0]);
  ::close(pair_[1]);
  ++destroyed;
}

}  // namespace

#if __cplusplus >= 202002L
CASE(shape_class_runtime_with_designated_options) {
podkeep::Pod pod = podkeep::Pod::make<Web>({.name = "web"}, 8080);   // factory: Web(8080) is made in S
pod.start().wait_ready(10s);
  REQUIRE(pod.state() == podkeep::State::Running);
  REQUIRE(pod.id() == maker);
pod.cancel();
pod.join();                                                // rethrows the runtime's own exception (thread pods)
  REQUIRE(pod.name() == "web");
  REQUIRE(pod.state() == podkeep::State::Stopped);
  REQUIRE(made == 1 && torn == 1 && destroyed == 1 && hooks == 1 && one_thread);
}
CASE(shape_lambda_with_designated_options) {
  podkeep::Pod pod({.name = "tick", .grace = 2s}, [](podkeep::Context &context) { context.wait(); });
  REQUIRE(pod.name() == "tick");
  pod.start().wait_ready(10s);
}
CASE(shape_every_option_designated) {
  podkeep::Pod pod = podkeep::Pod::make<Web>({.name = "w",
                                              .ready = podkeep::Ready::OnRun,
                                              .ready_timeout = 10s,
                                              .grace = 3s,
                                              .extend_max = 1min,
                                              .stack_size = 256 * 1024,
                                              .kick_signal = 0,
                                              .args = "bytes"},
                                             1);
  pod.start().wait_ready(10s);
  pod.close();
}
#endif

CASE(shape_class_runtime_with_members_set) {
  podkeep::Options options;
  options.name = "web";
  podkeep::Pod pod = podkeep::Pod::make<Web>(options, 8080);
  REQUIRE(pod.state() == podkeep::State::New && made == 0);
  pod.start().wait_ready(10s);
  pod.close();
  REQUIRE(made == 1 && torn == 1 && destroyed == 1 && hooks == 1 && one_thread);
}

CASE(shape_lambda) {
podkeep::Pod tick([](podkeep::Context& ctx) { while (!ctx.wait(1ms)) tock(); });
  tick.start().wait_ready();
  REQUIRE(two_tocks.wait());
}  // cancelled and joined here

CASE(shape_functions_of_every_kind) {
  struct Callable {
    std::atomic<int> *count;
    void operator()(podkeep::Context &) { ++*count; }
  };
  std::atomic<int> count{0};
  podkeep::Pod(Callable{&count}).start().join();
  Callable lvalue{&count};
  podkeep::Pod(lvalue).start().join();
  podkeep::Pod([&count] { ++count; }).start().join();
  podkeep::Pod([&count](const podkeep::Context &) { ++count; }).start().join();
  podkeep::Pod([&count](podkeep::Context) { ++count; }).start().join();
  podkeep::Pod([&count](podkeep::Context &) -> int { ++count; return 0; }).start().join();
  podkeep::Pod(std::function<void(podkeep::Context &)>([&count](podkeep::Context &) { ++count; })).start().join();
  const auto held = std::make_unique<int>(1);
  podkeep::Pod([&count, moved = std::make_unique<int>(1)](podkeep::Context &) { count += *moved; }).start().join();
  void (*const pointer)(podkeep::Context &) = [](podkeep::Context &) { ++made; };
  podkeep::Pod(pointer).start().join();
  REQUIRE(count == 8 && made == 1);
}

CASE(shape_arguments_are_decay_copied_and_moved_into_s) {
  struct NoDefault {
    explicit NoDefault(int) {}
    NoDefault(NoDefault &&) = default;
  };
  struct Args : podkeep::Runtime {
    Args(std::string text, std::unique_ptr<int> owned, int &by_reference, const char *array, NoDefault) {
      REQUIRE(text == "before");
      REQUIRE(*owned == 7);
      REQUIRE(std::string(array) == "array");
      by_reference = 5;
    }
    void run_forever(podkeep::Context &) override {}
  };
  std::string text = "before";
  int value = 0;
  podkeep::Pod pod = podkeep::Pod::make<Args>({}, text, std::make_unique<int>(7), std::ref(value), "array", NoDefault(1));
  text = "after";
  pod.start().join();
  REQUIRE(value == 5);
}

CASE(shape_constructor_that_takes_the_context) {
  struct Keeps : podkeep::Runtime {
    podkeep::Context context;
    int *out;
    Keeps(podkeep::Context &given, int *where) : context(given), out(where) { context.status("starting"); }
    void run_forever(podkeep::Context &) override { context.wait(0ms); }
    void teardown() override { *out = context.cancelled() ? 2 : 1; }
  };
  int out = 0;
  podkeep::Pod::make<Keeps>({}, &out).start().join();
  REQUIRE(out == 1);
}

namespace names {
struct Plain : podkeep::Runtime {
  void run_forever(podkeep::Context &) override {}
};
template <class T>
struct Templated : podkeep::Runtime {
  void run_forever(podkeep::Context &) override {}
};
struct Functor {
  void operator()() {}
};
}  // namespace names

CASE(shape_default_names) {
  REQUIRE(podkeep::Pod::make<names::Plain>({}).name() == "Plain");
  REQUIRE(podkeep::Pod::make<names::Templated<std::vector<int>>>({}).name() == "Templated");
  REQUIRE(podkeep::Pod(names::Functor()).name() == "Functor");
  struct Local : names::Plain {};
  REQUIRE(podkeep::Pod::make<Local>({}).name() == "Local");
  REQUIRE(podkeep::Pod::make<Web>({}, 1).name() == "Web");  // of an unnamed namespace
  REQUIRE(podkeep::Pod([] {}).name() == "function");
  REQUIRE(podkeep::Pod([text = std::string()](podkeep::Context &) { (void)text; }).name() == "function");
  REQUIRE(podkeep::Pod(std::function<void(podkeep::Context &)>([](podkeep::Context &) {})).name() == "function");
  REQUIRE(podkeep::Pod(static_cast<void (*)()>([] {})).name() == "function");
}

CASE(shape_versions) {
  REQUIRE(podkeep::version() == ::podkeep_version());
  REQUIRE(std::string(podkeep::to_string(podkeep::Status::Timeout)) == ::podkeep_status_name(PODKEEP_ERR_TIMEOUT));
  for (int number = 0; number < 15; ++number)
    REQUIRE(std::string(podkeep::to_string(static_cast<podkeep::Status>(-number))) == ::podkeep_status_name(-number));
  REQUIRE(std::string(podkeep::to_string(podkeep::State::New)) == "new");
  REQUIRE(std::string(podkeep::to_string(podkeep::State::Abandoned)) == "abandoned");
  REQUIRE(std::string(podkeep::to_string(podkeep::Phase::Teardown)) == "teardown");
  REQUIRE(std::string(podkeep::to_string(podkeep::Kind::Lost)) == "lost");
  REQUIRE(std::string(podkeep::to_string(static_cast<podkeep::Kind>(-1))) == "?");
}

CASE(shape_durations) {
  using podkeep::detail::wait_ms;
  REQUIRE(wait_ms(0s) == 0);
  REQUIRE(wait_ms(-1ms) == 0);   // not FOREVER: the moment has passed
  REQUIRE(wait_ms(-10h) == 0);
  REQUIRE(wait_ms(1us) == 1);    // rounded up
  REQUIRE(wait_ms(1001us) == 2);
  REQUIRE(wait_ms(2min) == 120000);
  REQUIRE(wait_ms(std::chrono::duration<double>(0.25)) == 250);
  REQUIRE(wait_ms(std::chrono::duration<float>(std::numeric_limits<float>::infinity())) == PODKEEP_FOREVER);
  REQUIRE(wait_ms(std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN())) == 0);
  REQUIRE(wait_ms(podkeep::forever) == PODKEEP_FOREVER);
  REQUIRE(wait_ms(std::chrono::hours::max()) == PODKEEP_FOREVER);
  REQUIRE(wait_ms(std::chrono::hours::min()) == 0);
  REQUIRE(wait_ms(std::chrono::nanoseconds::max()) > 0);
}
