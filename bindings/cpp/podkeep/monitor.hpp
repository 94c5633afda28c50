// podkeep/monitor.hpp: the life of pods as it happens, for any event loop. Included by podkeep.hpp; not for use on its own.
#ifndef PODKEEP_CPP_MONITOR_HPP
#define PODKEEP_CPP_MONITOR_HPP

#include "group.hpp"

PODKEEP_BEGIN_NAMESPACE_

// A change of one pod's state; a value of its own.
struct Event {
  std::uint64_t sequence = 0;  // grows with every event of the process
  std::chrono::steady_clock::time_point time{};
  podkeep_pod *pod = nullptr;  // compare it with Pod::native_handle; it may be dead by now
  std::string name;
  State from = State::New, to = State::New;  // equal: the state found when the monitor was made
  std::uint32_t incarnation = 0;
  std::uint32_t missed = 0;        // events of this pod merged into this one
  std::optional<Failure> failure;  // when `to` follows one; without the exception object, which only the Pod and the Group have
};

// Delivers each watched pod's present state, then every change in order. One thread at a time calls next.
class Monitor {
 public:
  // Every pod of the process.
  Monitor() {
    create([](podkeep_monitor **out) { return PODKEEP_CALL_(monitor_new)(nullptr, out); });
  }
  // One pod, whose Monitor ends when the pod is final and all is read. It does not keep the pod.
  explicit Monitor(const Pod &pod) {
#if PODKEEP_CPP_EXCEPTIONS
    if (!pod) throw Error(Status::InvalidHandle, "Monitor: the Pod is empty");
#endif
    if (pod)  // NULL would mean every pod
      create([&](podkeep_monitor **out) { return PODKEEP_CALL_(monitor_new)(pod.native_handle(), out); });
  }
  // The members of a group, those to come included. It ends when the group is final and all is read; its descriptor also tells that the
  // group shows another state, though no event may wait.
  explicit Monitor(const Group &group) {
#if PODKEEP_CPP_EXCEPTIONS
    if (!group) throw Error(Status::InvalidHandle, "Monitor: the Group is empty");
#endif
    if (group) create([&](podkeep_monitor **out) { return PODKEEP_CALL_(monitor_new_group)(group.native_handle(), out); });
  }
  ~Monitor() {
    if (handle_) (void)PODKEEP_CALL_(monitor_free)(handle_);
  }
  Monitor(Monitor &&other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)),
        status_(std::exchange(other.status_, Status::InvalidHandle)),
        ended_(std::exchange(other.ended_, false)) {}
  Monitor &operator=(Monitor &&other) noexcept {
    Monitor taken(std::move(other));
    std::swap(handle_, taken.handle_);
    std::swap(status_, taken.status_);
    std::swap(ended_, taken.ended_);
    return *this;
  }
  explicit operator bool() const noexcept { return handle_ != nullptr; }
  podkeep_monitor *native_handle() const noexcept { return handle_; }

  // Readable while events wait, and from the end on; only poll it. Error Resources, or -1 without exceptions, when there is none to be
  // had.
  int fd() {
    int fd = -1;
    (void)checked(handle_ ? PODKEEP_CALL_(monitor_fd)(handle_, &fd) : static_cast<podkeep_status>(PODKEEP_ERR_INVALID_HANDLE));
    return fd;
  }

  // Nothing: none came in time, or there will be none (ended()). With no limit it is only the latter:
  //   while (auto event = monitor.next()) ...
  std::optional<Event> next() { return next_ms(PODKEEP_FOREVER); }
  template <class Rep, class Period>
  std::optional<Event> next(std::chrono::duration<Rep, Period> limit) {
    return next_ms(detail::wait_ms(limit));
  }
  // For good: whatever was called since.
  bool ended() const noexcept { return ended_; }
  // What the last call came to; without exceptions this tells why next, fd or the construction failed.
  Status status() const noexcept { return status_; }

 private:
  podkeep_monitor *handle_ = nullptr;
  Status status_ = Status::InvalidHandle;
  bool ended_ = false;

  template <class Make>
  void create(Make make) {
    podkeep_status status = detail::load();
    if (status == PODKEEP_OK) status = make(&handle_);
    status_ = static_cast<Status>(status);
    (void)detail_check(status);
  }

  Checked checked(podkeep_status status) {
    if (handle_) status_ = static_cast<Status>(status);
    return detail_check(status);
  }
  Checked detail_check(podkeep_status status) {
#if PODKEEP_CPP_EXCEPTIONS
    if (status == PODKEEP_ERR_INVALID_HANDLE && !handle_) throw Error(Status::InvalidHandle, "this Monitor is empty: it was moved from");
#endif
    return detail::checked(status);
  }

  std::optional<Event> next_ms(std::int64_t limit) {
    podkeep_event raw = PODKEEP_EVENT_INIT;
    const podkeep_status status =
        handle_ ? PODKEEP_CALL_(monitor_next)(handle_, &raw, limit) : static_cast<podkeep_status>(PODKEEP_ERR_INVALID_HANDLE);
    if (status != PODKEEP_OK) {
      if (handle_) status_ = static_cast<Status>(status);
      if (status == PODKEEP_ERR_ENDED) ended_ = true;
      if (status != PODKEEP_ERR_TIMEOUT && status != PODKEEP_ERR_ENDED) (void)detail_check(status);
      return std::nullopt;
    }
    status_ = Status::Ok;
    Event event;
    event.sequence = raw.sequence;
    event.time = std::chrono::steady_clock::time_point(
        std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::nanoseconds(raw.time_ns)));
    event.pod = raw.pod;
    event.name = raw.name;
    event.from = static_cast<State>(raw.from);
    event.to = static_cast<State>(raw.to);
    event.incarnation = raw.incarnation;
    event.missed = raw.missed;
    if (raw.failure) event.failure = detail::read_failure(raw.failure, nullptr);
    return event;
  }
};

PODKEEP_END_NAMESPACE_
#endif
