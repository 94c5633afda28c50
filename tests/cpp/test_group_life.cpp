// Group as a C++ object: what the members' Pods can do, what is refused, RAII, moves, waits from inside, monitors.
#include "members.hpp"

using check::journal, check::Marks, check::marks, check::member, check::of;

CASE(a_members_pod_starts_and_closes_nothing) {
  podkeep::Group group;
  podkeep::Pod pod = marks("member");
  group.add(pod);
  REQUIRE_STATUS(InvalidState, pod.start());
  REQUIRE_STATUS(InvalidState, pod.close());
  REQUIRE_STATUS(InvalidState, podkeep::run(pod));
  REQUIRE(pod.state() == podkeep::State::New);
  group.start().wait_ready(20s);
  pod.wait_ready();
  REQUIRE_STATUS(InvalidState, pod.close());
  REQUIRE(pod.state() == podkeep::State::Running && pod.id() > 0);
  pod.cancel();  // its normal end
  pod.join(20s);
  REQUIRE(pod.state() == podkeep::State::Stopped && !pod.failure());
  REQUIRE_STATUS(InvalidState, pod.close());
  REQUIRE(group.state() == podkeep::State::Running);
  group.close();
}

CASE(a_members_pod_may_go_before_the_group_and_after_it) {
  podkeep::Pod stays = marks("stays");
  {
    podkeep::Group group;
    group.add(stays);
    {
      podkeep::Pod goes = marks("goes"), moved = marks("moved");
      group.add(goes, {{stays}}).add(moved, {{goes}});
      group.start().wait_ready(20s);
      moved = podkeep::Pod();  // the handle that was here is dropped, not closed
      REQUIRE(group.state() == podkeep::State::Running);
    }
    REQUIRE(group.state() == podkeep::State::Running && journal.text() == "+stays +goes +moved");
  }
  REQUIRE(journal.text() == "+stays +goes +moved -moved -goes -stays");
  REQUIRE(stays.state() == podkeep::State::Stopped && !stays.failure());
  stays.join();
}

CASE(a_group_that_was_not_started_runs_nothing_and_leaves_nothing) {
  static std::atomic<int> alive{0};
  struct Counted {
    Counted() { ++alive; }
    Counted(const Counted &) { ++alive; }
    ~Counted() { --alive; }
    void operator()() { REQUIRE(false); }
  };
  {
    podkeep::Pod pod{Counted()};
    {
      podkeep::Group group;
      group.add(pod);
    }
    REQUIRE(pod.state() == podkeep::State::Stopped);
  }
  REQUIRE(check::eventually([] { return alive == 0; }));
  podkeep::Group closed;
  closed.add(podkeep::Pod{Counted()});
  REQUIRE_STATUS(InvalidState, closed.join(0s));
  REQUIRE_STATUS(InvalidState, closed.wait_ready());
  closed.close();
  REQUIRE(closed.state() == podkeep::State::Stopped);
  REQUIRE_STATUS(InvalidState, closed.start());
  REQUIRE_STATUS(InvalidState, closed.add(podkeep::Pod([] {})));
}

CASE(what_is_refused_leaves_nothing_behind) {
  podkeep::GroupOptions bad = of(static_cast<podkeep::Strategy>(9));
  REQUIRE_STATUS(InvalidArgument, podkeep::Group(bad));
  for (const auto negative : {-1ms, -1000ms, std::chrono::milliseconds::min()}) {
    bad = of(podkeep::Strategy::OneForOne);
    bad.grace = negative;
    REQUIRE_STATUS(InvalidArgument, podkeep::Group(bad));
  }
  bad = {};
  bad.name = std::string("a\0b", 3);
  REQUIRE(check::contains(ERROR_OF(podkeep::Group(bad)).what(), "NUL"));
  bad = {};
  bad.grace = podkeep::forever;
  podkeep::Group group(bad), other;
  podkeep::Pod one = marks("one"), same = marks("one"), two = marks("two");
  group.add(one);
  REQUIRE_STATUS(InvalidArgument, group.add(same));
  REQUIRE_STATUS(InvalidState, other.add(one));
  REQUIRE_STATUS(NotFound, group.add(two, {{"nobody"}}));
  REQUIRE_STATUS(InvalidArgument, group.add(two, {{std::string("one\0", 4)}}));
  REQUIRE_STATUS(InvalidHandle, group.add(podkeep::Pod()));
  group.add(two, {{one}});
  group.start().wait_ready(20s);
  REQUIRE_STATUS(InvalidState, group.start());
  REQUIRE_STATUS(InvalidState, group.add(marks("late")));
  same.start().wait_ready(20s);  // it is in no group
  REQUIRE_STATUS(InvalidState, other.add(same));
  REQUIRE(journal.text() == "+one +two +one");
}

