/* The log callback: on a library thread, one call at a time, up to its level, dropped once; and a cold start of the library. */
#include "probe.h"

#include <stdio.h>
#include <string.h>

typedef struct book {
  uint32_t lines, at_a_time, too_many, of_pod, dropped, after_drop;
  int32_t highest;
  int64_t tid;
  event heard, gone, hold, held;
  bool holds;
  char pod[64];
} book;

static void note(int32_t level, const char *pod, const char *message, void *user_data) {
  book *b = user_data;
  if (ADD(b->at_a_time, 1u) > 1) ADD(b->too_many, 1u);
  if (LOAD(b->dropped)) ADD(b->after_drop, 1u);
  ADD(b->lines, 1u);
  CHECK(level >= 1 && level <= 4);
  CHECK(message != NULL && strlen(message) > 0);
  if (level > b->highest) b->highest = level;
  b->tid = own_tid();
  if (pod != NULL && strcmp(pod, b->pod) == 0) {
    ADD(b->of_pod, 1u);
    event_set(&b->heard);
  }
  if (b->holds && !event_is_set(&b->hold)) {
    event_set(&b->held);
    event_wait(&b->hold);
  }
  __atomic_sub_fetch(&b->at_a_time, 1u, __ATOMIC_SEQ_CST);
}

static void drop_book(void *user_data) {
  book *b = user_data;
  ADD(b->dropped, 1u);
  event_set(&b->gone);
}

static book *book_for(const char *pod) {
  book *b = world_alloc(sizeof *b);
  snprintf(b->pod, sizeof b->pod, "%s", pod);
  return b;
}

static void fail_a_pod(const char *name) {
  probe *p = probe_new(name);
  p->init.returns = 1;
  podkeep_pod *pod = probe_start(p);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(p);
}

TEST(S4_log__tells_of_a_failure) {
  book *b = book_for("unlucky");
  CHECK_OK(podkeep_set_log(note, 4, b, drop_book));
  fail_a_pod("unlucky");
  event_wait(&b->heard);
  CHECK(b->tid != own_tid());
  CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL));
  event_wait(&b->gone);
  CHECK_INT(b->dropped, 1);
}

TEST_WITH(S4_log__tells_of_an_abandoned_thread, NOT_PROCESS(ABANDONED), NOT_MAIN(EXIT)) {
  book *b = book_for("deserter");
  CHECK_OK(podkeep_set_log(note, 2, b, drop_book));
  probe *p = probe_new("deserter");
  p->options.grace_ms = 1;
  p->run.held = true;
  podkeep_pod *pod = probe_running(p);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_TIMEOUT);
  event_wait(&b->heard);
  event_set(&p->run.go);
  probe_free(p);
  CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL));
  event_wait(&b->gone);
}

static void live_and_fail(void *arg) {
  for (int i = 0; i < rounds(20); i++) {
    fail_a_pod(arg);
    probe *p = probe_new(arg);
    probe_running(p);
    probe_close(p, PODKEEP_OK);
  }
}

TEST(S4_log__one_at_a_time) {
  book *b = book_for("chatty");
  char name[] = "chatty";
  CHECK_OK(podkeep_set_log(note, 4, b, drop_book));
  for (int i = 0; i < rounds(40); i++) live_and_fail(name);
  CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL));
  event_wait(&b->gone);
  CHECK_INT(b->too_many, 0);
  CHECK(b->lines > 0);
}

TEST(S4_log__no_higher_than_asked) {
  for (int32_t level = 1; level <= 3; level++) {
    book *b = book_for("quiet");
    CHECK_OK(podkeep_set_log(note, level, b, drop_book));
    fail_a_pod("quiet");
    probe *p = probe_new("quiet");
    probe_running(p);
    probe_close(p, PODKEEP_OK);
    CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL));
    event_wait(&b->gone);
    CHECK(b->highest <= level);
  }
}

