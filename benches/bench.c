/* bench: thread pods beside their peers. README.md tells the method. This is the parent: it runs children in shuffled
 * order, round by round, and prints the table.
 *
 *     bench [--quick] [--rounds N] [--threads N]
 *     bench --child life|cold|flag|many PEER SIZE     one child by hand (for strace, perf, callgrind); PEER counts from 0,
 *                                                     in the order of the table
 */
#include "measure.h"
#include "rounds.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
  int many_rounds;
  long life, cold, flag, threads;
} sizes = {5, 1000, 120, 100000, 10000};

static int quick;

static void run_child(const char *kind, int peer, long size, int round) {
  char peer_text[16], size_text[32], what[128];
  char *argv[] = {"/proc/self/exe", "--child", (char *)kind, peer_text, size_text, NULL};
  snprintf(peer_text, sizeof peer_text, "%d", peer);
  snprintf(size_text, sizeof size_text, "%ld", size);
  snprintf(what, sizeof what, "bench: %s of %s", kind, peers[peer]->name);
  run_program(argv, what, round);
}

/* The peers of one kind of run follow each other closely (the machine changes its pace within seconds), in an order of
 * their own, and so do the kinds. */
static void run_round(int round) {
  const struct {
    const char *what;
    long size;
  } kinds[] = {{"life", sizes.life}, {"cold", sizes.cold}, {"flag", sizes.flag}, {"many", sizes.threads}};
  int kind_order[4], peer_order[PEERS];
  shuffle(kind_order, 4);
  for (int i = 0; i < 4; i++) {
    const int kind = kind_order[i];
    shuffle(peer_order, PEERS);
    if (kind == 3 && round >= sizes.many_rounds) continue;
    for (int j = 0; j < PEERS; j++)
      if (kind != 2 || peer_order[j] == PODKEEP) /* the flag child measures all peers by itself */
        run_child(kinds[kind].what, peer_order[j], kinds[kind].size, round);
  }
}

static void print_table(void) {
  static const struct {
    int measure;
    const char *title;
    double aim;
  } sections[] = {
      {LIFE, "whole life: make, start, wait until ready, cancel, join, free; back to back", 1.1},
      {READY, "start to ready, back to back", 0},
      {JOIN, "cancel to joined, back to back", 0},
      {READY_COLD, "start to ready, after an idle gap", 0},
      {WAKE, "wake: cancel to the hosted code running again, after an idle gap", 1.1},
      {JOIN_COLD, "cancel to joined, after an idle gap", 0},
      {FLAG, "one look at the flag", 1.15},
      {RSS, "resident memory a thread, 64 KiB stacks", 10},
      {START_ALL, "start all, until all are ready", 0},
      {STOP_ALL, "cancel all, join all", 0},
  };
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
    const int measure = sections[i].measure;
    printf("\n%s", sections[i].title);
    if (measure >= RSS) printf(" (%ld of them, %d rounds)", sizes.threads, sizes.many_rounds);
    printf("\n");
    for (int peer = 0; peer < PEERS; peer++) {
      struct row row = {peers[peer]->name, measure, peer, measure, PTHREAD, measure == RSS ? KIB : TIME, 0};
      if (measure == FLAG && !has_flag(peer)) continue;
      if (measure == FLAG && peer == FLOOR_CALL) row.name = "a bare load behind a call";
      if (measure == FLAG && peer == JTHREAD) row.name = "std::stop_token (inline, no call)";
      if (peer == PODKEEP && !quick) row.aim = sections[i].aim;
      print_row(&row);
    }
  }
}

static int usage(void) {
  fprintf(stderr, "usage: bench [--quick] [--rounds N] [--threads N]\n"
                  "       bench --child life|cold|flag|many PEER SIZE\n");
  return 2;
}

int main(int argc, char **argv) {
  if (argc == 5 && strcmp(argv[1], "--child") == 0) return measure(argv[2], atoi(argv[3]), atol(argv[4]));
  rounds = 21;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--quick") == 0) {
      quick = 1;
      rounds = sizes.many_rounds = 1;
      sizes.life = sizes.cold = 20;
      sizes.flag = 1000;
      sizes.threads = 50;
    } else if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0) {
      rounds = atoi(argv[++i]);
    } else if (i + 1 < argc && strcmp(argv[i], "--threads") == 0) {
      sizes.threads = atol(argv[++i]);
    } else {
      return usage();
    }
  }
  if (rounds < 1 || rounds > MAX_ROUNDS || sizes.threads < 1) return usage();
  if (sizes.many_rounds > rounds) sizes.many_rounds = rounds;
  begin_rounds("");
  for (int round = 0; round < rounds; round++) run_round(round);
  print_table();
  end_rounds();
  return failed;
}
