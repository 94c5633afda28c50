/* world.c: see world.h. */
#include "world.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Where the shared memory is, in the case and in its children: above the program and whatever it grows, below all that
 * AddressSanitizer and valgrind keep for themselves. */
#define WORLD_AT ((void *)0x70000000)
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17; before, a hint: the address is looked at */
#endif
#define WORLD_SIZE ((size_t)8 << 20)
#define WORLD_PLACE "PODKEEP_TEST_WORLD" /* in the environment: the file behind it, for the children */

enum { UNFAILED, FAILING, HAS_FAILED };

typedef struct world_header {
  size_t used;
  uint32_t ticks;
  uint32_t random_state;
  test_host host;
  uint32_t failed;    /* an assertion in a child: its sentence is complete at HAS_FAILED */
  char failure[7000];
} world_header;

static world_header *world;
static bool is_child;

/* --- Assertions --------------------------------------------------------------------------------------------------- */

/* In a child: leaves word in the world. The case looks for it wherever it waits and when it fails itself. */
static void leave_word(const char *sentence) {
  uint32_t none = UNFAILED;
  if (!__atomic_compare_exchange_n(&world->failed, &none, FAILING, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return;
  snprintf(world->failure, sizeof world->failure, "%s", sentence);
  STORE(world->failed, HAS_FAILED);
}

void check_failed(const char *file, int line, const char *format, ...) {
  char last[2048]; /* taken first: what follows must not change it */
  snprintf(last, sizeof last, "%s", podkeep_last_error());
  char text[4096], sentence[7000];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  snprintf(sentence, sizeof sentence, "%s:%d: %s\n  last error of this thread: \"%s\"\n", file, line, text, last);
  if (is_child) {
    leave_word(sentence);
  } else {
    if (world != NULL && LOAD(world->failed) == HAS_FAILED) fprintf(stderr, "in the child: %s", world->failure);
    fputs(sentence, stderr);
    fflush(NULL);
  }
  _exit(1);
}

void world_heed(void) {
  if (!is_child && LOAD(world->failed) == HAS_FAILED) check_failed(__FILE__, __LINE__, "an assertion in a child has failed");
}

void check_int(const char *file, int line, const char *what, long long got, long long want) {
  if (got != want) check_failed(file, line, "%s is %lld, not %lld", what, got, want);
}

void check_status(const char *file, int line, const char *what, podkeep_status got, podkeep_status want) {
  if (got != want) check_failed(file, line, "%s is %s, not %s", what, podkeep_status_name(got), podkeep_status_name(want));
}

void check_str(const char *file, int line, const char *what, const char *got, const char *want) {
  if (got == NULL || strcmp(got, want) != 0)
    check_failed(file, line, "%s is \"%s\", not \"%s\"", what, got ? got : "(NULL)", want);
}

void check_has(const char *file, int line, const char *what, const char *text, const char *part) {
  size_t n = strlen(part);
  for (const char *at = text; at != NULL && *at != '\0'; at++) {
    size_t i = 0;
    while (i < n && tolower((unsigned char)at[i]) == tolower((unsigned char)part[i])) i++;
    if (i == n) return;
  }
  check_failed(file, line, "%s has no \"%s\" in it: \"%s\"", what, part, text ? text : "(NULL)");
}

void until_failed(const char *file, int line, const char *what) {
  check_failed(file, line, "waited too long for: %s", what);
}

/* --- Time --------------------------------------------------------------------------------------------------------- */

double slow_factor(void) {
  static double factor; /* read once; a race between two first readers writes the same value */
  if (factor < 1.0) {
    const char *text = getenv("PODKEEP_TEST_SLOW");
    double read = text ? atof(text) : 1.0;
    factor = read < 1.0 ? 1.0 : read;
  }
  return factor;
}

int64_t slow_ms(int64_t ms) { return (int64_t)((double)ms * slow_factor()) * (world_host() == IN_PROCESS ? 2 : 1); }

int rounds(int n) {
  int fewer = (int)(n / slow_factor()) / (world_host() == IN_PROCESS ? 8 : 1);
  return fewer < 3 ? 3 : fewer;
}

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t now_ms(void) { return (int64_t)(now_ns() / 1000000u); }

void pass_us(long us) {
  struct timespec t = {us / 1000000, (us % 1000000) * 1000};
  while (nanosleep(&t, &t) != 0 && errno == EINTR) {}
}

void pass_ms(int64_t ms) { pass_us((long)ms * 1000); }

void in_time_once(bool (*in_time)(void)) {
  int tries = slow_factor() > 1 ? 3 : 15;
  for (int i = 0; i < tries; i++)
    if (in_time()) return;
  if (slow_factor() <= 1) check_failed(__FILE__, __LINE__, "in time in none of %d tries", tries);
}

uint32_t random_below(uint32_t n) {
  uint32_t x = LOAD(world->random_state); /* xorshift32; two threads at a time may draw the same number */
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  STORE(world->random_state, x);
  return n ? x % n : 0;
}

/* --- Shared memory, events ------------------------------------------------------------------------------------------ */

void *world_alloc(size_t size) {
  size_t at = __atomic_fetch_add(&world->used, (size + 15) & ~(size_t)15, __ATOMIC_SEQ_CST);
  if (at + size > WORLD_SIZE) check_failed(__FILE__, __LINE__, "the case's shared memory is full");
  return (char *)world + at;
}

uint32_t tick(void) { return ADD(world->ticks, 1u); }

static void futex_wait(uint32_t *word, uint32_t seen, int64_t ms) {
  struct timespec t = {ms / 1000, (ms % 1000) * 1000000};
  syscall(SYS_futex, word, FUTEX_WAIT, seen, &t, NULL, 0);
}

static void futex_wake(uint32_t *word) {
  int saved = errno;
  syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
  errno = saved;
}

void event_set(event *e) {
  STORE(e->set, 1u);
  futex_wake(&e->set);
}

void event_clear(event *e) { STORE(e->set, 0u); }

bool event_is_set(const event *e) { return LOAD(e->set) != 0; }

bool event_wait_for(event *e, int64_t ms) {
  int64_t until = now_ms() + ms;
  while (!event_is_set(e)) {
    int64_t left = until - now_ms();
    if (left <= 0) return false;
    futex_wait(&e->set, 0, left < 100 ? left : 100); /* to look now and then whether a child has failed */
    world_heed();
  }
  return true;
}

void event_wait_at(event *e, const char *what, const char *file, int line) {
  if (!event_wait_for(e, LIMIT_MS)) until_failed(file, line, what);
}

void barrier_wait(barrier *b, uint32_t parties) {
  uint32_t round = LOAD(b->round);
  if (ADD(b->arrived, 1u) == parties) {
    STORE(b->arrived, 0u);
    ADD(b->round, 1u);
    futex_wake(&b->round);
    return;
  }
  int64_t until = now_ms() + LIMIT_MS;
  while (LOAD(b->round) == round) {
    if (now_ms() > until) until_failed(__FILE__, __LINE__, "all parties of a barrier");
    futex_wait(&b->round, round, 100);
    world_heed();
  }
}

void history_add(history *h, const char *word) {
  uint32_t at = ADD(h->count, 1u) - 1;
  if (at < sizeof h->words / sizeof h->words[0]) snprintf(h->words[at], sizeof h->words[at], "%s", word);
}

const char *history_text(const history *h) {
  static __thread char text[48 * 17];
  size_t used = 0;
  text[0] = '\0';
  for (uint32_t i = 0; i < LOAD(h->count) && i < 48; i++)
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? " " : "", h->words[i]);
  return text;
}

/* --- Threads -------------------------------------------------------------------------------------------------------- */

int64_t own_tid(void) { return (int64_t)syscall(SYS_gettid); }

static void *worker_main(void *arg) {
  worker *w = arg;
  STORE(w->tid, own_tid());
  event_set(&w->started);
  w->does(w->arg);
  event_set(&w->done);
  return NULL;
}

void worker_start(worker *w, void (*does)(void *), void *arg) {
  memset(w, 0, sizeof *w);
  w->does = does;
  w->arg = arg;
  if (pthread_create(&w->thread, NULL, worker_main, w) != 0) check_failed(__FILE__, __LINE__, "no thread for the case");
  event_wait(&w->started);
}

void worker_join(worker *w) {
  event_wait(&w->done);
  pthread_join(w->thread, NULL);
}

/* Reads a small file of /proc, without stdio: it is called in loops. */
static ssize_t read_small(const char *path, char *into, size_t size) {
  int saved = errno;
  FILE *f = fopen(path, "re");
  size_t n = f ? fread(into, 1, size - 1, f) : 0;
  if (f) fclose(f);
  into[n] = '\0';
  errno = saved;
  return f ? (ssize_t)n : -1;
}

bool thread_sleeps(int64_t tid) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%lld/stat", (long long)tid); /* a thread of whatever process */
  if (read_small(path, text, sizeof text) <= 0) return false;
  const char *after = strrchr(text, ')'); /* the name may hold spaces and parentheses */
  return after != NULL && after[1] == ' ' && after[2] == 'S';
}

