/* world.c: see world.h. Assertions, time, shared memory. The look at processes is in processes.c. */
#include "world.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WORLD_SIZE ((size_t)8 << 20)
#define DIRECTORY_VARIABLE "PODKEEP_TEST_DIRECTORY"

typedef struct world_header {
  size_t used;
  board board;
} world_header;

static world_header *world;
static uint32_t random_state = 1;

/* --- Cases, assertions ------------------------------------------------------------------------------------------------ */

static entry *entries;
int arg_count;
char **arg_list;

void entry_register(entry *e) {
  e->next = entries;
  entries = e;
}
entry *entry_first(void) { return entries; }
entry *entry_find(const char *kind, const char *name) {
  for (entry *e = entries; e != NULL; e = e->next)
    if (strcmp(e->kind, kind) == 0 && strcmp(e->name, name) == 0) return e;
  return NULL;
}

/* One write a line: processes of a case may speak at the same time. On the runner's descriptor, whatever the case has made
 * of its own stderr. */
static void say(const char *text) {
  const char *wanted = getenv("PODKEEP_TEST_OUTPUT");
  int fd = wanted ? open(wanted, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
  if (write(fd >= 0 ? fd : 2, text, strlen(text)) < 0) _exit(3);
  if (fd >= 0) close(fd);
}

void check_failed(const char *file, int line, const char *format, ...) {
  char last[2048], text[8192], all[12000]; /* the last error is taken first: what follows must not change it */
  snprintf(last, sizeof last, "%s", podkeep_last_error());
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  const char *base = strrchr(file, '/');
  snprintf(all, sizeof all, "%s:%d: %s\n  last error of this thread: \"%s\"\n", base ? base + 1 : file, line, text, last);
  say(all);
  _exit(1);
}
void skip(const char *format, ...) {
  char text[1000] = "skipped: ";
  va_list args;
  va_start(args, format);
  vsnprintf(text + 9, sizeof text - 11, format, args);
  va_end(args);
  strcat(text, "\n");
  say(text);
  _exit(77);
}
void note(const char *format, ...) {
  char text[1000] = "note: ";
  va_list args;
  va_start(args, format);
  vsnprintf(text + 6, sizeof text - 8, format, args);
  va_end(args);
  strcat(text, "\n");
  say(text);
}
void check_int(const char *file, int line, const char *what, long long got, long long want) {
  if (got != want) check_failed(file, line, "%s is %lld, not %lld", what, got, want);
}
void check_below(const char *file, int line, const char *what, int64_t got, int64_t limit) {
  if (got >= limit) check_failed(file, line, "%s is %lld, not below %lld", what, (long long)got, (long long)limit);
}
void check_status(const char *file, int line, const char *what, podkeep_status got, podkeep_status want) {
  if (got != want) check_failed(file, line, "%s is %s, not %s", what, podkeep_status_name(got), podkeep_status_name(want));
}
void check_str(const char *file, int line, const char *what, const char *got, const char *want) {
  if (got == NULL || strcmp(got, want) != 0)
    check_failed(file, line, "%s is \"%s\", not \"%s\"", what, got ? got : "(NULL)", want);
}
static bool has(const char *text, const char *part) {
  size_t n = strlen(part);
  for (const char *at = text; at != NULL && *at != '\0'; at++) {
    size_t i = 0;
    while (i < n && tolower((unsigned char)at[i]) == tolower((unsigned char)part[i])) i++;
    if (i == n) return true;
  }
  return n == 0 && text != NULL;
}
void check_has(const char *file, int line, const char *what, const char *text, const char *part) {
  if (!has(text, part)) check_failed(file, line, "%s has no \"%s\" in it: \"%s\"", what, part, text ? text : "(NULL)");
}
void check_hasnt(const char *file, int line, const char *what, const char *text, const char *part) {
  if (has(text, part)) check_failed(file, line, "%s has \"%s\" in it: \"%s\"", what, part, text);
}

/* --- Time ---------------------------------------------------------------------------------------------------------------- */

double slow_factor(void) {
  const char *text = getenv("PODKEEP_TEST_SLOW");
  double factor = text ? atof(text) : 1.0;
  return factor < 1.0 ? 1.0 : factor;
}
int64_t slow_ms(int64_t ms) { return (int64_t)((double)ms * slow_factor()); }
uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
int64_t now_ms(void) { return (int64_t)(now_ns() / 1000000u); }
void pass_us(int64_t us) {
  struct timespec t = {us / 1000000, (us % 1000000) * 1000};
  while (nanosleep(&t, &t) != 0 && errno == EINTR) {}
}
void pass_ms(int64_t ms) { pass_us(ms * 1000); }
void random_seed(uint32_t seed) { random_state = seed ? seed : 1; }
uint32_t random_below(uint32_t n) {
  uint32_t x = random_state; /* xorshift32 */
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  random_state = x;
  return n ? x % n : 0;
}

/* --- Shared memory ---------------------------------------------------------------------------------------------------- */

static void world_map(const char *directory, int flags) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/world", directory);
  int fd = open(path, O_RDWR | O_CLOEXEC | flags, 0666);
  if (fd < 0 || (flags && ftruncate(fd, (off_t)WORLD_SIZE) != 0)) {
    perror(path);
    _exit(2);
  }
  void *at = mmap(NULL, WORLD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (at == MAP_FAILED) {
    perror("mmap");
    _exit(2);
  }
  world = at;
}
void world_create(const char *directory) {
  world_map(directory, O_CREAT | O_EXCL);
  world->used = (sizeof *world + 15) & ~(size_t)15;
  munmap(world, WORLD_SIZE);
  setenv(DIRECTORY_VARIABLE, directory, 1);
}
const char *world_directory(void) {
  const char *directory = getenv(DIRECTORY_VARIABLE);
  if (directory == NULL) {
    fprintf(stderr, "%s is not set: is this process started by the runner?\n", DIRECTORY_VARIABLE);
    _exit(2);
  }
  return directory;
}
void world_attach(void) { world_map(world_directory(), 0); }

const char *world_path(const char *name) {
  static char paths[4][PATH_MAX];
  static unsigned turn;
  char *path = paths[turn++ % 4];
  snprintf(path, PATH_MAX, "%s/%s", world_directory(), name);
  return path;
}
void *world_alloc(size_t size) {
  size_t at = __atomic_fetch_add(&world->used, (size + 15) & ~(size_t)15, __ATOMIC_SEQ_CST);
  if (at + size > WORLD_SIZE) check_failed(__FILE__, __LINE__, "the case's shared memory is full");
  return (char *)world + at;
}
size_t world_offset(const void *at) { return (size_t)((const char *)at - (const char *)world); }
void *world_at(size_t offset) { return (char *)world + offset; }
board *the_board(void) { return &world->board; }

static void anchor(void) {}
intptr_t function_number(void (*function)(void)) { return (intptr_t)function - (intptr_t)anchor; }
void (*function_numbered(intptr_t number))(void) { return (void (*)(void))((intptr_t)anchor + number); }

const char *self_path(void) {
  static char path[PATH_MAX];
  if (path[0] == '\0') {
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) check_failed(__FILE__, __LINE__, "no /proc/self/exe");
  }
  return path;
}

/* --- Events ------------------------------------------------------------------------------------------------------------ */

void event_set(event *e) {
  int saved = errno;
  STORE(e->set, 1u);
  syscall(SYS_futex, &e->set, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
  errno = saved;
}
bool event_is_set(const event *e) { return LOAD(e->set) != 0; }
bool event_wait_for(event *e, int64_t ms) {
  int64_t until = now_ms() + ms;
  while (!event_is_set(e)) {
    int64_t left = until - now_ms();
    if (left <= 0) return false;
    struct timespec t = {left / 1000, (left % 1000) * 1000000};
    syscall(SYS_futex, &e->set, FUTEX_WAIT, 0, &t, NULL, 0);
  }
  return true;
}
void event_wait_at(event *e, const char *what, const char *file, int line) {
  if (!event_wait_for(e, LIMIT_MS)) check_failed(file, line, "waited too long for: %s", what);
}
