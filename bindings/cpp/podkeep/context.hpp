// podkeep/context.hpp: what a runtime sees from inside. Included by podkeep.hpp; not for use on its own.
#ifndef PODKEEP_CPP_CONTEXT_HPP
#define PODKEEP_CPP_CONTEXT_HPP

#include "failure.hpp"

#include <algorithm>
#include <atomic>
#include <optional>
#include <string_view>
#include <thread>

#if __cplusplus >= 202002L && __has_include(<stop_token>)
#include <stop_token>
#endif
#ifdef __cpp_lib_jthread
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#endif

PODKEEP_BEGIN_NAMESPACE_
namespace detail {

// What the copies of one incarnation's Context share.
struct Incarnation {
  // Set by Context::fail, taken by the trampoline when the callback returns.
  std::atomic<std::int32_t> fail_code{0};
  // The hook's own thread while the hook runs: a fail() there counts by itself and is not run_forever's.
  std::atomic<std::thread::id> hook_thread{std::thread::id()};
  // So many of the pod's bytes are the user's: arguments that crossed into this process come behind them.
  std::size_t args_length = std::numeric_limits<std::size_t>::max();

  // The stop_token's machinery, behind a pointer that C++17 code can carry and end without knowing its type.
  std::mutex stop_lock;
  std::shared_ptr<void> stop;
  void (*end_stop)(void *) = nullptr;
  bool over = false;

  // At the incarnation's end, on S, or when the config is dropped. Idempotent.
  void end() {
    std::shared_ptr<void> ending;
    void (*how)(void *) = nullptr;
    {
      const std::lock_guard<std::mutex> guard(stop_lock);
      if (over) return;
      over = true;
      ending = stop;
      how = end_stop;
    }
    if (how) how(ending.get());  // outside the lock: it waits for stop callbacks, which may ask for the token again
  }
};

#ifdef __cpp_lib_jthread
// A std::stop_source cannot be reached from a signal or a descriptor, so a thread of its own sleeps on the context's descriptor. It
// exists only for incarnations that ask for a token. The cancel hook would not do: it is not called while the constructor runs.
class StopWatch {
 public:
  std::stop_source source;

  bool begin(int cancel_fd) {
    cancel_fd_ = cancel_fd;
    if (cancel_fd_ < 0) return false;
    end_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (end_fd_ < 0) return false;
    // It inherits S's signal mask: all blocked but the synchronous ones.
    started_ = ::pthread_create(&thread_, nullptr, &StopWatch::watch, this) == 0;
    return started_;
  }
  ~StopWatch() {
    if (end_fd_ >= 0) ::close(end_fd_);
  }
  // As a context reads cancelled once it is over, so does its token.
  void end() {
    if (started_) {
      const std::uint64_t one = 1;
      while (::write(end_fd_, &one, sizeof one) < 0 && errno == EINTR) {
      }
      ::pthread_join(thread_, nullptr);
    }
    source.request_stop();
  }
  StopWatch() = default;
  StopWatch(const StopWatch &) = delete;
  StopWatch &operator=(const StopWatch &) = delete;

 private:
  int cancel_fd_ = -1;
  int end_fd_ = -1;
  bool started_ = false;
  pthread_t thread_{};

  static void *watch(void *self) {
    auto *const watch = static_cast<StopWatch *>(self);
    ::pollfd fds[2] = {{watch->cancel_fd_, POLLIN, 0}, {watch->end_fd_, POLLIN, 0}};
    while (::poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    if (fds[0].revents) watch->source.request_stop();
    return nullptr;
  }
};
#endif

}  // namespace detail

// A view of one incarnation, cheap to copy. Any thread of the process may use it, from the making of the runtime to the end of its
// teardown; a copy that is used later is harmless and reads cancelled.
class Context {
 public:
  // One atomic load. True from the first stop request on, of whatever reason.
  bool cancelled() const noexcept { return PODKEEP_CALL_(context_cancelled)(context_); }

  // Sleeps until the pod is cancelled (true) or the time has passed (false).
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> time) const noexcept {
    return PODKEEP_CALL_(context_wait)(context_, detail::wait_ms(time)) != PODKEEP_ERR_TIMEOUT;
  }
  void wait() const noexcept { (void)PODKEEP_CALL_(context_wait)(context_, PODKEEP_FOREVER); }

