/* A program that keeps pods and serves, told what to do by lines on stdin; each is answered by one line on stdout.
 *   serve ADDRESS [CERT KEY CA]   ("-": NULL) its number and address, or the status and the sentence
 *   unserve NUMBER                how many milliseconds that took
 *   pod NAME KIND [GRACE_MS]      made and started; wait, spin, sleep, command: until ready
 *   new NAME | start NAME         made, not started | started, and ready
 *   group NAME MEMBER...          of pods that are NEW; started, and ready
 *   cancel | close | free | id NAME
 *   fork                          a child that holds what this process has open; its number
 *   limit N                       of descriptors
 *   chdir DIRECTORY
 *   shutdown
 *   cpu                           milliseconds of processor time so far
 *   end                           close all, exit 0 */
#include <podkeep.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static struct pod { char name[64]; podkeep_pod *pod; } pods[4096];
static int pod_count;
static podkeep_control *served[64];
static int served_count;
static podkeep_group *groups[8];
static int group_count;

static int32_t waits(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_status(ctx, "waiting");
  podkeep_context_heartbeat(ctx);
  return podkeep_context_wait(ctx, PODKEEP_FOREVER);
}
static int32_t spins(podkeep_context *ctx, void *state) {
  (void)state;
  while (!podkeep_context_cancelled(ctx)) {
  }
  return 0;
}
/* In a system call that a cancel does not end: the kick does. */
static int32_t sleeps(podkeep_context *ctx, void *state) {
  (void)state;
  while (!podkeep_context_cancelled(ctx)) sleep(1000);
  return 0;
}
static volatile int let_go;
static int32_t ignores(podkeep_context *ctx, void *state) {
  (void)ctx, (void)state;
  while (!let_go) usleep(1000);
  return 0;
}
static int32_t not_ready(podkeep_context *ctx, void *state) { return waits(ctx, state); }
static int32_t fails(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return podkeep_context_fail(ctx, 7, "as it was told to");
}
/* Lives that are short: many events. */
static int32_t flaps(podkeep_context *ctx, void *state) {
  (void)state;
  podkeep_context_wait(ctx, 1);
  return podkeep_context_cancelled(ctx) ? PODKEEP_CANCELLED : 1;
}

static struct pod *find(const char *name) {
  int i;
  for (i = pod_count - 1; i >= 0; i--)
    if (pods[i].pod && strcmp(pods[i].name, name) == 0) return &pods[i];
  return NULL;
}

static podkeep_status make(const char *name, const char *kind, long long grace) {
  static const struct { const char *kind; int32_t (*run)(podkeep_context *, void *); } kinds[] = {
    { "wait", waits }, { "spin", spins }, { "sleep", sleeps }, { "ignore", ignores },
    { "notready", not_ready }, { "fail", fails }, { "flap", flaps },
  };
  podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  podkeep_pod_options options = PODKEEP_POD_OPTIONS_INIT;
  podkeep_runtime *runtime = NULL;
  podkeep_status s;
  size_t i;
  spec.name = name;
  options.grace_ms = grace;
  for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (strcmp(kind, kinds[i].kind) == 0) spec.run_forever = kinds[i].run;
  if (strcmp(kind, "command") == 0) {
    const char *const argv[] = { "sleep", "1000", NULL };
    options.host = PODKEEP_HOST_PROCESS;
    s = podkeep_runtime_from_command(name, argv, &runtime);
  } else {
    s = podkeep_runtime_new(&spec, &runtime);
  }
  if (strcmp(kind, "sleep") == 0) options.kick_signal = SIGURG;
  if (strcmp(kind, "notready") == 0) options.ready = PODKEEP_READY_NOTIFY;
  if (strcmp(kind, "flap") == 0) {
    options.restart = PODKEEP_RESTART_ON_FAILURE;
    options.max_restarts = UINT32_MAX;
    options.backoff_ms = options.backoff_max_ms = 1;
  }
  if (!s) s = podkeep_pod_new(runtime, &options, &pods[pod_count].pod);
  podkeep_runtime_free(runtime);
  if (!s) snprintf(pods[pod_count++].name, sizeof pods[0].name, "%s", name);
  return s;
}

static podkeep_status start(const char *name, int ready) {
  podkeep_pod *pod = find(name)->pod;
  podkeep_status s = podkeep_pod_start(pod);
  return !s && ready ? podkeep_pod_wait_ready(pod, 30000) : s;
}

