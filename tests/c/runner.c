/* runner.c: runs each case in a process of its own, with a limit, and shows the output of those that fail.
 *
 *   conformance [--host HOST] [-j N] [PART...]  the cases whose name holds one of the parts; all without
 *   conformance [--host HOST] --list [PART...]  their names
 *   conformance --list-skipped                  those that a host leaves out, and why: the list of README.md
 *
 * HOST is thread (as it is when none is named), process, main, or all for one after the other.
 *
 * PODKEEP_TEST_SLOW=10             multiplies every limit and shrinks the racing loops
 * PODKEEP_TEST_WRAP="valgrind -q"  is put in front of each case's process
 * PODKEEP_TEST_JOBS=2              as -j: that many cases at a time
 */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_CASES 1024
#define MAX_JOBS 64

static const char *const host_names[TEST_HOSTS] = {"thread", "process", "main"};

static test_case *cases[MAX_CASES];
static int case_count;

void test_register(test_case *c) {
  if (case_count < MAX_CASES) cases[case_count++] = c;
}

/* --- Inside the process of a case ----------------------------------------------------------------------------------- */

static void quiet_log(int32_t level, const char *pod, const char *message, void *user_data) {
  (void)level, (void)pod, (void)message, (void)user_data;
}

/* One whole life, with all that makes the library keep a thread or a descriptor: they belong to the measure. */
static void warm_up(void) {
  CHECK_OK(podkeep_set_log(quiet_log, 1, NULL, NULL));
  probe *p = probe_new("warm-up");
  podkeep_pod *pod = probe_make(p);
  podkeep_monitor *m = watch(pod);
  int fd = -1;
  CHECK_OK(podkeep_monitor_fd(m, &fd));
  probe_running(p);
  CHECK(ctx_fd(p) >= 0);
  CHECK_OK(podkeep_monitor_free(m));
  probe_close(p, PODKEEP_OK);
  CHECK_OK(podkeep_set_log(NULL, 0, NULL, NULL));
}

static int run_case(const char *name, test_host host) {
  for (int i = 0; i < case_count; i++) {
    if (strcmp(cases[i]->name, name) != 0) continue;
    world_open(name, host);
    if (!cases[i]->cold) warm_up();
    world_baseline();
    cases[i]->body();
    probes_check();
    world_close(cases[i]->cold);
    return 0;
  }
  fprintf(stderr, "no case %s\n", name);
  return 1;
}

/* --- The parent ----------------------------------------------------------------------------------------------------- */

static int64_t case_limit_ms(test_host host) { return slow_ms(host == IN_PROCESS ? 120000 : 60000); }

typedef struct job {
  const test_case *c;
  test_host host;
  pid_t pid; /* 0: free */
  int output;
  int64_t started, limit;
  bool over_limit;
} job;

static job jobs[MAX_JOBS];
static int passed, failed;
static sigset_t mask_before;

static int start_job(job *j, const test_case *c, test_host host) {
  static FILE *kept[MAX_JOBS];
  int slot = (int)(j - jobs);
  if (kept[slot] != NULL) fclose(kept[slot]);
  kept[slot] = tmpfile();
  if (kept[slot] == NULL) return -1;
  int output = fileno(kept[slot]);
  char self[4096] = "/proc/self/exe"; /* good even when the file was replaced meanwhile; a tool needs the real name */
  const char *wanted = getenv("PODKEEP_TEST_WRAP");
  if (wanted != NULL && *wanted != '\0') {
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return -1;
    self[n] = '\0';
  }

  char wrap[2048];
  snprintf(wrap, sizeof wrap, "%s", wanted ? wanted : "");
  char *argv[68];
  int argc = 0;
  char *rest = NULL;
  for (char *word = strtok_r(wrap, " ", &rest); word != NULL && argc < 64; word = strtok_r(NULL, " ", &rest)) argv[argc++] = word;
  char option[] = "--case";
  char name[256], where[16];
  snprintf(name, sizeof name, "%s", c->name);
  snprintf(where, sizeof where, "%s", host_names[host]);
  argv[argc++] = self;
  argv[argc++] = option;
  argv[argc++] = name;
  argv[argc++] = where;
  argv[argc] = NULL;

  fflush(NULL);
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0) return -1;
  if (pid == 0) {
    setpgid(0, 0); /* so that whatever a case leaves behind can be ended with it */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    sigprocmask(SIG_SETMASK, &mask_before, NULL);
    int nothing = open("/dev/null", O_RDONLY);
    if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0) _exit(1);
    for (int fd = 3; fd < 64; fd++) close(fd);
    execvp(argv[0], argv);
    perror(argv[0]);
    _exit(1);
  }
  setpgid(pid, pid);
  j->c = c;
  j->host = host;
  j->pid = pid;
  j->output = output;
  j->started = now_ms();
  j->limit = j->started + case_limit_ms(host);
  j->over_limit = false;
  return 0;
}

