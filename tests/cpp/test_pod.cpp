// Pod as a C++ object: RAII, moves, ownership of the config, waits.
#include "check.hpp"

#include <signal.h>

namespace {

// Counts the life of every copy of a config.
struct Counted {
  static inline std::atomic<int> alive{0};
  bool full = true;
  Counted() { ++alive; }
  Counted(Counted &&other) noexcept {
    ++alive;
    other.full = false;
  }
  Counted(const Counted &) { ++alive; }
  ~Counted() { --alive; }
};

struct Waits : podkeep::Runtime {
  void run_forever(podkeep::Context &context) override { context.wait(); }
};

podkeep::Options named(const char *name) {
  podkeep::Options options;
  options.name = name;
  return options;
}

}  // namespace

namespace {
// Keeps what it was made of by views and references.
struct Views : podkeep::Runtime {
  static inline std::atomic<int> whole{0};
  std::string_view text;
  const std::vector<int> &numbers;
  const Counted &counted;
  Views(const std::string &given, const std::vector<int> &all, const Counted &one) : text(given), numbers(all), counted(one) {}
  ~Views() override { look(); }
  void look() const {
    REQUIRE(text == std::string(100, 'x') && numbers == std::vector<int>(50, 7) && counted.full);
    ++whole;
  }
  void run_forever(podkeep::Context &context) override {
    look();
    if (context.incarnation() < 2) throw std::runtime_error("another life");
    context.ready();
    context.wait();
  }
  void teardown() override { look(); }
};
}  // namespace

CASE(arguments_live_as_long_as_what_was_made_of_them) {
  for (const bool again : {false, true}) {
    Views::whole = 0;
    podkeep::Options options = named("views");
    if (again) options.restart = podkeep::Restart::OnFailure;
    options.backoff = 1ms;
    options.ready = podkeep::Ready::Notify;
    {
      podkeep::Pod pod = podkeep::Pod::make<Views>(options, std::string(100, 'x'), std::vector<int>(50, 7), Counted());
      pod.start();
      if (again) {
        pod.wait_ready(20s);
        pod.close();
      } else {
        bool failed = false;
        try {
          pod.join(20s);
        } catch (const std::runtime_error &error) {
          failed = error.what() == std::string("another life");
        }
        REQUIRE(failed);
      }
      REQUIRE(Views::whole == (again ? 9 : 3));
    }
    REQUIRE(check::eventually([] { return Counted::alive == 0; }));
  }
}

CASE(drop_once_new_and_never_started) {
  { podkeep::Pod pod([counted = Counted()] { (void)counted; }); REQUIRE(Counted::alive > 0); }
  REQUIRE(check::eventually([] { return Counted::alive == 0; }));
}
CASE(drop_once_after_a_run) {
  { podkeep::Pod pod([counted = Counted()] { (void)counted; }); pod.start().join(); }
  REQUIRE(check::eventually([] { return Counted::alive == 0; }));
}
CASE(drop_once_when_the_pod_is_refused) {
  podkeep::Options bad = named("bad");
  bad.grace = -1s;
  REQUIRE_STATUS(InvalidArgument, podkeep::Pod(bad, [counted = Counted()] { (void)counted; }));
  REQUIRE(Counted::alive == 0);
}
CASE(drop_once_when_the_runtime_is_refused) {
  REQUIRE_STATUS(InvalidArgument, podkeep::Pod(named(std::string(300, 'n').c_str()), [counted = Counted()] { (void)counted; }));
  REQUIRE(Counted::alive == 0);
  REQUIRE_STATUS(InvalidArgument, podkeep::Pod(named("\xff"), [counted = Counted()] { (void)counted; }));
  REQUIRE(Counted::alive == 0);
}
CASE(drop_once_when_the_constructor_throws) {
  struct Throws : podkeep::Runtime {
    Counted counted;
    explicit Throws(Counted) { throw std::runtime_error("no"); }
    void run_forever(podkeep::Context &) override {}
  };
  {
    podkeep::Pod pod = podkeep::Pod::make<Throws>({}, Counted());
    pod.start();
    bool thrown = false;
    try {
      pod.join();
    } catch (const std::runtime_error &) {
      thrown = true;
    }
    REQUIRE(thrown);
  }
  REQUIRE(check::eventually([] { return Counted::alive == 0; }));
}
CASE(drop_once_when_the_start_is_refused) {
  podkeep::Options huge = named("huge");
  huge.stack_size = std::size_t{1} << 46;
  {
    podkeep::Pod pod(huge, [counted = Counted()] { (void)counted; });
    REQUIRE_STATUS(Resources, pod.start());
    REQUIRE(pod.state() == podkeep::State::New);
  }
  REQUIRE(check::eventually([] { return Counted::alive == 0; }));
}
CASE(copying_the_config_may_throw_before_the_library_has_it) {
  struct Thrower {
    Thrower() = default;
    Thrower(const Thrower &) { throw std::logic_error("copy"); }
    void operator()() {}
  };
  Thrower thrower;
  bool thrown = false;
  try {
    podkeep::Pod pod(thrower);
  } catch (const std::logic_error &) {
    thrown = true;
  }
  REQUIRE(thrown);
}

