/* The floor under the poll of a flag: a bare load behind a call into a shared library. */
#include <stdbool.h>

bool floor_look(const void *flag);
bool floor_look(const void *flag) { return __atomic_load_n((const bool *)flag, __ATOMIC_ACQUIRE); }
