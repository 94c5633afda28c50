#include <podkeep.hpp>

#include <cstdio>

int main() {
  podkeep::Pod pod([](podkeep::Context &context) { context.wait(); });
  pod.start().wait_ready();
  pod.close();
  std::printf("podkeep %s works\n", podkeep::version().c_str());
}
