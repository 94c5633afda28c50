/* Every constant, macro and INIT of the header, in whatever language and standard outside.sh compiles this. The list of
 * constants is made from layout.txt. */
#include <podkeep.h>
#include <podkeep.h> /* twice does no harm */

static const int64_t constants[] = {
#include "constants.inc"
};
static podkeep_runtime_spec static_spec = PODKEEP_RUNTIME_SPEC_INIT;
static podkeep_pod_options static_options = PODKEEP_POD_OPTIONS_INIT;
static podkeep_event static_event = PODKEEP_EVENT_INIT;
static int64_t a_wait = PODKEEP_FOREVER;
static uint32_t abi = PODKEEP_ABI_VERSION;
static int32_t cancelled = PODKEEP_CANCELLED;

int use(void);
int use(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_event event = PODKEEP_EVENT_INIT;
#if PODKEEP_ABI_VERSION != 0u
#error "the ABI's version can be asked of the preprocessor, too"
#endif
  switch (cancelled) { /* constant enough for a case */
  case PODKEEP_CANCELLED:
  case PODKEEP_ERR_TIMEOUT:
  case PODKEEP_OK: break;
  default: return 1;
  }
  if (spec.struct_size != sizeof spec || options.struct_size != sizeof options || event.struct_size != sizeof event) return 2;
  if (static_spec.struct_size != sizeof spec || static_options.struct_size != sizeof options) return 3;
  if (static_event.struct_size != sizeof event || spec.name || options.name || event.name) return 4;
  return a_wait == -1 && abi == podkeep_abi_version() && constants[0] == 0 ? 0 : 5;
}
int main(void) { return use(); }
