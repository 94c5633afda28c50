// Restarts, the watchdog and groups, in threads and in child processes.
#include "members.hpp"

#include <signal.h>

namespace {

podkeep::Options supervised(podkeep::Host host) {
  podkeep::Options options;
  options.host = host;
  options.restart = podkeep::Restart::OnFailure;
  options.backoff = 5ms;
  options.backoff_max = 10ms;
  return options;
}

// Fails in its first two lives, made anew of the same arguments in each.
struct Stumbles : podkeep::Runtime {
  std::string text;
  explicit Stumbles(std::string given) : text(std::move(given)) {}
  void run_forever(podkeep::Context &context) override {
    if (text != "as it was given") throw std::runtime_error("made of \"" + text + "\"");
    if (context.incarnation() < 2) throw std::runtime_error("life " + std::to_string(context.incarnation()));
    context.ready();
    context.wait();
  }
};

struct Spins : podkeep::Runtime {
  void run_forever(podkeep::Context &context) override {
    context.heartbeat();
    while (!context.cancelled()) {
    }
  }
};

void comes_back(podkeep::Host host) {
  podkeep::Options options = supervised(host);
  options.ready = podkeep::Ready::Notify;
  podkeep::Pod pod = podkeep::Pod::make<Stumbles>(options, std::string("as it was given"));
  pod.start().wait_ready(20s);
  REQUIRE(pod.restarts() == 2);
  pod.close();
}

void is_caught(podkeep::Host host) {
  podkeep::Options options = supervised(host);
  options.watchdog = 50ms;
  options.max_restarts = 1;
  podkeep::Pod pod = podkeep::Pod::make<Spins>(options);
  pod.start();
  try {
    pod.join(20s);
    REQUIRE(!"it failed");
  } catch (const podkeep::Error &error) {
    REQUIRE(error.failure() != nullptr);
    REQUIRE(error.failure()->kind == podkeep::Kind::Watchdog);
    REQUIRE(error.failure()->incarnation == 1);
  }
}

struct Throws : podkeep::Runtime {
  explicit Throws(std::string text) : text_(std::move(text)) {}
  void run_forever(podkeep::Context &context) override {
    context.ready();
    throw std::runtime_error(text_);
  }
  std::string text_;
};
podkeep::Options child(const char *name) {
  podkeep::Options options = check::member(name);
  options.host = podkeep::Host::Process;
  return options;
}
podkeep::Pod command(const char *name, const std::string &script) {
  podkeep::Options options;
  options.name = name;
  return podkeep::Pod::command({"/bin/sh", "-c", script}, options);
}
}  // namespace

CASE(restart_in_a_thread) { comes_back(podkeep::Host::Thread); }
CASE(restart_in_a_process) { comes_back(podkeep::Host::Process); }
CASE(watchdog_in_a_thread) { is_caught(podkeep::Host::Thread); }
CASE(watchdog_in_a_process) { is_caught(podkeep::Host::Process); }

CASE(processes_and_commands_are_members_too) {
  podkeep::Group group;
  podkeep::Pod first = command("command", "exec sleep 1000");
  podkeep::Pod second(child("function"), [](podkeep::Context &context) {
    context.ready();
    context.wait();
  });
  group.add(first).add(second, {{first}}).add(check::marks("thread"), {{second}});
  podkeep::Monitor monitor(group);
  group.start().wait_ready(30s);
  REQUIRE(first.id() > 0 && second.id() > 0 && first.id() != second.id() && second.id() != ::getpid());
  group.close();
  std::string seen;
  while (const auto event = monitor.next(0ms))
    if (event->to == podkeep::State::Running || event->to == podkeep::State::Stopped)
      seen += event->name + (event->to == podkeep::State::Running ? "+ " : "- ");
  REQUIRE(seen == "command+ function+ thread+ thread- function- command- ");
}

CASE(a_failure_out_of_a_child_names_the_member) {
  podkeep::Group group;
  group.add(command("other", "exec sleep 1000")).add(podkeep::Pod::make<Throws>(child("thrower"), std::string("of the child")), {{"other"}});
  group.start();
  const podkeep::Error error = ERROR_OF(group.join(30s));
  REQUIRE(error.failure() && error.failure()->pod_name == "thrower" && error.failure()->kind == podkeep::Kind::Exception);
  REQUIRE(check::contains(error.failure()->message, "of the child") && !error.failure()->exception);

  podkeep::Group commands;
  commands.add(command("exits", "echo out of order >&2; exit 3")).start();
  const podkeep::Error exited = ERROR_OF(commands.join(30s));
  REQUIRE(exited.failure() && exited.failure()->pod_name == "exits" && exited.failure()->code == 3);
  REQUIRE(check::contains(exited.failure()->stderr_text, "out of order"));
}

int main(int argc, char **argv) {
  if (const auto code = podkeep::child_run()) return *code;
  return check::run(argc, argv);
}
