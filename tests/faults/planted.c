/* Two errors on purpose, a race and a read past the end: a sanitizer that lets this pass is not at work. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

static int raced;
static void *race(void *unused) {
  int i;
  for (i = 0; i < 1000; i++) raced = raced + 1;
  return unused;
}
int main(void) {
  volatile int past = 4; /* volatile: the compiler must not see it */
  int *numbers = calloc(4, sizeof *numbers), sum;
  pthread_t other;
  if (!numbers || pthread_create(&other, NULL, race, NULL) != 0) return 0;
  race(NULL);
  pthread_join(other, NULL);
  sum = numbers[past];
  free(numbers);
  return sum == INT_MAX;
}
