/* The checks that ask the library: apart from check.c, so that a program which must not be linked to it can do without. */
#include "check.h"

#include <string.h>
#include <unistd.h>

void check_status(const char *file, int line, const char *call, podkeep_status got, podkeep_status want) {
  char more[1024];
  if (got == want) return;
  snprintf(more, sizeof more, "got %s (%s), expected %s", podkeep_status_name(got), got ? podkeep_last_error() : "-",
           podkeep_status_name(want));
  check_say(file, line, call, more);
  _exit(1);
}
void check_says(const char *file, int line, const char *piece) {
  char more[1024];
  if (strstr(podkeep_last_error(), piece)) return;
  snprintf(more, sizeof more, "the sentence \"%s\" has no \"%s\"", podkeep_last_error(), piece);
  check_say(file, line, "last error", more);
  _exit(1);
}
