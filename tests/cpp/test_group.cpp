// Groups: order, waits, failures, strategies.
#include "members.hpp"

#include <memory>

using check::journal, check::Marks, check::marks, check::member, check::of;

#if __cplusplus >= 202002L
CASE(shape_of_a_group) {
  podkeep::Group group({.name = "site", .strategy = podkeep::Strategy::OneForAll, .keep_going = true, .grace = 10s});
  podkeep::Pod database = marks("database");
  group.add(database).add(marks("web"), {.after = {database}}).add(marks("cron"), {.after = {"database", "web"}, .significant = true});
  group.start().wait_ready(20s);
  REQUIRE(group.state() == podkeep::State::Running);
  group.cancel();
  group.join();
  REQUIRE(journal.text() == "+database +web +cron -cron -web -database");
}
#endif

CASE(order_of_start_and_stop) {
  podkeep::Group group;
  podkeep::Pod database = marks("database"), web = marks("web");
  REQUIRE(group && group.native_handle() && group.state() == podkeep::State::New);
  group.add(database);
  group.add(web, {{database}});
  group.add(marks("cron"), {{"database", web}});
  group.start().wait_ready();
  REQUIRE(database.state() == podkeep::State::Running && web.state() == podkeep::State::Running);
  REQUIRE_STATUS(Timeout, group.join(1ms));
  group.close();
  group.close();
  REQUIRE(group.state() == podkeep::State::Stopped && web.state() == podkeep::State::Stopped && !group.failure());
  REQUIRE(journal.text() == "+database +web +cron -cron -web -database");
}

CASE(after_waits_for_ready) {
  static check::Event entered, release;
  podkeep::Group group;
  group.add(podkeep::Pod(member("database"), [](podkeep::Context &context) {
    context.status("opening its files");
    entered.set();
    REQUIRE(release.wait());
    context.ready();
    context.wait();
  }));
  group.add(marks("web"), {{"database"}});
  group.start();
  REQUIRE(entered.wait());
  REQUIRE_STATUS(Timeout, group.wait_ready(0s));
  const podkeep::Error late = ERROR_OF(group.wait_ready(1ms));
  REQUIRE(late.status() == podkeep::Status::Timeout && late.code() == std::errc::timed_out && !late.failure());
  REQUIRE(check::contains(late.what(), "database") && check::contains(late.what(), "opening its files"));
  REQUIRE(group.state() == podkeep::State::Starting && journal.text().empty());
  release.set();
  group.wait_ready(20s);
  REQUIRE(journal.text() == "+web");
}

CASE(a_failure_names_the_member_and_carries_its_exception) {
  check::Event fall;
  podkeep::Group group(of(podkeep::Strategy::OneForOne));
  podkeep::Pod bad = podkeep::Pod::make<Marks>(member("bad"), &fall);
  group.add(marks("first")).add(bad, {{"first"}});
  group.start().wait_ready(20s);
  fall.set();
  const podkeep::Error error = ERROR_OF(group.join());  // an Error, and not the exception itself: whose would that be?
  REQUIRE(error.status() == podkeep::Status::Failed);
  REQUIRE(check::contains(error.what(), "bad") && check::contains(error.what(), "site") && check::contains(error.what(), "fell"));
  REQUIRE(error.failure() && error.failure()->pod_name == "bad" && error.failure()->phase == podkeep::Phase::Run);
  REQUIRE(error.failure()->exception && error.failure()->exception == bad.failure()->exception);
  bool rethrown = false;
  try {
    std::rethrow_exception(group.failure()->exception);
  } catch (const std::out_of_range &own) {
    rethrown = std::string(own.what()) == "fell";
  }
  REQUIRE(rethrown && group.state() == podkeep::State::Failed);
  REQUIRE_STATUS(Failed, group.close());
  REQUIRE_STATUS(Failed, group.wait_ready());
  REQUIRE(journal.text() == "+first +bad -bad -first");
  rethrown = false;
  try {
    bad.join();  // the member's own Pod tells its own
  } catch (const std::out_of_range &) {
    rethrown = true;
  }
  REQUIRE(rethrown);
}

CASE(the_exception_is_there_when_the_members_pod_is_gone) {
  podkeep::Group group;
  group.add(podkeep::Pod(member("brief"), [] { throw std::domain_error("own"); }));
  group.start();
  REQUIRE_STATUS(Failed, group.join(20s));
  const auto failure = group.failure();
  REQUIRE(failure && failure->pod_name == "brief" && failure->exception);
}

CASE(an_adopted_members_failure_has_no_exception_object) {
  podkeep::Pod made(member("adopted"), [] { throw std::domain_error("own"); });
  podkeep::Pod adopted = podkeep::Pod::adopt(made.release());
  podkeep::Group group;
  group.add(adopted).start();
  const podkeep::Error error = ERROR_OF(group.join(20s));
  REQUIRE(error.failure() && error.failure()->kind == podkeep::Kind::Exception && !error.failure()->exception);
}

CASE(a_failed_start_takes_down_what_had_started) {
  podkeep::Group group;
  podkeep::Pod never = marks("never");
  group.add(marks("first")).add(podkeep::Pod(member("bad"), [] { throw std::runtime_error("not today"); }), {{"first"}});
  group.add(never, {{"bad"}});
  group.start();
  const podkeep::Error error = ERROR_OF(group.wait_ready(20s));
  REQUIRE(error.status() == podkeep::Status::Failed && error.failure() && error.failure()->pod_name == "bad");
  REQUIRE_STATUS(Failed, group.join(20s));
  REQUIRE(never.state() == podkeep::State::Stopped && journal.text() == "+first -first");
}

