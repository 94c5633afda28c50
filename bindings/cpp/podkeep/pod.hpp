// podkeep/pod.hpp: one kept instance of a runtime. Included by podkeep.hpp; not for use on its own.
#ifndef PODKEEP_CPP_POD_HPP
#define PODKEEP_CPP_POD_HPP

#include "runtime.hpp"

PODKEEP_BEGIN_NAMESPACE_

enum class Ready : std::int32_t {
  OnRun = PODKEEP_READY_ON_RUN,   // ready when run_forever is entered
  Notify = PODKEEP_READY_NOTIFY   // ready when the runtime says Context::ready()
};

// Pod::make<Web>({.name = "web", .grace = 2s}, ...) in C++20; in C++17 set the members. What is left alone has its default. Negative
// times are InvalidArgument.
struct Options {
  std::string name{};                           // "": the class's own
  Ready ready = Ready::OnRun;
  std::chrono::milliseconds ready_timeout{0};   // 0: no limit on the way to ready
  std::chrono::milliseconds grace{0};           // from the stop to the end of S; 0: 5 s; podkeep::forever: never let go
  std::chrono::milliseconds extend_max{0};      // all that Context::extend may add; 0: 60 s
  std::size_t stack_size = 0;                   // 0: the library's default
  int kick_signal = 0;                          // sent to S on a stop until it leaves its system call; 0: none
  std::string args{};                           // bytes for Context::args
};

// Owns a pod: its destructor cancels and joins, at the longest for the pod's grace. Movable, not copyable.
// Members may be called by several threads at once, apart from moving, swapping, release and destruction. An empty Pod (made without
// arguments, moved from or released) answers InvalidHandle; cancel and the destructor do nothing.
class Pod {
 public:
  Pod() noexcept = default;

  // T is made in S out of copies of the arguments. Nothing runs before start().
  template <class T, class... Args>
  static Pod make(const Options &options, Args &&...args) {
    Pod pod;
    pod.create<detail::ClassRecipe<T, std::decay_t<Args>...>>(options, detail::default_name<T>(), std::forward<Args>(args)...);
    return pod;
  }

  // A function is a runtime, too: f(Context &), f(std::stop_token) in C++20, or f(). It is copied or moved in.
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, Pod> && detail::is_runnable<std::decay_t<F>>>>
  explicit Pod(F &&function) : Pod(Options(), std::forward<F>(function)) {}
  template <class F, class = std::enable_if_t<detail::is_runnable<std::decay_t<F>>>>
  Pod(const Options &options, F &&function) {
    create<detail::FunctionRecipe<std::decay_t<F>>>(options, detail::default_name<std::decay_t<F>>(), std::forward<F>(function));
  }

  // Takes over a pod made with the C functions; its failures carry no exception objects.
  static Pod adopt(podkeep_pod *owned) {
    Pod pod;
    const podkeep_status status = detail::load();  // PODKEEP_DYNAMIC: the handle came about without this header
    if (status == PODKEEP_OK)
      pod.handle_ = owned;
    else
      pod.refuse(status);
    return pod;
  }
  // Gives the handle away: podkeep_pod_free is the caller's now.
  [[nodiscard]] podkeep_pod *release() noexcept {
    exceptions_.reset();
    return std::exchange(handle_, nullptr);
  }
  podkeep_pod *native_handle() const noexcept { return handle_; }
  explicit operator bool() const noexcept { return handle_ != nullptr; }

  // From the pod's own thread or hook it cannot wait: the pod is cancelled and let go. A failure nobody has asked for is lost here;
  // close() tells.
  ~Pod() {
    if (!handle_) return;
    (void)PODKEEP_CALL_(pod_close)(handle_);
    (void)PODKEEP_CALL_(pod_free)(handle_);
  }
  Pod(Pod &&other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), exceptions_(std::move(other.exceptions_)), made_(other.made_) {
    other.made_ = Status::InvalidHandle;
  }
  // The pod that was here before is closed, after the new one is in place. Moving to itself has no effect.
  Pod &operator=(Pod &&other) noexcept {
    Pod(std::move(other)).swap(*this);
    return *this;
  }
  void swap(Pod &other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(exceptions_, other.exceptions_);
    std::swap(made_, other.made_);
  }
  friend void swap(Pod &a, Pod &b) noexcept { a.swap(b); }

