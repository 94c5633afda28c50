// A small runner: every case in a process of its own, with a time limit as a safety net. The parent never calls podkeep, so that a
// child starts as a program does, and ends with exit() (leak checks of a sanitizer run then).
#ifndef PODKEEP_TESTS_CPP_CHECK_HPP
#define PODKEEP_TESTS_CPP_CHECK_HPP

#include <podkeep.hpp>

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

namespace check {

struct Case {
  const char *name;
  void (*body)();
};
inline std::vector<Case> &cases() {
  static std::vector<Case> all;
  return all;
}
struct Register {
  Register(const char *name, void (*body)()) { cases().push_back({name, body}); }
};

[[noreturn]] inline void fail(const char *file, int line, const std::string &what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  std::fflush(nullptr);
  ::_exit(1);
}

// An event to wait for, instead of sleeping. The limit only ends a broken run.
class Event {
 public:
  void set() {
    const std::lock_guard<std::mutex> guard(lock_);
    set_ = true;
    changed_.notify_all();
  }
  bool wait(std::chrono::milliseconds limit = 20s) {
    std::unique_lock<std::mutex> guard(lock_);
    return changed_.wait_for(guard, limit, [&] { return set_; });
  }

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  bool set_ = false;
};

// What cannot be waited for (a counter of the kernel's) is asked again and again, with a generous limit.
template <class Condition>
bool eventually(Condition condition) {
  const auto limit = std::chrono::steady_clock::now() + 20s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

inline int entries(const char *directory) {
  int count = 0;
  ::DIR *const dir = ::opendir(directory);
  if (!dir) return -1;
  while (const ::dirent *const entry = ::readdir(dir)) count += entry->d_name[0] != '.';
  ::closedir(dir);
  return count;
}
inline int threads() { return entries("/proc/self/task"); }
inline int descriptors() { return entries("/proc/self/fd"); }

inline bool contains(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

inline int run(int argc, char **argv) {
  int passed = 0, failed = 0;
  for (const Case &one : cases()) {
    if (argc > 1 && !contains(one.name, argv[1])) continue;
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);
      one.body();
      std::exit(0);
    }
    int status = -1;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    const bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    (good ? passed : failed) += 1;
    if (good)
      std::printf("ok    %s\n", one.name);
    else if (WIFSIGNALED(status))
      std::printf("FAIL  %s (signal %d%s)\n", one.name, WTERMSIG(status), WTERMSIG(status) == SIGALRM ? ", it hung" : "");
    else
      std::printf("FAIL  %s (exit %d)\n", one.name, WEXITSTATUS(status));
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}

}  // namespace check

#define CASE(name)                                                 \
  static void case_##name();                                       \
  static const check::Register register_##name(#name, case_##name); \
  static void case_##name()

#define REQUIRE(...) \
  do { \
    if (!(__VA_ARGS__)) check::fail(__FILE__, __LINE__, "not true: " #__VA_ARGS__); \
  } while (0)

#if PODKEEP_CPP_EXCEPTIONS
// The expression must throw exactly this status; `error` can be looked at in what follows.
template <class Call>
podkeep::Error error_of(const char *file, int line, const char *text, Call call) {
  try {
    call();
  } catch (const podkeep::Error &error) {
    return error;
  } catch (const std::exception &other) {
    check::fail(file, line, std::string(text) + " threw something else: " + other.what());
  }
  check::fail(file, line, std::string(text) + " did not throw");
}
#define ERROR_OF(...) error_of(__FILE__, __LINE__, #__VA_ARGS__, [&] { (void)(__VA_ARGS__); })
#define REQUIRE_STATUS(wanted, ...)                                                                                       \
  do {                                                                                                                    \
    const podkeep::Error require_error = ERROR_OF(__VA_ARGS__);                                                           \
    if (require_error.status() != podkeep::Status::wanted)                                                                \
      check::fail(__FILE__, __LINE__, std::string(#__VA_ARGS__ " threw, not " #wanted ": ") + require_error.what());      \
    if (std::strlen(require_error.what()) < 30) check::fail(__FILE__, __LINE__, std::string("says little: ") + require_error.what()); \
  } while (0)
#endif

#endif
