// An HTTP server on standalone Asio, kept in a pod: io_context::run blocks the pod's thread, io_context::stop is the cancel hook.
//
//   asio_http [port]      0, the default: any free port; the address is printed
//
// Ctrl-C or SIGTERM ends it. A port that is taken comes out of wait_ready as the std::system_error that Asio threw.
#define ASIO_STANDALONE
#include <asio.hpp>
#include <podkeep.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

using asio::ip::tcp;
using namespace std::chrono_literals;

// One connection: reads the head of a request, answers, closes. A client has five seconds for all of it.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, const unsigned &served) : socket_(std::move(socket)), limit_(socket_.get_executor()), served_(served) {}

  void start() {
    limit_.expires_after(5s);
    limit_.async_wait([self = shared_from_this()](std::error_code error) {
      if (!error) self->socket_.close(error);
    });
    asio::async_read_until(socket_, asio::dynamic_buffer(head_, 8192), "\r\n\r\n",
                           [self = shared_from_this()](std::error_code error, std::size_t) {
                             if (error)
                               self->limit_.cancel();
                             else
                               self->answer();
                           });
  }

 private:
  tcp::socket socket_;
  asio::steady_timer limit_;
  const unsigned &served_;
  std::string head_, answer_;

  void answer() {
    const bool found = head_.rfind("GET / ", 0) == 0;
    std::string page = "<!doctype html><title>podkeep</title>";
    page += found ? "<h1>Served from a pod</h1><p>Page " + std::to_string(served_) + ".</p>\n" : "<h1>There is only /</h1>\n";
    answer_ = found ? "HTTP/1.1 200 OK\r\n" : "HTTP/1.1 404 Not Found\r\n";
    answer_ += "Content-Type: text/html; charset=utf-8\r\nConnection: close\r\n";
    answer_ += "Content-Length: " + std::to_string(page.size()) + "\r\n\r\n" + page;
    asio::async_write(socket_, asio::buffer(answer_), [self = shared_from_this()](std::error_code, std::size_t) {
      std::error_code ignored;
      self->socket_.shutdown(tcp::socket::shutdown_both, ignored);
      self->limit_.cancel();
    });
  }
};

struct Web : podkeep::Runtime {
  asio::io_context io{1};
  tcp::acceptor acceptor;
  unsigned served = 0;

  Web(podkeep::Context &context, unsigned short port) : acceptor(io, {asio::ip::address_v4::loopback(), port}) {
    accept();
    const std::string where = "listening on http://127.0.0.1:" + std::to_string(acceptor.local_endpoint().port()) + "/";
    context.status(where);
    std::puts(where.c_str());
    std::fflush(stdout);
  }
  void run_forever(podkeep::Context &) override { io.run(); }
  void cancel() noexcept override { io.stop(); }  // may come before run: Asio remembers it
  void teardown() override { std::printf("served %u requests\n", served); }

  void accept() {
    acceptor.async_accept([this](std::error_code error, tcp::socket socket) {
      if (error) throw std::system_error(error, "accept");  // out of io.run: the pod's failure, for whoever joins it
      ++served;
      std::make_shared<Connection>(std::move(socket), served)->start();
      accept();
    });
  }
};

static podkeep::Pod pod;

int main(int argc, char **argv) {
  try {
    podkeep::Options options;
    options.name = "web";
    options.grace = 2s;
    pod = podkeep::Pod::make<Web>(options, static_cast<unsigned short>(argc > 1 ? std::atoi(argv[1]) : 0));
    std::signal(SIGINT, [](int) { pod.cancel(); });  // cancel may be called from a signal handler
    std::signal(SIGTERM, [](int) { pod.cancel(); });
    pod.start().wait_ready(10s);
    pod.join();
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "asio_http: %s\n", error.what());
    return 1;
  }
}
