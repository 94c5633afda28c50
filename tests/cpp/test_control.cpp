// Control, terminate, query. That the service is right is for tests/control; here, that C++ hands everything through.
#include "members.hpp"

#include <sys/stat.h>

#include <array>
#include <optional>

using check::marks, check::member, podkeep::State;

namespace {
constexpr auto generous = 30s;

podkeep::ControlOptions at(const std::string &address) {
  podkeep::ControlOptions options;
  options.address = address;
  return options;
}

// A directory for sockets, gone with what is left in it.
class Directory {
 public:
  Directory() { REQUIRE(::mkdtemp(path_)); }
  ~Directory() {
    (void)::unlink((path_ + std::string("/web.sock")).c_str());
    REQUIRE(::rmdir(path_) == 0);
  }
  std::string path() const { return path_; }
  std::string socket() const { return path() + "/web.sock"; }

 private:
  char path_[32] = "/tmp/podkeep-cpp-XXXXXX";
};

bool is_there(const std::string &path) {
  struct ::stat found;
  return ::lstat(path.c_str(), &found) == 0;
}

// With more grace than a case takes.
podkeep::Options patient(const char *name) {
  podkeep::Options options = member(name);
  options.grace = 60s;
  return options;
}

// Hears that it was asked for its end, and comes to it when it is let.
struct Deaf {
  check::Event asked, release;
  podkeep::Pod pod;
  explicit Deaf(const char *name)
      : pod(patient(name), [this](podkeep::Context &context) {
          context.ready();
          context.status("counts its sheep");
          context.wait();
          asked.set();
          REQUIRE(release.wait(60s));
        }) {
    pod.start().wait_ready(generous);
  }
  ~Deaf() {
    release.set();
    pod.join(generous);
  }
};
}  // namespace

#if __cplusplus >= 202002L
CASE(shape_of_control) {
  const Directory directory;
  podkeep::Control control({.address = "unix:" + directory.socket()});
  podkeep::Pod pod({.name = "web"}, [](podkeep::Context &context) { context.wait(); });
  pod.start().wait_ready(10s);
  REQUIRE(podkeep::query(control.address(), "web", 10s) == State::Running);
  podkeep::terminate(control.address(), "web", 10s);
  pod.join();
}
#endif

CASE(a_private_socket_answers_for_pods_and_groups) {
  podkeep::Control control;
  REQUIRE(control && control.native_handle());
  const std::string address = control.address();
  REQUIRE(address.rfind("unix:/", 0) == 0 && is_there(address.substr(5)));
  podkeep::Pod web = marks("web");  // later than the service
  REQUIRE(podkeep::query(address, "web", generous) == State::New);
  web.start().wait_ready(generous);
  REQUIRE(podkeep::query(address, "web") == State::Running && podkeep::query(address, "web", 0s) == State::Running);
  podkeep::terminate(address, "web", generous);
  REQUIRE(web.state() == State::Stopped && podkeep::query(address, "web", generous) == State::Stopped);
  podkeep::terminate(address, "web");  // it has ended well: so it is told again
  podkeep::Group site(check::of(podkeep::Strategy::OneForOne));
  podkeep::Pod database = marks("database");
  site.add(database).start().wait_ready(generous);
  REQUIRE(podkeep::query(address, "site", generous) == State::Running);
  podkeep::terminate(address, "site", generous);
  REQUIRE(site.state() == State::Stopped && database.state() == State::Stopped);
  control.close();
  REQUIRE(!control && !is_there(address.substr(5)));
}

CASE(a_path_is_served_until_the_end_and_no_longer) {
  const Directory directory;
  const std::string address = "unix:" + directory.socket();
  podkeep::Pod web = marks("web");
  web.start().wait_ready(generous);
  {
    const podkeep::Control control(at(address));
    REQUIRE(control.address() == address && is_there(directory.socket()));
    REQUIRE(podkeep::query(address, "web", generous) == State::Running);
    const podkeep::Error taken = ERROR_OF(podkeep::Control(at(address)));
    REQUIRE(taken.status() == podkeep::Status::InvalidState && check::contains(taken.what(), directory.socket()));
    REQUIRE(podkeep::query(address, "web", generous) == State::Running);
  }
  REQUIRE(!is_there(directory.socket()));
  const podkeep::Error gone = ERROR_OF(podkeep::query(address, "web", generous));
  REQUIRE(gone.status() == podkeep::Status::Unreachable && gone.code() == std::errc::host_unreachable);
  REQUIRE(check::contains(gone.what(), address));
  REQUIRE_STATUS(Unreachable, podkeep::terminate(address, "web"));
  REQUIRE(web.state() == State::Running);  // the pods go on
  podkeep::Control again(at(address));
  podkeep::terminate(address, "web", generous);
  again.close();
  again.close();
  REQUIRE_STATUS(InvalidHandle, again.address());
}

