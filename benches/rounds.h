/* Rounds of measurements, and the table they become. Each measurement is a program that prints lines "measure peer value";
 * a round runs all of them once; a row of the table is the median over the rounds. */
#ifndef PODKEEP_BENCHES_ROUNDS_H
#define PODKEEP_BENCHES_ROUNDS_H

enum { MAX_ROUNDS = 101, MAX_MEASURES = 16, MAX_PEERS = 16 };
enum unit { TIME, KIB, COUNT, RATE, PERCENT };

extern int rounds; /* how many there are */
extern int failed; /* a program did not end well */

/* Once, before the first round: says what this is about and on which CPU. */
void begin_rounds(const char *what);

/* Runs a program, argv[0] its path, and keeps what it prints for this round. `what` is for a complaint. */
void run_program(char *const argv[], const char *what, int round);

void shuffle(int *order, int count);

/* One row: the peer's median, and the median of its ratios to another measure of another peer in the same round. With an
 * `aim` above 0 it says whether that is met: by the ratio, or with KIB and PERCENT by the value. COUNT, RATE and PERCENT
 * stand without a ratio. */
struct row {
  const char *name;
  int measure, peer, floor_measure, floor_peer;
  enum unit unit;
  double aim;
};
void print_row(const struct row *row);

/* The last line: how long it took, and what else kept this CPU busy. */
void end_rounds(void);

double median(double *values, long count); /* sorts */

#endif
