// A shared library that a pod is made of: test_process.cpp.
#include <podkeep.h>

#include <string>

static std::int32_t run(podkeep_context *context, void *) {
  std::size_t length = 0;
  const void *const args = podkeep_context_args(context, &length);
  return podkeep_context_fail(context, 6, ("worked on " + std::string(static_cast<const char *>(args), length)).c_str());
}

extern "C" const podkeep_runtime_spec *worker() {
  static podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "worker";
  spec.run_forever = run;
  return &spec;
}
