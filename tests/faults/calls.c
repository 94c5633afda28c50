/* Contract section 7: every call from everywhere. Walks the tables of docs/reference/calls.md: each cell is a process
 * of its own that sets up the place, makes the call there, tells the answer, and then must still be able to end. */
#include "check.h"
#include "document.h"
#include "every.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- The place ------------------------------------------------------------------------------------------------- */

enum place { BEFORE, INIT, RUN_FOREVER, TEARDOWN, HOOK, LOG, DROP_BY_FREE, DROP_BY_END, DROP_OF_LOG, HANDLER, CHILD, FREED,
             SHUTDOWN, NOWHERE };

static struct world w;
static const struct every *row;
static enum place place;
static int answer_to; /* the end of the pipe that the walk reads */
static sem_t answered, let_go;
static volatile sig_atomic_t visited;

static void visit(enum place here) {
  const char *answer;
  if (here != place || visited) return;
  visited = 1;
  answer = row->call(&w);
  if (write(answer_to, answer, strlen(answer)) < 0) _exit(2);
  sem_post(&answered); /* async-signal-safe */
}

static int32_t on_init(podkeep_context *ctx, void *config, void **state) {
  *state = config;
  w.ctx = ctx;
  visit(INIT);
  return 0;
}
/* Stays until the test lets it go, whatever was asked for: what other places see is a running pod. */
static int32_t on_run(podkeep_context *ctx, void *state) {
  (void)state;
  visit(RUN_FOREVER);
  while (sem_wait(&let_go) != 0 && errno == EINTR) {}
  sem_post(&let_go);
  return podkeep_context_wait(ctx, PODKEEP_FOREVER) == PODKEEP_OK ? PODKEEP_CANCELLED : 1;
}
static int32_t on_teardown(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  visit(TEARDOWN);
  return 0;
}
static void on_cancel(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  visit(HOOK);
}
static int32_t fails(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_fail(ctx, 7, "as it should");
}
static int32_t fails_too(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_fail(ctx, 8, "again");
}
static int32_t waits(podkeep_context *ctx, void *state) {
  (void)state;
  return podkeep_context_wait(ctx, PODKEEP_FOREVER);
}
static void on_log(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)pod, (void)message, (void)user_data;
  visit(LOG);
}
static void on_drop(void *config) {
  (void)config;
  visit(DROP_BY_FREE);
  visit(DROP_BY_END);
  visit(DROP_OF_LOG);
}
static void on_signal(int signal) {
  int saved = errno;
  (void)signal;
  visit(HANDLER);
  errno = saved;
}

static podkeep_runtime *runtime_of(int32_t (*run)(podkeep_context *, void *), int32_t (*teardown)(podkeep_context *, void *),
                                   void (*drop)(void *)) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_runtime *runtime;
  spec.name = "beside";
  spec.run_forever = run;
  spec.teardown = teardown;
  spec.drop = drop;
  IS(podkeep_runtime_new(&spec, &runtime), PODKEEP_OK);
  return runtime;
}
static podkeep_pod *started(podkeep_runtime *runtime) {
  podkeep_pod *pod;
  IS(podkeep_pod_new(runtime, NULL, &pod), PODKEEP_OK);
  IS(podkeep_pod_start(pod), PODKEEP_OK);
  return pod;
}

