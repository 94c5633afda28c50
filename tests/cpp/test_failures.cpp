// What goes wrong in a runtime, and how it comes out at the other side.
#include "check.hpp"

#include <pthread.h>

namespace {

struct Own : std::runtime_error {
  int detail;
  explicit Own(int number) : std::runtime_error("own trouble"), detail(number) {}
};

// Throws Own(phase's number) in the phase asked for.
struct Thrower : podkeep::Runtime {
  static inline std::atomic<int> torn{0}, destroyed{0};
  std::string where;
  check::Event hooked;  // the hook is begun only while run_forever has not returned
  explicit Thrower(std::string given) : where(std::move(given)) {
    if (where == "init") throw Own(1);
  }
  ~Thrower() override { ++destroyed; }
  void run_forever(podkeep::Context &context) override {
    if (check::contains(where, "run")) throw Own(3);
    context.wait();
    REQUIRE(hooked.wait());
  }
  void cancel() override {
    hooked.set();
    if (check::contains(where, "cancel")) throw Own(4);
  }
  void teardown() override {
    ++torn;
    if (check::contains(where, "teardown")) throw Own(5);
  }
};

template <class Call>
int own_of(Call call) {
  try {
    call();
  } catch (const Own &own) {
    return own.detail;
  }
  return 0;
}

podkeep::Options named(const char *name) {
  podkeep::Options options;
  options.name = name;
  return options;
}

podkeep::Pod throwing(const char *where) { return podkeep::Pod::make<Thrower>(named("thrower"), where); }

void is_own(const podkeep::Failure &failure, podkeep::Phase phase, int number) {
  REQUIRE(failure.pod_name == "thrower");
  REQUIRE(failure.phase == phase);
  REQUIRE(failure.kind == podkeep::Kind::Exception);
  REQUIRE(failure.code == -1);
  REQUIRE(failure.incarnation == 0);
  REQUIRE(check::contains(failure.message, "own trouble"));
  REQUIRE(check::contains(failure.message, "Own"));
  REQUIRE(failure.exception);
  REQUIRE(own_of([&] { std::rethrow_exception(failure.exception); }) == number);
}

podkeep::Error failed(podkeep::Pod &pod) {
  podkeep::Error error = ERROR_OF(pod.join());
  REQUIRE(error.status() == podkeep::Status::Failed && error.failure());
  REQUIRE(check::contains(error.what(), error.failure()->message));
  REQUIRE(check::contains(error.what(), error.failure()->pod_name));
  return error;
}

}  // namespace

CASE(exception_from_the_constructor) {
  podkeep::Pod pod = throwing("init");
  pod.start();
  REQUIRE(own_of([&] { pod.wait_ready(); }) == 1);
  REQUIRE(own_of([&] { pod.join(); }) == 1);
  REQUIRE(own_of([&] { pod.join(); }) == 1);  // as often as it is asked for
  REQUIRE(own_of([&] { pod.close(); }) == 1);
  REQUIRE(pod.state() == podkeep::State::Failed);
  is_own(*pod.failure(), podkeep::Phase::Init, 1);
  REQUIRE(!pod.failure()->secondary);
  REQUIRE(Thrower::torn == 0 && Thrower::destroyed == 0);
}

CASE(exception_from_run_forever) {
  podkeep::Pod pod = throwing("run");
  pod.start();
  REQUIRE(own_of([&] { pod.join(); }) == 3);
  is_own(*pod.failure(), podkeep::Phase::Run, 3);
  REQUIRE(Thrower::torn == 1 && Thrower::destroyed == 1);
}

CASE(exception_from_teardown) {
  podkeep::Pod pod = throwing("teardown");
  pod.start().wait_ready();
  REQUIRE(own_of([&] { pod.close(); }) == 5);
  is_own(*pod.failure(), podkeep::Phase::Teardown, 5);
  REQUIRE(Thrower::torn == 1 && Thrower::destroyed == 1);
}

CASE(exception_from_the_hook) {
  podkeep::Pod pod = throwing("cancel");
  pod.start().wait_ready();
  REQUIRE(own_of([&] { pod.close(); }) == 4);
  is_own(*pod.failure(), podkeep::Phase::Cancel, 4);
  REQUIRE(Thrower::torn == 1 && Thrower::destroyed == 1);
}

