// podkeep/group.hpp: pods that live together. Included by podkeep.hpp; not for use on its own.
#ifndef PODKEEP_CPP_GROUP_HPP
#define PODKEEP_CPP_GROUP_HPP

#include "pod.hpp"

PODKEEP_BEGIN_NAMESPACE_

// What a member's restart takes along. Those stop in reverse order and come back in order, whatever their own policy.
enum class Strategy : std::int32_t {
  OneForOne = PODKEEP_ONE_FOR_ONE,   // itself alone
  OneForAll = PODKEEP_ONE_FOR_ALL,   // all members
  RestForOne = PODKEEP_REST_FOR_ONE  // those that were added later
};

// Group({.strategy = Strategy::OneForAll, .grace = 10s}) in C++20; in C++17 set the members.
struct GroupOptions {
  std::string name{};                  // "": "group"
  Strategy strategy = Strategy::OneForOne;
  bool keep_going = false;             // a member that failed for good leaves the others alone; otherwise it stops them
  std::chrono::milliseconds grace{0};  // one budget for the whole stop; 0: the longest chain of the members' own; podkeep::forever
};

// A member, or its name.
class After {
 public:
  After(const Pod &pod) : name_(pod.name()) {}
  After(std::string name) : name_(std::move(name)) {}
  After(const char *name) : name_(name) {}
  const std::string &name() const noexcept { return name_; }

 private:
  std::string name_;
};

// group.add(web, {.after = {database, "cache"}}) in C++20, group.add(web, {{database, "cache"}}) in C++17.
struct MemberOptions {
  std::vector<After> after{};  // members added before, which must be ready first, and stop later
  bool significant = false;    // its normal end, too, stops the group
};

// Owns a group: its destructor cancels the members and joins them, at the longest for the group's budget. Movable, not copyable.
// Members may be called by several threads at once, apart from add, moving, swapping and destruction. A Group that was moved from
// answers InvalidHandle; cancel and the destructor do nothing.
class Group {
 public:
  Group() : Group(GroupOptions()) {}
  explicit Group(const GroupOptions &options) { create(options); }

  // From a member's own thread or hook it cannot wait: the members are cancelled and let go. A failure nobody has asked for is lost
  // here; close() tells.
  ~Group() {
    if (!handle_) return;
    (void)PODKEEP_CALL_(group_close)(handle_);
    (void)PODKEEP_CALL_(group_free)(handle_);
  }
  Group(Group &&other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), members_(std::move(other.members_)), made_(other.made_) {
    other.made_ = Status::InvalidHandle;
  }
  // The group that was here before is closed, after the new one is in place. Moving to itself has no effect.
  Group &operator=(Group &&other) noexcept {
    Group(std::move(other)).swap(*this);
    return *this;
  }
  void swap(Group &other) noexcept {
    std::swap(handle_, other.handle_);
    members_.swap(other.members_);
    std::swap(made_, other.made_);
  }
  friend void swap(Group &a, Group &b) noexcept { a.swap(b); }

  podkeep_group *native_handle() const noexcept { return handle_; }
  explicit operator bool() const noexcept { return handle_ != nullptr; }

  // Makes a pod that is New a member, until the group is started. The group keeps it: the Pod may go, or stay to be looked at. Names
  // are unique in a group. NotFound: a name in `after` is no member's.
  // start: each member when those it comes after are ready; it does not wait for that. A group starts once.
#if PODKEEP_CPP_EXCEPTIONS
  Group &add(const Pod &pod, const MemberOptions &options = {}) {
    if (!pod) throw Error(Status::InvalidHandle, "Group::add: this Pod is empty: it was moved from, released or never made");
    settle(handle_ ? take_in(pod, options) : empty());
    return *this;
  }
  Group &start() {
    settle(handle_ ? PODKEEP_CALL_(group_start)(handle_) : empty());
    return *this;
  }
#else
  Status add(const Pod &pod, const MemberOptions &options = {}) {
    if (!handle_) return settle(empty());
    return settle(pod ? take_in(pod, options) : pod.empty());
  }
  Status start() { return settle(handle_ ? PODKEEP_CALL_(group_start)(handle_) : empty()); }
#endif

  // Asks for the end: each member stops when those that come after it are down. Any thread, any time, but not a signal handler; never
  // blocks.
  void cancel() const noexcept {
    if (handle_) (void)PODKEEP_CALL_(group_cancel)(handle_);
  }

  // These wait. What ends them otherwise than well is an Error (Failed, Ended, Timeout, Deadlock from a member's own thread or hook ...).
  // That of a failure names the member; when it is an exception of the member's runtime, failure()->exception is this very exception.
  // Until every member is ready or has cleanly ended:
  Checked wait_ready() { return wait_ready_ms(PODKEEP_FOREVER); }
  template <class Rep, class Period>
  Checked wait_ready(std::chrono::duration<Rep, Period> limit) {
    return wait_ready_ms(detail::wait_ms(limit));
  }
  // Until all have ended:
  Checked join() { return join_ms(PODKEEP_FOREVER); }
  template <class Rep, class Period>
  Checked join(std::chrono::duration<Rep, Period> limit) {
    return join_ms(detail::wait_ms(limit));
  }
  // cancel and join, at the longest for the budget. Timeout: a member's thread was let go (State::Abandoned). Twice, and before start,
  // is harmless.
  Checked close() { return settle(handle_ ? PODKEEP_CALL_(group_close)(handle_) : empty()); }

