// podkeep/pod.hpp: one kept instance of a runtime. Included by podkeep.hpp; not for use on its own.
#ifndef PODKEEP_CPP_POD_HPP
#define PODKEEP_CPP_POD_HPP

#include "process.hpp"

PODKEEP_BEGIN_NAMESPACE_

enum class Host : std::int32_t {
  Thread = PODKEEP_HOST_THREAD,   // in a thread of this process
  Process = PODKEEP_HOST_PROCESS  // in a child process, which ends with this one, whatever ends it
};

enum class Ready : std::int32_t {
  OnRun = PODKEEP_READY_ON_RUN,    // ready when run_forever is entered, a command as soon as it runs
  Notify = PODKEEP_READY_NOTIFY,   // ready when the runtime says Context::ready(), a command when it says READY=1 (sd_notify)
  Port = PODKEEP_READY_PORT        // a command: ready when it listens on Options::ready_port
};

enum class Restart : std::int32_t {
  Never = PODKEEP_RESTART_NEVER,
  OnFailure = PODKEEP_RESTART_ON_FAILURE,
  Always = PODKEEP_RESTART_ALWAYS  // after any end but one that a user asked for
};

// Pod::make<Web>({.name = "web", .grace = 2s}, ...) in C++20; in C++17 set the members. What is left alone has its default. Negative
// times are InvalidArgument, and so is a member that is not for such a pod.
struct Options {
  std::string name{};                           // "": the class's own
  Host host = Host::Thread;
  Ready ready = Ready::OnRun;
  std::chrono::milliseconds ready_timeout{0};   // 0: no limit on the way to ready
  std::chrono::milliseconds grace{0};           // from the stop to the end of S; 0: 5 s; podkeep::forever: never let go
  std::chrono::milliseconds kill_after{0};      // process: from SIGTERM, when the grace is spent, to SIGKILL; 0: 1 s
  std::chrono::milliseconds extend_max{0};      // all that Context::extend may add; 0: 60 s
  std::size_t stack_size = 0;                   // thread; 0: the library's default
  int kick_signal = 0;                          // thread: sent to S on a stop until it leaves its system call; 0: none
  int stop_signal = 0;                          // command: what cancel sends; 0: SIGTERM
  std::vector<std::string> env{};               // process: "KEY=VALUE", over the inherited ones
  std::string cwd{};                            // process: its directory; "": inherited
  std::string args{};                           // bytes for Context::args
  int ready_port = 0;                           // command, with Ready::Port: the TCP port on which its own processes must listen
  Restart restart = Restart::Never;             // whether another life follows an end
  std::uint32_t max_restarts = 0;               // in restart_window; 0: 8; UINT32_MAX: any number
  std::chrono::milliseconds restart_window{0};  // 0: 60 s
  std::chrono::milliseconds backoff{0};         // the delay before another life, which doubles; 0: 100 ms
  std::chrono::milliseconds backoff_max{0};     // up to that; 0: 30 s
  std::chrono::milliseconds watchdog{0};        // while running Context::heartbeat must come that often; 0: it need not
};

namespace detail {

// The strings of C and of the kernel end with a NUL; what stood behind one would be lost without a word.
inline bool holds_nul(const std::vector<std::string> &texts) {
  return std::any_of(texts.begin(), texts.end(), [](const std::string &text) { return text.find('\0') != std::string::npos; });
}
inline std::vector<const char *> pointers(const std::vector<std::string> &texts) {
  std::vector<const char *> all;
  for (const std::string &text : texts) all.push_back(text.c_str());
  all.push_back(nullptr);
  return all;
}

}  // namespace detail

// Owns a pod: its destructor cancels and joins, at the longest for the pod's grace. Movable, not copyable.
// Members may be called by several threads at once, apart from moving, swapping, release and destruction. An empty Pod (made without
// arguments, moved from or released) answers InvalidHandle; cancel and the destructor do nothing.
// A pod that was added to a Group is the group's to start and to stop: start, close and run are InvalidState, cancel is its normal end,
// and the destructor drops the handle alone.
class Pod {
 public:
  Pod() noexcept = default;

  // T is made in S out of copies of the arguments. Nothing runs before start(). With Host::Process main has to begin with child_run(),
  // and the arguments are copied into the child as Crossing says: InvalidArgument when there is none for one of them.
  template <class T, class... Args>
  static Pod make(const Options &options, Args &&...args) {
    Pod pod;
    if (options.host == Host::Process)
      pod.create_crossed<T, std::decay_t<Args>...>(options, args...);
    else
      pod.create<detail::ClassRecipe<T, std::decay_t<Args>...>>(options, detail::default_name<T>(), std::forward<Args>(args)...);
    return pod;
  }