CASE(another_process_is_asked) {
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  const pid_t serves = ::fork();  // no call of podkeep yet
  REQUIRE(serves >= 0);
  if (serves == 0) {
    podkeep::Pod web = marks("web");
    web.start().wait_ready(generous);
    const podkeep::Control control;
    const std::string address = control.address();
    REQUIRE(::write(pipe[1], address.data(), address.size()) == static_cast<ssize_t>(address.size()));
    ::close(pipe[1]);
    web.join(generous);
    REQUIRE(::read(pipe[0], pipe, 1) == 0);  // until the asker has heard of it, and closed its end
    std::exit(web.state() == State::Stopped ? 0 : 1);
  }
  std::array<char, 256> text;
  const ssize_t length = ::read(pipe[0], text.data(), text.size());
  REQUIRE(length > 0);
  const std::string address(text.data(), static_cast<std::size_t>(length));
  REQUIRE(podkeep::query(address, "web", generous) == State::Running);
  podkeep::terminate(address, "web", generous);
  ::close(pipe[1]);
  int status = -1;
  REQUIRE(::waitpid(serves, &status, 0) == serves && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  REQUIRE_STATUS(Unreachable, podkeep::query(address, "web", generous));
}

CASE(a_failure_is_told_by_what) {
  const podkeep::Control control;
  podkeep::Pod bad(member("bad"), [](podkeep::Context &context) {
    context.ready();
    context.wait();
    throw std::runtime_error("the disk is full");
  });
  bad.start().wait_ready(generous);
  const podkeep::Error error = ERROR_OF(podkeep::terminate(control.address(), "bad", generous));
  REQUIRE(error.status() == podkeep::Status::Failed && !error.failure());
  REQUIRE(check::contains(error.what(), "pod \"bad\" failed in run (exception, code -1): std::runtime_error: the disk is full"));
  REQUIRE(podkeep::query(control.address(), "bad", generous) == State::Failed);
}

CASE(nobody_of_that_name_and_no_such_address) {
  const podkeep::Control control;
  const std::string address = control.address();
  const podkeep::Error nobody = ERROR_OF(podkeep::query(address, "nobody", generous));
  REQUIRE(nobody.status() == podkeep::Status::NotFound && check::contains(nobody.what(), "nobody"));
  REQUIRE_STATUS(NotFound, podkeep::terminate(address, "nobody", generous));
  REQUIRE_STATUS(InvalidArgument, podkeep::query("", "web", generous));
  REQUIRE_STATUS(InvalidArgument, podkeep::terminate("somewhere", "web", generous));
  REQUIRE_STATUS(InvalidArgument, podkeep::query(address, std::string("web\0", 4), generous));
  REQUIRE_STATUS(InvalidArgument, podkeep::terminate(address + std::string(1, '\0'), "web", generous));
}

CASE(what_cannot_be_served_says_why) {
  const Directory directory;
  const podkeep::Error open = ERROR_OF(podkeep::Control(at("tcp:0.0.0.0:0")));
  REQUIRE(open.status() == podkeep::Status::Denied && open.code() == std::errc::permission_denied && check::contains(open.what(), "TLS"));
  const podkeep::Error wrong = ERROR_OF(podkeep::Control(at("pigeon:loft")));
  REQUIRE(wrong.code() == std::errc::invalid_argument && check::contains(wrong.what(), "pigeon"));
  REQUIRE_STATUS(NotFound, podkeep::Control(at("unix:" + directory.path() + "/none/of/these/web.sock")));
  REQUIRE_STATUS(InvalidArgument, podkeep::Control(at(std::string("tcp:127.0.0.1:0\0", 16))));
  podkeep::ControlOptions half = at("tcp:127.0.0.1:0");
  half.tls_cert = half.tls_key = "server.pem";
  const podkeep::Error third = ERROR_OF(podkeep::Control(half));
  REQUIRE(third.status() == podkeep::Status::InvalidArgument && check::contains(third.what(), "tls_client_ca"));
  (void)podkeep::shutdown(generous);
  REQUIRE_STATUS(InvalidState, podkeep::Control());
}

CASE(a_port_is_picked_and_told) {
  const podkeep::Control first(at("tcp:127.0.0.1:0")), second(at("tcp:127.0.0.1:0"));
  REQUIRE(first.address().rfind("tcp:127.0.0.1:", 0) == 0 && first.address() != "tcp:127.0.0.1:0");
  REQUIRE(first.address() != second.address());
  REQUIRE_STATUS(InvalidState, podkeep::Control(at(first.address())));
  podkeep::Pod web = marks("web");
  web.start().wait_ready(generous);
  REQUIRE(podkeep::query(first.address(), "web", generous) == State::Running);
  podkeep::terminate(second.address(), "web", generous);
  REQUIRE(podkeep::query(first.address(), "web", generous) == State::Stopped);
}

CASE(each_side_shows_its_certificate) {
  const char *const directory = std::getenv("PODKEEP_TEST_CERTIFICATES");  // see tests/cpp/run.sh
  REQUIRE(directory);
  const std::string in = std::string(directory) + "/";
  podkeep::ControlOptions options = at("tcp:127.0.0.1:0");
  options.tls_cert = in + "server.pem";
  options.tls_key = in + "server.key";
  options.tls_client_ca = in + "ca.pem";
  const podkeep::Control control(options);
  const podkeep::Pod web = marks("web");
  const auto as = [&](const std::string &who) {
    return control.address() + ",cert=" + in + who + ".pem,key=" + in + who + ".key,ca=" + in + "ca.pem";
  };
  REQUIRE(podkeep::query(as("client"), "web", generous) == State::New);
  REQUIRE_STATUS(Denied, podkeep::query(as("stranger"), "web", generous));
  options.tls_client_ca = in + "none.pem";
  const podkeep::Error missing = ERROR_OF(podkeep::Control(options));
  REQUIRE(missing.status() == podkeep::Status::InvalidArgument && check::contains(missing.what(), "none.pem"));
}

CASE(a_limit_ends_the_wait_and_not_the_asking) {
  const podkeep::Control control;
  Deaf deaf("deaf");
  const podkeep::Error late = ERROR_OF(podkeep::terminate(control.address(), "deaf", -1s));  // asks, and waits for nothing
  REQUIRE(late.status() == podkeep::Status::Timeout && late.code() == std::errc::timed_out && check::contains(late.what(), "deaf"));
  REQUIRE(deaf.asked.wait() && podkeep::query(control.address(), "deaf", generous) == State::Stopping);
  // What it is stuck in is told, too, unless a busy machine has no time for that.
  REQUIRE(check::eventually([&] {
    const podkeep::Error stuck = ERROR_OF(podkeep::terminate(control.address(), "deaf", 50ms));
    REQUIRE(stuck.status() == podkeep::Status::Timeout);
    return check::contains(stuck.what(), "counts its sheep");
  }));
  deaf.release.set();
  podkeep::terminate(control.address(), "deaf", generous);
}

CASE(a_service_that_ends_under_a_wait) {
  std::optional<podkeep::Control> control(std::in_place);
  const std::string address = control->address();
  Deaf deaf("deaf");
  std::optional<podkeep::Error> lost;
  std::thread waits([&] { lost = ERROR_OF(podkeep::terminate(address, "deaf")); });
  REQUIRE(deaf.asked.wait());
  control.reset();
  waits.join();
  REQUIRE(lost->status() == podkeep::Status::Unreachable && check::contains(lost->what(), address));
  REQUIRE(deaf.pod.state() == State::Stopping);
}

CASE(control_moves) {
  podkeep::Control control;
  const std::string first = control.address();
  podkeep::Control second(std::move(control));
  REQUIRE(!control && second && second.address() == first);
  const podkeep::Error moved = ERROR_OF(control.address());
  REQUIRE(moved.status() == podkeep::Status::InvalidHandle && check::contains(moved.what(), "moved from"));
  REQUIRE_STATUS(InvalidHandle, control.close());
  podkeep::Control third;
  const std::string last = third.address();
  REQUIRE(last != first);
  third = std::move(second);  // ends what was there
  REQUIRE(third.address() == first && !is_there(last.substr(5)));
  podkeep::Control &same = third;
  third = std::move(same);
  swap(third, control);
  REQUIRE(control.address() == first && !third && is_there(first.substr(5)));
  static_assert(!std::is_copy_constructible_v<podkeep::Control> && std::is_nothrow_move_constructible_v<podkeep::Control> &&
                std::is_nothrow_move_assignable_v<podkeep::Control> && std::is_nothrow_destructible_v<podkeep::Control>);
}

CASE(from_a_pod_and_from_its_log) {
  const podkeep::Control control;
  const std::string address = control.address();
  podkeep::Pod other = marks("other");
  other.start().wait_ready(generous);
  podkeep::Pod asks([&] {
    podkeep::terminate(address, "other", generous);
    podkeep::Control own;  // and its end
  });
  asks.start().join(generous);
  REQUIRE(other.state() == State::Stopped);
  static check::Event refused;
  podkeep::set_log(
      [&address](podkeep::Level, std::string_view, std::string_view) {
        REQUIRE_STATUS(Deadlock, podkeep::terminate(address, "other", 1s));
        refused.set();
      },
      podkeep::Level::Debug);
  podkeep::Pod fails([] { return 3; });
  fails.start();
  REQUIRE_STATUS(Failed, fails.join(generous));
  REQUIRE(refused.wait(generous));
  podkeep::set_log(nullptr);
}

CASE(a_service_leaves_nothing_behind) {
  { const podkeep::Control first; }  // and what the library keeps from then on
  // The kernel may still count a thread that was joined.
  const auto threads_are = [](int count) { return check::eventually([=] { return check::threads() == count; }); };
  REQUIRE(threads_are(2));  // this one and the keeper
  const int descriptors = check::descriptors();
  for (int i = 0; i < 5; ++i) {
    podkeep::Control control;
    REQUIRE_STATUS(NotFound, podkeep::query(control.address(), "nobody", generous));
    REQUIRE(threads_are(3));
    if (i % 2) control.close();
  }
  REQUIRE(threads_are(2) && check::descriptors() == descriptors);
}

CASE(a_forked_child_has_no_service) {
  const podkeep::Control control;
  const std::string address = control.address();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    REQUIRE_STATUS(Forked, control.address());
    ::_exit(0);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  REQUIRE(control.address() == address && is_there(address.substr(5)));
}