/* drop comes once, when the callback is replaced or removed, and no call after it. */
TEST(S4_log__dropped_once_and_silent_after) {
  for (int i = 0; i < rounds(20); i++) {
    book *one = book_for("noise"), *two = book_for("noise");
    CHECK_OK(podkeep_set_log(note, 4, one, drop_book));
    probe *p = probe_new("noise");
    probe_running(p);
    CHECK_OK(podkeep_set_log(note, 4, two, drop_book)); /* replaced under fire */
    probe_close(p, PODKEEP_OK);
    event_wait(&one->gone);
    fail_a_pod("noise");
    CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL));
    event_wait(&two->gone);
    fail_a_pod("noise");
    CHECK_INT(one->dropped + two->dropped, 2);
    CHECK_INT(one->after_drop + two->after_drop, 0);
  }
}

/* user_data is taken over from the first moment: refused, it is dropped before the call returns. */
TEST(S4_log__dropped_when_refused) {
  int32_t levels[] = {-1, 5, INT32_MAX, INT32_MIN};
  for (int i = 0; i < 4; i++) {
    book *b = book_for("none");
    CHECK_STATUS(podkeep_set_log(note, levels[i], b, drop_book), PODKEEP_ERR_INVALID_ARGUMENT);
    event_wait(&b->gone);
    CHECK_INT(b->dropped, 1);
  }
  CHECK_OK(podkeep_shutdown(LIMIT_MS, NULL));
  book *late = book_for("none");
  CHECK_STATUS(podkeep_set_log(note, 4, late, drop_book), PODKEEP_ERR_INVALID_STATE);
  event_wait(&late->gone);
  CHECK_INT(late->dropped, 1);
}

/* Each line of a child's stderr is told, in order and whole. */
typedef struct lines {
  uint32_t heard, wrong;
  event all;
} lines;

static void note_line(int32_t level, const char *pod, const char *message, void *user_data) {
  lines *l = user_data;
  unsigned number;
  if (pod == NULL || strcmp(pod, "writer") != 0 || sscanf(message, "line %u of 50", &number) != 1) return;
  if (level != 3 || number != LOAD(l->heard)) ADD(l->wrong, 1u);
  if (ADD(l->heard, 1u) == 50) event_set(&l->all);
}

static int32_t writes_lines(probe *p, podkeep_context *ctx) {
  (void)p, (void)ctx;
  for (int i = 0; i < 50; i++) {
    fprintf(stderr, "line %d of", i);
    fflush(stderr); /* in two pieces, now and then */
    if (i % 10 == 0) pass_ms(2);
    fprintf(stderr, " 50\n");
  }
  return 0;
}

TEST_PROCESS(S4_log__tells_what_a_child_writes) {
  lines *l = world_alloc(sizeof *l);
  CHECK_OK(podkeep_set_log(note_line, 3, l, NULL));
  probe *p = probe_new("writer");
  p->run.does = writes_lines;
  probe_start(p);
  CHECK_OK(podkeep_pod_join(p->pod, LIMIT_MS));
  event_wait(&l->all);
  CHECK_INT(l->wrong, 0);
  CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL));
  probe_free(p);
}

/* A log callback that hangs delays no pod: not its start, not its end, not its grace. */
TEST_WITH(S4_log__hanging_delays_no_pod, NOT_MAIN(EXIT)) {
  book *b = book_for("first");
  b->holds = true;
  CHECK_OK(podkeep_set_log(note, 4, b, drop_book));
  fail_a_pod("first");
  event_wait(&b->held);
  probe *p = probe_new("second");
  p->run.does = does_wait_for_hook;
  probe_running(p);
  probe_close(p, PODKEEP_OK);
  probe *q = probe_new("third");
  q->run.held = true;
  q->options.grace_ms = 1;
  probe_running(q);
  q->s_may_die = true;
  CHECK_STATUS(podkeep_pod_close(q->pod), forced_status());
  event_set(&q->run.go);
  CHECK_STATUS(podkeep_pod_join(q->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  probe_free(q);
  event_set(&b->hold);
  CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL));
  event_wait(&b->gone);
}

/* A callback that ends its thread (an interpreter at its end does it) takes the thread, not the log: it is dropped when it is
 * replaced, and one set later is told again. */
static void log_exits(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)pod, (void)message;
  event_set(&((book *)user_data)->heard);
  pthread_exit(NULL);
}