static void set_up(void) {
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_pod *failed = started(runtime_of(fails, fails_too, NULL));
  sem_init(&answered, 0, 0);
  sem_init(&let_go, 0, 0);
  IS(podkeep_pod_join(failed, slow(10000)), PODKEEP_ERR_FAILED);
  IS(podkeep_pod_failure(failed, &w.failure), PODKEEP_OK);
  spec.name = "calls";
  spec.init = on_init;
  spec.run_forever = on_run;
  spec.teardown = on_teardown;
  spec.cancel = on_cancel;
  IS(podkeep_runtime_new(&spec, &w.runtime), PODKEEP_OK);
  options.args = "0123456789abcdef";
  options.args_len = 16;
  options.grace_ms = slow(60000);
  IS(podkeep_pod_new(w.runtime, &options, &w.pod), PODKEEP_OK);
  IS(podkeep_pod_new(runtime_of(waits, NULL, NULL), NULL, &w.other), PODKEEP_OK);
  IS(podkeep_monitor_new(w.pod, &w.monitor), PODKEEP_OK);
  IS(podkeep_group_new(NULL, &w.group), PODKEEP_OK);
  IS(podkeep_control_serve(NULL, &w.control), PODKEEP_OK);
}

static void free_all(void) {
  sem_post(&let_go);
  IS(podkeep_pod_close(w.pod), PODKEEP_OK);
  IS(podkeep_monitor_free(w.monitor), PODKEEP_OK);
  IS(podkeep_group_free(w.group), PODKEEP_OK);
  IS(podkeep_control_free(w.control), PODKEEP_OK);
  IS(podkeep_failure_free(w.failure), PODKEEP_OK);
  IS(podkeep_pod_free(w.pod), PODKEEP_OK);
  IS(podkeep_pod_free(w.other), PODKEEP_OK);
  IS(podkeep_runtime_free(w.runtime), PODKEEP_OK);
}

/* Brings the process to the place. The call happens there; `answered` tells. */
static void go(void) {
  podkeep_runtime *beside;
  podkeep_pod *pod;
  struct sigaction action;
  if (place == BEFORE) {
    visit(BEFORE);
    return;
  }
  IS(podkeep_pod_start(w.pod), PODKEEP_OK);
  if (place == INIT || place == RUN_FOREVER) return;
  IS(podkeep_pod_wait_ready(w.pod, slow(10000)), PODKEEP_OK);
  switch (place) {
  case TEARDOWN:
  case HOOK:
    if (place == TEARDOWN) sem_post(&let_go); /* a hook comes only while run_forever has not returned */
    IS(podkeep_pod_cancel(w.pod), PODKEEP_OK);
    break;
  case LOG:
    IS(podkeep_set_log(on_log, 4, NULL, NULL), PODKEEP_OK);
    started(runtime_of(fails, NULL, NULL));
    break;
  case DROP_BY_FREE:
    IS(podkeep_runtime_free(runtime_of(waits, NULL, on_drop)), PODKEEP_OK);
    break;
  case DROP_BY_END:
    beside = runtime_of(waits, NULL, on_drop);
    pod = started(beside);
    IS(podkeep_pod_wait_ready(pod, slow(10000)), PODKEEP_OK);
    IS(podkeep_runtime_free(beside), PODKEEP_OK);
    IS(podkeep_pod_cancel(pod), PODKEEP_OK);
    break;
  case DROP_OF_LOG:
    IS(podkeep_set_log(on_log, 1, &w, on_drop), PODKEEP_OK);
    IS(podkeep_set_log(NULL, 0, NULL, NULL), PODKEEP_OK);
    break;
  case HANDLER:
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    break;
  case FREED:
    free_all();
    visit(FREED);
    break;
  case SHUTDOWN:
    sem_post(&let_go);
    IS(podkeep_shutdown(slow(10000), NULL), PODKEEP_OK);
    visit(SHUTDOWN);
    break;
  default: break;
  }
}

/* The process of one cell. */
static void visit_cell(void) {
  set_up();
  if (place == CHILD) {
    int code;
    pid_t pid;
    IS(podkeep_pod_start(w.pod), PODKEEP_OK);
    IS(podkeep_pod_wait_ready(w.pod, slow(10000)), PODKEEP_OK);
    pid = fork();
    if (pid == 0) {
      visit(CHILD);
      _exit(0);
    }
    code = child_code(pid, slow(10000));
    EQ(code, 0);
  } else {
    go();
    while (sem_wait(&answered) != 0) {}
  }
  sem_post(&let_go);
  IS(podkeep_shutdown(slow(10000), NULL), PODKEEP_OK);
  _exit(0);
}

