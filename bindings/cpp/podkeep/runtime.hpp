// podkeep/runtime.hpp: what to run, and the functions through which the C side calls it. Included by podkeep.hpp; not for use on its
// own.
#ifndef PODKEEP_CPP_RUNTIME_HPP
#define PODKEEP_CPP_RUNTIME_HPP

#include "context.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <tuple>
#include <typeinfo>

PODKEEP_BEGIN_NAMESPACE_

// Derive from it, and hand the class to Pod::make<T>(options, arguments...). In the pod's thread S, in this order:
//   the constructor     T(arguments...), or T(Context &, arguments...) for one that is long or wants to keep the context
//   run_forever         blocks until it is cancelled
//   teardown, ~T        whenever the constructor succeeded, however run_forever ended
// An exception out of the constructor, run_forever, teardown or cancel is a failure of kind Exception; join, wait_ready and close rethrow
// the one that is the pod's first failure. In code compiled with -fno-exceptions none may reach these functions.
// ~T runs in S; only when the thread of S is ended from inside (pthread_exit, pthread_cancel) there is no teardown, and ~T runs with
// the last reference to the recipe, on any thread.
class Runtime {
 public:
  virtual ~Runtime() = default;  // noexcept, and so are those of derived classes: what can fail belongs into teardown
  virtual void run_forever(Context &context) = 0;
  // Overridden: called at most once, on a thread of the library, beside run_forever, after a stop was asked for. It unblocks what cannot
  // poll, and may come before the loop inside has begun, so that what it does must stick. May be noexcept or not.
  virtual void cancel() {}
  virtual void teardown() {}

 protected:
  Runtime() = default;
  Runtime(const Runtime &) = delete;  // made in S, and stays there
  Runtime &operator=(const Runtime &) = delete;
};

namespace detail {

// Messages must be UTF-8; what() need not be. Every byte that is no part of valid UTF-8 becomes U+FFFD.
inline std::string to_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = [&](std::size_t offset) -> unsigned {
      return at + offset < text.size() ? static_cast<unsigned char>(text[at + offset]) : 0u;
    };
    const unsigned first = byte(0);
    std::size_t length = 0;
    if (first < 0x80) length = 1;
    if (first >= 0xC2 && first < 0xE0) length = 2;
    if (first >= 0xE0 && first < 0xF0) length = 3;
    if (first >= 0xF0 && first < 0xF5) length = 4;
    bool valid = length > 0;
    for (std::size_t i = 1; i < length; ++i) valid = valid && (byte(i) & 0xC0u) == 0x80;
    // Overlong forms, surrogates, beyond U+10FFFF.
    if (first == 0xE0) valid = valid && byte(1) >= 0xA0;
    if (first == 0xED) valid = valid && byte(1) < 0xA0;
    if (first == 0xF0) valid = valid && byte(1) >= 0x90;
    if (first == 0xF4) valid = valid && byte(1) < 0x90;
    if (valid) {
      out.append(text.substr(at, length));
      at += length;
    } else {
      out += "\xEF\xBF\xBD";
      ++at;
    }
  }
  return out;
}

// A pod's name when none is given: the class's own, without scopes and template arguments; "function" for what has no name.
template <class T>
std::string default_name() {
  if (!std::is_class_v<T>) return "function";
  const std::string_view whole = __PRETTY_FUNCTION__;  // "... [with T = f()::Web<int>; ...]" or "... [T = f()::Web<int>]"
  const std::size_t found = whole.find("T = ");
  if (found == std::string_view::npos) return "function";
  std::size_t begin = found + 4, end = begin;
  int depth = 0;
  for (; end < whole.size(); ++end) {
    const char at = whole[end];
    if (depth == 0 && (at == ';' || at == ']')) break;
    if (at == '<' || at == '(' || at == '{' || at == '[') ++depth;
    if (at == '>' || at == ')' || at == '}' || at == ']') --depth;
    if (depth == 0 && at == ':') begin = end + 1;
  }
  std::string_view name = whole.substr(begin, end - begin);
  name = name.substr(0, std::min<std::size_t>(name.find_first_of("<({[ "), 255));
  return name.empty() ? "function" : std::string(name);  // a lambda is "<lambda ...>" or "(lambda at ...)"
}

// The config of the C runtime: made by a Pod, deleted by the library's drop, exactly once.
class Recipe {
 public:
  Recipe() : lives(std::make_shared<Lives>()) {}
  Recipe(const Recipe &) = delete;
  Recipe &operator=(const Recipe &) = delete;
  virtual ~Recipe() {
    if (shared_) shared_->end();  // the incarnation may have ended without a teardown
  }

  virtual void make(Context &context) = 0;
  virtual std::int32_t run(Context &context) = 0;
  virtual void cancel() {}
  virtual void teardown() {}
  virtual void unmake() noexcept {}

  const std::shared_ptr<Lives> lives;