CASE(options_out_of_range_are_refused) {
  for (const auto negative : {-1ms, -1000ms, std::chrono::milliseconds::min()}) {
    podkeep::Options options;
    options.grace = negative;
    REQUIRE_STATUS(InvalidArgument, podkeep::Pod(options, [] {}));
    options = {};
    options.ready_timeout = negative;
    REQUIRE_STATUS(InvalidArgument, podkeep::Pod(options, [] {}));
    options = {};
    options.extend_max = negative;
    REQUIRE_STATUS(InvalidArgument, podkeep::Pod(options, [] {}));
  }
  podkeep::Options options;
  options.kick_signal = SIGKILL;
  REQUIRE_STATUS(InvalidArgument, podkeep::Pod(options, [] {}));
  options = {};
  options.grace = podkeep::forever;
  options.ready_timeout = podkeep::forever;
  options.extend_max = podkeep::forever;
  podkeep::Pod(options, [] {}).start().join();
}

CASE(ten_pods_destroyed_run_ten_teardowns) {
  static std::atomic<int> torn{0};
  struct Ten : Waits {
    void teardown() override { ++torn; }
  };
  {
    std::vector<podkeep::Pod> pods;
    for (int i = 0; i < 10; ++i) pods.push_back(podkeep::Pod::make<Ten>({}));
    for (auto &pod : pods) pod.start().wait_ready(20s);
  }
  REQUIRE(torn == 10);
}

CASE(destructor_before_start_runs_nothing) {
  std::atomic<int> ran{0};
  { podkeep::Pod pod([&ran] { ++ran; }); }
  REQUIRE(ran == 0);
}

CASE(destructor_during_unwinding) {
  std::atomic<int> torn{0};
  struct Torn : Waits {
    std::atomic<int> *out;
    explicit Torn(std::atomic<int> *where) : out(where) {}
    void teardown() override {
      ++*out;
      throw std::runtime_error("must not meet the exception on its way");
    }
  };
  bool caught = false;
  try {
    podkeep::Pod pod = podkeep::Pod::make<Torn>({}, &torn);
    pod.start().wait_ready(20s);
    throw std::logic_error("unwinding");
  } catch (const std::logic_error &) {
    caught = true;
  }
  REQUIRE(caught && torn == 1);
}

