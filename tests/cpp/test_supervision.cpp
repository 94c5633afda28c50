// Restarts and the watchdog, in a thread and in a child process.
#include "check.hpp"

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

}  // namespace

CASE(restart_in_a_thread) { comes_back(podkeep::Host::Thread); }
CASE(restart_in_a_process) { comes_back(podkeep::Host::Process); }
CASE(watchdog_in_a_thread) { is_caught(podkeep::Host::Thread); }
CASE(watchdog_in_a_process) { is_caught(podkeep::Host::Process); }

int main(int argc, char **argv) {
  if (const auto code = podkeep::child_run()) return *code;
  return check::run(argc, argv);
}