CASE(ready_of_what_ends_before_is_ended) {
  podkeep::Group group;
  group.add(podkeep::Pod(member("brief"), [] {}));  // ends without having been ready
  group.add(marks("web"), {{"brief"}});
  group.start();
  REQUIRE_STATUS(Ended, group.wait_ready(20s));
  group.join(20s);
  REQUIRE(journal.text().empty());
}

CASE(strategies_take_the_right_members_along) {
  struct {
    podkeep::Strategy strategy;
    const char *after;
    std::uint32_t first, last;
  } const wanted[] = {{podkeep::Strategy::OneForOne, "-b +b", 0, 0},
                      {podkeep::Strategy::RestForOne, "-b -c +b +c", 0, 1},
                      {podkeep::Strategy::OneForAll, "-b -c -a +a +b +c", 1, 1}};
  for (const auto &each : wanted) {
    check::Event fall;
    podkeep::Group group(of(each.strategy));
    podkeep::Pod a = marks("a"), c = marks("c");  // Restart::Never: that is about their own ends
    podkeep::Pod b = podkeep::Pod::make<Marks>(member("b", podkeep::Restart::OnFailure), &fall);
    group.add(a).add(b, {{a}}).add(c, {{b}});
    group.start().wait_ready(20s);
    const std::string up = journal.text();
    fall.set();
    REQUIRE(check::eventually([&] { return b.restarts() == 1 && group.state() == podkeep::State::Running; }));
    REQUIRE(a.restarts() == each.first && b.restarts() == 1 && c.restarts() == each.last);
    REQUIRE(journal.text() == up + " " + each.after);
    group.close();
    journal.write("|");
  }
}

CASE(a_member_that_is_taken_along_is_made_of_the_same_arguments) {
  static check::Event fall;
  static std::atomic<int> made{0};
  struct Needs : podkeep::Runtime {
    explicit Needs(std::string text) {
      REQUIRE(text == "a text that is too long to be kept in the string itself");
      ++made;
    }
    void run_forever(podkeep::Context &context) override {
      context.ready();
      context.wait();
    }
  };
  podkeep::Group group(of(podkeep::Strategy::OneForAll));
  podkeep::Pod needs = podkeep::Pod::make<Needs>(member("needs"), std::string("a text that is too long to be kept in the string itself"));
  podkeep::Pod falls = podkeep::Pod::make<Marks>(member("falls", podkeep::Restart::OnFailure), &fall);
  group.add(needs).add(falls);
  group.start().wait_ready(20s);
  fall.set();
  REQUIRE(check::eventually([&] { return needs.restarts() == 1 && group.state() == podkeep::State::Running; }));
  REQUIRE(made == 2);
}

CASE(what_cannot_be_copied_makes_one_life) {
  static check::Event fall;
  struct Owns : podkeep::Runtime {
    explicit Owns(std::unique_ptr<int> owned) { REQUIRE(owned != nullptr); }
    void run_forever(podkeep::Context &context) override {
      context.ready();
      context.wait();
    }
  };
  podkeep::Group group(of(podkeep::Strategy::OneForAll));
  podkeep::Pod owns = podkeep::Pod::make<Owns>(member("owns"), std::make_unique<int>(1));
  group.add(owns).add(podkeep::Pod::make<Marks>(member("falls", podkeep::Restart::OnFailure), &fall));
  group.start().wait_ready(20s);
  fall.set();
  const podkeep::Error error = ERROR_OF(group.join(20s));
  REQUIRE(error.failure() && error.failure()->pod_name == "owns" && error.failure()->phase == podkeep::Phase::Init);
  REQUIRE(check::contains(error.failure()->message, "cannot be copied"));
}

CASE(a_significant_members_end_stops_the_group) {
  for (const bool significant : {false, true}) {
    check::Event end;
    podkeep::Group group;
    podkeep::Pod other = marks("other");
    group.add(other);
    podkeep::MemberOptions options;
    options.significant = significant;
    podkeep::Pod job(member("job"), [&end](podkeep::Context &context) {
      context.ready();
      REQUIRE(end.wait());
    });
    group.add(job, options);
    group.start().wait_ready(20s);
    end.set();
    job.join(20s);
    if (significant) {
      group.join(20s);
      REQUIRE(group.state() == podkeep::State::Stopped && other.state() == podkeep::State::Stopped);
    } else {
      REQUIRE_STATUS(Timeout, group.join(1ms));
      REQUIRE(other.state() == podkeep::State::Running);
    }
  }
}

CASE(keep_going_leaves_the_others_alone) {
  check::Event fall;
  podkeep::GroupOptions options = of(podkeep::Strategy::OneForOne);
  options.keep_going = true;
  podkeep::Group group(options);
  podkeep::Pod other = marks("other"), bad = podkeep::Pod::make<Marks>(member("bad"), &fall);
  group.add(other).add(bad);
  group.start().wait_ready(20s);
  fall.set();
  REQUIRE(check::eventually([&] { return bad.state() == podkeep::State::Failed; }));
  REQUIRE_STATUS(Timeout, group.join(1ms));
  REQUIRE(other.state() == podkeep::State::Running);
  const podkeep::Error error = ERROR_OF(group.close());
  REQUIRE(error.status() == podkeep::Status::Failed && error.failure() && error.failure()->pod_name == "bad");
}