TEST(S4_log__callback_that_ends_its_thread) {
  book *one = book_for("first"), *b = book_for("second");
  CHECK_OK(podkeep_set_log(log_exits, 4, one, drop_book));
  fail_a_pod("first");
  event_wait(&one->heard);
  CHECK_OK(podkeep_set_log(note, 4, b, drop_book));
  event_wait(&one->gone);
  fail_a_pod("second");
  event_wait(&b->heard);
  CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL));
  event_wait(&b->gone);
}

/* It may use the library as long as it does not block: here it looks, cancels and frees. */
static probe *handled;

static void log_acts(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)message;
  book *b = user_data;
  podkeep_state state;
  if (pod == NULL || strcmp(pod, "trigger") != 0 || event_is_set(&b->heard)) return;
  CHECK_OK(podkeep_pod_state(handled->pod, &state));
  CHECK_OK(podkeep_pod_cancel(handled->pod));
  podkeep_pod *dead = handled->pod;
  handled->pod = NULL;
  CHECK_OK(podkeep_pod_free(dead));
  CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL)); /* even itself away */
  event_set(&b->heard);
}

TEST(S4_log__may_use_the_library) {
  book *b = book_for("trigger");
  handled = probe_new("handled");
  probe_running(handled);
  CHECK_OK(podkeep_set_log(log_acts, 4, b, drop_book));
  fail_a_pod("trigger");
  event_wait(&b->heard);
  event_wait(&b->gone);
  probe_free(handled);
}

/* --- The library's first steps -------------------------------------------------------------------------------------- */

TEST_WITH(S6_cold__nothing_was_made_yet, .cold = true) {
  uint32_t n = 99;
  if (!S_is_elsewhere()) CHECK_STR(podkeep_last_error(), ""); /* there, podkeep_child_run said already that this is no child */
  CHECK_INT(podkeep_abi_version(), PODKEEP_ABI_VERSION);
  CHECK(strlen(podkeep_version()) > 0);
  CHECK_OK(podkeep_abandoned(&n));
  CHECK_INT(n, 0);
  CHECK_STATUS(podkeep_pod_cancel(NULL), PODKEEP_ERR_INVALID_HANDLE);
  CHECK_INT(threads_named("podkeep"), 0); /* looking costs no thread */
}

TEST(S6_status_names) {
  static const char *const names[] = {"PODKEEP_OK",
                                      "PODKEEP_ERR_INVALID_ARGUMENT",
                                      "PODKEEP_ERR_INVALID_HANDLE",
                                      "PODKEEP_ERR_INVALID_STATE",
                                      "PODKEEP_ERR_TIMEOUT",
                                      "PODKEEP_ERR_FAILED",
                                      "PODKEEP_ERR_ENDED",
                                      "PODKEEP_ERR_DEADLOCK",
                                      "PODKEEP_ERR_FORKED",
                                      "PODKEEP_ERR_RESOURCES",
                                      "PODKEEP_ERR_UNSUPPORTED",
                                      "PODKEEP_ERR_DENIED",
                                      "PODKEEP_ERR_UNREACHABLE",
                                      "PODKEEP_ERR_INTERNAL",
                                      "PODKEEP_ERR_NOT_FOUND"};
  for (int i = 0; i < 15; i++) CHECK_STR(podkeep_status_name(-i), names[i]);
  CHECK(podkeep_status_name(1) != NULL && podkeep_status_name(-99) != NULL && podkeep_status_name(INT32_MIN) != NULL);
}

/* Many threads take the first step at one moment. */
static void first_step(void *arg) {
  barrier_wait(arg, 8);
  char name[32];
  snprintf(name, sizeof name, "first %u", (unsigned)tick());
  probe *p = probe_new(name);
  p->no_hook = true;
  probe_running(p);
  probe_close(p, PODKEEP_OK);
}

TEST_WITH(S6_cold__eight_threads_at_a_time, .cold = true) {
  barrier *all = world_alloc(sizeof *all);
  worker w[8];
  for (int i = 0; i < 8; i++) worker_start(&w[i], first_step, all);
  for (int i = 0; i < 8; i++) worker_join(&w[i]);
  UNTIL(threads_named("podkeep") == 1);
}
