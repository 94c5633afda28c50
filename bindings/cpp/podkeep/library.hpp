// podkeep/library.hpp: how the C functions are reached. Included by podkeep.hpp; not for use on its own.
#ifndef PODKEEP_CPP_LIBRARY_HPP
#define PODKEEP_CPP_LIBRARY_HPP

#include <podkeep.h>

#include <string>
#include <type_traits>

#ifdef PODKEEP_DYNAMIC
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#endif

#if defined(__cpp_exceptions) || defined(__EXCEPTIONS)
#define PODKEEP_CPP_EXCEPTIONS 1
#else
#define PODKEEP_CPP_EXCEPTIONS 0
#endif

// A program may hold objects compiled each way; their inline functions differ, so their names must (one definition rule).
// C++17 and C++20 objects share one namespace: what C++20 adds changes no layout and no other function.
#if defined(PODKEEP_DYNAMIC) && PODKEEP_CPP_EXCEPTIONS
#define PODKEEP_BEGIN_NAMESPACE_ namespace podkeep { inline namespace v0_dynamic {
#elif defined(PODKEEP_DYNAMIC)
#define PODKEEP_BEGIN_NAMESPACE_ namespace podkeep { inline namespace v0_dynamic_statuses {
#elif PODKEEP_CPP_EXCEPTIONS
#define PODKEEP_BEGIN_NAMESPACE_ namespace podkeep { inline namespace v0 {
#else
#define PODKEEP_BEGIN_NAMESPACE_ namespace podkeep { inline namespace v0_statuses {
#endif
#define PODKEEP_END_NAMESPACE_ } }

#ifdef PODKEEP_DYNAMIC

// Every C function the C++ side uses.
#define PODKEEP_CPP_FUNCTIONS_(X) \
  X(status_name) X(last_error) X(abi_version) X(version) X(shutdown) X(abandoned) X(runtime_new) X(runtime_from_command) \
  X(runtime_from_program) X(runtime_from_library) X(runtime_free) X(export) X(child_run) X(set_program) \
  X(context_cancelled) X(context_wait) X(context_fd) X(context_time_left) X(context_ready) X(context_heartbeat) \
  X(context_extend) X(context_status) X(context_fail) X(context_fail_as) X(context_fail_with) X(context_incarnation) \
  X(context_args) X(context_name) X(pod_new) X(pod_start) X(pod_cancel) X(pod_wait_ready) X(pod_join) X(pod_close) \
  X(pod_free) X(pod_state) X(pod_name) X(pod_id) X(pod_restarts) X(pod_failure) X(pod_run) X(failure_pod_name) \
  X(failure_incarnation) X(failure_phase) X(failure_kind) X(failure_code) X(failure_message) X(failure_data) \
  X(failure_stderr) X(failure_secondary) X(failure_free) X(group_new) X(group_add) X(group_start) X(group_cancel) \
  X(group_wait_ready) X(group_join) X(group_close) X(group_state) X(group_failure) X(group_free) X(monitor_new) \
  X(monitor_new_group) X(monitor_fd) X(monitor_next) X(monitor_free) \
  X(control_serve) X(control_address) X(control_free) X(terminate) X(query) X(set_log)

PODKEEP_BEGIN_NAMESPACE_
namespace detail {

struct Table {  // the underscore: one of them is called export
#define PODKEEP_CPP_MEMBER_(name) std::remove_reference_t<decltype(::podkeep_##name)> *name##_ = nullptr;
  PODKEEP_CPP_FUNCTIONS_(PODKEEP_CPP_MEMBER_)
#undef PODKEEP_CPP_MEMBER_
};

// Constant-initialised and trivially destructible: usable before main, in destructors of statics and in signal handlers.
inline std::atomic<const Table *> loaded_table{nullptr};
inline std::mutex load_lock;
inline thread_local std::string load_error;

inline podkeep_status load_failed(podkeep_status status, const std::string &sentence) {
  load_error = sentence;
  return status;
}

inline podkeep_status load_from(const char *name, bool from_environment) {
  const std::string tried = "\"" + std::string(name) + "\"" +
                            (from_environment ? " (the environment's PODKEEP_LIBRARY; no other name is tried)"
                                              : " (the only name tried; PODKEEP_LIBRARY in the environment can give a path)");
  ::dlerror();
  // RTLD_LOCAL: the library's names do not enter the program's. It is never closed: its threads may run (it is -z nodelete, too).
  void *const handle = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *const why = ::dlerror();
    return load_failed(PODKEEP_ERR_NOT_FOUND, "the podkeep library cannot be loaded: tried " + tried + ": " + (why ? why : "?"));
  }
  static Table table;  // filled under load_lock and published only when whole
  const auto version = reinterpret_cast<decltype(table.abi_version_)>(::dlsym(handle, "podkeep_abi_version"));
  if (!version) {
    ::dlclose(handle);
    return load_failed(PODKEEP_ERR_UNSUPPORTED, tried + " is no podkeep library: it has no podkeep_abi_version");
  }
  if (version() != PODKEEP_ABI_VERSION) {
    const std::string theirs = std::to_string(version());
    ::dlclose(handle);
    return load_failed(PODKEEP_ERR_UNSUPPORTED, "the podkeep library " + tried + " has ABI version " + theirs +
                                                    ", this program was compiled for " + std::to_string(PODKEEP_ABI_VERSION));
  }
#define PODKEEP_CPP_FIND_(f)                                                                                         \
  table.f##_ = reinterpret_cast<decltype(table.f##_)>(::dlsym(handle, "podkeep_" #f));                               \
  if (!table.f##_) {                                                                                                 \
    ::dlclose(handle);                                                                                               \
    return load_failed(PODKEEP_ERR_UNSUPPORTED,                                                                      \
                       "the podkeep library " + tried + " is older than this program: it has no podkeep_" #f);      \
  }
  PODKEEP_CPP_FUNCTIONS_(PODKEEP_CPP_FIND_)
#undef PODKEEP_CPP_FIND_
  loaded_table.store(&table, std::memory_order_release);
  return PODKEEP_OK;
}

// Called by everything that needs no handle, so that a handle is a proof that the table is there. A failure is not kept: the next
// call tries again.
inline podkeep_status load() {
  if (loaded_table.load(std::memory_order_acquire)) return PODKEEP_OK;
  const std::lock_guard<std::mutex> guard(load_lock);
  if (loaded_table.load(std::memory_order_acquire)) return PODKEEP_OK;
#if defined(__linux__) && defined(_GNU_SOURCE)
  const char *const name = ::secure_getenv("PODKEEP_LIBRARY");  // not in a set-user-id program, as with LD_LIBRARY_PATH
#else
  const char *const name = std::getenv("PODKEEP_LIBRARY");
#endif
  return name && *name ? load_from(name, true) : load_from("libpodkeep.so.0", false);
}

inline std::string last_sentence() {
  const Table *const table = loaded_table.load(std::memory_order_acquire);
  return table ? std::string(table->last_error_()) : load_error;
}

}  // namespace detail
PODKEEP_END_NAMESPACE_

#undef PODKEEP_CPP_FUNCTIONS_
#define PODKEEP_CALL_(name) ::podkeep::detail::loaded_table.load(std::memory_order_acquire)->name##_

#else  // linked

PODKEEP_BEGIN_NAMESPACE_
namespace detail {
inline podkeep_status load() noexcept { return PODKEEP_OK; }
inline std::string last_sentence() { return ::podkeep_last_error(); }
}  // namespace detail
PODKEEP_END_NAMESPACE_

#define PODKEEP_CALL_(name) ::podkeep_##name

#endif
#endif
