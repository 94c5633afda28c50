// podkeep/process.hpp: what gets a runtime of this program into a child process. Included by podkeep.hpp; not for use on its own.
//
// A child process is this very program, started anew: its main runs again, up to podkeep::child_run(), which finds out that this is a
// pod's child, makes the runtime, runs it and gives main its exit code. Nothing of the parent's memory is there. What crosses are the
// arguments of Pod::make for which there is a Crossing, and Options::args.
#ifndef PODKEEP_CPP_PROCESS_HPP
#define PODKEEP_CPP_PROCESS_HPP

#include "runtime.hpp"

#include <link.h>

#include <cstring>
#include <vector>

PODKEEP_BEGIN_NAMESPACE_

// How an argument of Pod::make gets into a child process. Numbers, enums, text, durations and vectors of these do; for a type of your
// own specialise it with these two functions. Both run in the same program, so bytes need no portable form.
//   template <> struct podkeep::Crossing<Address> {
//     static std::string pack(const Address &address);
//     static Address unpack(std::string_view bytes);
//   };
template <class T, class = void>
struct Crossing;

template <class T>
struct Crossing<T, std::enable_if_t<std::is_arithmetic_v<T> || std::is_enum_v<T>>> {
  static std::string pack(const T &number) {
    std::string bytes(sizeof number, '\0');
    std::memcpy(bytes.data(), &number, sizeof number);
    return bytes;
  }
  static T unpack(std::string_view bytes) {
    T number{};
    std::memcpy(&number, bytes.data(), std::min(bytes.size(), sizeof number));
    return number;
  }
};
// Text arrives as a std::string, which lives as long as the runtime.
template <class T>
struct Crossing<T, std::enable_if_t<std::is_convertible_v<const T &, std::string_view>>> {
  static std::string pack(const T &text) {
    if constexpr (std::is_pointer_v<T>) {
      if (!text) return "";
    }
    return std::string(std::string_view(text));
  }
  static std::string unpack(std::string_view bytes) { return std::string(bytes); }
};
template <class Rep, class Period>
struct Crossing<std::chrono::duration<Rep, Period>, std::enable_if_t<std::is_arithmetic_v<Rep>>> {
  static std::string pack(const std::chrono::duration<Rep, Period> &time) { return Crossing<Rep>::pack(time.count()); }
  static std::chrono::duration<Rep, Period> unpack(std::string_view bytes) {
    return std::chrono::duration<Rep, Period>(Crossing<Rep>::unpack(bytes));
  }
};

namespace detail {

template <class T, class = void>
inline constexpr bool crosses = false;
template <class T>
inline constexpr bool crosses<T, std::void_t<decltype(Crossing<T>::pack(std::declval<const T &>()))>> = true;

// Each piece behind its length.
inline void put(std::string &bytes, std::string_view piece) {
  bytes += Crossing<std::uint64_t>::pack(piece.size());
  bytes += piece;
}
inline std::string_view take(std::string_view &bytes) {
  const auto length = static_cast<std::size_t>(Crossing<std::uint64_t>::unpack(bytes.substr(0, std::min<std::size_t>(bytes.size(), 8))));
  bytes.remove_prefix(std::min<std::size_t>(bytes.size(), 8));
  const std::string_view piece = bytes.substr(0, length);
  bytes.remove_prefix(piece.size());
  return piece;
}

}  // namespace detail

template <class T>
struct Crossing<std::vector<T>, std::enable_if_t<detail::crosses<T>>> {
  static std::string pack(const std::vector<T> &all) {
    std::string bytes;
    for (const T &one : all) detail::put(bytes, Crossing<T>::pack(one));
    return bytes;
  }
  static auto unpack(std::string_view bytes) {
    std::vector<decltype(Crossing<T>::unpack(bytes))> all;
    while (!bytes.empty()) all.push_back(Crossing<T>::unpack(detail::take(bytes)));
    return all;
  }
};

