// The way in that links with nothing: the library is found when the program runs. The environment decides what a case can do, so this
// program takes what it has to show as its argument; tests/cpp/run.sh sets the scene.
#ifndef PODKEEP_DYNAMIC
#define PODKEEP_DYNAMIC
#endif
#include "check.hpp"

namespace {
struct Waits : podkeep::Runtime {
  void run_forever(podkeep::Context &context) override { context.wait(); }
  void cancel() override {}
};

// Built with and without exceptions.
std::string sentence_of(podkeep::Status *status) {
#if PODKEEP_CPP_EXCEPTIONS
  try {
    podkeep::Pod pod([] {});
  } catch (const podkeep::Error &error) {
    *status = error.status();
    return error.what();
  }
  *status = podkeep::Status::Ok;
  return "";
#else
  podkeep::Pod pod([] {});
  *status = pod.start();
  return podkeep::last_error();
#endif
}
}  // namespace

int main(int argc, char **argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  podkeep::Status status = podkeep::Status::Internal;
  if (what == "works") {
    REQUIRE(podkeep::last_error().empty());
    podkeep::Pod().cancel();  // nothing is loaded for what has no handle
    REQUIRE(!podkeep::detail::loaded_table.load());
    podkeep::Options options;
    options.name = "found";
    podkeep::Pod pod = podkeep::Pod::make<Waits>(options);
    podkeep::Monitor monitor(pod);
    (void)pod.start();
    (void)pod.wait_ready(20s);
    REQUIRE(pod.state() == podkeep::State::Running && pod.name() == "found");
    pod.cancel();
    (void)pod.join();
    REQUIRE(pod.state() == podkeep::State::Stopped);
    podkeep::State last = podkeep::State::New;
    while (const auto event = monitor.next()) last = event->to;
    REQUIRE(last == podkeep::State::Stopped);
    podkeep::Group group;
    podkeep::Pod member = podkeep::Pod::make<Waits>(options);
    (void)group.add(member);
    podkeep::Monitor members(group);
    (void)group.start();
    (void)group.wait_ready(20s);
    REQUIRE(group.state() == podkeep::State::Running && member.state() == podkeep::State::Running && members.next(0ms));
    (void)group.close();
    REQUIRE(group.state() == podkeep::State::Stopped && !group.failure());
    podkeep::Control control;
    REQUIRE(control && podkeep::query(control.address(), "found", 20s) == podkeep::State::Stopped);
    (void)podkeep::terminate(control.address(), "found", 20s);
    (void)control.close();
#if PODKEEP_CPP_EXCEPTIONS
    podkeep::Pod throws([] { throw std::logic_error("own"); });
    throws.start();
    bool own = false;
    try {
      throws.join();
    } catch (const std::logic_error &) {
      own = true;
    }
    REQUIRE(own && check::contains(throws.failure()->message, "own"));
#endif
    (void)podkeep::set_log(nullptr);
    REQUIRE(!podkeep::version().empty());
    REQUIRE(podkeep::abandoned() == 0);
    (void)podkeep::shutdown(20s);
  } else if (what == "refused") {  // refused <status's name> <words the sentence must hold>...
    const std::string sentence = sentence_of(&status);
    REQUIRE(argc > 2 && std::string(podkeep::to_string(status)) == argv[2]);
    for (int i = 3; i < argc; ++i)
      if (!check::contains(sentence, argv[i])) check::fail(__FILE__, __LINE__, "\"" + sentence + "\" does not hold " + argv[i]);
    // Not only Pod.
#if PODKEEP_CPP_EXCEPTIONS
    const podkeep::Error others[] = {ERROR_OF(podkeep::Pod::adopt(nullptr)), ERROR_OF(podkeep::Group()),
                                     ERROR_OF(podkeep::Monitor()),           ERROR_OF(podkeep::Control()),
                                     ERROR_OF(podkeep::query("", "", 0s)),   ERROR_OF(podkeep::terminate("", "", 0s)),
                                     ERROR_OF(podkeep::version()),           ERROR_OF(podkeep::abandoned()),
                                     ERROR_OF(podkeep::shutdown(0s)),        ERROR_OF(podkeep::set_log(nullptr))};
    for (const podkeep::Error &error : others)
      REQUIRE(error.status() == status && std::string(error.what()) == sentence);
#else
    REQUIRE(podkeep::Monitor().status() == status && podkeep::shutdown(0s) == status && podkeep::set_log(nullptr) == status);
    REQUIRE(podkeep::Pod::adopt(nullptr).start() == status && podkeep::Group().start() == status);
    REQUIRE(podkeep::Control().close() == status && podkeep::terminate("", "", 0s) == status);
    REQUIRE(static_cast<podkeep::Status>(podkeep::query("", "", 0s)) == status);
    REQUIRE(podkeep::version().empty() && podkeep::abandoned() == 0);
#endif
    std::puts(sentence.c_str());
  } else if (what == "later") {  // later <a library>: a failure is not for ever
    (void)sentence_of(&status);
    REQUIRE(status == podkeep::Status::NotFound);
    REQUIRE(argc > 2 && ::setenv("PODKEEP_LIBRARY", argv[2], 1) == 0);
    (void)sentence_of(&status);
    REQUIRE(status == podkeep::Status::Ok);
  } else {
    return 2;
  }
  return 0;
}