CASE(destructor_while_it_runs_and_while_unwinding) {
  bool caught = false;
  try {
    podkeep::Group group;
    group.add(marks("a")).add(marks("b"), {{"a"}});
    group.start().wait_ready(20s);
    throw std::logic_error("unwinding");
  } catch (const std::logic_error &) {
    caught = true;
  }
  REQUIRE(caught && journal.text() == "+a +b -b -a");
}

CASE(destructor_is_bounded_by_the_budget) {
  static check::Event entered, release, back;
  static podkeep::Pod deaf(member("deaf"), [] {
    entered.set();
    REQUIRE(release.wait());
    back.set();
  });
  {
    podkeep::GroupOptions options;
    options.grace = 50ms;
    podkeep::Group group(options);
    group.add(deaf).start();
    REQUIRE(entered.wait());
    const podkeep::Error error = ERROR_OF(group.close());
    REQUIRE(error.status() == podkeep::Status::Timeout && check::contains(error.what(), "deaf"));
    REQUIRE(group.state() == podkeep::State::Abandoned && podkeep::abandoned() == 1);
  }
  release.set();
  REQUIRE(back.wait());
  REQUIRE(check::eventually([] { return podkeep::abandoned() == 0 && deaf.state() == podkeep::State::Failed; }));
}

CASE(moves_are_cheap_and_leave_an_empty_group) {
  check::Event fall;
  podkeep::Group first(of(podkeep::Strategy::OneForOne));
  first.add(podkeep::Pod::make<Marks>(member("bad"), &fall));
  podkeep_group *const handle = first.native_handle();
  podkeep::Group second(std::move(first));
  REQUIRE(!first && second && second.native_handle() == handle);
  first.cancel();  // does nothing
  REQUIRE_STATUS(InvalidHandle, first.add(marks("none")));
  REQUIRE_STATUS(InvalidHandle, first.start());
  REQUIRE_STATUS(InvalidHandle, first.wait_ready(1s));
  REQUIRE_STATUS(InvalidHandle, first.join());
  REQUIRE_STATUS(InvalidHandle, first.close());
  REQUIRE_STATUS(InvalidHandle, first.state());
  REQUIRE_STATUS(InvalidHandle, first.failure());
  REQUIRE_STATUS(InvalidHandle, podkeep::Monitor(first));
  REQUIRE(check::contains(ERROR_OF(first.join()).what(), "empty"));
  second.start().wait_ready(20s);
  podkeep::Group third;
  third.add(marks("third"));
  third.start().wait_ready(20s);
  using std::swap;
  swap(second, third);
  fall.set();
  REQUIRE_STATUS(Failed, third.join(20s));
  REQUIRE(third.failure()->exception);  // it moved along
  podkeep::Group &same = second;
  second = std::move(same);
  REQUIRE(second && second.state() == podkeep::State::Running);
  third = std::move(second);
  REQUIRE(!second && third.state() == podkeep::State::Running);
  third = podkeep::Group();  // the one that was here is closed
  REQUIRE(third.state() == podkeep::State::New && journal.text() == "+bad +third -bad -third");
  static_assert(std::is_nothrow_move_constructible_v<podkeep::Group> && std::is_nothrow_move_assignable_v<podkeep::Group>);
  static_assert(!std::is_copy_constructible_v<podkeep::Group> && !std::is_copy_assignable_v<podkeep::Group>);
}