namespace detail {

template <class T>
using Crossed = decltype(Crossing<T>::unpack(std::string_view()));

// Of Pod::make<T>(options, args...): the arguments, and behind them in the child the runtime of them.
template <class T, class... Args>
constexpr bool class_crosses() {
  if constexpr ((crosses<Args> && ...))
    return std::is_constructible_v<T, Crossed<Args>...> || std::is_constructible_v<T, Context &, Crossed<Args>...>;
  else
    return false;
}

// The pod's bytes: the user's, so that they stay aligned, then each argument, then how many of them are the user's.
template <class... Args>
std::string pack_all(const std::string &user, const Args &...args) {
  std::string bytes = user;
  (put(bytes, Crossing<Args>::pack(args)), ...);
  return bytes + Crossing<std::uint64_t>::pack(user.size());
}
inline std::string_view packed(podkeep_context *context, std::size_t &user) {
  std::size_t length = 0;
  const auto *const bytes = static_cast<const char *>(PODKEEP_CALL_(context_args)(context, &length));
  user = 0;
  if (!bytes || length < 8) return {};
  user = static_cast<std::size_t>(Crossing<std::uint64_t>::unpack(std::string_view(bytes + length - 8, 8)));
  return std::string_view(bytes, length - 8).substr(std::min(user, length - 8));
}

// T in the child. Of one of these many pods are made in the host, where it is never run; a child runs one.
template <class T, class... Args>
class CrossedClass final : public ObjectRecipe<T> {
 public:
  static std::string name() { return default_name<T>(); }
  void make(Context &context) override {
    std::size_t user = 0;
    std::string_view bytes = packed(context.native_handle(), user);
    this->limit_args(user);
    // Braces: each is taken in its order.
    arguments_.emplace(std::tuple<Crossed<Args>...>{Crossing<Args>::unpack(take(bytes))...});
    (void)bytes;
    this->make_of(context, *arguments_);
  }

 private:
  std::optional<std::tuple<Crossed<Args>...>> arguments_;
};

// A function without captures is its type: there is nothing else to get across.
template <class F>
inline constexpr bool function_crosses = std::is_empty_v<F> && std::is_trivially_copyable_v<F>;

template <class F>
class CrossedFunction final : public CallRecipe<F> {
 public:
  static std::string name() { return default_name<F>(); }
  void make(Context &context) override {
    std::size_t user = 0;
    (void)packed(context.native_handle(), user);
    this->limit_args(user);
  }
  std::int32_t run(Context &context) override {
    if constexpr (std::is_default_constructible_v<F>) {
      F function{};
      return this->run_with(function, context);
    } else {  // a lambda before C++20; there are no bytes in it that matter
      alignas(F) unsigned char place[sizeof(F)] = {};
      return this->run_with(*std::launder(reinterpret_cast<F *>(place)), context);
    }
  }
};

// Where something is in its file: the same in this program and in its child, wherever the kernel put them.
inline std::string place_of(const void *address) {
  struct Search {
    std::uintptr_t address;
    std::string found;
  } search{reinterpret_cast<std::uintptr_t>(address), {}};
  ::dl_iterate_phdr(
      [](::dl_phdr_info *info, std::size_t, void *given) {
        auto &wanted = *static_cast<Search *>(given);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto &part = info->dlpi_phdr[i];
          const std::uintptr_t begin = info->dlpi_addr + part.p_vaddr;
          if (part.p_type != PT_LOAD || wanted.address < begin || wanted.address - begin >= part.p_memsz) continue;
          const char *const file = info->dlpi_name ? std::strrchr(info->dlpi_name, '/') : nullptr;
          wanted.found = (file ? file + 1 : "") + std::string("+") + std::to_string(wanted.address - info->dlpi_addr);
          return 1;
        }
        return 0;
      },
      &search);
  return search.found;
}

// What this program can run in a child: one for each kind of runtime that it makes pods of. It is constant-initialised and trivially
// destructible, and so usable at any time.
struct Exportable {
  podkeep_status (*make)(const std::string &name, podkeep_runtime **out);
  std::string (*name)();
  Exportable *next = nullptr;
  std::atomic<podkeep_runtime *> runtime{nullptr};

