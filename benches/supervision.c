/* bench-supervision: restarts and supervised pods that do nothing beside their peers, on the method of bench.c.
 *
 *     bench-supervision [--quick] [--rounds N]
 *     bench-supervision --child one|many|idle|fed|capped PEER COUNT MS     one measurement by hand: COUNT of them, watched
 *                                                     for MS; PEER counts from 0, in the order of the enum below
 */
#include "observe.h"
#include "processes.h"
#include "rounds.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  THREADS,
  THREADS_DELAYED,
  POD,
  GROUP,
  OTP_SERVER,
  OTP_PACED,
  OTP_GROUP,
  CHILDREN,
  CHILDREN_DELAYED,
  OWN,
  COMMAND,
  OTP_PORT,
  PEERS
};
enum { LOOPS, SUPERVISED, OTP }; /* the programs */

static const struct {
  const char *name, *idle_name; /* NULL: has no such row */
  int program;
  const char *word;
  int many, together; /* how many are side by side; how many are restarted for one that fails */
  int floor;
} peers[PEERS] = {
    [THREADS] = {"pthread_create + join, without a delay", "threads that sleep", LOOPS, "threads", 0, 1, THREADS_DELAYED},
    [THREADS_DELAYED] = {"the same, after podkeep's delay", NULL, LOOPS, "threads-delayed", 100, 1, THREADS_DELAYED},
    [POD] = {"podkeep, thread pods", "podkeep, thread pods", SUPERVISED, "thread", 100, 1, THREADS_DELAYED},
    [GROUP] = {"podkeep, a group of ten, one for all", NULL, SUPERVISED, "group", 0, 10, THREADS_DELAYED},
    [OTP_SERVER] = {"OTP, gen_servers, no delay", "OTP, gen_servers", OTP, "server", 100, 1, THREADS_DELAYED},
    [OTP_PACED] = {"OTP, gen_servers that live 1 ms", NULL, OTP, "paced", 0, 1, THREADS_DELAYED},
    [OTP_GROUP] = {"OTP, ten, one_for_all, no delay", NULL, OTP, "group", 0, 10, THREADS_DELAYED},
    [CHILDREN] = {"vfork + exec + waitpid, without a delay", NULL, LOOPS, "vfork", 0, 1, CHILDREN_DELAYED},
    [CHILDREN_DELAYED] = {"the same, after podkeep's delay", NULL, LOOPS, "vfork-delayed", 20, 1, CHILDREN_DELAYED},
    [OWN] = {"podkeep, own callbacks", NULL, SUPERVISED, "own", 20, 1, CHILDREN_DELAYED},
    [COMMAND] = {"podkeep, a static command", "podkeep, static commands", SUPERVISED, "command", 20, 1, CHILDREN_DELAYED},
    [OTP_PORT] = {"OTP, gen_servers with that command, no delay", NULL, OTP, "port", 20, 1, CHILDREN_DELAYED},
};

enum { ONE, MANY, IDLE, FED, CAPPED, KINDS };
static struct {
  const char *name, *of_peer; /* what the peers call it */
  int few;                    /* measured in so many rounds */
  long count, settle, window; /* the times are ms */
} kinds[KINDS] = {
    [ONE] = {"one", "fail", 0, 1, 300, 1000},
    [MANY] = {"many", "fail", 0, 0, 300, 1000},
    [IDLE] = {"idle", "idle", 3, 1000, 1000, 5000},
    [FED] = {"fed", "fed", 3, 1000, 1000, 5000},
    [CAPPED] = {"capped", "capped", 3, 1, 500, 3000},
};

enum { RATE_ONE, PATH_ONE, CPU_ONE, RATE_MANY, SHARE_IDLE, SHARE_FED, SHARE_CAPPED, SHARE_AT_DEFAULT };

/* The least delay that podkeep's options allow, drawn from 0.75 to 1 ms, is this on the mean; the default cap, 30 s, that. */
static const double least_delay = 0.875e-3, default_delay = 26.25;

static int quick, has_otp;

static int has(int peer, int kind) {
  switch (kind) {
    case ONE: return 1;
    case MANY: return peers[peer].many > 0;
    case CAPPED: return peer == POD || peer == OWN || peer == COMMAND;
    case IDLE: return peers[peer].idle_name != NULL;
    default: return peers[peer].idle_name != NULL && peer != COMMAND;
  }
}

static int delays(int peer) { return peers[peer].program == SUPERVISED || peers[peer].floor == peer; }

static void report(int measure, int peer, double value) { printf("%d %d %.6f\n", measure, peer, value); }

static int measure_peer(int kind, int peer, long count, long window) {
  char number[32];
  snprintf(number, sizeof number, "%ld", count);
  char *word = (char *)peers[peer].word, *what = (char *)kinds[kind].of_peer;
  char *own[] = {beside(peers[peer].program == LOOPS ? "bench-loops" : "bench-supervised"), what, word, number, NULL};
  char *otp[] = {"escript", beside("../../benches/peer_supervisor.escript"), what, word, number, beside("child-static"), NULL};
  const long settle = window < kinds[kind].settle ? window : kinds[kind].settle;
  const struct seen seen = observe(peers[peer].program == OTP ? otp : own, settle, window, kind != IDLE && kind != FED);
  const double share = 100 * seen.cpu_seconds / seen.seconds;
  switch (kind) {
    case ONE:
      report(RATE_ONE, peer, seen.restarts / seen.seconds);
      report(CPU_ONE, peer, 1e9 * seen.cpu_seconds / seen.restarts);
      /* Of a group the delay is one for all of them. */
      report(PATH_ONE, peer,
             1e9 * (seen.seconds / seen.restarts - (delays(peer) ? least_delay / peers[peer].together : 0)));
      break;
    case MANY: report(RATE_MANY, peer, seen.restarts / seen.seconds); break;
    case IDLE: report(SHARE_IDLE, peer, share); break;
    case FED: report(SHARE_FED, peer, share); break;
    default:
      report(SHARE_CAPPED, peer, share);
      report(SHARE_AT_DEFAULT, peer, 100 * seen.cpu_seconds / seen.restarts / default_delay);
  }
  return EXIT_SUCCESS;
}

