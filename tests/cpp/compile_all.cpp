// Names everything the header offers, so that the compilers look at all of it. Compiled by tests/cpp/run.sh, never run.
#include <podkeep.hpp>

using namespace std::chrono_literals;

namespace {

struct All : podkeep::Runtime {
  All(podkeep::Context &context, int, std::string) { context.fail(1, "x"); }
  void run_forever(podkeep::Context &context) override {
    (void)context.cancelled();
    (void)context.wait(1s);
    (void)context.wait(1.5s);
    context.wait();
    (void)context.fd();
    (void)context.time_left();
    (void)context.ready();
    (void)context.heartbeat();
    (void)context.extend(1min);
    (void)context.status("x");
    (void)context.incarnation();
    (void)context.args();
    (void)context.name();
    (void)context.native_handle();
#ifdef __cpp_lib_jthread
    (void)context.stop_token();
#endif
  }
  void cancel() noexcept override {}
  void teardown() override {}
};

struct Address {
  int host, port;
};

struct Nothing : podkeep::Runtime {
  void run_forever(podkeep::Context &) override {}

 private:
  void cancel() override {}  // private is fine
};

struct Crosses : podkeep::Runtime {
  Crosses(Address, const std::string &, std::vector<double>, std::chrono::milliseconds, std::string_view) {}
  void run_forever(podkeep::Context &context) override { context.fail(1, "x", "data"); }
};

}  // namespace

template <>
struct podkeep::Crossing<Address> {
  static std::string pack(const Address &address) { return std::to_string(address.port); }
  static Address unpack(std::string_view bytes) { return {0, std::atoi(std::string(bytes).c_str())}; }
};

int main() {
  (void)podkeep::export_runtime<All>("all", 8080, "text");
  (void)podkeep::export_runtime("function", [](podkeep::Context &) {});
  if (const std::optional<int> code = podkeep::child_run()) return *code;
  (void)podkeep::set_program("");
  podkeep::Options options;
  options.grace = podkeep::forever;
#if __cplusplus >= 202002L
  podkeep::Pod designated = podkeep::Pod::make<All>({.name = "web", .grace = 2s}, 8080, "text");
#endif
  podkeep::Pod pod = podkeep::Pod::make<All>(options, 8080, "text");
  podkeep::Pod other = podkeep::Pod::make<Nothing>({});
  podkeep::Pod lambda([](podkeep::Context &) {});
  podkeep::Pod with_options(options, [] { return 0; });
#ifdef __cpp_lib_jthread
  podkeep::Pod token([](std::stop_token) {});
#endif
  podkeep::Options process;
  process.host = podkeep::Host::Process;
  process.kill_after = 1s;
  process.env = {"KEY=VALUE"};
  process.cwd = "/";
  podkeep::Pod crossing = podkeep::Pod::make<Crosses>(process, Address{1, 2}, "text", std::vector<double>{1.5}, 5ms, std::string_view());
  podkeep::Pod crossing_function(process, [](podkeep::Context &) {});
  process.ready = podkeep::Ready::Port;
  process.ready_port = 80;
  process.stop_signal = 2;
  podkeep::Pod command = podkeep::Pod::command({"program", "argument"}, process);
  podkeep::Pod plain_command = podkeep::Pod::command({"program"});
  podkeep::Pod program = podkeep::Pod::program("name", {"program"});
  podkeep::Pod library = podkeep::Pod::library("libworker.so", "worker");
  (void)podkeep::run(crossing);
  (void)podkeep::run(podkeep::Pod([] {}));
#if PODKEEP_CPP_EXCEPTIONS
  pod.start().wait_ready(10s);
  const podkeep::Error error(podkeep::Status::Failed, "x");
  (void)error.status();
  (void)error.failure();
  (void)error.code();
  (void)podkeep::Cancelled().what();
  const std::uint32_t left = podkeep::shutdown(1s);
#else
  const podkeep::Status started = pod.start();
  (void)started;
  std::uint32_t left = 0;
  (void)podkeep::shutdown(1s, &left);
#endif
  (void)left;
  (void)pod.wait_ready();
  (void)pod.wait_ready(1s);
  (void)pod.join();
  (void)pod.join(1.5s);
  pod.cancel();
  (void)pod.close();
  (void)pod.state();
  (void)pod.name();
  (void)pod.id();
  (void)pod.restarts();
  (void)pod.native_handle();
  if (const std::optional<podkeep::Failure> failure = pod.failure())
    (void)(failure->describe() + failure->data + failure->stderr_text);
  swap(pod, other);
  pod = std::move(other);
  pod = podkeep::Pod::adopt(pod.release());
  podkeep::GroupOptions group_options;
  group_options.strategy = podkeep::Strategy::RestForOne;
  group_options.grace = podkeep::forever;
  podkeep::Group group(group_options), other_group;
#if __cplusplus >= 202002L
  podkeep::Group designated_group({.name = "site", .strategy = podkeep::Strategy::OneForAll, .keep_going = true, .grace = 2s});
  (void)designated_group.add(command, {.after = {pod, "web", std::string("x")}, .significant = true});
#endif
  (void)group.add(pod);
  (void)group.add(podkeep::Pod([] {}), {{pod}});
  (void)group.add(lambda, {{"web", pod}, true});
#if PODKEEP_CPP_EXCEPTIONS
  group.add(pod).add(lambda).start().wait_ready(10s);
#endif
  (void)group.start();
  (void)group.wait_ready();
  (void)group.wait_ready(1s);
  (void)group.join();
  (void)group.join(1.5s);
  group.cancel();
  (void)group.close();
  (void)group.state();
  (void)group.failure();
  (void)group.native_handle();
  swap(group, other_group);
  group = std::move(other_group);
  podkeep::Monitor monitor(pod), all, of_group(group);
  (void)monitor.fd();
  (void)monitor.next();
  if (const auto event = monitor.next(1s)) (void)to_string(event->to);
  (void)monitor.ended();
  (void)monitor.status();
  podkeep::ControlOptions control_options;
  control_options.address = "tcp:127.0.0.1:0";
  control_options.tls_cert = control_options.tls_key = control_options.tls_client_ca = "file.pem";
  podkeep::Control control(control_options), private_control;
#if __cplusplus >= 202002L
  podkeep::Control designated_control({.address = "unix:/run/web.sock"});
#endif
  (void)control.native_handle();
  swap(control, private_control);
  control = std::move(private_control);
  (void)podkeep::terminate(control.address(), "web");
  (void)podkeep::terminate("unix:/run/web.sock", "web", 1.5s);
  (void)to_string(podkeep::query(control.address(), "web"));
  (void)podkeep::query("unix:/run/web.sock", "web", 10s);
  (void)control.close();
  (void)podkeep::last_error();
  (void)podkeep::version();
  (void)podkeep::abandoned();
  (void)podkeep::set_log([](podkeep::Level, std::string_view, std::string_view) {}, podkeep::Level::Debug);
  (void)podkeep::set_log(nullptr);
  (void)podkeep::make_error_code(podkeep::Status::Ok);
  (void)to_string(podkeep::Phase::Run);
  (void)to_string(podkeep::Kind::Lost);
  return to_string(podkeep::Status::Ok) == nullptr;
}
