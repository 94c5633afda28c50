// podkeep.hpp: podkeep for C++17 and newer. This one include is all; the rooms are podkeep/*.hpp beside it.
//
//   struct Web : podkeep::Runtime {
//     explicit Web(int port);                                 // runs in the pod's thread
//     void run_forever(podkeep::Context &context) override;   // blocks
//     void cancel() noexcept override;                        // optional: unblocks what cannot poll
//     void teardown() override;                               // optional
//   };
//   auto pod = podkeep::Pod::make<Web>({.name = "web"}, 8080);
//   pod.start().wait_ready(10s);
//   pod.cancel();
//   pod.join();                                               // rethrows the runtime's own exception
//
//   podkeep::Pod tick([](podkeep::Context &context) { while (!context.wait(1s)) tock(); });
//
// The same in a child process, which is this program started anew:
//
//   int main() {
//     if (const auto code = podkeep::child_run()) return *code;              // first thing in main
//     auto pod = podkeep::Pod::make<Web>({.name = "web", .host = podkeep::Host::Process}, 8080);
//     auto redis = podkeep::Pod::command({"redis-server", "--supervised", "systemd"}, {.ready = podkeep::Ready::Notify});
//     auto worker = podkeep::Pod::library("./libworker.so", "worker", {.host = podkeep::Host::Process});
//     ...
//
// and as a container's main process: int main() { return podkeep::run(podkeep::Pod::make<Web>({}, 8080)); }
//
// Pods that live together, started in order and stopped in reverse order:
//
//   podkeep::Group group({.strategy = podkeep::Strategy::OneForAll});
//   group.add(redis).add(pod, {.after = {redis}});
//   group.start().wait_ready(10s);
//   group.join();
//
// Reached from another process, and there:
//
//   podkeep::Control control({.address = "unix:/run/web.sock"});
//
//   podkeep::terminate("unix:/run/web.sock", "web", 10s);
//
// Two ways in. Linked: -lpodkeep (CMake: podkeep::podkeep; pkg-config: podkeep). Or with PODKEEP_DYNAMIC defined in front of the
// include (CMake: podkeep::dynamic), libpodkeep.so.0 is looked for with dlopen at first use, or the file that the environment's
// PODKEEP_LIBRARY names; an Error (NotFound, or Unsupported for a library of another ABI) says what was tried.
//
// Errors. Calls throw podkeep::Error, a std::system_error with podkeep's category that carries the pod's failure, if there is one. When
// that failure is an exception of the runtime, join, wait_ready and close rethrow this very exception instead; where and when it
// happened is in Pod::failure(), whose message holds its what(). Out of a child process it comes as an Error: the exception's type and
// what() are in its failure's message, the end of the child's stderr in stderr_text. A Group always throws an Error, which names the
// member; the exception itself is its failure()->exception.
//
// Without exceptions (-fno-exceptions) the same calls return podkeep::Status, which must not be ignored: add, start, wait_ready, join,
// close, terminate and the Context's. A Pod, Group, Monitor or Control that could not be made is empty (operator bool), and each call on
// it returns why; podkeep::last_error() has the sentence. A runtime fails through Context::fail. RTTI is not needed either.
//
// Threads. Pod, Group, Context: any thread, at once. See podkeep.h for what may be called from where.
#ifndef PODKEEP_HPP
#define PODKEEP_HPP

#include "podkeep/failure.hpp"
#include "podkeep/context.hpp"
#include "podkeep/runtime.hpp"
#include "podkeep/process.hpp"
#include "podkeep/pod.hpp"
#include "podkeep/group.hpp"
#include "podkeep/monitor.hpp"
#include "podkeep/control.hpp"

PODKEEP_BEGIN_NAMESPACE_

// Of the library, as it runs.
inline std::string version() {
  const podkeep_status status = detail::load();
  (void)detail::checked(status);
  return status == PODKEEP_OK ? PODKEEP_CALL_(version)() : "";
}

// Cancels every pod of the process, refuses new ones, waits. The number of pods that did not end in time: 0 is success.
#if PODKEEP_CPP_EXCEPTIONS
template <class Rep, class Period>
std::uint32_t shutdown(std::chrono::duration<Rep, Period> limit) {
  std::uint32_t left = 0;
  detail::checked(detail::load());
  const podkeep_status status = PODKEEP_CALL_(shutdown)(detail::wait_ms(limit), &left);
  if (status != PODKEEP_ERR_TIMEOUT) detail::checked(status);
  return left;
}
#else
template <class Rep, class Period>
Status shutdown(std::chrono::duration<Rep, Period> limit, std::uint32_t *left = nullptr) {
  const podkeep_status status = detail::load();
  return static_cast<Status>(status == PODKEEP_OK ? PODKEEP_CALL_(shutdown)(detail::wait_ms(limit), left) : status);
}
#endif

// Threads that were let go and have not come back. Without exceptions 0 also when it cannot be told.
inline std::uint32_t abandoned() {
  std::uint32_t count = 0;
  const podkeep_status status = detail::load();
  (void)detail::checked(status);
  if (status == PODKEEP_OK) (void)detail::checked(PODKEEP_CALL_(abandoned)(&count));
  return count;
}

enum class Level : std::int32_t { Error = 1, Warn = 2, Info = 3, Debug = 4 };

// log(Level, std::string_view pod, std::string_view message) is called on library threads, one at a time, until it is replaced. It is
// copied or moved in and destroyed on any thread once it is no longer called. What it throws is swallowed: there is nobody to tell.
template <class F, class = std::enable_if_t<std::is_invocable_v<std::decay_t<F> &, Level, std::string_view, std::string_view>>>
Checked set_log(F &&log, Level most = Level::Info) {
  using Log = std::decay_t<F>;
  const podkeep_status status = detail::load();
  if (status != PODKEEP_OK) return detail::checked(status);
  const auto call = [](std::int32_t level, const char *pod, const char *message, void *user_data) {
#if PODKEEP_CPP_EXCEPTIONS
    try {
#endif
      (*static_cast<Log *>(user_data))(static_cast<Level>(level), std::string_view(pod), std::string_view(message));
#if PODKEEP_CPP_EXCEPTIONS
    } catch (...) {
      if (!std::current_exception()) throw;  // forced unwinding: see detail::Recipe::guard
    }
#endif
  };
  // From the call on the library's, which drops it on every path.
  return detail::checked(PODKEEP_CALL_(set_log)(call, static_cast<std::int32_t>(most), new Log(std::forward<F>(log)),
                                                [](void *user_data) { delete static_cast<Log *>(user_data); }));
}
// No log.
inline Checked set_log(std::nullptr_t) {
  const podkeep_status status = detail::load();
  if (status != PODKEEP_OK) return detail::checked(status);
  return detail::checked(PODKEEP_CALL_(set_log)(nullptr, 0, nullptr, nullptr));
}

PODKEEP_END_NAMESPACE_

#undef PODKEEP_CALL_
#undef PODKEEP_BEGIN_NAMESPACE_
#undef PODKEEP_END_NAMESPACE_

#endif
