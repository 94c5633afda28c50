#include <podkeep.hpp>

int unit_b();
int unit_b() {
  podkeep::Pod pod([](podkeep::Context &context) -> int { return context.fail(7, "seven"); });
  (void)pod.start();
#if PODKEEP_CPP_EXCEPTIONS
  try {
    pod.join();
  } catch (const podkeep::Error &error) {
    return error.failure() ? error.failure()->code : 0;
  }
  return 0;
#else
  if (pod.join() != podkeep::Status::Failed) return 0;
  return pod.failure()->code;
#endif
}
