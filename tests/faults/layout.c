/* Prints the layout of every public struct and the number of every public constant, in the form of layout.txt:
 *     struct NAME FIELD OFFSET SIZE      (FIELD "." is the struct itself: OFFSET is its alignment)
 *     constant NAME VALUE
 * Without arguments it compares with that file; `layout --print` writes a new one. Numbers never change once released:
 * a field or a constant may be added at the end, a line of layout.txt is never edited. */
#include <podkeep.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char text[32768];
static size_t length;
static void add_struct(const char *name, const char *field, size_t offset, size_t size) {
  length += (size_t)snprintf(text + length, sizeof text - length, "struct %s %s %zu %zu\n", name, field, offset, size);
}
static void add_constant(const char *name, long long value) {
  length += (size_t)snprintf(text + length, sizeof text - length, "constant %s %lld\n", name, value);
}

#define STRUCT(s) add_struct(#s, ".", offsetof(struct aligned_##s, member), sizeof(s))
#define FIELD(s, f) add_struct(#s, #f, offsetof(s, f), sizeof(((s *)0)->f))
#define CONSTANT(c) add_constant(#c, (long long)(c))
#define SIZE(t) add_struct(#t, ".", sizeof(t), sizeof(t))
struct aligned_podkeep_runtime_spec { char first; podkeep_runtime_spec member; };
struct aligned_podkeep_pod_options { char first; podkeep_pod_options member; };
struct aligned_podkeep_event { char first; podkeep_event member; };
struct aligned_podkeep_group_options { char first; podkeep_group_options member; };
struct aligned_podkeep_member_options { char first; podkeep_member_options member; };
struct aligned_podkeep_control_options { char first; podkeep_control_options member; };

static void make(void) {
  STRUCT(podkeep_runtime_spec);
  FIELD(podkeep_runtime_spec, struct_size);
  FIELD(podkeep_runtime_spec, name);
  FIELD(podkeep_runtime_spec, init);
  FIELD(podkeep_runtime_spec, run_forever);
  FIELD(podkeep_runtime_spec, teardown);
  FIELD(podkeep_runtime_spec, cancel);
  FIELD(podkeep_runtime_spec, config);
  FIELD(podkeep_runtime_spec, drop);
  STRUCT(podkeep_pod_options);
  FIELD(podkeep_pod_options, struct_size);
  FIELD(podkeep_pod_options, name);
  FIELD(podkeep_pod_options, host);
  FIELD(podkeep_pod_options, ready);
  FIELD(podkeep_pod_options, ready_timeout_ms);
  FIELD(podkeep_pod_options, grace_ms);
  FIELD(podkeep_pod_options, kill_after_ms);
  FIELD(podkeep_pod_options, extend_max_ms);
  FIELD(podkeep_pod_options, stack_size);
  FIELD(podkeep_pod_options, kick_signal);
  FIELD(podkeep_pod_options, stop_signal);
  FIELD(podkeep_pod_options, env);
  FIELD(podkeep_pod_options, cwd);
  FIELD(podkeep_pod_options, args);
  FIELD(podkeep_pod_options, args_len);
  FIELD(podkeep_pod_options, restart);
  FIELD(podkeep_pod_options, max_restarts);
  FIELD(podkeep_pod_options, restart_window_ms);
  FIELD(podkeep_pod_options, backoff_ms);
  FIELD(podkeep_pod_options, backoff_max_ms);
  FIELD(podkeep_pod_options, watchdog_ms);
  FIELD(podkeep_pod_options, ready_port);
  FIELD(podkeep_pod_options, reserved);
  STRUCT(podkeep_event);
  FIELD(podkeep_event, struct_size);
  FIELD(podkeep_event, sequence);
  FIELD(podkeep_event, time_ns);
  FIELD(podkeep_event, pod);
  FIELD(podkeep_event, name);
  FIELD(podkeep_event, failure);
  FIELD(podkeep_event, from);
  FIELD(podkeep_event, to);
  FIELD(podkeep_event, incarnation);
  FIELD(podkeep_event, missed);
  STRUCT(podkeep_group_options);
  FIELD(podkeep_group_options, struct_size);
  FIELD(podkeep_group_options, name);
  FIELD(podkeep_group_options, strategy);
  FIELD(podkeep_group_options, keep_going);
  FIELD(podkeep_group_options, grace_ms);
  STRUCT(podkeep_member_options);
  FIELD(podkeep_member_options, struct_size);
  FIELD(podkeep_member_options, after);
  FIELD(podkeep_member_options, significant);
  FIELD(podkeep_member_options, reserved);
  STRUCT(podkeep_control_options);
  FIELD(podkeep_control_options, struct_size);
  FIELD(podkeep_control_options, address);
  FIELD(podkeep_control_options, tls_cert);
  FIELD(podkeep_control_options, tls_key);
  FIELD(podkeep_control_options, tls_client_ca);
  SIZE(podkeep_status);
  SIZE(podkeep_state);
  SIZE(podkeep_host);
  SIZE(podkeep_ready_mode);
  SIZE(podkeep_restart);
  SIZE(podkeep_phase);
  SIZE(podkeep_kind);
  SIZE(podkeep_strategy);
  CONSTANT(PODKEEP_ABI_VERSION);
  CONSTANT(PODKEEP_FOREVER);
  CONSTANT(PODKEEP_CANCELLED);
  CONSTANT(PODKEEP_OK);
  CONSTANT(PODKEEP_ERR_INVALID_ARGUMENT);
  CONSTANT(PODKEEP_ERR_INVALID_HANDLE);
  CONSTANT(PODKEEP_ERR_INVALID_STATE);
  CONSTANT(PODKEEP_ERR_TIMEOUT);
  CONSTANT(PODKEEP_ERR_FAILED);
  CONSTANT(PODKEEP_ERR_ENDED);
  CONSTANT(PODKEEP_ERR_DEADLOCK);
  CONSTANT(PODKEEP_ERR_FORKED);
  CONSTANT(PODKEEP_ERR_RESOURCES);
  CONSTANT(PODKEEP_ERR_UNSUPPORTED);
  CONSTANT(PODKEEP_ERR_DENIED);
  CONSTANT(PODKEEP_ERR_UNREACHABLE);
  CONSTANT(PODKEEP_ERR_INTERNAL);
  CONSTANT(PODKEEP_ERR_NOT_FOUND);
  CONSTANT(PODKEEP_STATE_NEW);
  CONSTANT(PODKEEP_STATE_STARTING);
  CONSTANT(PODKEEP_STATE_RUNNING);
  CONSTANT(PODKEEP_STATE_STOPPING);
  CONSTANT(PODKEEP_STATE_RESTARTING);
  CONSTANT(PODKEEP_STATE_STOPPED);
  CONSTANT(PODKEEP_STATE_FAILED);
  CONSTANT(PODKEEP_STATE_ABANDONED);
  CONSTANT(PODKEEP_HOST_THREAD);
  CONSTANT(PODKEEP_HOST_PROCESS);
  CONSTANT(PODKEEP_READY_ON_RUN);
  CONSTANT(PODKEEP_READY_NOTIFY);
  CONSTANT(PODKEEP_READY_PORT);
  CONSTANT(PODKEEP_RESTART_NEVER);
  CONSTANT(PODKEEP_RESTART_ON_FAILURE);
  CONSTANT(PODKEEP_RESTART_ALWAYS);
  CONSTANT(PODKEEP_PHASE_SPAWN);
  CONSTANT(PODKEEP_PHASE_INIT);
  CONSTANT(PODKEEP_PHASE_READY);
  CONSTANT(PODKEEP_PHASE_RUN);
  CONSTANT(PODKEEP_PHASE_CANCEL);
  CONSTANT(PODKEEP_PHASE_TEARDOWN);
  CONSTANT(PODKEEP_KIND_RETURNED);
  CONSTANT(PODKEEP_KIND_PANIC);
  CONSTANT(PODKEEP_KIND_EXCEPTION);
  CONSTANT(PODKEEP_KIND_EXIT);
  CONSTANT(PODKEEP_KIND_SIGNAL);
  CONSTANT(PODKEEP_KIND_TIMEOUT);
  CONSTANT(PODKEEP_KIND_WATCHDOG);
  CONSTANT(PODKEEP_KIND_LOST);
  CONSTANT(PODKEEP_ONE_FOR_ONE);
  CONSTANT(PODKEEP_ONE_FOR_ALL);
  CONSTANT(PODKEEP_REST_FOR_ONE);
}

