/* bench-processes: process pods beside their peers, on the method of bench.c.
 *
 *     bench-processes [--quick] [--rounds N] [--children N]
 *     bench-processes --child life|big|many PEER SIZE     one measurement by hand; PEER counts from 0, in the table's order
 */
#include "processes.h"
#include "rounds.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
  const char *name;
  const struct process_peer *peer; /* NULL: another program's */
  const char *word;                /* what that program knows it by */
  const char *python;              /* the program, if it is Python's */
} all[PROCESS_PEERS] = {
    [STATIC_CHILD] = {"vfork + exec, a static child, two pipes", &peer_vfork, NULL, NULL},
    [SPAWN_STATIC] = {"posix_spawn, a static child", &peer_spawn_static, NULL, NULL},
    [SPAWN_DYNAMIC] = {"posix_spawn, a dynamic child", &peer_spawn_dynamic, NULL, NULL},
    [SPAWN_LINKED] = {"the same, linked against libpodkeep", &peer_spawn_linked, NULL, NULL},
    [UV_SPAWN] = {"uv_spawn, a dynamic child", &peer_uv, NULL, NULL},
    [OWN_CALLBACKS] = {"podkeep, own callbacks", NULL, "own", NULL},
    [COMMAND_NOTIFY] = {"podkeep, a static command, sd_notify", NULL, "notify", NULL},
    [COMMAND_ON_RUN] = {"podkeep, a static command, ready on exec", NULL, "on-run", NULL},
    [FORKSERVER] = {"Python multiprocessing, forkserver", NULL, "forkserver", "peer_multiprocessing.py"},
    [SPAWN_PYTHON] = {"Python multiprocessing, spawn", NULL, "spawn", "peer_multiprocessing.py"},
    [PYTHON_POD] = {"podkeep from Python, a class", NULL, "process", "peer_pods.py"},
};

static struct {
  int many_rounds;
  long life, big, python, children, python_children;
} sizes = {5, 200, 100, 8, 50, 10};

static int quick;

static void run_one(const char *what, int peer, long size, int round) {
  char number[16], size_text[32], complaint[128];
  snprintf(number, sizeof number, "%d", peer);
  snprintf(size_text, sizeof size_text, "%ld", size);
  snprintf(complaint, sizeof complaint, "bench-processes: %s of \"%s\"", what, all[peer].name);
  char *own[] = {"/proc/self/exe", "--child", (char *)what, number, size_text, NULL};
  char *pods[] = {beside("bench-pods"), (char *)what, (char *)all[peer].word, number, size_text, NULL};
  char script[128];
  snprintf(script, sizeof script, "../../benches/%s", all[peer].python ? all[peer].python : "");
  char *interpreter = getenv("PYTHON");
  if (interpreter == NULL) interpreter = "python3";
  char *python[] = {interpreter, beside(script), (char *)what, (char *)all[peer].word, number, size_text, NULL};
  run_program(all[peer].peer != NULL ? own : all[peer].python ? python : pods, complaint, round);
  free(pods[0]);
  free(python[1]);
}

static int has_big(int peer) {
  return peer == STATIC_CHILD || peer == SPAWN_STATIC || peer == OWN_CALLBACKS || peer == COMMAND_NOTIFY;
}

static void run_round(int round) {
  static const char *const kinds[] = {"life", "big", "many"};
  int kind_order[3], peer_order[PROCESS_PEERS];
  shuffle(kind_order, 3);
  for (int i = 0; i < 3; i++) {
    const int kind = kind_order[i];
    shuffle(peer_order, PROCESS_PEERS);
    if (kind == 2 && round >= sizes.many_rounds) continue;
    for (int j = 0; j < PROCESS_PEERS; j++) {
      const int peer = peer_order[j], python = all[peer].python != NULL;
      if (kind == 1 && !has_big(peer)) continue;
      run_one(kinds[kind], peer,
              kind == 0   ? (python ? sizes.python : sizes.life)
              : kind == 1 ? sizes.big
                          : (python ? sizes.python_children : sizes.children),
              round);
    }
  }
}