  static std::int32_t on_init(podkeep_context *context, void *config, void **state) {
    Recipe &self = *static_cast<Recipe *>(config);
    *state = config;
    if (self.shared_) self.shared_->end();  // the life before may have ended without a teardown
    self.shared_ = std::make_shared<Incarnation>();
    self.context_.emplace(context, self.shared_);
    std::int32_t code = self.guard(context, Phase::Init, [&] {
      self.make(*self.context_);
      return self.take_fail_code();
    });
    if (code != 0) {  // fail() in a constructor that then returned: no teardown comes, so T goes here
      self.unmake();
      self.shared_->end();
    }
    return code;
  }

  static std::int32_t on_run(podkeep_context *context, void *state) {
    Recipe &self = *static_cast<Recipe *>(state);
    return self.guard(context, Phase::Run, [&] { return self.run(*self.context_); });
  }

  static std::int32_t on_teardown(podkeep_context *context, void *state) {
    Recipe &self = *static_cast<Recipe *>(state);
    self.take_fail_code();  // what a stray thread said after run_forever had returned is not teardown's
    const std::int32_t code = self.guard(context, Phase::Teardown, [&] {
      self.teardown();
      return self.take_fail_code();
    });
    self.unmake();
    self.shared_->end();
    return code;
  }

  static void on_cancel(podkeep_context *context, void *state) {
    Recipe &self = *static_cast<Recipe *>(state);
    self.shared_->hook_thread.store(std::this_thread::get_id());
    (void)self.guard(context, Phase::Cancel, [&] {
      self.cancel();
      return std::int32_t{0};
    });
    self.shared_->hook_thread.store(std::thread::id());
  }

  static void on_drop(void *config) { delete static_cast<Recipe *>(config); }

 protected:
  std::int32_t take_fail_code() noexcept { return shared_->fail_code.exchange(0); }
  // Context::args is so many bytes long at most.
  void limit_args(std::size_t length) noexcept { shared_->args_length = length; }

 private:
  std::shared_ptr<Incarnation> shared_;
  std::optional<Context> context_;

  // Here exceptions stop, but forced unwinding does not. glibc ends a thread (pthread_exit, pthread_cancel) by unwinding its stack; a
  // noexcept function on the way would call std::terminate, and a catch (...) that does not rethrow is answered with "FATAL: exception
  // not rethrown", both the end of the process. So the functions that C calls are not noexcept: forced unwinding passes through to the
  // library, which knows it as the end of S from inside (kind Exit); what handles an exception (note) is noexcept, so that nothing else
  // gets out. It is told from an exception by having no std::exception_ptr, as everything that C++ did not throw: catching
  // abi::__forced_unwind would do the same with libstdc++ only, and binds a reference to null there, which UBSan reports.
  // Without exceptions there is nothing to catch, and forced unwinding passes as well.
  template <class Body>
  std::int32_t guard(podkeep_context *context, Phase phase, Body body) {
#if PODKEEP_CPP_EXCEPTIONS
    try {
      return body();
    } catch (const Cancelled &) {
      return PODKEEP_CANCELLED;
    } catch (...) {
      if (!std::current_exception()) throw;
      return note(context, phase);
    }
#else
    (void)context;
    (void)phase;
    return body();
#endif
  }

#if PODKEEP_CPP_EXCEPTIONS
  // In a handler: tells the library, keeps the exception for the waiters, returns what the callback has to return.
  std::int32_t note(podkeep_context *context, Phase phase) noexcept {
    std::int32_t code = -1;
    try {
      lives->keep(PODKEEP_CALL_(context_incarnation)(context), phase, std::current_exception());
      std::string text;
      // Works without RTTI of the program's own, too: whatever is thrown has its type_info.
      if (const std::type_info *const type = ::abi::__cxa_current_exception_type()) {
        int status = 0;
        char *const readable = ::abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
        text = readable ? readable : type->name();
        std::free(readable);
      }
      try {
        throw;
      } catch (const std::system_error &error) {
        if (error.code().value() != 0 && error.code().value() != PODKEEP_CANCELLED) code = error.code().value();
        text += std::string(": ") + error.what();
      } catch (const std::exception &error) {
        text += std::string(": ") + error.what();
      } catch (const std::string &what) {
        text += ": " + what;
      } catch (const char *what) {
        text += std::string(": ") + (what ? what : "(null)");
      } catch (...) {
      }
      return PODKEEP_CALL_(context_fail_as)(context, PODKEEP_KIND_EXCEPTION, code, to_utf8(text).c_str());
    } catch (...) {  // no memory for the text
      return PODKEEP_CALL_(context_fail_as)(context, PODKEEP_KIND_EXCEPTION, code, "an exception");
    }
  }
#endif
};

// Private or overloaded: cannot be asked, so it is taken as overridden. A hook that does nothing is harmless, but not free: pods with
// a hook have a library thread kept ready.
template <class T, class = void>
struct OverridesCancel : std::true_type {};
template <class T>
struct OverridesCancel<T, std::void_t<decltype(&T::cancel)>>
    : std::bool_constant<!std::is_same_v<decltype(&T::cancel), decltype(&Runtime::cancel)>> {};

// What T's of every origin share.
template <class T>
class ObjectRecipe : public Recipe {
  static_assert(std::is_base_of_v<Runtime, T>, "Pod::make<T>: T must derive from podkeep::Runtime");