/* Fields in order, each at the end of the one before: no unnamed padding (contract section 3). */
static int check_padding(void) {
  char line[200], name[100], field[100], of[100] = "";
  size_t offset, size, end = 0, whole = 0;
  const char *at = text;
  int wrong = 0;
  while (sscanf(at, "%199[^\n]", line) == 1) {
    at += strlen(line) + 1;
    if (sscanf(line, "struct %99s %99s %zu %zu", name, field, &offset, &size) != 4) break;
    if (strcmp(field, ".") == 0) {
      if (of[0] && end != whole) wrong++, printf("%s ends with unnamed padding\n", of);
      strcpy(of, name);
      end = 0, whole = size;
      if (strcmp(name, "podkeep_status") == 0) break;
      continue;
    }
    if (offset != end) wrong++, printf("%s has unnamed padding before %s\n", name, field);
    end = offset + size;
  }
  return wrong;
}

/* Each constant of the header stands in the list above, and more than a few were seen. */
static int check_complete(const char *path) {
  static char line[65536];
  FILE *f = fopen(path, "r");
  int wrong = 0, seen = 0;
  if (!f) return perror(path), 1;
  while (fgets(line, sizeof line, f)) {
    char name[100], key[120], after;
    size_t n;
    if (sscanf(line, "#define %99[A-Z0-9_]%c", name, &after) != 2 || after != ' ') continue; /* "(": a macro with arguments */
    n = strlen(name);
    if (strncmp(name, "PODKEEP_", 8) != 0 || (n > 5 && strcmp(name + n - 5, "_INIT") == 0)) continue;
    snprintf(key, sizeof key, "constant %s ", name);
    if (!strstr(text, key)) wrong++, printf("%s of the header is not in the layout test\n", name);
    seen++;
  }
  fclose(f);
  if (seen < 40) wrong++, printf("only %d constants found in %s\n", seen, path);
  return wrong;
}

int main(int argc, char **argv) {
  static char golden[sizeof text + 1];
  const char *path = getenv("PODKEEP_LAYOUT"), *header = getenv("PODKEEP_HEADER");
  FILE *f;
  size_t n;
  int wrong;
  make();
  if (argc > 1 && strcmp(argv[1], "--print") == 0) return fputs(text, stdout) == EOF;
  f = fopen(path ? path : "tests/faults/layout.txt", "r");
  if (!f) return perror("tests/faults/layout.txt"), 1;
  n = fread(golden, 1, sizeof text, f);
  golden[n] = 0;
  fclose(f);
  wrong = check_padding() + check_complete(header ? header : "include/podkeep.h");
  if (strcmp(golden, text) != 0) wrong++, puts("the layout is not that of layout.txt: `layout --print` shows it");
  printf("%s layout: golden_layout_and_numbers\nlayout: %d passed, %d failed\n", wrong ? "FAIL" : "ok  ", !wrong, !!wrong);
  return wrong != 0;
}
