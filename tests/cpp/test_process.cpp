// Process pods: the same classes and functions in a child, which is this program started anew; commands; libraries; the main process.
#include "check.hpp"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

namespace {

podkeep::Options process(const char *name = "") {
  podkeep::Options options;
  options.name = name;
  options.host = podkeep::Host::Process;
  return options;
}

// Says what it was made of, and where.
enum class Colour : unsigned char { Red, Green };
struct Address {
  int first = 0;
  std::string second{};
};

struct Web : podkeep::Runtime {
  std::string made_of;
  Web(int number, Colour colour, std::string text, std::vector<std::string> words, std::chrono::milliseconds time, bool yes, const Address &address) {
    made_of = std::to_string(number) + " " + std::to_string(static_cast<int>(colour)) + " \"" + text + "\"";
    for (const std::string &word : words) made_of += " " + word;
    made_of += " " + std::to_string(time.count()) + "ms" + (yes ? " yes " : " no ") + std::to_string(address.first) + address.second;
  }
  void run_forever(podkeep::Context &context) override {
    context.fail(40, made_of + " in " + (::getpid() == ::gettid() ? "main" : "another thread") + " args " + std::string(context.args()));
  }
};

struct Waits : podkeep::Runtime {
  void run_forever(podkeep::Context &context) override { context.wait(); }
};

// The hook gets it out of a read that nothing else ends.
struct Reads : podkeep::Runtime {
  int pair[2];
  Reads() { REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0); }
  void run_forever(podkeep::Context &context) override {
    context.status("reading");
    char byte;
    REQUIRE(::read(pair[0], &byte, 1) == 0 && context.cancelled());
  }
  void cancel() noexcept override { ::shutdown(pair[0], SHUT_RDWR); }
  void teardown() override { throw std::runtime_error("torn down in " + std::to_string(::getpid())); }
};

struct Own : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Throws : podkeep::Runtime {
  std::string where;
  explicit Throws(const std::string &given) : where(given) {
    if (where == "init") throw Own("in the constructor");
    if (where == "cancelled") throw podkeep::Cancelled();
  }
  void run_forever(podkeep::Context &) override {
    if (where == "system") throw std::system_error(ECONNREFUSED, std::generic_category(), "dialling");
    if (where == "int") throw 7;
    if (where == "exit") std::exit(9);
    if (where == "stderr") {
      std::fputs("the last words\n", stderr);
      ::raise(SIGKILL);
    }
    throw Own("in \xff run");
  }
};

struct TakesPointer : podkeep::Runtime {
  explicit TakesPointer(int *) {}
  void run_forever(podkeep::Context &) override {}
};

template <class Call>
podkeep::Failure failure_of(Call call) {
  const podkeep::Error error = ERROR_OF(call());
  REQUIRE(error.status() == podkeep::Status::Failed && error.failure());
  return *error.failure();
}
podkeep::Failure thrown(const char *where) {
  podkeep::Pod pod = podkeep::Pod::make<Throws>(process("thrower"), where);
  const podkeep::Failure failure = failure_of([&] { pod.start().join(20s); });
  REQUIRE(pod.failure()->describe() == failure.describe());
  return failure;
}

int free_port() {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr *>(&address), length) == 0);
  REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr *>(&address), &length) == 0);
  ::close(listener);
  return ntohs(address.sin_port);
}

}  // namespace

template <>
struct podkeep::Crossing<Address> {
  static std::string pack(const Address &address) { return Crossing<int>::pack(address.first) + address.second; }
  static Address unpack(std::string_view bytes) {
    return {Crossing<int>::unpack(bytes.substr(0, sizeof(int))), std::string(bytes.substr(sizeof(int)))};
  }
};