/* --- The walk -------------------------------------------------------------------------------------------------- */

static int ask(char *answer, size_t size) {
  int ends[2], code;
  pid_t pid;
  ssize_t n = 0, got;
  int64_t end;
  if (pipe(ends) != 0) return -3;
  pid = fork();
  if (pid == 0) {
    close(ends[0]);
    answer_to = ends[1];
    visit_cell();
  }
  close(ends[1]);
  end = now_ms() + slow(15000);
  for (;;) {
    struct pollfd p = { 0, POLLIN, 0 };
    p.fd = ends[0];
    if (now_ms() > end || poll(&p, 1, (int)(end - now_ms())) <= 0) break;
    got = read(ends[0], answer + n, size - 1 - (size_t)n);
    if (got <= 0) break;
    n += got;
  }
  answer[n] = 0;
  close(ends[0]);
  code = child_code(pid, (int)(end - now_ms()) + 1);
  return code;
}

static void walk(enum place here, const char *heading) {
  int column = column_of(heading), wrong = 0, i, step = fewer(2 * every_count) == 2 * every_count ? 1 : 7;
  place = here;
  for (i = 0; i < every_count; i += step) {
    const struct line *line = line_of(every[i].key);
    char answer[200];
    int code;
    row = &every[i];
    if (!line || strcmp(line->cell[column], "-") == 0) continue; /* what has no line is told of by `complete` */
    code = ask(answer, sizeof answer);
    if (code == 0 && strcmp(answer, line->cell[column]) == 0) continue;
    fprintf(stderr, "    %s %s: calls.md says \"%s\", the library \"%s\"", row->key, heading, line->cell[column], answer);
    if (code) fprintf(stderr, code == -1 ? ", and then it hangs" : ", and then the process ends with %d", code);
    fputc('\n', stderr);
    wrong++;
  }
  CHECK(wrong == 0);
}

static void before_start(void) { walk(BEFORE, "before start"); }
static void in_init(void) { walk(INIT, "in init"); }
static void in_run_forever(void) { walk(RUN_FOREVER, "in run_forever"); }
static void in_teardown(void) { walk(TEARDOWN, "in teardown"); }
static void in_the_cancel_hook(void) { walk(HOOK, "in the cancel hook"); }
static void in_a_log_callback(void) { walk(LOG, "in a log callback"); }
static void in_a_drop_by_runtime_free(void) { walk(DROP_BY_FREE, "in a drop"); }
static void in_a_drop_by_the_last_pods_end(void) { walk(DROP_BY_END, "in a drop"); }
static void in_the_drop_of_a_log(void) { walk(DROP_OF_LOG, "in a drop"); }
static void in_a_signal_handler(void) { walk(HANDLER, "in a signal handler"); }
static void in_a_forked_child(void) { walk(CHILD, "in a forked child"); }
static void after_free(void) { walk(FREED, "after free"); }
static void after_shutdown(void) { walk(SHUTDOWN, "after shutdown"); }

