/* world.h: what every case about process pods stands on: assertions, memory shared between processes, a look at the
 * processes of the system.
 *
 *   TEST(name)     a case; the runner gives it a process of its own below a subreaper (runner.c)
 *   HOST(name)     a program that hosts pods itself: this executable with `--host name`; exports and asks as a host must
 *   PROGRAM(name)  a plain program for commands: this executable with `--do name ...`; never calls the library unless it
 *                  wants to
 *   EXPORTS(name)  makes and exports a runtime, before main asks whether it is a pod's child
 *
 * All processes of a case see the same memory from world_alloc(): a file that each maps at its start. Events in it are
 * futexes, so that a case waits for what happens in a child as it waits for what happens here. No case sleeps to wait. */
#ifndef PROCESS_WORLD_H
#define PROCESS_WORLD_H

#include <podkeep.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* --- Cases, hosts, programs -------------------------------------------------------------------------------------- */

typedef struct entry {
  const char *kind, *name;
  void (*body)(void);
  int flags, limit_s;
  struct entry *next;
} entry;

enum {
  PLAIN = 0,
  COLD = 1,      /* no warm-up; its last look allows the library's own threads and descriptors */
  NO_EXPORT = 2, /* main does not export the runtimes */
  NO_ASK = 4     /* main does not call podkeep_child_run; in a pod's child the body begins anew */
};

void entry_register(entry *e);
entry *entry_find(const char *kind, const char *name);
entry *entry_first(void);

#define ENTRY_(kind_, name_, flags_, limit_)                                                                       \
  static void name_(void);                                                                                         \
  static entry entry_##name_ = {kind_, #name_, name_, flags_, limit_, NULL};                                       \
  __attribute__((constructor)) static void register_##name_(void) { entry_register(&entry_##name_); }              \
  static void name_(void)
#define TEST_WITH(name_, flags_, limit_) ENTRY_("case", name_, flags_, limit_)
#define TEST(name_) TEST_WITH(name_, PLAIN, 60)
#define HOST(name_) ENTRY_("host", name_, PLAIN, 0)
#define PROGRAM(name_) ENTRY_("do", name_, PLAIN, 0)
#define EXPORTS(name_) ENTRY_("exports", name_, PLAIN, 0) /* done by main in each process that may be a host or a child */

extern int arg_count;   /* behind the name, of this process */
extern char **arg_list; /* NULL-ended */
__attribute__((noreturn, format(printf, 1, 2))) void skip(const char *format, ...); /* ends the case; shown, not counted */
__attribute__((format(printf, 1, 2))) void note(const char *format, ...);           /* a figure, shown beside the case */

/* --- Assertions: the first that fails ends the process it stands in ------------------------------------------------ */

__attribute__((noreturn, format(printf, 3, 4))) void check_failed(const char *file, int line, const char *format, ...);
void check_int(const char *file, int line, const char *what, long long got, long long want);
void check_status(const char *file, int line, const char *what, podkeep_status got, podkeep_status want);
void check_str(const char *file, int line, const char *what, const char *got, const char *want);
void check_has(const char *file, int line, const char *what, const char *text, const char *part);
void check_hasnt(const char *file, int line, const char *what, const char *text, const char *part);
void check_below(const char *file, int line, const char *what, int64_t got, int64_t limit);

#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, "not so: %s", #cond))
#define CHECK_INT(expr, want) check_int(__FILE__, __LINE__, #expr, (long long)(expr), (long long)(want))
#define CHECK_STATUS(expr, want) check_status(__FILE__, __LINE__, #expr, (expr), (want))
#define CHECK_OK(expr) CHECK_STATUS(expr, PODKEEP_OK)
#define CHECK_STR(expr, want) check_str(__FILE__, __LINE__, #expr, (expr), (want))
#define CHECK_HAS(text, part) check_has(__FILE__, __LINE__, #text, (text), (part)) /* letter case does not matter */
#define CHECK_HASNT(text, part) check_hasnt(__FILE__, __LINE__, #text, (text), (part))
#define CHECK_BELOW(ms, limit) check_below(__FILE__, __LINE__, #ms, (ms), (limit))