CASE(process_arguments_cross) {
  podkeep::Options options = process();
  options.args = "some bytes";
  const std::vector<std::string> words = {"one", "", "three"};
  podkeep::Pod pod = podkeep::Pod::make<Web>(options, -5, Colour::Green, "text", words, 250ms, true, Address{3, "x"});
  REQUIRE(pod.name() == "Web" && pod.state() == podkeep::State::New);
  const podkeep::Failure failure = failure_of([&] { pod.start().join(20s); });
  REQUIRE(failure.code == 40 && failure.phase == podkeep::Phase::Run);
  REQUIRE(failure.message == "-5 1 \"text\" one  three 250ms yes 3x in main args some bytes");
}
CASE(process_each_pod_has_its_own_arguments) {
  std::vector<podkeep::Pod> pods;
  for (unsigned number = 0; number < 4; ++number) {
    pods.push_back(podkeep::Pod::make<Web>(process(), static_cast<int>(number), Colour::Red, std::string(static_cast<std::size_t>(number) * 10000u, 'x'), std::vector<std::string>(),
                                           1s, false, Address()));
    pods.back().start();
  }
  for (unsigned number = 0; number < 4; ++number) {
    const podkeep::Failure failure = failure_of([&] { pods[number].join(20s); });
    REQUIRE(check::contains(failure.message, std::to_string(number) + " 0 \"" + std::string(static_cast<std::size_t>(number) * 10000u, 'x') + "\" 1000ms no 0"));
  }
}
CASE(process_a_whole_life) {
  podkeep::Pod pod = podkeep::Pod::make<Reads>(process("reader"));
  podkeep::Monitor monitor(pod);
  pod.start().wait_ready(20s);
  const std::int64_t child = pod.id();
  REQUIRE(child > 0 && child != ::getpid() && ::kill(static_cast<pid_t>(child), 0) == 0);
  pod.cancel();
  const podkeep::Failure failure = failure_of([&] { pod.join(20s); });
  REQUIRE(failure.phase == podkeep::Phase::Teardown && failure.kind == podkeep::Kind::Exception);
  REQUIRE(failure.message == "std::runtime_error: torn down in " + std::to_string(child));
  REQUIRE(::kill(static_cast<pid_t>(child), 0) == -1 && errno == ESRCH);  // reaped
  std::string life;
  while (const auto event = monitor.next(20s)) life += std::string(podkeep::to_string(event->to)) + " ";
  REQUIRE(life == "new starting running stopping failed ");
}
CASE(process_a_function_without_captures) {
  podkeep::Pod pod(process("lambda"), [](podkeep::Context &context) { return context.fail(3, std::string(context.args()), "with data"); });
  podkeep::Options options = process("other");
  options.args = "other bytes";
  podkeep::Pod other(options, [](podkeep::Context &context) { return context.fail(4, std::string(context.args())); });  // a type of its own
  const podkeep::Failure one = failure_of([&] { pod.start().join(20s); });
  REQUIRE(one.code == 3 && one.message.empty() && one.data == "with data" && one.pod_name == "lambda");
  const podkeep::Failure two = failure_of([&] { other.start().join(20s); });
  REQUIRE(two.code == 4 && two.message == "other bytes" && two.data.empty());
  podkeep::Pod nothing(process(), [] {});
  nothing.start().join(20s);
#ifdef __cpp_lib_jthread
  podkeep::Pod token(process("token"), [](std::stop_token stop) {
    check::Event stopped;
    const std::stop_callback callback(stop, [&] { stopped.set(); });
    REQUIRE(stopped.wait());
  });
  token.start().wait_ready(20s);
  token.close();
#endif
}
CASE(process_what_cannot_cross_is_refused_with_a_sentence) {
  int here = 0;
  const podkeep::Error pointer = ERROR_OF(podkeep::Pod::make<TakesPointer>(process(), &here));
  REQUIRE(pointer.status() == podkeep::Status::InvalidArgument);
  REQUIRE(check::contains(pointer.what(), "TakesPointer") && check::contains(pointer.what(), "argument 1") && check::contains(pointer.what(), "Crossing"));
  const podkeep::Error captures = ERROR_OF(podkeep::Pod(process(), [&here] { ++here; }));
  REQUIRE(captures.status() == podkeep::Status::InvalidArgument && check::contains(captures.what(), "captures"));
  const podkeep::Error nul = ERROR_OF(podkeep::Pod::command({"echo", std::string("a\0b", 3)}));
  REQUIRE(nul.status() == podkeep::Status::InvalidArgument && check::contains(nul.what(), "NUL"));
  podkeep::Options options = process();
  options.kick_signal = SIGUSR1;
  REQUIRE_STATUS(InvalidArgument, podkeep::Pod::make<Waits>(options));
  options = podkeep::Options();
  options.cwd = "/";
  REQUIRE_STATUS(InvalidArgument, podkeep::Pod::make<Waits>(options));
  REQUIRE_STATUS(InvalidArgument, podkeep::Pod::command({}));
}