/* Live handles of the other kinds, small numbers and addresses; the fuzz of random values stands in handles.c. */
static void with_a_bad_handle(void) {
  int column = column_of("with a bad handle"), wrong = 0, i, k;
  set_up();
  IS(podkeep_pod_start(w.pod), PODKEEP_OK);
  IS(podkeep_pod_wait_ready(w.pod, slow(10000)), PODKEEP_OK);
  for (i = 0; i < every_count; i++) {
    const struct line *line = line_of(every[i].key);
    const struct { enum takes is; void *value; } bad[] = {
      { RUNTIME, w.runtime }, { POD, w.pod }, { CONTEXT, w.ctx }, { FAILURE, w.failure }, { MONITOR, w.monitor },
      { GROUP, w.group }, { CONTROL, w.control },
      { NOTHING, (void *)(uintptr_t)1 }, { NOTHING, (void *)(uintptr_t)4096 }, { NOTHING, (void *)UINTPTR_MAX },
      { NOTHING, &wrong }, { NOTHING, (void *)(uintptr_t)"text" },
    };
    if (!line || every[i].takes == NOTHING) continue;
    for (k = 0; k < (int)(sizeof bad / sizeof bad[0]); k++) {
      struct world all;
      const char *answer;
      if (bad[k].is == every[i].takes) continue;
      all.runtime = bad[k].value;
      all.pod = all.other = bad[k].value;
      all.ctx = bad[k].value;
      all.failure = bad[k].value;
      all.monitor = bad[k].value;
      all.group = bad[k].value;
      all.control = bad[k].value;
      answer = every[i].call(&all);
      if (strcmp(answer, line->cell[column]) == 0) continue;
      fprintf(stderr, "    %s with value %d: calls.md says \"%s\", the library \"%s\"\n", every[i].key, k,
              line->cell[column], answer);
      wrong++;
    }
  }
  CHECK(wrong == 0);
  sem_post(&let_go);
  free_all();
}

/* The document, the rows of the test and the header name the same functions. */
static void complete(void) {
  const char *path = getenv("PODKEEP_HEADER");
  FILE *f = fopen(path ? path : "include/podkeep.h", "r");
  char text[4000];
  int i, wrong = 0;
  CHECK(f != NULL);
  for (i = 0; i < every_count; i++)
    if (!line_of(every[i].key)) wrong++, fprintf(stderr, "    calls.md has no line `%s`\n", every[i].key);
  for (i = 0; i < line_count; i++) {
    int k, known = 0;
    for (k = 0; k < every_count; k++) known |= strcmp(every[k].key, lines[i].key) == 0;
    for (k = 0; k < i; k++) known &= strcmp(lines[k].key, lines[i].key) != 0;
    if (!known) wrong++, fprintf(stderr, "    a line of calls.md is not walked, or stands twice: `%s`\n", lines[i].key);
  }
  while (fgets(text, sizeof text, f)) {
    char *at = text, name[100];
    int n = 0;
    if (strncmp(text, " *", 2) == 0 || strncmp(text, "/*", 2) == 0 || strncmp(text, "//", 2) == 0 || text[0] == '#')
      continue;
    while ((at = strstr(at, "podkeep_"))) {
      int k, known = 0;
      n = 0;
      while ((isalnum((unsigned char)at[n]) || at[n] == '_') && n < 99) name[n] = at[n], n++;
      name[n] = 0;
      at += n;
      if (*at != '(' || strcmp(name, "podkeep_init_") == 0) continue;
      for (k = 0; k < every_count; k++) known |= strcmp(every[k].function, name) == 0;
      if (!known) wrong++, fprintf(stderr, "    the header's %s is not walked\n", name);
    }
  }
  fclose(f);
  CHECK(wrong == 0);
}

int main(int argc, char **argv) {
  static const struct test_case all[] = {
    CASE(complete), CASE(with_a_bad_handle),
    CASE_LIMIT(before_start, 60), CASE_LIMIT(in_init, 60), CASE_LIMIT(in_run_forever, 60), CASE_LIMIT(in_teardown, 60),
    CASE_LIMIT(in_the_cancel_hook, 60), CASE_LIMIT(in_a_log_callback, 60), CASE_LIMIT(in_a_drop_by_runtime_free, 60),
    CASE_LIMIT(in_a_drop_by_the_last_pods_end, 60), CASE_LIMIT(in_the_drop_of_a_log, 60),
    CASE_LIMIT(in_a_signal_handler, 60), CASE_LIMIT(in_a_forked_child, 60), CASE_LIMIT(after_free, 60),
    CASE_LIMIT(after_shutdown, 60),
  };
  read_document();
  return RUN(all);
}
