// podkeep/failure.hpp: what went wrong. Statuses, the failure record, the exception. Included by podkeep.hpp; not for use on its own.
#ifndef PODKEEP_CPP_FAILURE_HPP
#define PODKEEP_CPP_FAILURE_HPP

#include "library.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>

PODKEEP_BEGIN_NAMESPACE_

// The numbers are those of podkeep.h.
#if PODKEEP_CPP_EXCEPTIONS
enum class Status : std::int32_t {
#else
enum class [[nodiscard]] Status : std::int32_t {
#endif
  Ok = PODKEEP_OK,
  InvalidArgument = PODKEEP_ERR_INVALID_ARGUMENT,
  InvalidHandle = PODKEEP_ERR_INVALID_HANDLE,
  InvalidState = PODKEEP_ERR_INVALID_STATE,
  Timeout = PODKEEP_ERR_TIMEOUT,
  Failed = PODKEEP_ERR_FAILED,
  Ended = PODKEEP_ERR_ENDED,
  Deadlock = PODKEEP_ERR_DEADLOCK,
  Forked = PODKEEP_ERR_FORKED,
  Resources = PODKEEP_ERR_RESOURCES,
  Unsupported = PODKEEP_ERR_UNSUPPORTED,
  Denied = PODKEEP_ERR_DENIED,
  Unreachable = PODKEEP_ERR_UNREACHABLE,
  Internal = PODKEEP_ERR_INTERNAL,
  NotFound = PODKEEP_ERR_NOT_FOUND
};

enum class State : std::int32_t {
  New = PODKEEP_STATE_NEW,
  Starting = PODKEEP_STATE_STARTING,
  Running = PODKEEP_STATE_RUNNING,
  Stopping = PODKEEP_STATE_STOPPING,
  Restarting = PODKEEP_STATE_RESTARTING,
  Stopped = PODKEEP_STATE_STOPPED,
  Failed = PODKEEP_STATE_FAILED,
  Abandoned = PODKEEP_STATE_ABANDONED
};

enum class Phase : std::int32_t {
  Spawn = PODKEEP_PHASE_SPAWN,
  Init = PODKEEP_PHASE_INIT,
  Ready = PODKEEP_PHASE_READY,
  Run = PODKEEP_PHASE_RUN,
  Cancel = PODKEEP_PHASE_CANCEL,
  Teardown = PODKEEP_PHASE_TEARDOWN
};

enum class Kind : std::int32_t {
  Returned = PODKEEP_KIND_RETURNED,
  Panic = PODKEEP_KIND_PANIC,
  Exception = PODKEEP_KIND_EXCEPTION,
  Exit = PODKEEP_KIND_EXIT,
  Signal = PODKEEP_KIND_SIGNAL,
  Timeout = PODKEEP_KIND_TIMEOUT,
  Watchdog = PODKEEP_KIND_WATCHDOG,
  Lost = PODKEEP_KIND_LOST
};

// The lower-case word ("run", "signal"); "?" for a number this header does not know. Static; any thread.
inline const char *to_string(State state) noexcept {
  static constexpr const char *words[] = {"new", "starting", "running", "stopping", "restarting", "stopped", "failed", "abandoned"};
  const auto number = static_cast<std::uint32_t>(state);
  return number < 8u ? words[number] : "?";
}
inline const char *to_string(Phase phase) noexcept {
  static constexpr const char *words[] = {"spawn", "init", "ready", "run", "cancel", "teardown"};
  const auto number = static_cast<std::uint32_t>(phase);
  return number < 6u ? words[number] : "?";
}
inline const char *to_string(Kind kind) noexcept {
  static constexpr const char *words[] = {"returned", "panic", "exception", "exit", "signal", "timeout", "watchdog", "lost"};
  const auto number = static_cast<std::uint32_t>(kind);
  return number < 8u ? words[number] : "?";
}
// The name podkeep.h has for it. A table of the header's own: an Error must be readable also when no library was found.
inline const char *to_string(Status status) noexcept {
  static constexpr const char *names[] = {
      "PODKEEP_OK", "PODKEEP_ERR_INVALID_ARGUMENT", "PODKEEP_ERR_INVALID_HANDLE", "PODKEEP_ERR_INVALID_STATE", "PODKEEP_ERR_TIMEOUT",
      "PODKEEP_ERR_FAILED", "PODKEEP_ERR_ENDED", "PODKEEP_ERR_DEADLOCK", "PODKEEP_ERR_FORKED", "PODKEEP_ERR_RESOURCES",
      "PODKEEP_ERR_UNSUPPORTED", "PODKEEP_ERR_DENIED", "PODKEEP_ERR_UNREACHABLE", "PODKEEP_ERR_INTERNAL", "PODKEEP_ERR_NOT_FOUND"};
  const auto number = -static_cast<std::int64_t>(status);
  return number >= 0 && number < 15 ? names[number] : "PODKEEP_ERR_?";
}

// Why an incarnation ended: a value of its own, free to copy and to keep; nothing in it refers to the pod.
struct Failure {
  std::string pod_name;
  std::uint32_t incarnation = 0;
  Phase phase = Phase::Spawn;
  Kind kind = Kind::Returned;
  std::int32_t code = 0;  // the callback's return value; -1 (or a system_error's number) for an exception
  std::string message;    // UTF-8; for an exception its type and its what(), also when it was thrown in a child process
  std::string data;         // the bytes that Context::fail was given along
  std::string stderr_text;  // the end (at most 64 KiB) of what a child process wrote to stderr
  // The exception itself, when it was thrown in this process by a runtime of this header and the record comes from a Pod or a Group.
  std::exception_ptr exception;
  std::shared_ptr<const Failure> secondary;  // the next failure of the same incarnation, in order of time