static void print_line_of(const char *path) {
  char text[256];
  FILE *f = fopen(path, "r");
  size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
  if (f) fclose(f);
  text[n] = '\0';
  text[strcspn(text, "\n")] = '\0';
  printf(" %s", n ? text : "-");
}

/* Where each thread of a case that hangs is: name, wait channel, system call. */
static void print_threads(pid_t pid) {
  char path[300];
  snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
  DIR *d = opendir(path);
  for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
    static const char *const files[] = {"comm", "wchan", "syscall"};
    if (e->d_name[0] == '.') continue;
    printf("    thread %s", e->d_name);
    for (int i = 0; i < 3; i++) {
      snprintf(path, sizeof path, "/proc/%d/task/%s/%s", (int)pid, e->d_name, files[i]);
      print_line_of(path);
    }
    printf("\n");
  }
  if (d != NULL) closedir(d);
}

static void print_output(int fd) {
  char block[4096];
  ssize_t n;
  off_t at = 0;
  bool line_start = true;
  while ((n = pread(fd, block, sizeof block, at)) > 0) {
    at += n;
    for (ssize_t i = 0; i < n; i++) {
      if (line_start) fputs("    ", stdout);
      putchar(block[i]);
      line_start = block[i] == '\n';
    }
  }
  if (!line_start) putchar('\n');
}

/* Said once more at the end, where a long run's reader looks first. */
static struct {
  const test_case *c;
  test_host host;
} failures[16];

static void note_failure(const test_case *c, test_host host) {
  if (failed < (int)(sizeof failures / sizeof failures[0])) {
    failures[failed].c = c;
    failures[failed].host = host;
  }
  failed++;
}