/* For what has no event to wait for (a process gone, a file of /proc): looks again each millisecond. */
#define UNTIL(cond)                                                                                          \
  do {                                                                                                       \
    int64_t until_ = now_ms() + LIMIT_MS;                                                                    \
    while (!(cond)) {                                                                                        \
      if (now_ms() > until_) check_failed(__FILE__, __LINE__, "waited too long for: %s", #cond);             \
      pass_ms(1);                                                                                            \
    }                                                                                                        \
  } while (0)

/* --- Time ------------------------------------------------------------------------------------------------------------ */

double slow_factor(void);   /* PODKEEP_TEST_SLOW, 1 or more */
int64_t slow_ms(int64_t ms);
#define LIMIT_MS slow_ms(20000)
#define SHORT_MS slow_ms(100) /* long enough to tell "at once" from "not yet" */
/* How much later than grace and kill_after say an end by force may come: more than a machine stands still at a time, and less than
 * what would be without them, for ever or the default grace of 5 s. */
enum { SLACK = 3000 };
int64_t now_ms(void);       /* CLOCK_MONOTONIC */
uint64_t now_ns(void);
void pass_ms(int64_t ms);   /* lets time pass, where time itself is the subject */
void pass_us(int64_t us);
uint32_t random_below(uint32_t n);
void random_seed(uint32_t seed);

/* --- Memory shared by all processes of the case ----------------------------------------------------------------------- */

void world_create(const char *directory); /* by the runner */
void world_attach(void);                  /* by every process of the case, first of all */
const char *world_directory(void);        /* the case's own, removed behind it */
const char *world_path(const char *name); /* a file in it; the caller's until four calls later */
void *world_alloc(size_t size);           /* zeroed, 16-byte aligned, lives as long as the case */
size_t world_offset(const void *at);      /* the same in each process */
void *world_at(size_t offset);
const char *self_path(void);              /* of this executable */
/* A function of this program as the distance from a fixed one: the same number in each process, wherever it is mapped. */
intptr_t function_number(void (*function)(void));
void (*function_numbered(intptr_t number))(void);

/* Small numbers and texts that everyone of the case knows by place; what each means is the case's business. */
typedef struct event { uint32_t set; } event;
typedef struct board {
  event events[16];
  int64_t numbers[64];
  int64_t bodies; /* how often the case's body was entered */
  char text[1 << 16];
} board;
board *the_board(void);
#define B (the_board())
#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define STORE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_SEQ_CST)
#define ADD(x, v) __atomic_add_fetch(&(x), (v), __ATOMIC_SEQ_CST)

void event_set(event *e); /* async-signal-safe */
bool event_is_set(const event *e);
bool event_wait_for(event *e, int64_t ms);
void event_wait_at(event *e, const char *what, const char *file, int line);
#define event_wait(e) event_wait_at((e), #e, __FILE__, __LINE__)

/* --- Processes --------------------------------------------------------------------------------------------------------- */

bool alive(pid_t pid);              /* there, and no zombie */
bool group_alive(pid_t group);      /* one of it is alive */
char process_letter(pid_t pid);     /* R, S, D, T, Z ...; 0: gone */
int children_of(pid_t parent, const char *text, pid_t *one); /* how many have it in their command line; one of them, or 0 */
pid_t child_of(pid_t parent, const char *text);
int processes_with(const char *text); /* how many have it in their command line (zombies have none) */
/* Starts this executable as a host or program; *_argv are its words behind the name, NULL-ended, or NULL. */
pid_t start_self(const char *kind, const char *name, const char *const words[]);
int wait_code(pid_t pid, int64_t limit_ms); /* exit code, 128 + signal, -1: not within the limit */
void read_file(const char *path, char *into, size_t size); /* "" when there is none */
void write_file(const char *path, const char *text);
int open_descriptors(void);
int free_port(void);                /* of 127.0.0.1, free a moment ago */
int connect_to(int port);           /* a descriptor, or -1 at once */

void threads_now(char *into, size_t size);
void world_baseline(void);
void world_close(bool cold); /* threads, descriptors and children are back at the measure, or the case fails */

#endif