static void run_one(int kind, int peer, int round) {
  char number[16], count[32], window[32], complaint[128];
  char *argv[] = {"/proc/self/exe", "--child", (char *)kinds[kind].name, number, count, window, NULL};
  const long together = kind == ONE ? peers[peer].together : kinds[kind].count;
  snprintf(number, sizeof number, "%d", peer);
  snprintf(count, sizeof count, "%ld", kind == MANY ? (long)peers[peer].many : together);
  snprintf(window, sizeof window, "%ld", kinds[kind].window);
  snprintf(complaint, sizeof complaint, "bench-supervision: %s of \"%s\"", kinds[kind].name, peers[peer].name);
  run_program(argv, complaint, round);
}

static void run_round(int round) {
  int kind_order[KINDS], peer_order[PEERS];
  shuffle(kind_order, KINDS);
  for (int i = 0; i < KINDS; i++) {
    const int kind = kind_order[i];
    shuffle(peer_order, PEERS);
    if (kinds[kind].few > 0 && round >= kinds[kind].few) continue;
    for (int j = 0; j < PEERS; j++)
      if (has(peer_order[j], kind) && (has_otp || peers[peer_order[j]].program != OTP)) run_one(kind, peer_order[j], round);
  }
}

static void print_table(void) {
  static const struct {
    int measure, kind;
    const char *title;
    enum unit unit;
    double aim;
  } sections[] = {
      {RATE_ONE, ONE, "restarts a second of one that fails at once, after the least delay there is (0.75 to 1 ms)", RATE, 0},
      {PATH_ONE, ONE, "time of a restart, without the delay asked for; x: of the loop that sleeps as long", TIME, 0},
      {CPU_ONE, ONE, "CPU of a restart, host and child; x: of the loop that sleeps as long", TIME, 0},
      {RATE_MANY, MANY, "restarts a second of a hundred that fail at once, side by side (of what has a process: twenty)", RATE, 0},
      {SHARE_IDLE, IDLE, "a thousand with nothing to do, share of a core", PERCENT, 0.1},
      {SHARE_FED, FED, "a thousand, each woken once a second to feed its watchdog of 3 s, share of a core", PERCENT, 0},
      {SHARE_CAPPED, CAPPED, "one that fails within 1 ms for ever, delay at a cap of 100 ms, share of a core", PERCENT, 0},
      {SHARE_AT_DEFAULT, CAPPED, "the same at the default cap, 30 s, by arithmetic: CPU of a restart a mean delay", PERCENT, 1},
  };
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
    const int measure = sections[i].measure, kind = sections[i].kind, few = kinds[kind].few;
    printf("\n%s", sections[i].title);
    if (few > 0) printf(" (%d round%s)", few, few == 1 ? "" : "s");
    printf("\n");
    for (int peer = 0; peer < PEERS; peer++) {
      /* A life of 1 ms lasts up to 2: what is to be taken off is not known. */
      if (!has(peer, kind) || (measure == PATH_ONE && peer == OTP_PACED)) continue;
      const char *name = kind == IDLE || kind == FED ? peers[peer].idle_name : peers[peer].name;
      const double aim = peers[peer].program == SUPERVISED && !quick ? sections[i].aim : 0;
      const int by_itself = sections[i].unit != TIME;
      const struct row row = {name, measure, peer, measure, by_itself ? peer : peers[peer].floor, sections[i].unit, aim};
      if (peers[peer].program == OTP && !has_otp)
        printf("  %-46s  no escript here (Debian's erlang-base: make deps-otp)\n", name);
      else
        print_row(&row);
    }
  }
}

static int usage(void) {
  fprintf(stderr, "usage: bench-supervision [--quick] [--rounds N]\n"
                  "       bench-supervision --child one|many|idle|fed|capped PEER COUNT MS\n");
  return 2;
}

int main(int argc, char **argv) {
  if (argc == 6 && strcmp(argv[1], "--child") == 0) {
    const int peer = atoi(argv[3]);
    const long count = atol(argv[4]), window = atol(argv[5]);
    alarm(120); /* a safety net: nothing here may hang for ever */
    for (int kind = 0; kind < KINDS; kind++)
      if (strcmp(argv[2], kinds[kind].name) == 0 && peer >= 0 && peer < PEERS && count > 0 && window > 0)
        return measure_peer(kind, peer, count, window);
    return usage();
  }
  rounds = 7;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--quick") == 0) {
      quick = rounds = 1;
      for (int kind = 0; kind < KINDS; kind++) {
        kinds[kind].window = 100;
        if (kinds[kind].count > 1) kinds[kind].count = 20;
      }
    } else if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0) {
      rounds = atoi(argv[++i]);
    } else {
      return usage();
    }
  }
  if (rounds < 1 || rounds > MAX_ROUNDS) return usage();
  for (int kind = 0; kind < KINDS; kind++)
    if (kinds[kind].few > rounds) kinds[kind].few = rounds;
  has_otp = system("command -v escript >/dev/null 2>&1") == 0;
  begin_rounds("'s supervision");
  for (int round = 0; round < rounds; round++) run_round(round);
  print_table();
  end_rounds();
  return failed;
}