CASE(exceptions_chain_and_the_first_is_thrown) {
  podkeep::Pod pod = throwing("run teardown");
  pod.start();
  REQUIRE(own_of([&] { pod.join(); }) == 3);
  const podkeep::Failure failure = *pod.failure();
  is_own(failure, podkeep::Phase::Run, 3);
  REQUIRE(failure.secondary);
  is_own(*failure.secondary, podkeep::Phase::Teardown, 5);
  REQUIRE(!failure.secondary->secondary);

  podkeep::Pod hook = throwing("cancel teardown");
  hook.start().wait_ready();
  REQUIRE(own_of([&] { hook.close(); }) == 4);
  is_own(*hook.failure()->secondary, podkeep::Phase::Teardown, 5);
}

CASE(a_failure_that_is_no_exception_comes_first_so_an_error_is_thrown) {
  static check::Event entered;
  struct Late : podkeep::Runtime {
    void run_forever(podkeep::Context &context) override {
      entered.set();
      context.fail(7, "seven");
    }
    void teardown() override { throw Own(5); }
  };
  podkeep::Pod pod = podkeep::Pod::make<Late>(named("late"));
  pod.start();
  const podkeep::Error error = failed(pod);
  REQUIRE(error.failure()->phase == podkeep::Phase::Run && error.failure()->kind == podkeep::Kind::Returned);
  REQUIRE(error.failure()->code == 7 && error.failure()->message == "seven");
  REQUIRE(!error.failure()->exception);
  REQUIRE(error.failure()->secondary && error.failure()->secondary->exception);
  REQUIRE(own_of([&] { std::rethrow_exception(error.failure()->secondary->exception); }) == 5);
}

CASE(grace_spent_then_an_exception_is_a_timeout_with_the_exception_behind_it) {
  static check::Event entered, release;
  podkeep::Options options = named("slow");
  options.grace = 30ms;
  podkeep::Pod pod(options, [] {
    entered.set();
    REQUIRE(release.wait());
    throw Own(3);
  });
  pod.start();
  REQUIRE(entered.wait());
  REQUIRE_STATUS(Timeout, pod.close());
  release.set();
  REQUIRE(check::eventually([&] { return pod.state() == podkeep::State::Failed; }));
  const podkeep::Error error = failed(pod);
  REQUIRE(error.failure()->kind == podkeep::Kind::Timeout);
  REQUIRE(error.failure()->secondary && own_of([&] { std::rethrow_exception(error.failure()->secondary->exception); }) == 3);
}

CASE(everything_that_can_be_thrown_is_told) {
  const auto message_of = [](auto function) {
    podkeep::Pod pod(std::move(function));
    pod.start();
    bool thrown = false;
    try {
      pod.join();
    } catch (...) {
      thrown = true;
    }
    REQUIRE(thrown);
    const auto failure = pod.failure();
    REQUIRE(failure && failure->kind == podkeep::Kind::Exception);
    return failure->message + "|" + std::to_string(failure->code);
  };
  REQUIRE(message_of([] { throw std::runtime_error("port taken"); }) == "std::runtime_error: port taken|-1");
  REQUIRE(message_of([] { throw std::string("text"); }).find(": text|-1") != std::string::npos);
  REQUIRE(check::contains(message_of([] { throw "literal"; }), ": literal|-1"));
  REQUIRE(check::contains(message_of([] { throw static_cast<const char *>(nullptr); }), "(null)|-1"));
  REQUIRE(message_of([] { throw 42; }) == "int|-1");
  REQUIRE(check::contains(message_of([] { throw std::system_error(EADDRINUSE, std::generic_category(), "bind"); }),
                          "|" + std::to_string(EADDRINUSE)));
  REQUIRE(message_of([] { throw std::runtime_error("Stra\xdf" "e \xe2\x82\xac \xf0\x9f"); }) ==
          "std::runtime_error: Stra\xef\xbf\xbd" "e \xe2\x82\xac \xef\xbf\xbd\xef\xbf\xbd|-1");
  REQUIRE(message_of([] { throw std::runtime_error(std::string(100000, 'x')); }).size() == 100000 + 20 + 3);
}