static void print_table(void) {
  static const struct {
    int measure;
    const char *title;
    enum unit unit;
    double aim;
  } sections[] = {
      {P_LIFE, "whole life: start, wait until ready, cancel, wait until reaped; back to back", TIME, 1.2},
      {P_READY, "start to ready", TIME, 1.2},
      {P_REAPED, "cancel to reaped", TIME, 1.2},
      {P_LIFE_BIG, "whole life in a host with 512 MiB resident; x: of the same peer's in a small host", TIME, 0},
      {P_CHILD_PSS, "memory a child (PSS: what it shares is divided among those that share it)", KIB, 0},
      {P_CHILD_RSS, "resident memory a child (RSS)", KIB, 0},
      {P_HOST_RSS, "resident memory of the host, KiB a child", COUNT, 0},
      {P_HOST_FDS, "descriptors of the host, a child", COUNT, 0},
  };
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
    const int measure = sections[i].measure, memory = measure >= P_CHILD_PSS;
    printf("\n%s", sections[i].title);
    if (memory) printf(" (%ld of them, Python's %ld; %d rounds)", sizes.children, sizes.python_children, sizes.many_rounds);
    printf("\n");
    for (int peer = 0; peer < PROCESS_PEERS; peer++) {
      struct row row = {all[peer].name, measure, peer, measure, STATIC_CHILD, sections[i].unit, 0};
      if (measure == P_LIFE_BIG) {
        if (!has_big(peer)) continue;
        row.floor_measure = P_LIFE;
        row.floor_peer = peer;
      }
      if ((measure == P_HOST_RSS || measure == P_HOST_FDS) && all[peer].python) continue;
      if (peer == OWN_CALLBACKS && !quick) row.aim = sections[i].aim;
      print_row(&row);
    }
  }
  printf("\nwhole life of own callbacks; x: of a program that is linked against libpodkeep and does not call it\n");
  const struct row same = {all[OWN_CALLBACKS].name, P_LIFE, OWN_CALLBACKS, P_LIFE, SPAWN_LINKED, TIME, 0};
  print_row(&same);
  printf("\nmemory of the guardian, one a host, KiB\n");
  const struct row pss = {"PSS, its share of the program and libc included", P_GUARDIAN, OWN_CALLBACKS, P_GUARDIAN,
                          OWN_CALLBACKS, COUNT, 0};
  const struct row own = {"its own (anonymous)", P_GUARDIAN_OWN, OWN_CALLBACKS, P_GUARDIAN_OWN, OWN_CALLBACKS, COUNT, 0};
  print_row(&pss);
  print_row(&own);
}

static int usage(void) {
  fprintf(stderr, "usage: bench-processes [--quick] [--rounds N] [--children N]\n"
                  "       bench-processes --child life|big|many PEER SIZE\n");
  return 2;
}

int main(int argc, char **argv) {
  if (argc == 5 && strcmp(argv[1], "--child") == 0) {
    const int peer = atoi(argv[3]);
    if (peer < 0 || peer >= PROCESS_PEERS || all[peer].peer == NULL) return usage();
    return measure_process(argv[2], all[peer].peer, peer, atol(argv[4]));
  }
  rounds = 11;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--quick") == 0) {
      quick = 1;
      rounds = sizes.many_rounds = 1;
      sizes.life = sizes.big = 5;
      sizes.python = 1;
      sizes.children = sizes.python_children = 2;
    } else if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0) {
      rounds = atoi(argv[++i]);
    } else if (i + 1 < argc && strcmp(argv[i], "--children") == 0) {
      sizes.children = atol(argv[++i]);
    } else {
      return usage();
    }
  }
  if (rounds < 1 || rounds > MAX_ROUNDS || sizes.children < 1) return usage();
  if (sizes.many_rounds > rounds) sizes.many_rounds = rounds;
  begin_rounds("'s process pods");
  for (int round = 0; round < rounds; round++) run_round(round);
  print_table();
  end_rounds();
  return failed;
}