  // Does not wait for ready. A pod starts once.
#if PODKEEP_CPP_EXCEPTIONS
  Pod &start() {
    settle(handle_ ? PODKEEP_CALL_(pod_start)(handle_) : empty());
    return *this;
  }
#else
  Status start() { return settle(handle_ ? PODKEEP_CALL_(pod_start)(handle_) : empty()); }
#endif

  // Any thread, any time, signal handlers too; never blocks.
  void cancel() const noexcept {
    if (handle_) (void)PODKEEP_CALL_(pod_cancel)(handle_);
  }

  // These wait. What ends them otherwise than well is thrown: the runtime's own exception when that is the failure, else an Error
  // (Failed, Ended, Timeout, Deadlock from the pod's own thread or hook ...) that carries the failure, if there is one.
  Checked wait_ready() { return wait_ready_ms(PODKEEP_FOREVER); }
  template <class Rep, class Period>
  Checked wait_ready(std::chrono::duration<Rep, Period> limit) {
    return wait_ready_ms(detail::wait_ms(limit));
  }
  Checked join() { return join_ms(PODKEEP_FOREVER); }
  template <class Rep, class Period>
  Checked join(std::chrono::duration<Rep, Period> limit) {
    return join_ms(detail::wait_ms(limit));
  }
  // cancel and join, at the longest for the grace. Timeout: the pod's thread was let go (State::Abandoned). Twice, and before start,
  // is harmless.
  Checked close() { return settle(handle_ ? PODKEEP_CALL_(pod_close)(handle_) : empty()); }

  // Without exceptions these answer an empty pod with a negative State, "", 0 and nothing.
  State state() const {
    podkeep_state state = PODKEEP_STATE_NEW;
    const podkeep_status status = handle_ ? PODKEEP_CALL_(pod_state)(handle_, &state) : empty();
    if (status != PODKEEP_OK) {
      (void)settle(status);
      return static_cast<State>(status);
    }
    return static_cast<State>(state);
  }
  std::string name() const {
    const char *name = "";
    (void)settle(handle_ ? PODKEEP_CALL_(pod_name)(handle_, &name) : empty());
    return name;
  }
  // The kernel's id of S's thread; 0: there is none.
  std::int64_t id() const {
    std::int64_t id = 0;
    (void)settle(handle_ ? PODKEEP_CALL_(pod_id)(handle_, &id) : empty());
    return id;
  }
  // Lives after the first.
  std::uint32_t restarts() const {
    std::uint32_t restarts = 0;
    (void)settle(handle_ ? PODKEEP_CALL_(pod_restarts)(handle_, &restarts) : empty());
    return restarts;
  }
  // The present or last incarnation's; nothing: it has not failed.
  std::optional<Failure> failure() const {
    podkeep_failure *record = nullptr;
    const podkeep_status status = handle_ ? PODKEEP_CALL_(pod_failure)(handle_, &record) : empty();
    if (status != PODKEEP_OK) (void)detail_check(status);
    if (!record) return std::nullopt;
    const std::unique_ptr<podkeep_failure, FreeFailure> owner(record);
    return detail::read_failure(record, exceptions_.get());
  }

 private:
  podkeep_pod *handle_ = nullptr;
  std::shared_ptr<detail::Exceptions> exceptions_;
  Status made_ = Status::InvalidHandle;  // without exceptions: why a pod could not be made, answered by every call on it

  struct FreeFailure {
    void operator()(podkeep_failure *record) const noexcept { (void)PODKEEP_CALL_(failure_free)(record); }
  };

