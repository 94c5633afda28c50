#include "observe.h"
#include <stdio.h>

void answer(uint64_t (*restarts)(void)) {
  printf("ready\n");
  fflush(stdout);
  for (int c; (c = getchar()) != EOF;) {
    if (c != '\n') continue;
    printf("%llu\n", (unsigned long long)restarts());
    fflush(stdout);
  }
}