CASE(utf8_is_repaired) {
  const auto repaired = [](std::string_view text) {
    std::string out = podkeep::detail::to_utf8(text);
    for (std::size_t at; (at = out.find("\xef\xbf\xbd")) != std::string::npos;) out.replace(at, 3, "?");
    return out;
  };
  REQUIRE(repaired("") == "" && repaired("plain") == "plain");
  REQUIRE(repaired("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf") == "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf");
  REQUIRE(repaired("\xc0\x80") == "??" && repaired("\xc1\xbf") == "??");
  REQUIRE(repaired("\xe0\x80\x80") == "???" && repaired("\xed\xa0\x80") == "???");
  REQUIRE(repaired("\xf0\x80\x80\x80") == "????" && repaired("\xf4\x90\x80\x80") == "????" && repaired("\xf5") == "?");
  REQUIRE(repaired("\xc3") == "?" && repaired("a\xe2\x82") == "a??" && repaired("\x80z") == "?z");
}

CASE(fail_without_an_exception) {
  static std::atomic<int> destroyed{0};
  struct Init : podkeep::Runtime {
    explicit Init(podkeep::Context &context) { context.fail(3, "not today"); }
    ~Init() override { ++destroyed; }
    void run_forever(podkeep::Context &) override { REQUIRE(false); }
    void teardown() override { REQUIRE(false); }
  };
  podkeep::Pod pod = podkeep::Pod::make<Init>({});
  pod.start();
  const podkeep::Error error = failed(pod);
  REQUIRE(error.failure()->phase == podkeep::Phase::Init && error.failure()->code == 3 && error.failure()->message == "not today");
  REQUIRE(destroyed == 1);

  podkeep::Pod returned([](podkeep::Context &context) -> int { return context.fail(0, "zero is taken as -1"); });
  returned.start();
  REQUIRE(failed(returned).failure()->code == -1);

  podkeep::Pod code([] { return 9; });
  code.start();
  REQUIRE(failed(code).failure()->code == 9);

  podkeep::Pod discarded([](podkeep::Context &context) -> int {
    context.fail(5, "but then");
    return 0;
  });
  discarded.start().join();

  struct Teardown : podkeep::Runtime {
    podkeep::Context context;
    explicit Teardown(podkeep::Context &given) : context(given) {}
    void run_forever(podkeep::Context &) override {}
    void teardown() override { context.fail(6, "dirty"); }
  };
  podkeep::Pod teardown = podkeep::Pod::make<Teardown>({});
  teardown.start();
  REQUIRE(failed(teardown).failure()->phase == podkeep::Phase::Teardown);
}

CASE(fail_in_the_hook_counts_by_itself) {
  struct Hook : podkeep::Runtime {
    podkeep::Context context;
    check::Event hooked;
    explicit Hook(podkeep::Context &given) : context(given) {}
    void run_forever(podkeep::Context &) override { REQUIRE(hooked.wait()); }
    void cancel() override {
      context.fail(8, "could not unblock");
      hooked.set();
    }
  };
  podkeep::Pod pod = podkeep::Pod::make<Hook>({});
  pod.start().wait_ready();
  pod.cancel();
  const podkeep::Error error = failed(pod);
  REQUIRE(error.failure()->phase == podkeep::Phase::Cancel && error.failure()->code == 8);
  REQUIRE(!error.failure()->secondary);  // run_forever itself ended cleanly
}

CASE(cancelled_is_a_clean_end_once_a_stop_was_asked_for) {
  podkeep::Pod pod([](podkeep::Context &context) {
    context.wait();
    throw podkeep::Cancelled();
  });
  pod.start().wait_ready();
  pod.close();
  REQUIRE(!pod.failure());

  static check::Event entered;
  struct GivesUp : podkeep::Runtime {
    explicit GivesUp(podkeep::Context &context) {
      entered.set();
      context.wait();
      throw podkeep::Cancelled();
    }
    void run_forever(podkeep::Context &) override {}
    void teardown() override { REQUIRE(false); }
  };
  podkeep::Pod init = podkeep::Pod::make<GivesUp>({});
  init.start();
  REQUIRE(entered.wait());
  init.cancel();
  init.join();

  podkeep::Pod uncalled([] { throw podkeep::Cancelled(); });
  uncalled.start();
  REQUIRE(failed(uncalled).failure()->code == PODKEEP_CANCELLED);
}

