// Two units of one program, compiled in every combination of ways: tests/cpp/run.sh links them.
#include <podkeep.hpp>
#include <podkeep.hpp>

#include <cstdio>

int unit_b();

int main() {
  podkeep::Pod pod([](podkeep::Context &context) { context.wait(); });
  (void)pod.start();
  (void)pod.wait_ready();
  (void)pod.close();
  podkeep::Group group;
  podkeep::Pod member([](podkeep::Context &context) { context.wait(); });
  (void)group.add(member);
  (void)group.start();
  (void)group.wait_ready();
  (void)group.close();
  const bool good = pod.state() == podkeep::State::Stopped && member.state() == podkeep::State::Stopped && unit_b() == 7;
  std::puts(good ? "both units work" : "a unit does not work");
  return good ? 0 : 1;
}