  // A function is a runtime, too: f(Context &), f(std::stop_token) in C++20, or f(). It is copied or moved in. With Host::Process it
  // has no captures: they would stay here.
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, Pod> && detail::is_runnable<std::decay_t<F>>>>
  explicit Pod(F &&function) : Pod(Options(), std::forward<F>(function)) {}
  template <class F, class = std::enable_if_t<detail::is_runnable<std::decay_t<F>>>>
  Pod(const Options &options, F &&function) {
    if (options.host == Host::Process)
      create_crossed_function<std::decay_t<F>>(options);
    else
      create<detail::FunctionRecipe<std::decay_t<F>>>(options, detail::default_name<std::decay_t<F>>(), std::forward<F>(function));
  }

  // Any program, searched in PATH; always a process. Its name is the program's.
  static Pod command(const std::vector<std::string> &argv, Options options = {}) {
    return of_program(argv.empty() ? "" : argv[0].substr(argv[0].rfind('/') + 1), argv, std::move(options), false);
  }
  // A program that calls child_run with an exported runtime of this name (export_runtime, podkeep_export): ready, status and failure
  // are that runtime's own word. Always a process.
  static Pod program(const std::string &runtime, const std::vector<std::string> &argv, Options options = {}) {
    return of_program(runtime, argv, std::move(options), true);
  }
  // A shared library that exports `const podkeep_runtime_spec *symbol(void)`: in a thread, or in a process of its own.
  static Pod library(const std::string &path, const std::string &symbol, const Options &options = {}) {
    return of_runtime(options, symbol, [&](podkeep_runtime **out) {
      return PODKEEP_CALL_(runtime_from_library)(path.c_str(), symbol.c_str(), out);
    });
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
    lives_.reset();
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
      : handle_(std::exchange(other.handle_, nullptr)), lives_(std::move(other.lives_)), made_(other.made_) {
    other.made_ = Status::InvalidHandle;
  }
  // The pod that was here before is closed, after the new one is in place. Moving to itself has no effect.
  Pod &operator=(Pod &&other) noexcept {
    Pod(std::move(other)).swap(*this);
    return *this;
  }
  void swap(Pod &other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(lives_, other.lives_);
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
  // The kernel's id of S's thread or process; 0: there is none.
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
    const detail::OwnedFailure owner(record);
    return detail::read_failure(record, lives_.get());
  }

 private:
  friend class Group;
  podkeep_pod *handle_ = nullptr;
  std::shared_ptr<detail::Lives> lives_;
  Status made_ = Status::InvalidHandle;  // without exceptions: why a pod could not be made, answered by every call on it

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
    lives_ = recipe->lives;
    lives_->again = options.restart != Restart::Never;
    const std::string &name = options.name.empty() ? default_name : options.name;
    podkeep_runtime *runtime = nullptr;
    status = detail::new_runtime(name, std::move(recipe), &runtime);
    if (status != PODKEEP_OK) return refuse(status);
    create_of(runtime, options, name, options.args, true);
  }

  // The child's runtime is exported, and belongs to the whole program; each pod has the bytes of its own arguments.
  template <class R>
  void create_exported(const Options &options, const std::string &bytes) {
    podkeep_status status = detail::ExportOf<R>::listed ? detail::load() : static_cast<podkeep_status>(PODKEEP_ERR_INTERNAL);
    podkeep_runtime *runtime = nullptr;
    if (status == PODKEEP_OK) status = detail::exported(detail::ExportOf<R>::of, &runtime);
    if (status != PODKEEP_OK) return refuse(status);
    create_of(runtime, options, options.name.empty() ? R::name() : options.name, bytes, false);
  }
  template <class T, class... Args, class... Given>
  void create_crossed(const Options &options, const Given &...given) {
    if constexpr (detail::class_crosses<T, Args...>()) {
      create_exported<detail::CrossedClass<T, Args...>>(options, detail::pack_all<Args...>(options.args, given...));
    } else {
      std::size_t number = 0, stays = 0;
      ((++number, stays += !stays && !detail::crosses<Args> ? number : 0), ...);
      const std::string which = stays ? "argument " + std::to_string(stays) + " cannot get into a child process: specialise podkeep::Crossing for its type"
                                      : "it cannot be made of what its arguments are in a child process (text is a std::string there)";
      refuse_own("Pod::make<" + detail::default_name<T>() + "> with Host::Process: " + which + ", or use Options::args");
    }
  }
  template <class F>
  void create_crossed_function(const Options &options) {
    if constexpr (detail::function_crosses<F>)
      create_exported<detail::CrossedFunction<F>>(options, detail::pack_all<>(options.args));
    else
      refuse_own("a pod with Host::Process: its function is no lambda without captures, and what it holds cannot get into a child process: "
                 "use Options::args, or a class and Pod::make");
  }