static void end_job(job *j, int status) {
  bool good = WIFEXITED(status) && WEXITSTATUS(status) == j->c->exits && !j->over_limit;
  printf("%s %s %s (%lld ms)\n", good ? "ok  " : "FAIL", host_names[j->host], j->c->name, (long long)(now_ms() - j->started));
  if (!good) {
    if (WIFEXITED(status) && (j->c->exits != 0 || WEXITSTATUS(status) != 1))
      printf("    it ended with %d, not with %d\n", WEXITSTATUS(status), j->c->exits);
    if (j->over_limit) printf("    over its limit of %lld ms\n", (long long)case_limit_ms(j->host));
    else if (WIFSIGNALED(status)) printf("    ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    print_output(j->output);
  }
  j->pid = 0;
  if (good) passed++;
  else note_failure(j->c, j->host);
  fflush(stdout);
}

/* The runner is the parent of what a case leaves behind (PR_SET_CHILD_SUBREAPER): such orphans must end, too. */
static bool reap_orphans(int n, char *left, size_t size) {
  siginfo_t info;
  for (;;) {
    memset(&info, 0, sizeof info);
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return true; /* no child at all */
    if (info.si_pid == 0) break;
    for (int i = 0; i < n; i++)
      if (jobs[i].pid == info.si_pid) return false; /* a case; it is waited for by its name */
    waitpid(info.si_pid, NULL, 0);
  }
  char path[80];
  snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
  FILE *f = left ? fopen(path, "re") : NULL;
  size_t got = f ? fread(left, 1, size - 1, f) : 0;
  if (f) fclose(f);
  if (left) left[got] = '\0';
  return false;
}

/* Waits until a child ends or the next limit is due, and takes note of both. */
static void wait_jobs(int n) {
  int64_t next = INT64_MAX;
  for (int i = 0; i < n; i++)
    if (jobs[i].pid != 0 && !jobs[i].over_limit && jobs[i].limit < next) next = jobs[i].limit;
  int64_t left = next == INT64_MAX ? 1000 : next - now_ms();
  if (left < 1) left = 1;
  struct timespec t = {left / 1000, (left % 1000) * 1000000};
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigtimedwait(&child, NULL, &t);
  reap_orphans(n, NULL, 0);
  for (int i = 0; i < n; i++) {
    job *j = &jobs[i];
    int status;
    if (j->pid == 0) continue;
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)j->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == j->pid) {
      kill(-j->pid, SIGKILL); /* what a bad case may have left in its group, while the group's number is still ours */
      if (waitpid(j->pid, &status, 0) == j->pid) end_job(j, status);
    } else if (!j->over_limit && now_ms() >= j->limit) {
      j->over_limit = true;
      printf("hang %s %s\n", host_names[j->host], j->c->name);
      print_threads(j->pid);
      kill(-j->pid, SIGKILL);
    }
  }
}

static int by_name(const void *a, const void *b) {
  return strcmp((*(test_case *const *)a)->name, (*(test_case *const *)b)->name);
}

static bool is_wanted(const test_case *c, test_host host, int parts, char **part) {
  if (c->not_in[host] != NULL) return false;
  for (int i = 0; i < parts; i++)
    if (strstr(c->name, part[i]) != NULL) return true;
  return parts == 0;
}

/* --- What is left out ----------------------------------------------------------------------------------------------- */

static bool is_special(const test_case *c) { /* written for one host, so that no other misses it */
  for (int host = 0; host < TEST_HOSTS; host++)
    if (c->not_in[host] != NULL && (strcmp(c->not_in[host], NO_CHILD) == 0 || strcmp(c->not_in[host], NO_RUN) == 0)) return true;
  return false;
}

static bool is_left_out(const test_case *c, int host, bool special, const char *why) {
  return c->not_in[host] != NULL && is_special(c) == special && (why == NULL || strcmp(c->not_in[host], why) == 0);
}

static int count_left_out(int host, bool special, const char *why, int from, int to) {
  int count = 0;
  for (int i = from; i < to; i++) count += is_left_out(cases[i], host, special, why);
  return count;
}

/* In Markdown: a line for each reason, with its cases, in the order of their first. */
static void list_left_out(int host, bool special) {
  for (int i = 0; i < case_count; i++) {
    const char *why = cases[i]->not_in[host];
    if (!is_left_out(cases[i], host, special, why) || count_left_out(host, special, why, 0, i) > 0) continue;
    printf("* %s (%d):", why, count_left_out(host, special, why, i, case_count));
    const char *comma = "";
    for (int k = i; k < case_count; k++) {
      if (!is_left_out(cases[k], host, special, why)) continue;
      printf("%s `%s`", comma, cases[k]->name);
      comma = ",";
    }
    printf("\n");
  }
}

static void list_skipped(void) {
  int common = 0;
  for (int i = 0; i < case_count; i++) common += !is_special(cases[i]);
  for (int host = 0; host < TEST_HOSTS; host++) {
    int count = count_left_out(host, false, NULL, 0, case_count);
    printf("Not with `--host %s`: %d of %d.\n\n", host_names[host], count, common);
    list_left_out(host, false);
    if (count > 0) printf("\n");
  }
  printf("Written for one host, and not with `--host thread`: %d.\n\n", case_count - common);
  list_left_out(IN_THREAD, true);
}