CASE(errors_are_system_errors) {
  podkeep::Pod pod([] { return 4; });
  pod.start();
  try {
    pod.join();
    REQUIRE(false);
  } catch (const std::system_error &error) {
    REQUIRE(error.code() == podkeep::Status::Failed);
    REQUIRE(error.code().category() == podkeep::error_category());
    REQUIRE(std::string(error.code().category().name()) == "podkeep");
    REQUIRE(check::contains(error.what(), "PODKEEP_ERR_FAILED"));
  }
  const std::error_code code = podkeep::Status::Deadlock;
  REQUIRE(code == std::errc::resource_deadlock_would_occur && code.message() == "PODKEEP_ERR_DEADLOCK");
  REQUIRE(make_error_code(podkeep::Status::Resources) == std::errc::resource_unavailable_try_again);
  REQUIRE(make_error_code(podkeep::Status::Timeout) == std::errc::timed_out);
  REQUIRE(!make_error_code(podkeep::Status::Ok));
  static_assert(std::is_nothrow_copy_constructible_v<podkeep::Error>);

  const podkeep::Failure failure = *pod.failure();
  REQUIRE(failure.describe() == "pod \"function\" failed in run (returned, code 4): " + failure.message);
}

CASE(a_failure_outlives_its_pod) {
  std::optional<podkeep::Failure> failure;
  {
    podkeep::Pod pod = throwing("run teardown");
    pod.start();
    REQUIRE(own_of([&] { pod.join(); }) == 3);
    failure = pod.failure();
  }
  is_own(*failure, podkeep::Phase::Run, 3);
  is_own(*failure->secondary, podkeep::Phase::Teardown, 5);
}

// pthread_exit unwinds the stack through the header's functions: it must neither be taken for an exception nor end the process.
CASE(pthread_exit_is_the_end_of_s_and_not_an_exception) {
  static std::atomic<int> unwound{0}, torn{0}, destroyed{0};
  struct Guard {
    ~Guard() { ++unwound; }
  };
  struct Exits : podkeep::Runtime {
    std::string where;
    explicit Exits(std::string given) : where(std::move(given)) {
      const Guard guard;
      if (where == "init") ::pthread_exit(nullptr);
    }
    ~Exits() override { ++destroyed; }
    void run_forever(podkeep::Context &) override {
      const Guard guard;
      if (where == "run") ::pthread_exit(nullptr);
    }
    void teardown() override {
      const Guard guard;
      ++torn;
      if (where == "teardown") ::pthread_exit(nullptr);
    }
  };
  const auto exits = [](const char *where, podkeep::Phase phase) {
    unwound = torn = destroyed = 0;
    {
      podkeep::Pod pod = podkeep::Pod::make<Exits>(named("exits"), where);
      pod.start();
      const podkeep::Error error = failed(pod);
      REQUIRE(error.failure()->kind == podkeep::Kind::Exit && error.failure()->code == 0);
      REQUIRE(error.failure()->phase == phase);
      REQUIRE(!error.failure()->exception);
    }
  };
  exits("init", podkeep::Phase::Init);
  REQUIRE(unwound == 1 && torn == 0 && destroyed == 0);
  exits("run", podkeep::Phase::Run);
  REQUIRE(unwound == 2 && torn == 0);
  REQUIRE(check::eventually([] { return destroyed == 1; }));  // with the recipe
  exits("teardown", podkeep::Phase::Teardown);
  REQUIRE(unwound == 3 && torn == 1);
  REQUIRE(check::eventually([] { return destroyed == 1; }));
}

CASE(pthread_cancel_is_the_end_of_s_too) {
  static std::atomic<pthread_t> thread{};
  static check::Event entered;
  podkeep::Pod pod([](podkeep::Context &) {
    thread = ::pthread_self();
    entered.set();
    for (;;) ::pause();  // a cancellation point
  });
  pod.start();
  REQUIRE(entered.wait());
  REQUIRE(::pthread_cancel(thread) == 0);
  const podkeep::Error error = failed(pod);
  REQUIRE(error.failure()->kind == podkeep::Kind::Exit);
}

CASE(an_exception_while_many_wait_reaches_each) {
  static check::Event release;
  podkeep::Pod pod([] {
    REQUIRE(release.wait());
    throw Own(3);
  });
  pod.start();
  std::atomic<int> got{0};
  std::vector<std::thread> waiters;
  for (int i = 0; i < 8; ++i)
    waiters.emplace_back([&] {
      if (own_of([&] { pod.join(); }) == 3) ++got;
    });
  release.set();
  for (auto &waiter : waiters) waiter.join();
  REQUIRE(got == 8);
}
