#include <podkeep.hpp>

int unit_b();
int unit_b() {
  podkeep::Pod pod([](podkeep::Context &context) -> int { return context.fail(7, "seven"); });
  podkeep::Group group;
  (void)group.add(pod);
  (void)group.start();
#if PODKEEP_CPP_EXCEPTIONS
  try {
    group.join();
  } catch (const podkeep::Error &error) {
    return error.failure() ? error.failure()->code : 0;
  }
  return 0;
#else
  if (group.join() != podkeep::Status::Failed) return 0;
  return group.failure()->code;
#endif
}
