/* A small runner: every case is a process of its own with a limit, so a crash, a hang or a broken limit of one case
 * is one failure and no more.
 *
 *   static void name(void) { ... CHECK(x); ... }
 *   int main(int argc, char **argv) { static const struct test_case all[] = { CASE(name), ... }; return RUN(all); }
 *
 * With names as arguments only those cases run; `-l` lists them. PODKEEP_TEST_SLOW=n stretches the limits (valgrind,
 * sanitizers), PODKEEP_TEST_FEWER=n divides the counts of the loops. Last line: "N passed, N failed". */
#ifndef FAULTS_CHECK_H
#define FAULTS_CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <podkeep.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct test_case {
  const char *name;
  void (*run)(void);
  int limit_s;
};
#define CASE(f) { #f, f, 20 }
#define CASE_LIMIT(f, seconds) { #f, f, seconds }
#define RUN(cases) run_cases(argc, argv, cases, (int)(sizeof(cases) / sizeof((cases)[0])))
int run_cases(int argc, char **argv, const struct test_case *cases, int count);

/* A failed check ends the process it stands in, from whatever thread; in a forked child its parent sees status 1. */
#define CHECK(x) ((x) ? (void)0 : check_failed(__FILE__, __LINE__, #x))
#define EQ(a, b) check_eq(__FILE__, __LINE__, #a " == " #b, (long long)(a), (long long)(b))
#define IS(call, status) check_status(__FILE__, __LINE__, #call, (call), (status))
#define STR(a, b) check_str(__FILE__, __LINE__, #a, (a), (b))
/* The calling thread's last error holds this piece of text. */
#define SAYS(piece) check_says(__FILE__, __LINE__, (piece))
void check_say(const char *file, int line, const char *text, const char *more);
void check_failed(const char *file, int line, const char *what);
void check_eq(const char *file, int line, const char *what, long long got, long long want);
void check_status(const char *file, int line, const char *call, podkeep_status got, podkeep_status want);
void check_str(const char *file, int line, const char *what, const char *got, const char *want);
void check_says(const char *file, int line, const char *piece);
void skip(const char *why); /* ends the case; it counts as neither passed nor failed and is shown */

int fewer(int count);   /* count divided by PODKEEP_TEST_FEWER, at least 2 */
int slow(int amount);   /* amount times PODKEEP_TEST_SLOW */
int64_t now_ms(void);   /* CLOCK_MONOTONIC */
int under_tool(void);   /* valgrind or a sanitizer watches: address space and speed are not the program's own */

/* Waits until cond holds; the case fails when it does not within ten (slow) seconds. The poll is for what has no event,
 * such as a kernel thread leaving /proc. */
#define UNTIL(cond)                                                                                                   \
  do {                                                                                                                \
    int64_t until_end_ = now_ms() + slow(10000);                                                                      \
    while (!(cond)) {                                                                                                 \
      if (now_ms() > until_end_) check_failed(__FILE__, __LINE__, "in time: " #cond);                                 \
      nap();                                                                                                          \
    }                                                                                                                 \
  } while (0)
void nap(void); /* a millisecond */

/* Waits for a child of this case and gives its exit code, or 128 + the signal, or -1 after `limit_ms` (then killed), or
 * -2: no such child. */
int child_code(pid_t pid, int limit_ms);
/* Runs f in a forked child and gives the same. */
int in_child(void (*f)(void *), void *argument, int limit_ms);
/* Runs a program with arguments, NULL-ended, and gives the same; out (may be NULL) takes what it prints on stdout. */
int run_program(char *const argv[], char *out, size_t out_size, int limit_ms);

int count_threads(void);     /* of this process */
int count_descriptors(void); /* of this process */
long resident_kib(void);
int thread_named(const char *name); /* its kernel id, or 0 */
int own_tid(void);
/* A thread of this process lies in the kernel's futex wait, as in every call of the library that blocks. True, too, when that
 * is not to be seen: it is gone, or the kernel does not show it. */
int thread_waits(int tid);

#endif