/* Counts the threads whose name begins with `prefix` (exactly it, with `whole`) and, with `rest`, all others. */
static int count_threads(const char *prefix, bool whole, int *rest, char *names, size_t size) {
  int found = 0, others = 0;
  size_t used = 0;
  if (size) names[0] = '\0';
  DIR *d = opendir("/proc/self/task");
  if (d == NULL) check_failed(__FILE__, __LINE__, "no /proc/self/task");
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    char path[300], name[64];
    if (e->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
    if (read_small(path, name, sizeof name) <= 0) continue; /* it has just gone */
    name[strcspn(name, "\n")] = '\0';
    if (whole ? strcmp(name, prefix) == 0 : strncmp(name, prefix, strlen(prefix)) == 0) found++;
    else others++;
    if (used < size) used += (size_t)snprintf(names + used, size - used, " %s", name);
  }
  closedir(d);
  if (rest) *rest = others;
  return found;
}

int threads_named(const char *name) { return count_threads(name, true, NULL, NULL, 0); }

/* --- The world ------------------------------------------------------------------------------------------------------ */

typedef struct look {
  int own_threads;     /* all but the library's: the case's and every S */
  int podkeep_threads; /* "podkeep...": the keeper, the log's, those for hooks */
  int descriptors;
} look;

static look baseline;