  constexpr Exportable(podkeep_status (*how)(const std::string &, podkeep_runtime **), std::string (*called)()) noexcept
      : make(how), name(called) {}
};
inline std::atomic<Exportable *> exportables{nullptr};

template <class R>
podkeep_status make_exportable(const std::string &name, podkeep_runtime **out) {
  return new_runtime(name, std::make_unique<R>(), out);
}
template <class R>
struct ExportOf {
  static inline Exportable of{&make_exportable<R>, &R::name};
  // Before main begins, in the host and in its children alike: so child_run finds what Pod::make is used with anywhere.
  static inline const bool listed = [] {
    of.next = exportables.load();
    while (!exportables.compare_exchange_weak(of.next, &of)) {
    }
    return true;
  }();
};

// The exported runtime, made at first use, and anew in the child of a fork. Without a lock, which such a child could inherit locked.
inline podkeep_status exported(Exportable &one, podkeep_runtime **out) {
  for (;;) {
    podkeep_runtime *had = one.runtime.load();
    podkeep_status status = had ? PODKEEP_CALL_(export)(had) : static_cast<podkeep_status>(PODKEEP_ERR_INVALID_HANDLE);
    if (status == PODKEEP_OK) *out = had;
    if (status != PODKEEP_ERR_INVALID_HANDLE && status != PODKEEP_ERR_FORKED) return status;
    podkeep_runtime *made = nullptr;
    status = one.make(one.name().substr(0, 120) + "@" + place_of(&one), &made);
    if (status != PODKEEP_OK) return status;
    if (!one.runtime.compare_exchange_strong(had, made)) (void)PODKEEP_CALL_(runtime_free)(made);
  }
}

template <class R, class... Given>
Checked export_made(const std::string &name, Given &&...given) {
  podkeep_status status = load();
  podkeep_runtime *runtime = nullptr;
  if (status == PODKEEP_OK) status = new_runtime(name, std::make_unique<R>(std::in_place, std::forward<Given>(given)...), &runtime);
  if (status == PODKEEP_OK) status = PODKEEP_CALL_(export)(runtime);  // and never freed: it is exported as long as it lives
  return checked(status);
}

}  // namespace detail

// First thing in main. In the child of a process pod: runs its runtime in this thread, to its end, and gives what main should return.
// Otherwise nothing, and from then on this program may start such pods:
//   if (const auto code = podkeep::child_run()) return *code;
// Error: this is a child that cannot run its pod (another version of podkeep, no memory). Without exceptions it is 127 then.
inline std::optional<int> child_run() {
  podkeep_status status = detail::load();
  podkeep_runtime *unused = nullptr;
  for (detail::Exportable *one = detail::exportables.load(); one && status == PODKEEP_OK; one = one->next)
    status = detail::exported(*one, &unused);
  std::int32_t code = 127;
  if (status == PODKEEP_OK) status = PODKEEP_CALL_(child_run)(&code);
  if (status == PODKEEP_ERR_ENDED) return std::nullopt;
  (void)detail::checked(status);
  return code;
}

// For a program that is kept by another one (Pod::program): a T made of these arguments, or a function, that can be run here under this
// name. In front of child_run. Options::args of the pod are Context::args. Pods of Pod::make need none of this.
template <class T, class... Args>
Checked export_runtime(const std::string &name, Args &&...args) {
  return detail::export_made<detail::ClassRecipe<T, std::decay_t<Args>...>>(name, std::forward<Args>(args)...);
}
template <class F, class = std::enable_if_t<detail::is_runnable<std::decay_t<F>>>>
Checked export_runtime(const std::string &name, F &&function) {
  return detail::export_made<detail::FunctionRecipe<std::decay_t<F>>>(name, std::forward<F>(function));
}

// Where the `podkeep` program is, which process pods need. "": it is looked for again, in the environment's PODKEEP_PROGRAM, beside the
// library, in PATH.
inline Checked set_program(const std::string &path) {
  const podkeep_status status = detail::load();
  if (status != PODKEEP_OK) return detail::checked(status);
  return detail::checked(PODKEEP_CALL_(set_program)(path.empty() ? nullptr : path.c_str()));
}

PODKEEP_END_NAMESPACE_
#endif