CASE(destructor_is_bounded_by_grace) {
  static check::Event entered, release, back;
  podkeep::Options options = named("deaf");
  options.grace = 50ms;
  {
    podkeep::Pod pod(options, [] {
      entered.set();
      REQUIRE(release.wait());
      back.set();
    });
    pod.start();
    REQUIRE(entered.wait());
  }  // lets it go: a thread cannot be killed
  REQUIRE(podkeep::abandoned() == 1);
  release.set();
  REQUIRE(back.wait());
  REQUIRE(check::eventually([] { return podkeep::abandoned() == 0; }));
}

CASE(close_of_an_abandoned_pod_is_a_timeout_that_says_why) {
  static check::Event entered, release;
  podkeep::Options options = named("deaf");
  options.grace = 50ms;
  podkeep::Pod pod(options, [](podkeep::Context &context) {
    context.status("being deaf");
    entered.set();
    REQUIRE(release.wait());
  });
  pod.start();
  REQUIRE(entered.wait());
  const podkeep::Error error = ERROR_OF(pod.close());
  REQUIRE(error.status() == podkeep::Status::Timeout);
  REQUIRE(error.code() == std::errc::timed_out);
  REQUIRE(check::contains(error.what(), "deaf") && check::contains(error.what(), "being deaf"));
  REQUIRE(pod.state() == podkeep::State::Abandoned);
  REQUIRE(error.failure() && error.failure()->kind == podkeep::Kind::Timeout && error.failure()->phase == podkeep::Phase::Run);
  release.set();
  REQUIRE(check::eventually([&] { return pod.state() == podkeep::State::Failed; }));
  REQUIRE_STATUS(Failed, pod.join());
}

CASE(moves_are_cheap_and_leave_an_empty_pod) {
  podkeep::Pod first(named("a"), [](podkeep::Context &context) { context.wait(); });
  podkeep_pod *const handle = first.native_handle();
  podkeep::Pod second(std::move(first));
  REQUIRE(!first && second && second.native_handle() == handle);
  second.start().wait_ready(20s);
  REQUIRE(second.name() == "a");

  first.cancel();  // does nothing
  REQUIRE_STATUS(InvalidHandle, first.start());
  REQUIRE_STATUS(InvalidHandle, first.wait_ready(1s));
  REQUIRE_STATUS(InvalidHandle, first.join());
  REQUIRE_STATUS(InvalidHandle, first.close());
  REQUIRE_STATUS(InvalidHandle, first.state());
  REQUIRE_STATUS(InvalidHandle, first.name());
  REQUIRE_STATUS(InvalidHandle, first.id());
  REQUIRE_STATUS(InvalidHandle, first.restarts());
  REQUIRE_STATUS(InvalidHandle, first.failure());
  REQUIRE_STATUS(InvalidHandle, podkeep::Monitor(first));
  REQUIRE(check::contains(ERROR_OF(first.join()).what(), "empty"));
  podkeep::Pod none;
  REQUIRE(!none);
  REQUIRE_STATUS(InvalidHandle, none.join());
  static_assert(std::is_nothrow_move_constructible_v<podkeep::Pod> && std::is_nothrow_move_assignable_v<podkeep::Pod>);
  static_assert(!std::is_copy_constructible_v<podkeep::Pod> && !std::is_copy_assignable_v<podkeep::Pod>);
}

CASE(move_assignment_closes_the_old_pod) {
  static std::atomic<int> torn{0};
  struct Torn : Waits {
    void teardown() override { ++torn; }
  };
  podkeep::Pod pod = podkeep::Pod::make<Torn>({});
  pod.start().wait_ready(20s);
  podkeep::Pod other(named("other"), [](podkeep::Context &context) { context.wait(); });
  other.start().wait_ready(20s);
  pod = std::move(other);
  REQUIRE(torn == 1 && pod.name() == "other" && pod.state() == podkeep::State::Running && !other);
  pod = podkeep::Pod();
  REQUIRE(!pod);
}