  // Without exceptions an empty group has a negative State and no failure.
  State state() const {
    podkeep_state state = PODKEEP_STATE_NEW;
    const podkeep_status status = handle_ ? PODKEEP_CALL_(group_state)(handle_, &state) : empty();
    if (status != PODKEEP_OK) {
      (void)settle(status);
      return static_cast<State>(status);
    }
    return static_cast<State>(state);
  }
  // Of the member that failed first for good; nothing: none did.
  std::optional<Failure> failure() const {
    podkeep_failure *record = nullptr;
    const podkeep_status status = handle_ ? PODKEEP_CALL_(group_failure)(handle_, &record) : empty();
    if (status != PODKEEP_OK) (void)detail_check(status);
    if (!record) return std::nullopt;
    const detail::OwnedFailure owner(record);
    const std::string_view name = PODKEEP_CALL_(failure_pod_name)(record);
    const auto failed = std::find_if(members_.begin(), members_.end(), [&](const Member &member) { return member.name == name; });
    return detail::read_failure(record, failed == members_.end() ? nullptr : failed->lives.get());
  }

 private:
  struct Member {
    std::string_view name;  // it lives as long as the process
    std::shared_ptr<detail::Lives> lives;
  };

  podkeep_group *handle_ = nullptr;
  std::vector<Member> members_;
  Status made_ = Status::InvalidHandle;  // without exceptions: why a group could not be made, answered by every call on it

  podkeep_status empty() const noexcept { return static_cast<podkeep_status>(made_); }

  void create(const GroupOptions &options) {
    podkeep_status status = detail::load();
    if (status == PODKEEP_OK && detail::holds_nul({options.name})) status = detail::refused("GroupOptions: name holds a NUL byte");
    if (status == PODKEEP_OK) {
      podkeep_group_options given = PODKEEP_GROUP_OPTIONS_INIT;
      given.name = options.name.empty() ? nullptr : options.name.c_str();
      given.strategy = static_cast<podkeep_strategy>(options.strategy);
      given.keep_going = options.keep_going;
      given.grace_ms = detail::option_ms(options.grace, PODKEEP_FOREVER);
      status = PODKEEP_CALL_(group_new)(&given, &handle_);
    }
    if (status != PODKEEP_OK) made_ = static_cast<Status>(status);
    (void)detail::checked(status);
  }

  podkeep_status take_in(const Pod &pod, const MemberOptions &options) {
    std::vector<std::string> names;
    for (const After &one : options.after) names.push_back(one.name());
    if (detail::holds_nul(names)) return detail::refused("MemberOptions: a name in after holds a NUL byte");
    const std::vector<const char *> after = detail::pointers(names);
    podkeep_member_options given = PODKEEP_MEMBER_OPTIONS_INIT;
    given.after = after.data();
    given.significant = options.significant;
    const char *name = "";
    podkeep_status status = PODKEEP_CALL_(pod_name)(pod.handle_, &name);
    if (status != PODKEEP_OK) return status;
    members_.push_back({name, pod.lives_});  // before the group has it: this may throw
    if (pod.lives_) pod.lives_->again = true;  // a sibling's restart may take it along
    status = PODKEEP_CALL_(group_add)(handle_, pod.handle_, &given);
    if (status != PODKEEP_OK) members_.pop_back();
    return status;
  }

  Checked wait_ready_ms(std::int64_t limit) { return settle(handle_ ? PODKEEP_CALL_(group_wait_ready)(handle_, limit) : empty()); }
  Checked join_ms(std::int64_t limit) { return settle(handle_ ? PODKEEP_CALL_(group_join)(handle_, limit) : empty()); }

  Checked detail_check(podkeep_status status) const {
#if PODKEEP_CPP_EXCEPTIONS
    if (!handle_) throw Error(Status::InvalidHandle, "this Group is empty: it was moved from");
#endif
    return detail::checked(status);
  }

  // After a call of the C side, on the same thread: turns its status into what the caller gets.
  Checked settle(podkeep_status status) const {
#if PODKEEP_CPP_EXCEPTIONS
    if (status == PODKEEP_OK) return;
    if (status != PODKEEP_ERR_FAILED && status != PODKEEP_ERR_TIMEOUT && status != PODKEEP_ERR_ENDED) detail_check(status);
    const std::string sentence = detail::last_sentence();  // before reading the failure, which may change it
    std::optional<Failure> why = failure();
    throw Error(static_cast<Status>(status), sentence, why ? std::make_shared<const Failure>(std::move(*why)) : nullptr);
#else
    return static_cast<Status>(status);
#endif
  }
};

PODKEEP_END_NAMESPACE_
#endif
