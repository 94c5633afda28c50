/* A read past the end, on purpose: a sanitizer that lets this pass is not at work. */
#include <limits.h>
#include <stdlib.h>

int main(void) {
  volatile int past = 4; /* volatile: the compiler must not see it */
  int *numbers = calloc(4, sizeof *numbers), found;
  if (!numbers) return 0;
  found = numbers[past];
  free(numbers);
  return found == INT_MAX;
}