  podkeep_status empty() const noexcept { return static_cast<podkeep_status>(made_); }

  Checked wait_ready_ms(std::int64_t limit) { return settle(handle_ ? PODKEEP_CALL_(pod_wait_ready)(handle_, limit) : empty()); }
  Checked join_ms(std::int64_t limit) { return settle(handle_ ? PODKEEP_CALL_(pod_join)(handle_, limit) : empty()); }

  Checked detail_check(podkeep_status status) const {
#if PODKEEP_CPP_EXCEPTIONS
    if (!handle_) throw Error(Status::InvalidHandle, "this Pod is empty: it was moved from, released or never made");
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
    if (status == PODKEEP_ERR_FAILED && why && why->exception) std::rethrow_exception(why->exception);
    throw Error(static_cast<Status>(status), sentence, why ? std::make_shared<const Failure>(std::move(*why)) : nullptr);
#else
    return static_cast<Status>(status);
#endif
  }

  template <class R, class... Given>
  void create(const Options &options, const std::string &default_name, Given &&...given) {
    podkeep_status status = detail::load();
    if (status != PODKEEP_OK) return refuse(status);
    auto recipe = std::make_unique<R>(std::in_place, std::forward<Given>(given)...);
    exceptions_ = recipe->exceptions;

    const std::string &name = options.name.empty() ? default_name : options.name;
    podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
    spec.name = name.c_str();
    spec.init = &detail::Recipe::on_init;
    spec.run_forever = &detail::Recipe::on_run;
    spec.teardown = &detail::Recipe::on_teardown;
    if (R::has_hook) spec.cancel = &detail::Recipe::on_cancel;
    spec.drop = &detail::Recipe::on_drop;
    spec.config = static_cast<detail::Recipe *>(recipe.release());  // from here on the library's, which drops it on every path

    podkeep_runtime *runtime = nullptr;
    status = PODKEEP_CALL_(runtime_new)(&spec, &runtime);
    if (status != PODKEEP_OK) return refuse(status);

    podkeep_pod_options given_options = PODKEEP_POD_OPTIONS_INIT;
    given_options.name = name.c_str();
    given_options.ready = static_cast<podkeep_ready_mode>(options.ready);
    given_options.ready_timeout_ms = limit_ms(options.ready_timeout, most);
    given_options.grace_ms = limit_ms(options.grace, PODKEEP_FOREVER);
    given_options.extend_max_ms = limit_ms(options.extend_max, most);
    given_options.stack_size = options.stack_size;
    given_options.kick_signal = options.kick_signal;
    given_options.args = options.args.data();
    given_options.args_len = options.args.size();
    status = PODKEEP_CALL_(pod_new)(runtime, &given_options, &handle_);
    if (status == PODKEEP_OK) {
      made_ = Status::InvalidHandle;
      (void)PODKEEP_CALL_(runtime_free)(runtime);  // the pod keeps what it needs of it
      return;
    }
    // The runtime goes first: its config's destructors may use podkeep and write the last error. The sentence is taken before.
    const std::string sentence = detail::last_sentence();
    (void)PODKEEP_CALL_(runtime_free)(runtime);
    refuse(status, sentence);
  }

  static constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  // A negative time is to be refused by the C side; -1 would be FOREVER there.
  static std::int64_t limit_ms(std::chrono::milliseconds time, std::int64_t infinite) noexcept {
    const std::int64_t negative = time.count() == -1 ? -most : time.count();
    return detail::to_ms(time, infinite, negative);
  }

  void refuse(podkeep_status status) { refuse(status, detail::last_sentence()); }
  void refuse(podkeep_status status, const std::string &sentence) {
#if PODKEEP_CPP_EXCEPTIONS
    throw Error(static_cast<Status>(status), sentence);
#else
    (void)sentence;
    made_ = static_cast<Status>(status);
    exceptions_.reset();
#endif
  }
};

PODKEEP_END_NAMESPACE_
#endif
