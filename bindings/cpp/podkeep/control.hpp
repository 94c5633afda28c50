// podkeep/control.hpp: pods reached from another process. Included by podkeep.hpp; not for use on its own.
#ifndef PODKEEP_CPP_CONTROL_HPP
#define PODKEEP_CPP_CONTROL_HPP

#include "pod.hpp"

PODKEEP_BEGIN_NAMESPACE_

// Control({.address = "unix:/run/web.sock"}) in C++20; in C++17 set the members.
struct ControlOptions {
  std::string address{};  // "unix:PATH": for this user and root; "tcp:HOST:PORT", port 0: any; "": a private socket of this process
  std::string tls_cert{};       // PEM files, all three or none: the service's certificate,
  std::string tls_key{};        // its key,
  std::string tls_client_ca{};  // and who vouches for its clients. Needed for an address that other machines can reach
};

// Answers for all pods of the process, those made later too, until it is closed or destroyed, on a thread of the library's own. Movable,
// not copyable. The constructor blocks until it listens; its errors: InvalidArgument, the sentence names the field; Denied, other
// machines can reach the address and there is no TLS, or the directory is another user's; InvalidState, somebody listens there, or after
// a shutdown; NotFound, no such directory; Unreachable, the host's name is not known; Resources; Unsupported, a library without it.
// address may be called by several threads at once. A Control that was moved from answers InvalidHandle.
class Control {
 public:
  Control() : Control(ControlOptions()) {}
  explicit Control(const ControlOptions &options) { create(options); }

  ~Control() {
    if (handle_) (void)PODKEEP_CALL_(control_free)(handle_);
  }
  Control(Control &&other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), made_(std::exchange(other.made_, Status::InvalidHandle)) {}
  // The service that was here before is closed, after the new one is in place. Moving to itself has no effect.
  Control &operator=(Control &&other) noexcept {
    Control(std::move(other)).swap(*this);
    return *this;
  }
  void swap(Control &other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(made_, other.made_);
  }
  friend void swap(Control &a, Control &b) noexcept { a.swap(b); }

  podkeep_control *native_handle() const noexcept { return handle_; }
  explicit operator bool() const noexcept { return handle_ != nullptr; }  // it serves

  // Where it listens, as a client can use it: with the real port. Without exceptions "" when it does not serve.
  std::string address() const {
    const char *address = "";
    (void)settle(handle_ ? PODKEEP_CALL_(control_address)(handle_, &address) : static_cast<podkeep_status>(PODKEEP_ERR_INVALID_HANDLE));
    return address;
  }

  // Ends it: its socket is gone, and its clients see their calls end, with Unreachable here. The pods go on. Blocks for a moment (at
  // most 0.1 s for clients that do not let go). Twice is harmless.
  Checked close() {
    podkeep_status status = static_cast<podkeep_status>(made_);
    if (handle_) status = PODKEEP_CALL_(control_free)(handle_);
    if (status == PODKEEP_OK) handle_ = nullptr;
    return settle(status);
  }

 private:
  podkeep_control *handle_ = nullptr;
  Status made_ = Status::InvalidHandle;  // without exceptions: why a service could not be had, answered by close

  void create(const ControlOptions &options) {
    podkeep_status status = detail::load();
    if (status == PODKEEP_OK && detail::holds_nul({options.address, options.tls_cert, options.tls_key, options.tls_client_ca}))
      status = detail::refused("ControlOptions: a text holds a NUL byte");
    if (status == PODKEEP_OK) {
      const auto given = [](const std::string &text) { return text.empty() ? nullptr : text.c_str(); };
      podkeep_control_options all = PODKEEP_CONTROL_OPTIONS_INIT;
      all.address = given(options.address);
      all.tls_cert = given(options.tls_cert);
      all.tls_key = given(options.tls_key);
      all.tls_client_ca = given(options.tls_client_ca);
      status = PODKEEP_CALL_(control_serve)(&all, &handle_);
    }
    made_ = static_cast<Status>(status);
    (void)detail::checked(status);
  }

  Checked settle(podkeep_status status) const {
#if PODKEEP_CPP_EXCEPTIONS
    if (status == PODKEEP_ERR_INVALID_HANDLE && !handle_)
      throw Error(Status::InvalidHandle, "this Control is empty: it was moved from or closed");
#endif
    return detail::checked(status);
  }
};

namespace detail {

// Both as C has them, unless that would cut one short.
template <class Call>
podkeep_status afar(const std::string &address, const std::string &name, Call call) {
  podkeep_status status = load();
  if (status == PODKEEP_OK && holds_nul({address, name})) status = refused("the address or the name of the pod holds a NUL byte");
  return status == PODKEEP_OK ? call(address.c_str(), name.c_str()) : status;
}
inline Checked terminate_ms(const std::string &address, const std::string &name, std::int64_t limit) {
  return checked(afar(address, name, [&](const char *where, const char *whom) { return PODKEEP_CALL_(terminate)(where, whom, limit); }));
}
inline State query_ms(const std::string &address, const std::string &name, std::int64_t limit) {
  podkeep_state state = PODKEEP_STATE_NEW;
  const podkeep_status status =
      afar(address, name, [&](const char *where, const char *whom) { return PODKEEP_CALL_(query)(where, whom, limit, &state); });
  (void)checked(status);
  return static_cast<State>(status == PODKEEP_OK ? state : status);
}

}  // namespace detail

// Asks a pod or a group of the process behind a Control's address for its end, and waits for that; one that is given up on goes on
// ending. Errors: Failed, it ended with a failure, which what() tells whole (failure() is null: the record is the other process's);
// Timeout, the limit, or its thread was let go; NotFound, nobody of that name; Unreachable, nobody answers there, or no longer; Denied,
// another user's process, or TLS refuses a side; Deadlock, from a log callback or a destructor that the library runs.
inline Checked terminate(const std::string &address, const std::string &name) {
  return detail::terminate_ms(address, name, PODKEEP_FOREVER);
}
template <class Rep, class Period>
Checked terminate(const std::string &address, const std::string &name, std::chrono::duration<Rep, Period> limit) {
  return detail::terminate_ms(address, name, detail::wait_ms(limit));
}

// The state of a pod or a group there, now; the limit is for the way there and back. Errors as terminate's, without Failed. Without
// exceptions a negative State says why there is none.
inline State query(const std::string &address, const std::string &name) {
  return detail::query_ms(address, name, PODKEEP_FOREVER);
}
template <class Rep, class Period>
State query(const std::string &address, const std::string &name, std::chrono::duration<Rep, Period> limit) {
  return detail::query_ms(address, name, detail::wait_ms(limit));
}

PODKEEP_END_NAMESPACE_
#endif
