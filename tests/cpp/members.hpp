// Members of groups that write down what happens to them.
#ifndef PODKEEP_TESTS_CPP_MEMBERS_HPP
#define PODKEEP_TESTS_CPP_MEMBERS_HPP

#include "check.hpp"

namespace check {

// What happened, in order: "+name" when a life is ready, "-name" when it is torn down.
class Journal {
 public:
  void write(const std::string &entry) {
    const std::lock_guard<std::mutex> guard(lock_);
    if (!text_.empty()) text_ += ' ';
    text_ += entry;
  }
  std::string text() {
    const std::lock_guard<std::mutex> guard(lock_);
    return text_;
  }

 private:
  std::mutex lock_;
  std::string text_;
};
inline Journal journal;

// Ready at once; in its first life it throws when `fall` is set.
struct Marks : podkeep::Runtime {
  Event *fall;
  explicit Marks(Event *when = nullptr) : fall(when) {}
  void run_forever(podkeep::Context &context) override {
    name = std::string(context.name());
    journal.write("+" + name);
    context.ready();
    if (fall && context.incarnation() == 0) {
      REQUIRE(fall->wait());
      throw std::out_of_range("fell");
    }
    context.wait();
  }
  void teardown() override { journal.write("-" + name); }
  std::string name;
};

inline podkeep::Options member(const char *name, podkeep::Restart restart = podkeep::Restart::Never) {
  podkeep::Options options;
  options.name = name;
  options.ready = podkeep::Ready::Notify;
  options.restart = restart;
  options.backoff = 1ms;
  return options;
}
inline podkeep::Pod marks(const char *name) { return podkeep::Pod::make<Marks>(member(name)); }

inline podkeep::GroupOptions of(podkeep::Strategy strategy) {
  podkeep::GroupOptions options;
  options.name = "site";
  options.strategy = strategy;
  return options;
}

}  // namespace check

#endif
