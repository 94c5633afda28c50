// What must not compile, one piece at a time (-DPIECE=n), with a sentence that helps: tests/cpp/run.sh looks for it.
#include <podkeep.hpp>

struct Plain {
  void run_forever(podkeep::Context &) {}
};
struct Good : podkeep::Runtime {
  explicit Good(int) {}
  void run_forever(podkeep::Context &) override {}
};
#if PIECE == 5
struct Throws : podkeep::Runtime {
  ~Throws() noexcept(false) override {}
  void run_forever(podkeep::Context &) override {}
};
#endif

int main() {
#if PIECE == 0
  podkeep::Pod::make<Good>({}, 1);
#elif PIECE == 1  // must derive from podkeep::Runtime
  podkeep::Pod::make<Plain>({});
#elif PIECE == 2  // must be constructible from
  podkeep::Pod::make<Good>({}, "text");
#elif PIECE == 3  // deleted
  podkeep::Pod pod([] {});
  podkeep::Pod copy(pod);
#elif PIECE == 4  // returns nothing or its code
  podkeep::Pod pod([] { return "text"; });
#elif PIECE == 5  // looser exception specification
  podkeep::Pod::make<Throws>({});
#elif PIECE == 6  // no matching
  podkeep::Pod pod([](int) {});
#endif
}