CASE(self_move_has_no_effect_and_swap_swaps) {
  podkeep::Pod a(named("a"), [](podkeep::Context &context) { context.wait(); });
  podkeep::Pod b(named("b"), [] { throw std::runtime_error("b's own"); });
  a.start().wait_ready(20s);
  podkeep::Pod &same = a;
  a = std::move(same);
  REQUIRE(a && a.state() == podkeep::State::Running);
  b.start();
  using std::swap;
  swap(a, b);
  REQUIRE(a.name() == "b" && b.name() == "a");
  bool thrown = false;
  try {
    a.join();  // the exceptions moved along
  } catch (const std::runtime_error &error) {
    thrown = std::string(error.what()) == "b's own";
  }
  REQUIRE(thrown);
  a.swap(a);
  REQUIRE(a.name() == "b");
}

CASE(release_and_adopt) {
  podkeep::Pod pod(named("handed"), [](podkeep::Context &context) { context.wait(); });
  pod.start().wait_ready(20s);
  podkeep_pod *const raw = pod.release();
  REQUIRE(!pod && raw);
  podkeep::Pod again = podkeep::Pod::adopt(raw);
  REQUIRE(again.name() == "handed" && again.state() == podkeep::State::Running);
  again.close();
}

CASE(joining_oneself_is_an_error_and_ends_nothing) {
  static podkeep::Pod *self = nullptr;
  static check::Event set;
  podkeep::Pod pod(named("self"), [](podkeep::Context &context) {
    REQUIRE(set.wait());
    const podkeep::Error error = ERROR_OF(self->join());
    REQUIRE(error.status() == podkeep::Status::Deadlock);
    REQUIRE(error.code() == std::errc::resource_deadlock_would_occur);
    REQUIRE_STATUS(Deadlock, self->wait_ready(1s));
    REQUIRE_STATUS(Deadlock, self->close());
    REQUIRE(!context.cancelled());
    REQUIRE_STATUS(Timeout, self->join(0s));
    self->wait_ready(0s);
    self->cancel();
    REQUIRE(context.cancelled());
  });
  self = &pod;
  pod.start();
  set.set();
  pod.join();
}

CASE(joining_oneself_from_the_hook_is_an_error_too) {
  static podkeep::Pod *self = nullptr;
  static check::Event hooked;
  struct Hook : Waits {
    void cancel() override {
      REQUIRE_STATUS(Deadlock, self->join());
      REQUIRE_STATUS(Deadlock, self->close());
      hooked.set();
    }
    void run_forever(podkeep::Context &) override { REQUIRE(hooked.wait()); }
  };
  podkeep::Pod pod = podkeep::Pod::make<Hook>({});
  self = &pod;
  pod.start().wait_ready(20s);
  pod.close();
}

CASE(destroying_oneself_from_the_hook_lets_go) {
  static podkeep::Pod *self = nullptr;
  static check::Event hooked;
  static std::atomic<int> torn{0};
  struct Hook : Waits {
    void cancel() override {
      delete self;
      hooked.set();
    }
    void run_forever(podkeep::Context &) override { REQUIRE(hooked.wait()); }
    void teardown() override { ++torn; }
  };
  self = new podkeep::Pod(podkeep::Pod::make<Hook>({}));
  self->start().wait_ready(20s);
  self->cancel();
  REQUIRE(hooked.wait());
  REQUIRE(podkeep::shutdown(20s) == 0);
  REQUIRE(torn == 1);
}

CASE(destroying_oneself_cancels_and_lets_go) {
  static podkeep::Pod *self = nullptr;
  static check::Event set, over;
  self = new podkeep::Pod(named("self"), [counted = Counted()](podkeep::Context &context) {
    REQUIRE(set.wait());
    delete self;
    REQUIRE(context.cancelled());
    REQUIRE(counted.full);
    over.set();
  });
  self->start();
  set.set();
  REQUIRE(over.wait());
  REQUIRE(check::eventually([] { return Counted::alive == 0; }));
  REQUIRE(podkeep::shutdown(20s) == 0);
}