  // Readable once cancelled; for poll, epoll and event loops. The pod's: do not read, write or close it. -1: none to be had.
  int fd() const noexcept { return PODKEEP_CALL_(context_fd)(context_); }

  // Until force is used; nothing: not cancelled, or no limit.
  std::optional<std::chrono::milliseconds> time_left() const noexcept {
    const std::int64_t left = PODKEEP_CALL_(context_time_left)(context_);
    if (left < 0) return std::nullopt;
    return std::chrono::milliseconds(left);
  }

  // These throw Error (or return the status): InvalidState once the incarnation is over, Forked in a forked child.
  Checked ready() const { return detail::checked(PODKEEP_CALL_(context_ready)(context_)); }
  Checked heartbeat() const { return detail::checked(PODKEEP_CALL_(context_heartbeat)(context_)); }
  template <class Rep, class Period>
  Checked extend(std::chrono::duration<Rep, Period> time) const {
    constexpr auto most = std::numeric_limits<std::int64_t>::max();
    return detail::checked(PODKEEP_CALL_(context_extend)(context_, detail::to_ms(time, most, -most)));
  }
  Checked status(const std::string &text) const { return detail::checked(PODKEEP_CALL_(context_status)(context_, text.c_str())); }

  // The way to fail without an exception: the constructor, run_forever or teardown that S is in counts as failed with this code and
  // message when it returns. In the cancel hook it is a failure at once. A code of 0 is taken as -1. PODKEEP_CANCELLED says "stopped
  // as asked". data: bytes that travel with the record (Failure::data), out of a child process, too. Returns the code, so that a
  // function runtime can `return ctx.fail(...)`.
  std::int32_t fail(std::int32_t code, const std::string &message, std::string_view data = {}) const {
    const std::int32_t taken = PODKEEP_CALL_(context_fail_with)(context_, PODKEEP_KIND_RETURNED, code, message.c_str(),
                                                                data.empty() ? nullptr : data.data(), data.size());
    if (shared_->hook_thread.load() != std::this_thread::get_id()) shared_->fail_code.store(taken);
    return taken;
  }

  std::uint32_t incarnation() const noexcept { return PODKEEP_CALL_(context_incarnation)(context_); }
  // Options::args as bytes, 16-byte aligned; they live as long as the pod.
  std::string_view args() const noexcept {
    std::size_t length = 0;
    const void *const bytes = PODKEEP_CALL_(context_args)(context_, &length);
    return bytes ? std::string_view(static_cast<const char *>(bytes), std::min(length, shared_->args_length)) : std::string_view();
  }
  std::string_view name() const noexcept { return PODKEEP_CALL_(context_name)(context_); }

#ifdef __cpp_lib_jthread
  // Stop is requested as soon as the pod is cancelled, from the constructor on; stop callbacks run on a thread that the first call of
  // an incarnation makes, and that is joined after teardown. When there is no thread or descriptor to be had: Error (Resources), or
  // a token for which stop_possible() is false where there are no exceptions.
  std::stop_token stop_token() const {
    const std::lock_guard<std::mutex> guard(shared_->stop_lock);
    if (!shared_->stop) {
      auto watch = std::make_shared<detail::StopWatch>();
      // Over, though the library may still be on its way to know: a thread that began now would be joined by nobody. No callback is on
      // this token yet.
      if (shared_->over || cancelled()) {
        watch->source.request_stop();
      } else if (!watch->begin(fd())) {
#if PODKEEP_CPP_EXCEPTIONS
        throw Error(Status::Resources, "pod \"" + std::string(name()) + "\": no thread or descriptor to be had for a stop_token");
#else
        return {};
#endif
      }
      shared_->end_stop = [](void *stop) { static_cast<detail::StopWatch *>(stop)->end(); };
      shared_->stop = std::move(watch);
    }
    auto &source = static_cast<detail::StopWatch *>(shared_->stop.get())->source;
    return source.get_token();
  }
#endif

  podkeep_context *native_handle() const noexcept { return context_; }

  // For the header itself; user code is handed its Context.
  Context(podkeep_context *context, std::shared_ptr<detail::Incarnation> shared) noexcept
      : context_(context), shared_(std::move(shared)) {}

 private:
  podkeep_context *context_;
  std::shared_ptr<detail::Incarnation> shared_;
};

PODKEEP_END_NAMESPACE_
#endif