CASE(process_exceptions_arrive_as_errors) {
  const podkeep::Failure init = thrown("init");
  REQUIRE(init.phase == podkeep::Phase::Init && init.kind == podkeep::Kind::Exception && init.code == -1 && !init.exception);
  REQUIRE(check::contains(init.message, "Own: in the constructor"));
  const podkeep::Failure run = thrown("run");
  REQUIRE(run.phase == podkeep::Phase::Run && check::contains(run.message, "Own: in \xEF\xBF\xBD run"));
  const podkeep::Failure system = thrown("system");
  REQUIRE(system.code == ECONNREFUSED && check::contains(system.message, "std::system_error: dialling: Connection refused"));
  REQUIRE(thrown("int").message == "int");
}
CASE(process_a_child_that_dies_is_told_of) {
  const podkeep::Failure exit = thrown("exit");
  REQUIRE(exit.kind == podkeep::Kind::Exit && exit.code == 9 && exit.phase == podkeep::Phase::Run);
  const podkeep::Failure killed = thrown("stderr");
  REQUIRE(killed.kind == podkeep::Kind::Signal && killed.code == SIGKILL && killed.stderr_text == "the last words\n");
  REQUIRE(check::contains(killed.message, "SIGKILL") && check::contains(killed.message, "the last words"));
  podkeep::Pod pod = podkeep::Pod::make<Waits>(process());
  pod.start().wait_ready(20s);
  REQUIRE(::kill(static_cast<pid_t>(pod.id()), SIGSEGV) == 0);
  REQUIRE(failure_of([&] { pod.join(20s); }).code == SIGSEGV);
  REQUIRE(pod.state() == podkeep::State::Failed);
}
CASE(process_cancelled_is_clean_only_after_a_cancel) {
  REQUIRE(thrown("cancelled").phase == podkeep::Phase::Init);
  podkeep::Pod pod = podkeep::Pod::make<Waits>(process());
  REQUIRE_STATUS(InvalidState, pod.join());
  pod.close();
  REQUIRE(pod.state() == podkeep::State::Stopped);
}
CASE(process_destructor_ends_the_child) {
  std::int64_t child = 0;
  {
    podkeep::Pod pod = podkeep::Pod::make<Waits>(process());
    pod.start().wait_ready(20s);
    child = pod.id();
    podkeep::Pod moved = std::move(pod);
    REQUIRE(moved.state() == podkeep::State::Running);
  }
  REQUIRE(::kill(static_cast<pid_t>(child), 0) == -1 && errno == ESRCH);
}
CASE(process_force_is_bounded) {
  podkeep::Options options = process("deaf");
  options.grace = options.kill_after = 100ms;
  podkeep::Pod pod(options, [] {
    ::signal(SIGTERM, SIG_IGN);
    for (;;) ::pause();
  });
  pod.start().wait_ready(20s);
  const podkeep::Failure failure = failure_of([&] { pod.close(); });
  REQUIRE(failure.kind == podkeep::Kind::Timeout && pod.state() == podkeep::State::Failed);
}
CASE(process_pods_of_a_pods_child) {
  podkeep::Pod pod(process("outer"), [](podkeep::Context &context) {
    podkeep::Pod inner = podkeep::Pod::make<Waits>(process("inner"));
    inner.start().wait_ready(20s);
    context.ready();
    const std::string id = std::to_string(inner.id());
    inner.close();
    return context.fail(1, id);
  });
  const podkeep::Failure failure = failure_of([&] { pod.start().join(20s); });
  REQUIRE(std::atoi(failure.message.c_str()) > 0);
}
CASE(process_pods_after_a_fork) {
  podkeep::Pod pod = podkeep::Pod::make<Waits>(process());
  pod.start().wait_ready(20s);
  const pid_t child = ::fork();
  if (child == 0) {
    (void)pod.release();
    podkeep::Pod own = podkeep::Pod::make<Waits>(process());  // the parent's export is not this process's
    own.start().wait_ready(20s);
    own.close();
    ::_exit(33);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 33);
  REQUIRE(pod.state() == podkeep::State::Running);
  pod.close();
}