CASE(waiting_from_a_member_is_an_error_and_ends_nothing) {
  static podkeep::Group *group = nullptr;
  static check::Event hooked;
  struct Asks : podkeep::Runtime {
    void run_forever(podkeep::Context &context) override {
      const podkeep::Error error = ERROR_OF(group->join());
      REQUIRE(error.status() == podkeep::Status::Deadlock && error.code() == std::errc::resource_deadlock_would_occur);
      REQUIRE_STATUS(Deadlock, group->wait_ready(1s));
      REQUIRE_STATUS(Deadlock, group->close());
      REQUIRE_STATUS(Timeout, group->join(0s));
      REQUIRE(!context.cancelled());
      context.ready();
      REQUIRE(hooked.wait());
    }
    void cancel() override {
      REQUIRE_STATUS(Deadlock, group->join());
      hooked.set();
    }
  };
  podkeep::Group made;
  group = &made;
  made.add(podkeep::Pod::make<Asks>(member("asks")));
  made.start().wait_ready(20s);
  made.close();
}

CASE(destroying_the_group_from_a_member_lets_go) {
  static podkeep::Group *group = nullptr;
  static check::Event set, over;
  group = new podkeep::Group;
  podkeep::Pod pod(member("self"), [](podkeep::Context &context) {
    REQUIRE(set.wait());
    delete group;
    context.wait();
    over.set();
  });
  group->add(pod).add(marks("other"));
  group->start();
  set.set();
  REQUIRE(over.wait());
  pod.join(20s);
  REQUIRE(podkeep::shutdown(20s) == 0);
}

CASE(monitor_of_a_group_sees_its_members_in_order) {
  podkeep::Group group;
  podkeep::Pod stranger = marks("stranger");
  group.add(marks("a"));
  podkeep::Monitor monitor(group);
  podkeep::Pod b = marks("b");
  group.add(b, {{"a"}});  // one to come
  stranger.start().wait_ready(20s);
  group.start().wait_ready(20s);
  group.close();
  std::string seen;
  while (const auto event = monitor.next()) {
    REQUIRE(event->name != "stranger" && !event->missed);
    if (event->name == "b") REQUIRE(event->pod == b.native_handle());
    if (event->to == podkeep::State::Running || event->to == podkeep::State::Stopped)
      seen += event->name + (event->to == podkeep::State::Running ? "+" : "-");
  }
  REQUIRE(seen == "a+b+b-a-" && monitor.ended());
}

CASE(fork_makes_the_childs_copies_dead) {
  podkeep::Group group;
  group.add(marks("parents"));
  group.start().wait_ready(20s);
  const pid_t child = ::fork();
  if (child == 0) {
    {
      podkeep::Group mine(std::move(group));
      REQUIRE_STATUS(Forked, mine.join());
      REQUIRE_STATUS(Forked, mine.state());
      REQUIRE_STATUS(Forked, mine.add(podkeep::Pod([] {})));
      mine.cancel();
    }
    podkeep::Group fresh;
    fresh.add(marks("fresh"));
    fresh.start().wait_ready(20s);
    fresh.close();
    ::_exit(0);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  REQUIRE(group.state() == podkeep::State::Running);
  group.close();
}

CASE(many_groups_leave_nothing_behind) {
  const auto one = [] {
    podkeep::Group group;
    group.add(marks("a")).add(marks("b"), {{"a"}});
    group.start().wait_ready(20s);
  };
  one();
  const int threads = check::threads(), descriptors = check::descriptors();
  for (int i = 0; i < 200; ++i) one();
  REQUIRE(check::eventually([&] { return check::threads() <= threads && check::descriptors() <= descriptors; }));
}
