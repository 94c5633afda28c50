/* cases.h: how a case is written down, and in which hosts it holds.
 *
 * A case is a function; the runner gives each a process of its own, once for each host it holds in. Names begin with what
 * they check: L1..L15 for the promises of the contract, S1, S2, S5, S9 ... for its sections.
 *
 *   TEST(name) { ... }                                        in any host
 *   TEST_WITH(name, NOT_PROCESS(KICK)) { ... }                not where a reason is given
 *
 * Reasons stand below and nowhere else; `conformance --list-skipped` prints them with their cases, and README.md has
 * that list, word for word.
 */
#ifndef PODKEEP_TESTS_CASES_H
#define PODKEEP_TESTS_CASES_H

#include <stdbool.h>

/* Where the pods of a run are: in a thread, in a child process, in a thread of the case's that calls podkeep_pod_run. */
typedef enum test_host { IN_THREAD, IN_PROCESS, IN_MAIN, TEST_HOSTS } test_host;

typedef struct test_case {
  const char *name;
  void (*body)(void);
  const char *not_in[TEST_HOSTS]; /* why it cannot apply there; NULL: it does */
  bool cold;                      /* no warm-up: the case sees the library's first steps; the last look allows for its threads */
  int exits;                      /* the program must end in the middle of it, with this status */
} test_case;

void test_register(test_case *c);

#define TEST_WITH(name_, ...)                                                                      \
  static void name_(void);                                                                         \
  static test_case case_##name_ = {.name = #name_, .body = name_, __VA_ARGS__};                    \
  __attribute__((constructor)) static void register_##name_(void) { test_register(&case_##name_); } \
  static void name_(void)
#define TEST(name_) TEST_WITH(name_, .cold = false)

#define NOT_THREAD(why) .not_in[IN_THREAD] = NO_##why
#define NOT_PROCESS(why) .not_in[IN_PROCESS] = NO_##why
#define NOT_MAIN(why) .not_in[IN_MAIN] = NO_##why

/* A thread and the caller of podkeep_pod_run, but no child. */
#define NO_HANDLES "a callback uses handles of the host, and a child has none of them"
#define NO_ABANDONED "a thread is let go, ABANDONED, and may come back; a child is killed instead"
#define NO_KICK "the kick is for threads; a child gets signals of its own"
#define NO_UNWINDING "a thread is unwound when it is ended from inside; a child is gone"
#define NO_OWN_THREADS "it looks at the threads, signals or memory that the host gives to S; a child has its own"
/* All but the caller of podkeep_pod_run. */
#define NO_EXIT "grace spent is the end of the program"
#define NO_LIBRARYS_S "it looks at a thread that the library makes; S is the caller's own"
/* Those that say of one host what the others have no need of. */
#define NO_CHILD "it is about a child"
#define NO_RUN "it is about podkeep_pod_run"
#define TEST_PROCESS(name_) TEST_WITH(name_, NOT_THREAD(CHILD), NOT_MAIN(CHILD))
#define TEST_MAIN(name_) TEST_WITH(name_, NOT_THREAD(RUN), NOT_PROCESS(RUN))

#endif