CASE(process_commands) {
  podkeep::Pod echo = podkeep::Pod::command({"/bin/sh", "-c", "[ \"$KEY\" = 'a value' ] && [ \"$PWD\" = / ] && exit 5"}, [] {
    podkeep::Options options;
    options.env = {"KEY=a value"};
    options.cwd = "/";
    return options;
  }());
  REQUIRE(echo.name() == "sh");
  REQUIRE(failure_of([&] { echo.start().join(20s); }).code == 5);
  podkeep::Pod sleep = podkeep::Pod::command({"sleep", "1000"});
  sleep.start().wait_ready(20s);
  sleep.close();
  REQUIRE(sleep.state() == podkeep::State::Stopped);
  podkeep::Options options;
  options.stop_signal = SIGUSR1;
  podkeep::Pod traps = podkeep::Pod::command({"sh", "-c", "trap 'exit 0' USR1; trap '' TERM; while :; do sleep 0.01; done"}, options);
  traps.start().wait_ready(20s);
  traps.close();  // by that signal, or by what the shell makes of it
  podkeep::Pod none = podkeep::Pod::command({"./no-such-program"});
  const podkeep::Failure failure = failure_of([&] { none.start().join(20s); });
  REQUIRE(failure.phase == podkeep::Phase::Spawn && failure.code == 127 && check::contains(failure.message, "no-such-program"));
}
CASE(process_ready_by_port) {
  podkeep::Options options;
  options.ready = podkeep::Ready::Port;
  options.ready_port = free_port();
  options.ready_timeout = 30s;
  podkeep::Pod pod = podkeep::Pod::command({"python3", "-m", "http.server", "--bind", "127.0.0.1", std::to_string(options.ready_port)}, options);
  pod.start().wait_ready(40s);
  const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(options.ready_port));
  REQUIRE(::connect(client, reinterpret_cast<sockaddr *>(&address), sizeof address) == 0);
  ::close(client);
  pod.close();
}
CASE(process_programs_are_known_by_name) {
  podkeep::Options options;
  options.args = "bytes";
  podkeep::Pod pod = podkeep::Pod::program("exported", {"/proc/self/exe"}, options);
  REQUIRE(pod.name() == "exported");
  const podkeep::Failure failure = failure_of([&] { pod.start().join(20s); });
  REQUIRE(failure.code == 21 && failure.message == "8080 text bytes");
  podkeep::Pod function = podkeep::Pod::program("exported function", {"/proc/self/exe"});
  REQUIRE(failure_of([&] { function.start().join(20s); }).code == 22);
  podkeep::Pod unknown = podkeep::Pod::program("not exported", {"/proc/self/exe"});
  REQUIRE(failure_of([&] { unknown.start().join(20s); }).phase == podkeep::Phase::Spawn);
  podkeep::Pod mute = podkeep::Pod::program("mute", {"true"});
  REQUIRE(failure_of([&] { mute.start().join(20s); }).kind == podkeep::Kind::Exit);
}
CASE(process_libraries) {
  const char *const path = std::getenv("PODKEEP_TEST_WORKER");
  REQUIRE(path);
  for (const podkeep::Host host : {podkeep::Host::Thread, podkeep::Host::Process}) {
    podkeep::Options options;
    options.host = host;
    options.args = "given";
    podkeep::Pod pod = podkeep::Pod::library(path, "worker", options);
    REQUIRE(pod.name() == "worker");
    REQUIRE(failure_of([&] { pod.start().join(20s); }).message == "worked on given");
  }
  REQUIRE_STATUS(NotFound, podkeep::Pod::library("./no-such-library.so", "worker"));
}
CASE(process_the_podkeep_program_can_be_missing) {
  REQUIRE_STATUS(NotFound, podkeep::set_program("./no-such-program"));
  podkeep::set_program("");
}