  // pod "web" failed in run (exception, code -1): std::runtime_error: port taken
  std::string describe() const {
    std::string text = "pod \"" + pod_name + "\" failed in " + to_string(phase);
    text += std::string(" (") + to_string(kind) + ", code " + std::to_string(code) + ")";
    if (!message.empty()) text += ": " + message;
    return text;
  }
};

// Codes are Status numbers. Those with a meaning in std::errc compare equal to it (Deadlock: resource_deadlock_would_occur, as with
// joining oneself in <thread>).
class ErrorCategory : public std::error_category {
 public:
  const char *name() const noexcept override { return "podkeep"; }
  std::string message(int code) const override { return to_string(static_cast<Status>(code)); }
  std::error_condition default_error_condition(int code) const noexcept override {
    switch (static_cast<Status>(code)) {
      case Status::InvalidArgument: return std::errc::invalid_argument;
      case Status::Timeout: return std::errc::timed_out;
      case Status::Deadlock: return std::errc::resource_deadlock_would_occur;
      case Status::Resources: return std::errc::resource_unavailable_try_again;
      case Status::Unsupported: return std::errc::not_supported;
      case Status::Denied: return std::errc::permission_denied;
      case Status::Unreachable: return std::errc::host_unreachable;
      default: return std::error_condition(code, *this);
    }
  }
};

inline const std::error_category &error_category() noexcept {
  static const ErrorCategory category;
  return category;
}
inline std::error_code make_error_code(Status status) noexcept { return {static_cast<int>(status), error_category()}; }

#if PODKEEP_CPP_EXCEPTIONS
// What every call that does not succeed throws, except that a failure which is an exception of the runtime is rethrown as it is.
// what() is one sentence that names the pod, the argument or the way out, followed by the status.
class Error : public std::system_error {
 public:
  Error(Status status, const std::string &sentence, std::shared_ptr<const Failure> failure = nullptr)
      : std::system_error(make_error_code(status), sentence), failure_(std::move(failure)) {}
  Status status() const noexcept { return static_cast<Status>(code().value()); }
  // The pod's failure when there was one; it lives as long as this error or a copy of it. Null otherwise.
  const Failure *failure() const noexcept { return failure_.get(); }