static void list_cases(test_host host, int parts, char **part) {
  for (int i = 0; i < case_count; i++)
    if (is_wanted(cases[i], host, parts, part)) puts(cases[i]->name);
}

static void run_cases(test_host host, int parallel, int parts, char **part) {
  int before_passed = passed, before_failed = failed;
  for (int running = 1, next = 0; running > 0;) {
    running = 0;
    for (int i = 0; i < parallel; i++) {
      while (jobs[i].pid == 0 && next < case_count) {
        const test_case *c = cases[next++];
        if (is_wanted(c, host, parts, part) && start_job(&jobs[i], c, host) != 0) {
          printf("FAIL %s %s: it could not be started: %s\n", host_names[host], c->name, strerror(errno));
          note_failure(c, host);
        }
      }
      if (jobs[i].pid != 0) running++;
    }
    if (running > 0) wait_jobs(parallel);
  }
  printf("-- host %s: %d passed, %d failed\n", host_names[host], passed - before_passed, failed - before_failed);
}

/* Whatever a case had started has ended with it: nothing comes to us that stays. */
static void check_orphans(void) {
  char left[512];
  int64_t until = now_ms() + LIMIT_MS;
  while (!reap_orphans(0, left, sizeof left)) {
    if (now_ms() > until) {
      printf("FAIL processes are left behind: %s\n", left);
      failed++;
      return;
    }
    pass_ms(1);
  }
}

int main(int argc, char **argv) {
  int32_t exit_code;
  if (child_main(argc == 4 && strcmp(argv[3], host_names[IN_PROCESS]) == 0, &exit_code)) return exit_code;
  bool list = false;
  int only = IN_THREAD, first = 1;
  const char *wanted_jobs = getenv("PODKEEP_TEST_JOBS");
  int parallel = wanted_jobs ? atoi(wanted_jobs) : 2;
  qsort(cases, (size_t)case_count, sizeof cases[0], by_name);
  for (; first < argc && argv[first][0] == '-'; first++) {
    const char *value = first + 1 < argc ? argv[first + 1] : "";
    int host = 0;
    while (host < TEST_HOSTS && strcmp(value, host_names[host]) != 0) host++;
    if (strcmp(argv[first], "--list") == 0) list = true;
    else if (strcmp(argv[first], "--list-skipped") == 0) return list_skipped(), 0;
    else if (strcmp(argv[first], "-j") == 0 && *value) parallel = atoi(value), first++;
    else if (strcmp(argv[first], "--host") == 0 && (host < TEST_HOSTS || strcmp(value, "all") == 0)) only = host, first++;
    else if (strcmp(argv[first], "--case") == 0 && first + 3 == argc) {
      for (host = 0; host < TEST_HOSTS; host++)
        if (strcmp(argv[first + 2], host_names[host]) == 0) return run_case(value, (test_host)host);
      return 2;
    } else {
      fprintf(stderr, "usage: %s [--host thread|process|main|all] [--list] [--list-skipped] [-j N] [PART...]\n", argv[0]);
      return 2;
    }
  }
  if (parallel < 1) parallel = 1;
  if (parallel > MAX_JOBS) parallel = MAX_JOBS;

  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, &mask_before);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (int host = 0; host < TEST_HOSTS; host++) {
    if (only != TEST_HOSTS && only != host) continue;
    if (list) list_cases((test_host)host, argc - first, argv + first);
    else run_cases((test_host)host, parallel, argc - first, argv + first);
  }
  if (list) return 0;
  for (int i = 0; i < failed && i < (int)(sizeof failures / sizeof failures[0]); i++)
    printf("FAIL %s %s\n", host_names[failures[i].host], failures[i].c->name);
  check_orphans();
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0 || passed == 0;
}