CASE(main_a_clean_end_and_a_failure) {
  REQUIRE(podkeep::run(podkeep::Pod([] {})) == 0);
  REQUIRE(podkeep::run(podkeep::Pod([](podkeep::Context &) { return 7; })) == 7);
  podkeep::Pod pod([](podkeep::Context &) { throw Own("of main"); });
  REQUIRE(podkeep::run(pod) == 1);
  REQUIRE(check::contains(pod.failure()->message, "Own: of main") && pod.failure()->exception);
  REQUIRE_STATUS(InvalidState, podkeep::run(pod));
  REQUIRE_STATUS(InvalidHandle, podkeep::run(podkeep::Pod()));
  REQUIRE(podkeep::run(podkeep::Pod::make<Throws>(process(), "exit")) == 9);
  REQUIRE(podkeep::run(podkeep::Pod::command({"./no-such-program"})) == 127);
}
CASE(main_runs_in_this_very_thread_until_sigterm) {
  const pid_t here = ::gettid();
  struct Here : podkeep::Runtime {
    pid_t thread;
    bool *torn;
    Here(pid_t given, bool *told) : thread(given), torn(told) {}
    void run_forever(podkeep::Context &context) override {
      REQUIRE(::gettid() == thread);
      REQUIRE(::kill(::getpid(), SIGTERM) == 0);
      context.wait();
    }
    void teardown() override { *torn = ::gettid() == thread; }
  };
  bool torn = false;
  REQUIRE(podkeep::run(podkeep::Pod::make<Here>({}, here, &torn)) == 0);
  REQUIRE(torn);
}

// A host that never asks: nothing is started, however often.
CASE(process_a_program_that_never_asks) {
  int status = 0;
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("PODKEEP_TEST_FORGETS", "1", 1);
    ::execl("/proc/self/exe", "forgets", static_cast<char *>(nullptr));
    ::_exit(1);
  }
  REQUIRE(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
static int forgets() {
  podkeep::Pod pod = podkeep::Pod::make<Waits>(process());
  for (int i = 0; i < 3; ++i) {
    const podkeep::Error error = ERROR_OF(pod.start());
    REQUIRE(error.status() == podkeep::Status::InvalidState && check::contains(error.what(), "child_run"));
    REQUIRE(pod.state() == podkeep::State::New);
  }
  return 0;
}

struct Exported : podkeep::Runtime {
  std::string text;
  Exported(podkeep::Context &context, int number, const char *given) {
    text = std::to_string(number) + " " + given + " " + std::string(context.args());
  }
  void run_forever(podkeep::Context &context) override { context.fail(21, text); }
};

int main(int argc, char **argv) {
  if (std::getenv("PODKEEP_TEST_FORGETS")) return forgets();
  podkeep::export_runtime<Exported>("exported", 8080, "text");
  podkeep::export_runtime("exported function", [code = 22](podkeep::Context &context) { return context.fail(code, ""); });
  if (const auto code = podkeep::child_run()) return *code;
  return check::run(argc, argv);
}