 private:
  std::shared_ptr<const Failure> failure_;
};

// Thrown in a runtime's constructor or run_forever: "I stopped because I was asked to". A clean end after a stop was asked for.
class Cancelled : public std::exception {
 public:
  const char *what() const noexcept override { return "cancelled"; }
};

using Checked = void;  // calls that only succeed or not
#else
using Checked = Status;
#endif

// "No limit" for every wait and for the grace of Options and GroupOptions.
inline constexpr std::chrono::milliseconds forever = std::chrono::milliseconds::max();

#if !PODKEEP_CPP_EXCEPTIONS
namespace detail {
// What the header itself refuses has a sentence, too, which is the last one until the library has another.
struct OwnSentence {
  std::string text, before;
};
inline thread_local OwnSentence own_sentence;
}  // namespace detail
#endif

// This thread's last failing call in one sentence; "" when there was none.
inline std::string last_error() {
  std::string last = detail::last_sentence();
#if !PODKEEP_CPP_EXCEPTIONS
  if (!detail::own_sentence.text.empty() && detail::own_sentence.before == last) return detail::own_sentence.text;
#endif
  return last;
}

namespace detail {

// Rounded up: a wait never ends early, and a limit below a millisecond does not turn into 0, which means "default" or "poll".
// Beyond 292 million years it is `infinite`. Negative: -1 is the C side's FOREVER, so it must not be handed on as it is.
template <class Rep, class Period>
std::int64_t to_ms(std::chrono::duration<Rep, Period> time, std::int64_t infinite, std::int64_t negative) noexcept {
  const std::chrono::duration<long double, std::milli> approximate = time;
  if (!(approximate.count() >= 0)) return negative;  // NaN as well
  if (approximate.count() >= 9.2e18L) return infinite;
  return std::chrono::ceil<std::chrono::duration<std::int64_t, std::milli>>(time).count();
}
// Waits: a moment that has passed polls, as in the standard library.
template <class Rep, class Period>
std::int64_t wait_ms(std::chrono::duration<Rep, Period> time) noexcept {
  return to_ms(time, PODKEEP_FOREVER, 0);
}
// Options: a negative time is to be refused by the C side; -1 would be FOREVER there.
inline constexpr std::int64_t most_ms = std::numeric_limits<std::int64_t>::max();
inline std::int64_t option_ms(std::chrono::milliseconds time, std::int64_t infinite) noexcept {
  return to_ms(time, infinite, time.count() == -1 ? -most_ms : time.count());
}

// Turns a status into what the caller gets: an Error, or the status itself.
inline Checked checked(podkeep_status status) {
#if PODKEEP_CPP_EXCEPTIONS
  if (status != PODKEEP_OK) throw Error(static_cast<Status>(status), last_sentence());
#else
  return static_cast<Status>(status);
#endif
}
// What the header itself refuses.
inline podkeep_status refused(const std::string &sentence) {
#if PODKEEP_CPP_EXCEPTIONS
  throw Error(Status::InvalidArgument, sentence);
#else
  own_sentence = {sentence, last_sentence()};
  return PODKEEP_ERR_INVALID_ARGUMENT;
#endif
}

// What the pod's recipe (S, the hook's thread), its Pod and its Group (waiters) share: the exceptions that its callbacks threw. A
// callback runs at most once an incarnation, so phase and incarnation name the exception.
class Lives {
 public:
  // Another life may follow: what the first one is made of is kept for it.
  std::atomic<bool> again{false};

  void keep(std::uint32_t incarnation, Phase phase, std::exception_ptr exception) {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto slot = static_cast<std::size_t>(phase);
    if (slot >= slots_) return;
    std::swap(kept_[slot], exception);  // the old one goes after the lock: its destructor is the user's code
    incarnation_[slot] = incarnation;
  }
  std::exception_ptr find(std::uint32_t incarnation, Phase phase) const {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto slot = static_cast<std::size_t>(phase);
    return slot < slots_ && incarnation_[slot] == incarnation ? kept_[slot] : nullptr;
  }

 private:
  static constexpr std::size_t slots_ = 6;
  mutable std::mutex lock_;
  std::exception_ptr kept_[slots_];
  std::uint32_t incarnation_[slots_] = {};
};

inline Failure read_failure(const podkeep_failure *record, const Lives *lives) {
  Failure failure;
  failure.pod_name = PODKEEP_CALL_(failure_pod_name)(record);
  failure.incarnation = PODKEEP_CALL_(failure_incarnation)(record);
  failure.phase = static_cast<Phase>(PODKEEP_CALL_(failure_phase)(record));
  failure.kind = static_cast<Kind>(PODKEEP_CALL_(failure_kind)(record));
  failure.code = PODKEEP_CALL_(failure_code)(record);
  failure.message = PODKEEP_CALL_(failure_message)(record);
  std::size_t length = 0;
  if (const void *const data = PODKEEP_CALL_(failure_data)(record, &length)) failure.data.assign(static_cast<const char *>(data), length);
  failure.stderr_text = PODKEEP_CALL_(failure_stderr)(record);
  if (lives && failure.kind == Kind::Exception) failure.exception = lives->find(failure.incarnation, failure.phase);
  if (const podkeep_failure *const next = PODKEEP_CALL_(failure_secondary)(record))
    failure.secondary = std::make_shared<const Failure>(read_failure(next, lives));
  return failure;
}

struct FreeFailure {
  void operator()(podkeep_failure *record) const noexcept { (void)PODKEEP_CALL_(failure_free)(record); }
};
using OwnedFailure = std::unique_ptr<podkeep_failure, FreeFailure>;

}  // namespace detail
PODKEEP_END_NAMESPACE_

template <>
struct std::is_error_code_enum<podkeep::Status> : std::true_type {};

#endif