static int count_descriptors(char *names, size_t size) {
  int n = 0;
  size_t used = 0;
  if (size) names[0] = '\0';
  DIR *d = opendir("/proc/self/fd");
  if (d == NULL) check_failed(__FILE__, __LINE__, "no /proc/self/fd");
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    char path[300], target[200];
    if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(d)) continue;
    n++;
    snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
    ssize_t len = size ? readlink(path, target, sizeof target - 1) : -1;
    if (len >= 0 && used < size) {
      target[len] = '\0';
      used += (size_t)snprintf(names + used, size - used, " %s=%s", e->d_name, target);
    }
  }
  closedir(d);
  return n;
}

static look look_around(char *threads, size_t threads_size, char *descriptors, size_t descriptors_size) {
  look l;
  l.podkeep_threads = count_threads("podkeep", false, &l.own_threads, threads, threads_size);
  l.descriptors = count_descriptors(descriptors, descriptors_size);
  return l;
}

static void map_world(int fd) {
  void *at = mmap(WORLD_AT, WORLD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
  if (at != WORLD_AT) {
    perror("mmap of the case's shared memory");
    _exit(1);
  }
  world = at;
}

void world_open(const char *case_name, test_host host) {
  char place[64];
  int fd = memfd_create("world", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, (off_t)WORLD_SIZE) != 0) {
    perror("memfd");
    _exit(1);
  }
  map_world(fd);
  world->used = (sizeof *world + 15) & ~(size_t)15;
  world->host = host;
  for (const char *c = case_name; *c != '\0'; c++) world->random_state = world->random_state * 31u + (unsigned char)*c;
  if (world->random_state == 0) world->random_state = 1;
  snprintf(place, sizeof place, "/proc/%d/fd/%d", (int)getpid(), fd);
  setenv(WORLD_PLACE, place, 1);
}

void world_enter(void) {
  const char *place = getenv(WORLD_PLACE);
  int fd = place ? open(place, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) {
    perror(place ? place : WORLD_PLACE);
    _exit(1);
  }
  map_world(fd);
  close(fd);
  is_child = true;
}

bool world_is_child(void) { return is_child; }

test_host world_host(void) { return world != NULL ? world->host : IN_THREAD; }

void world_baseline(void) {
  /* A thread of the library bears the name of its maker until it has named itself, and an S may still be on its way out. */
  UNTIL((baseline = look_around(NULL, 0, NULL, 0)).own_threads == 1);
}

static bool world_is_clean(bool cold) {
  look l = look_around(NULL, 0, NULL, 0);
  if (l.own_threads > baseline.own_threads) return false;
  /* The library's own: no more than the measure had (surplus threads for hooks go after a while). Before the first pod
   * there was none of them and none of their descriptors, so a cold case counts S and the children only. */
  if (!cold && (l.podkeep_threads > baseline.podkeep_threads || l.descriptors > baseline.descriptors)) return false;
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == -1 && errno == ECHILD;
}

void world_close(bool cold) {
  world_heed();
  int64_t until = now_ms() + LIMIT_MS;
  while (!world_is_clean(cold)) { /* a thread's end has no event we could wait for: the kernel's may outlive the final state */
    if (now_ms() > until) {
      char threads[2000], descriptors[4000];
      look l = look_around(threads, sizeof threads, descriptors, sizeof descriptors);
      check_failed(__FILE__, __LINE__,
                   "the world is not clean: %d threads of pods and the case (%d), %d of the library (%d), %d descriptors (%d), "
                   "or a child is left\n  threads:%s\n  descriptors:%s",
                   l.own_threads, baseline.own_threads, l.podkeep_threads, baseline.podkeep_threads, l.descriptors,
                   baseline.descriptors, threads, descriptors);
    }
    pass_ms(1);
  }
}