  template <class Make>
  static Pod of_runtime(const Options &options, const std::string &default_name, Make make) {
    Pod pod;
    podkeep_runtime *runtime = nullptr;
    podkeep_status status = detail::load();
    if (status == PODKEEP_OK) status = make(&runtime);
    if (status == PODKEEP_OK)
      pod.create_of(runtime, options, options.name.empty() ? default_name : options.name, options.args, true);
    else
      pod.refuse(status);
    return pod;
  }
  static Pod of_program(const std::string &runtime_name, const std::vector<std::string> &argv, Options options, bool claims) {
    options.host = Host::Process;
    if (detail::holds_nul(argv)) {
      Pod pod;
      pod.refuse_own("a word of argv holds a NUL byte: no program can be given one");
      return pod;
    }
    const std::vector<const char *> words = detail::pointers(argv);
    return of_runtime(options, runtime_name, [&](podkeep_runtime **out) {
      // An empty argv has no name of its own; the C side refuses it for what it is.
      const char *const name = argv.empty() ? "command" : runtime_name.c_str();
      return claims ? PODKEEP_CALL_(runtime_from_program)(name, words.data(), out)
                    : PODKEEP_CALL_(runtime_from_command)(name, words.data(), out);
    });
  }

  // `own`: the runtime is this pod's alone, which keeps what it needs of it.
  void create_of(podkeep_runtime *runtime, const Options &options, const std::string &name, const std::string &args, bool own) {
    if (detail::holds_nul(options.env) || detail::holds_nul({options.cwd, name})) {
      if (own) (void)PODKEEP_CALL_(runtime_free)(runtime);
      return refuse_own("Options: name, cwd or a word of env holds a NUL byte");
    }
    const std::vector<const char *> env = detail::pointers(options.env);
    podkeep_pod_options given = PODKEEP_POD_OPTIONS_INIT;
    given.name = name.c_str();
    given.host = static_cast<podkeep_host>(options.host);
    given.ready = static_cast<podkeep_ready_mode>(options.ready);
    given.ready_timeout_ms = detail::option_ms(options.ready_timeout, detail::most_ms);
    given.grace_ms = detail::option_ms(options.grace, PODKEEP_FOREVER);
    given.kill_after_ms = detail::option_ms(options.kill_after, detail::most_ms);
    given.extend_max_ms = detail::option_ms(options.extend_max, detail::most_ms);
    given.stack_size = options.stack_size;
    given.kick_signal = options.kick_signal;
    given.stop_signal = options.stop_signal;
    given.env = options.env.empty() ? nullptr : env.data();
    given.cwd = options.cwd.empty() ? nullptr : options.cwd.c_str();
    given.args = args.data();
    given.args_len = args.size();
    given.ready_port = options.ready_port;
    given.restart = static_cast<podkeep_restart>(options.restart);
    given.max_restarts = options.max_restarts;
    given.restart_window_ms = detail::option_ms(options.restart_window, detail::most_ms);
    given.backoff_ms = detail::option_ms(options.backoff, detail::most_ms);
    given.backoff_max_ms = detail::option_ms(options.backoff_max, detail::most_ms);
    given.watchdog_ms = detail::option_ms(options.watchdog, detail::most_ms);
    const podkeep_status status = PODKEEP_CALL_(pod_new)(runtime, &given, &handle_);
    // The runtime goes before the refusal: its config's destructors may use podkeep and write the last error.
    const std::string sentence = status == PODKEEP_OK ? std::string() : detail::last_sentence();
    if (own) (void)PODKEEP_CALL_(runtime_free)(runtime);
    if (status != PODKEEP_OK) return refuse(status, sentence);
    made_ = Status::InvalidHandle;
  }

  void refuse_own(const std::string &sentence) { refuse(detail::refused(sentence), sentence); }
  void refuse(podkeep_status status) { refuse(status, detail::last_sentence()); }
  void refuse(podkeep_status status, const std::string &sentence) {
#if PODKEEP_CPP_EXCEPTIONS
    throw Error(static_cast<Status>(status), sentence);
#else
    (void)sentence;
    made_ = static_cast<Status>(status);
    lives_.reset();
#endif
  }
};

// Runs the pod as this very process, a container's main one: blocks until it has ended, and gives what main should return. SIGINT and
// SIGTERM cancel it; a second one, or a grace that is spent, ends the process at once. Error when it cannot be run; without exceptions
// it is 127 then.
inline int run(Pod &pod) {
  std::int32_t code = 127;
  podkeep_status status = PODKEEP_ERR_INVALID_HANDLE;
  if (pod) status = PODKEEP_CALL_(pod_run)(pod.native_handle(), &code);
#if PODKEEP_CPP_EXCEPTIONS
  if (!pod) throw Error(Status::InvalidHandle, "podkeep::run: this Pod is empty: it was moved from, released or never made");
#endif
  (void)detail::checked(status);
  return code;
}
inline int run(Pod &&pod) { return run(pod); }

PODKEEP_END_NAMESPACE_
#endif