static void say(podkeep_status s) {
  if (s) printf("%s %s\n", podkeep_status_name(s) + 12, podkeep_last_error());
  else puts("OK");
}

static double now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void serve(char *words[], int count) {
  podkeep_control_options options = PODKEEP_CONTROL_OPTIONS_INIT;
  const char *address = NULL;
  podkeep_status s;
  options.address = strcmp(words[1], "-") ? words[1] : NULL;
  if (count == 5) options.tls_cert = words[2], options.tls_key = words[3], options.tls_client_ca = words[4];
  s = podkeep_control_serve(&options, &served[served_count]);
  if (s) {
    say(s);
    return;
  }
  podkeep_control_address(served[served_count], &address);
  printf("OK %d %s\n", served_count++, address);
}

static void do_words(char *words[], int count) {
  const char *word = words[0], *name = count > 1 ? words[1] : "";
  struct pod *pod = find(name);
  if (strcmp(word, "serve") == 0) {
    serve(words, count);
  } else if (strcmp(word, "unserve") == 0) {
    double begin = now(CLOCK_MONOTONIC);
    podkeep_status s = podkeep_control_free(served[atoi(name)]);
    if (s) say(s);
    else printf("OK %.3f\n", now(CLOCK_MONOTONIC) - begin);
  } else if (strcmp(word, "pod") == 0) {
    int ready = strcmp(words[2], "notready") && strcmp(words[2], "flap");
    podkeep_status s = make(name, words[2], count > 3 ? atoll(words[3]) : 0);
    say(s ? s : start(name, ready));
  } else if (strcmp(word, "new") == 0) {
    say(make(name, count > 2 ? words[2] : "wait", 0));
  } else if (strcmp(word, "start") == 0) {
    say(start(name, 1));
  } else if (strcmp(word, "group") == 0) {
    podkeep_group_options options = PODKEEP_GROUP_OPTIONS_INIT;
    podkeep_status s;
    int i;
    options.name = name;
    s = podkeep_group_new(&options, &groups[group_count]);
    for (i = 2; i < count && !s; i++) s = podkeep_group_add(groups[group_count], find(words[i])->pod, NULL);
    if (!s) s = podkeep_group_start(groups[group_count]);
    if (!s) s = podkeep_group_wait_ready(groups[group_count++], 30000);
    say(s);
  } else if (strcmp(word, "cancel") == 0) {
    say(podkeep_pod_cancel(pod->pod));
  } else if (strcmp(word, "close") == 0) {
    say(podkeep_pod_close(pod->pod));
  } else if (strcmp(word, "free") == 0) {
    say(podkeep_pod_free(pod->pod));
    pod->pod = NULL;
  } else if (strcmp(word, "id") == 0) {
    int64_t id = 0;
    podkeep_status s = podkeep_pod_id(pod->pod, &id);
    if (s) say(s);
    else printf("OK %lld\n", (long long)id);
  } else if (strcmp(word, "fork") == 0) {
    pid_t child = fork();
    if (child == 0) {
      close(0), close(1);
      for (;;) pause();
    }
    printf("OK %d\n", (int)child);
  } else if (strcmp(word, "limit") == 0) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = (rlim_t)atoll(name);
    say(setrlimit(RLIMIT_NOFILE, &limit) ? PODKEEP_ERR_RESOURCES : PODKEEP_OK);
  } else if (strcmp(word, "chdir") == 0) {
    say(chdir(name) ? PODKEEP_ERR_NOT_FOUND : PODKEEP_OK);
  } else if (strcmp(word, "shutdown") == 0) {
    say(podkeep_shutdown(30000, NULL));
  } else if (strcmp(word, "cpu") == 0) {
    printf("OK %.3f\n", now(CLOCK_PROCESS_CPUTIME_ID));
  } else {
    printf("what is %s?\n", word);
  }
}

int main(void) {
  char line[8192];
  uint32_t left = 0;
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  while (fgets(line, sizeof line, stdin)) {
    char *words[64], *word = strtok(line, " \n");
    int count = 0;
    for (; word && count < 64; word = strtok(NULL, " \n")) words[count++] = word;
    if (count == 0) continue;
    if (strcmp(words[0], "end") == 0) break;
    do_words(words, count);
  }
  let_go = 1;
  podkeep_shutdown(30000, &left);
  while (served_count > 0) podkeep_control_free(served[--served_count]);
  return left != 0;
}