 public:
  static constexpr bool has_hook = OverridesCancel<T>::value;

  std::int32_t run(Context &context) override {
    static_cast<Runtime &>(*object_).run_forever(context);
    return take_fail_code();
  }
  void cancel() override { static_cast<Runtime &>(*object_).cancel(); }
  void teardown() override { static_cast<Runtime &>(*object_).teardown(); }
  void unmake() noexcept override {
    object_.reset();
    copies_.reset();
  }

 protected:
  template <class... Args>
  void make_of(Context &context, std::tuple<Args...> &arguments) {
    if constexpr ((std::is_copy_constructible_v<Args> && ...)) {
      if (this->lives->again) {
        unmake();  // of a life that ended without a teardown
        const auto copies = std::make_shared<std::tuple<Args...>>(arguments);
        copies_ = copies;
        return make_of_these(context, *copies);
      }
    } else if (std::exchange(moved_, true)) {
      context.fail(-1, "there is no other life of it: an argument of Pod::make was moved into the first and cannot be copied");
      return;
    }
    make_of_these(context, arguments);
  }

 private:
  template <class... Args>
  void make_of_these(Context &context, std::tuple<Args...> &arguments) {
    std::apply(
        [&](Args &...each) {
          if constexpr (std::is_constructible_v<T, Args...>) {
            (void)context;
            object_.emplace(std::move(each)...);
          } else {
            object_.emplace(context, std::move(each)...);
          }
        },
        arguments);
  }

  // The arguments of the present life, of which T may keep views and references: they go after it.
  std::shared_ptr<void> copies_;
  std::optional<T> object_;
  bool moved_ = false;  // the arguments, into the first life
};

// T, made in S out of copies of the arguments, as std::thread does it.
template <class T, class... Args>
class ClassRecipe final : public ObjectRecipe<T> {
  static_assert(std::is_constructible_v<T, Args...> || std::is_constructible_v<T, Context &, Args...>,
                "Pod::make<T>: T must be constructible from the arguments' copies as rvalues (std::ref for a reference), or from "
                "podkeep::Context & and these");

 public:
  template <class... Given>
  explicit ClassRecipe(std::in_place_t, Given &&...given) : arguments_(std::forward<Given>(given)...) {}
  void make(Context &context) override { this->make_of(context, arguments_); }

 private:
  std::tuple<Args...> arguments_;
};

// Anything that can be called with a Context &, with a std::stop_token (C++20) or with nothing. It returns nothing, or its code: 0 is
// a clean end and PODKEEP_CANCELLED "as asked".
template <class F>
class CallRecipe : public Recipe {
 public:
  static constexpr bool has_hook = false;
  void make(Context &) override {}

 protected:
  std::int32_t run_with(F &function, Context &context) {
    if constexpr (std::is_invocable_v<F &, Context &>) {
      return finish([&]() -> decltype(auto) { return std::invoke(function, context); });
#ifdef __cpp_lib_jthread
    } else if constexpr (std::is_invocable_v<F &, std::stop_token>) {
      return finish([&]() -> decltype(auto) { return std::invoke(function, context.stop_token()); });
#endif
    } else {
      (void)context;
      return finish([&]() -> decltype(auto) { return std::invoke(function); });
    }
  }

 private:
  template <class Call>
  std::int32_t finish(Call call) {
    if constexpr (std::is_void_v<decltype(call())>) {
      call();
      return this->take_fail_code();
    } else {
      static_assert(std::is_integral_v<decltype(call())> && !std::is_same_v<decltype(call()), bool> && sizeof(call()) <= 4,
                    "a pod's function returns nothing or its code, an int");
      return static_cast<std::int32_t>(call());
    }
  }
};

// It is destroyed with the recipe, on any thread.
template <class F>
class FunctionRecipe final : public CallRecipe<F> {
 public:
  template <class Given>
  explicit FunctionRecipe(std::in_place_t, Given &&given) : function_(std::forward<Given>(given)) {}
  std::int32_t run(Context &context) override { return this->run_with(function_, context); }

 private:
  F function_;
};

// The C runtime of a recipe, which is the library's from here on: it drops it on every path.
template <class R>
podkeep_status new_runtime(const std::string &name, std::unique_ptr<R> recipe, podkeep_runtime **out) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = name.c_str();
  spec.init = &Recipe::on_init;
  spec.run_forever = &Recipe::on_run;
  spec.teardown = &Recipe::on_teardown;
  if (R::has_hook) spec.cancel = &Recipe::on_cancel;
  spec.drop = &Recipe::on_drop;
  spec.config = static_cast<Recipe *>(recipe.release());
  return PODKEEP_CALL_(runtime_new)(&spec, out);
}

#ifdef __cpp_lib_jthread
template <class F>
inline constexpr bool is_runnable =
    std::is_invocable_v<F &, Context &> || std::is_invocable_v<F &, std::stop_token> || std::is_invocable_v<F &>;
#else
template <class F>
inline constexpr bool is_runnable = std::is_invocable_v<F &, Context &> || std::is_invocable_v<F &>;
#endif

}  // namespace detail
PODKEEP_END_NAMESPACE_
#endif