CASE(waits_with_limits) {
  podkeep::Pod pod(named("slow"), [](podkeep::Context &context) { context.wait(); });
  REQUIRE_STATUS(InvalidState, pod.join(0s));
  REQUIRE_STATUS(InvalidState, pod.wait_ready(0s));
  pod.start().wait_ready();
  REQUIRE_STATUS(InvalidState, pod.start());
  const podkeep::Error error = ERROR_OF(pod.join(1ms));
  REQUIRE(error.status() == podkeep::Status::Timeout && !error.failure());
  REQUIRE(check::contains(error.what(), "slow"));
  REQUIRE_STATUS(Timeout, pod.join(-1ms));
  pod.cancel();
  pod.cancel();
  pod.join(20s);
  pod.join();
  pod.close();
  pod.close();
  REQUIRE(pod.id() == 0 && pod.restarts() == 0 && !pod.failure());
  pod.wait_ready();  // has been ready and did not fail
}

CASE(close_before_start_and_cancel_before_start) {
  std::atomic<int> ran{0};
  podkeep::Pod closed([&ran] { ++ran; });
  closed.close();
  REQUIRE(closed.state() == podkeep::State::Stopped);
  podkeep::Pod cancelled([&ran] { ++ran; });
  cancelled.cancel();
  cancelled.join();
  REQUIRE_STATUS(InvalidState, cancelled.start());
  REQUIRE_STATUS(Ended, cancelled.wait_ready());
  REQUIRE(ran == 0);
}

CASE(cancel_from_a_signal_handler) {
  static podkeep::Pod *target = nullptr;
  podkeep::Pod pod([](podkeep::Context &context) { context.wait(); });
  target = &pod;
  struct sigaction action {};
  action.sa_handler = [](int) { target->cancel(); };
  REQUIRE(::sigaction(SIGUSR1, &action, nullptr) == 0);
  pod.start().wait_ready(20s);
  ::raise(SIGUSR1);
  pod.join(20s);
}

CASE(cancel_kicks_a_system_call) {
  static int fds[2];
  REQUIRE(::pipe(fds) == 0);
  podkeep::Options options = named("reader");
  options.kick_signal = SIGUSR2;
  podkeep::Pod pod(options, [](podkeep::Context &context) {
    char byte;
    while (!context.cancelled())
      if (::read(fds[0], &byte, 1) < 0) REQUIRE(errno == EINTR);
  });
  pod.start().wait_ready(20s);
  pod.close();
}

CASE(a_pod_in_static_storage_is_closed_at_exit) {
  static podkeep::Pod pod([](podkeep::Context &context) { context.wait(); });
  pod.start().wait_ready(20s);
}

CASE(fork_makes_the_childs_copies_dead) {
  podkeep::Pod pod(named("parents"), [](podkeep::Context &context) { context.wait(); });
  pod.start().wait_ready(20s);
  const pid_t child = ::fork();
  if (child == 0) {
    {
      podkeep::Pod mine(std::move(pod));
      REQUIRE_STATUS(Forked, mine.join());
      REQUIRE_STATUS(Forked, mine.state());
      REQUIRE_STATUS(Forked, mine.failure());
      mine.cancel();
    }
    podkeep::Pod fresh([](podkeep::Context &context) { context.wait(); });
    fresh.start().wait_ready(20s);
    fresh.close();
    ::_exit(0);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  REQUIRE(pod.state() == podkeep::State::Running);
  pod.close();
}

CASE(a_thousand_pods_leave_nothing_behind) {
  const auto one = [] {
    podkeep::Pod pod = podkeep::Pod::make<Waits>({});
    pod.start().wait_ready(20s);
  };
  one();
  const int threads = check::threads(), descriptors = check::descriptors();
  for (int i = 0; i < 1000; ++i) one();
  REQUIRE(check::eventually([&] { return check::threads() <= threads && check::descriptors() <= descriptors; }));
}
