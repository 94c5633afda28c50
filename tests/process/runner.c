/* runner.c: runs each case in a process of its own, with a limit, below a process that becomes the parent of whatever the
 * case leaves behind (a child subreaper). A case passes when it says so and nothing is left below that parent a moment later:
 * no pod's child, no grandchild, no guardian.
 *
 *   process [--list] [-j N] [PART...]    the cases whose name holds one of the parts; all without
 *   process --case|--host|--do NAME ...  a process of a case (world.h)
 *
 * PODKEEP_TEST_SLOW=10 stretches every limit. */
#include "actor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CASES = 512, MAX_JOBS = 16, SKIPPED = 77, FAILED = 1 };
#define LEFTOVER_LIMIT_MS slow_ms(10000)

/* --- A process of a case -------------------------------------------------------------------------------------------------- */

/* One whole life of each sort, with all that makes the library keep a thread, a descriptor or the guardian: they belong to
 * the measure. */
static void warm_up(void) {
  log_keep(1);
  actor *a = actor_new("warm-up");
  actor_running(a);
  podkeep_monitor *m;
  int fd;
  CHECK_OK(podkeep_monitor_new(a->pod, &m));
  CHECK_OK(podkeep_monitor_fd(m, &fd));
  actor_close(a, PODKEEP_OK);
  CHECK_OK(podkeep_monitor_free(m));
  podkeep_pod_options notify = process_options();
  notify.ready = PODKEEP_READY_NOTIFY;
  pod_close(shell_start("warm-up", "sleep 1000", &notify), PODKEEP_OK);
  log_drop();
}

static int run_entry(const char *kind, int argc, char **argv) {
  world_attach();
  entry *e = entry_find(kind, argv[0]);
  if (e == NULL) return fprintf(stderr, "no %s %s\n", kind, argv[0]), 2;
  arg_count = argc - 1;
  arg_list = argv + 1;
  if (strcmp(kind, "do") == 0) {
    e->body();
    return 0;
  }
  actors_export((e->flags & NO_EXPORT) == 0);
  for (entry *x = entry_first(); x != NULL; x = x->next)
    if (strcmp(x->kind, "exports") == 0) x->body();
  if ((e->flags & NO_ASK) == 0) {
    int32_t code = -1;
    podkeep_status status = podkeep_child_run(&code);
    if (status == PODKEEP_OK) return code;
    CHECK_STATUS(status, PODKEEP_ERR_ENDED);
  }
  if (strcmp(kind, "host") == 0) {
    e->body();
    return 0;
  }
  /* A pod's child that goes on as a host would start the case anew, and so on: no bomb out of a bug. */
  if ((e->flags & NO_ASK) == 0 && ADD(B->bodies, 1) > 1) check_failed(__FILE__, __LINE__, "a pod's child went on as its host");
  bool cold = (e->flags & COLD) != 0;
  if (!cold) {
    warm_up();
    world_baseline();
  }
  e->body();
  world_close(cold);
  return 0;
}

/* --- The parent of one case -------------------------------------------------------------------------------------------------- */

enum { SHOWN_LINES = 40 };
static void print_file(const char *path) {
  static char text[1 << 16];
  int lines = 0;
  read_file(path, text, sizeof text);
  for (char *line = text, *end; *line && lines < SHOWN_LINES; line = end + 1, lines++) {
    end = strchr(line, '\n');
    if (end) *end = '\0';
    printf("    %s\n", line);
    if (!end) break;
  }
}
static void print_process(pid_t pid, const char *why) {
  char path[64], text[2048];
  snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
  int fd = open(path, O_RDONLY);
  ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
  if (fd >= 0) close(fd);
  for (ssize_t i = 0; i < n; i++)
    if (text[i] == '\0') text[i] = ' ';
  text[n > 0 ? n : 0] = '\0';
  printf("    %s: process %d (%c) %s\n", why, (int)pid, process_letter(pid), text);
  snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
  DIR *d = opendir(path);
  for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
    static const char *const files[] = {"comm", "wchan", "syscall"};
    char name[400];
    if (e->d_name[0] == '.') continue;
    printf("      thread %s", e->d_name);
    for (int i = 0; i < 3; i++) {
      snprintf(name, sizeof name, "%s/%s/%s", path, e->d_name, files[i]);
      read_file(name, text, 200);
      text[strcspn(text, "\n")] = '\0';
      printf(" %s", text);
    }
    printf("\n");
  }
  if (d != NULL) closedir(d);
}
/* What has this process as an ancestor, /proc read once. */
static int descendants(pid_t *into, int size) {
  static int parents[1 << 17];
  static pid_t pids[1 << 17];
  int count = 0, found = 0;
  DIR *d = opendir("/proc");
  for (struct dirent *e; d && (e = readdir(d)) != NULL && count < (1 << 17);) {
    char path[300], text[512];
    pid_t pid = atoi(e->d_name);
    if (pid <= 0) continue;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    read_file(path, text, sizeof text);
    const char *after = strrchr(text, ')');
    if (after == NULL || sscanf(after + 1, " %*c %d", &parents[count]) != 1) continue;
    pids[count++] = pid;
  }
  if (d) closedir(d);
  pid_t known[4096] = {getpid()};
  int knowns = 1;
  for (bool more = true; more;) {
    more = false;
    for (int i = 0; i < count; i++)
      for (int k = 0; k < knowns && pids[i] != 0; k++)
        if (parents[i] == known[k] && knowns < 4096) {
          known[knowns++] = pids[i];
          if (found < size) into[found++] = pids[i];
          pids[i] = 0;
          more = true;
        }
  }
  return found;
}

static void wait_for_child_or(int64_t until) {
  int64_t left = until - now_ms();
  struct timespec t = {left > 0 ? left / 1000 : 0, left > 0 ? (left % 1000) * 1000000 : 0};
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigtimedwait(&child, NULL, &t);
}
/* Reaps what there is to reap; -1: the case has not ended yet. */
static void reap(pid_t its_pid, int *its_status, bool *none_left) {
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
    if (pid == its_pid) *its_status = status;
  *none_left = pid < 0 && errno == ECHILD;
}

static int keep_case(const entry *e, const sigset_t *mask_before) {
  char directory[600], output[700];
  const char *tmp = getenv("TMPDIR");
  snprintf(directory, sizeof directory, "%s/podkeep-process.XXXXXX", tmp && *tmp ? tmp : "/tmp");
  if (mkdtemp(directory) == NULL || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return perror("case"), FAILED;
  chmod(directory, 0777); /* cases with other user ids */
  snprintf(output, sizeof output, "%s/output", directory);
  world_create(directory);
  char world[700];
  snprintf(world, sizeof world, "%s/world", directory);
  chmod(world, 0666);
  setenv("PODKEEP_TEST_OUTPUT", output, 1);

  int64_t limit = slow_ms((int64_t)e->limit_s * 1000), begun = now_ms();
  fflush(NULL);
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(2);
    struct rlimit core;
    getrlimit(RLIMIT_CORE, &core);
    core.rlim_cur = 0; /* the soft one: the case about cores raises it */
    setrlimit(RLIMIT_CORE, &core);
    sigprocmask(SIG_SETMASK, mask_before, NULL);
    int in = open("/dev/null", O_RDONLY), out = open(output, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(2);
    for (int fd = 3; fd < 256; fd++) close(fd);
    fchmod(1, 0666);
    execl("/proc/self/exe", self_path(), "--case", e->name, (char *)NULL);
    _exit(2);
  }
  int status = -1;
  bool none_left = false, hung = false;
  while (status == -1) {
    reap(pid, &status, &none_left);
    if (status != -1) break;
    if (none_left) return printf("    the case's process is lost\n"), FAILED;
    if (!hung && now_ms() - begun > limit) {
      hung = true;
      printf("    no end within %lld ms\n", (long long)limit);
      print_process(pid, "hangs");
      kill(pid, SIGKILL);
    }
    wait_for_child_or(hung ? now_ms() + 100 : begun + limit + 1);
  }
  int64_t ended = now_ms();
  while (reap(pid, &status, &none_left), !none_left && now_ms() - ended < LEFTOVER_LIMIT_MS) wait_for_child_or(now_ms() + 50);
  bool leftover = !none_left;
  for (int rounds = 0; !none_left && rounds < 200; rounds++) { /* a bomb may go on growing: again until all are gone */
    static pid_t left[4096];
    int n = descendants(left, 4096);
    for (int i = 0; i < n; i++) {
      if (rounds == 0 && i < 20) print_process(left[i], "left behind");
      kill(left[i], SIGKILL);
    }
    wait_for_child_or(now_ms() + 20);
    reap(pid, &status, &none_left);
  }
  bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED && !hung && !leftover;
  bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0 && !hung && !leftover;
  if (WIFSIGNALED(status) && !hung) printf("    ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
  static char text[1 << 16];
  read_file(output, text, sizeof text);
  if (!good || strstr(text, "note: ")) {
    if (good) { /* figures only */
      for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "note: ", 6) == 0) printf("    %s\n", line);
    } else {
      print_file(output);
    }
  }
  char *const words[] = {"rm", "-rf", directory, NULL};
  fflush(NULL);
  if (!good && getenv("PODKEEP_TEST_KEEP")) printf("    kept: %s\n", directory);
  else if ((pid = fork()) == 0) execvp("rm", words), _exit(1);
  else waitpid(pid, NULL, 0);
  return skipped ? SKIPPED : good ? 0 : FAILED;
}

/* --- The runner -------------------------------------------------------------------------------------------------------------- */

typedef struct job {
  const entry *e;
  pid_t pid; /* 0: free */
  FILE *report;
  int64_t begun;
} job;

static int by_name(const void *a, const void *b) {
  return strcmp((*(const entry *const *)a)->name, (*(const entry *const *)b)->name);
}
static bool is_wanted(const entry *e, int parts, char **part) {
  for (int i = 0; i < parts; i++)
    if (strstr(e->name, part[i]) != NULL) return true;
  return parts == 0;
}
static void start_job(job *j, const entry *e, const sigset_t *mask_before) {
  j->e = e;
  j->begun = now_ms();
  j->report = tmpfile();
  if (j->report == NULL) perror("tmpfile"), exit(2);
  fflush(NULL);
  pid_t parent = getpid();
  j->pid = fork();
  if (j->pid < 0) perror("fork"), exit(2);
  if (j->pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || dup2(fileno(j->report), 1) < 0) _exit(2);
    int code = keep_case(e, mask_before);
    fflush(NULL);
    _exit(code);
  }
}

int main(int argc, char **argv) {
  static const entry *cases[MAX_CASES];
  static const entry *failures[16]; /* said once more at the end, where a long run's reader looks first */
  static job jobs[MAX_JOBS];
  if (argc >= 3 && strncmp(argv[1], "--", 2) == 0 && strcmp(argv[1], "--list") != 0)
    return run_entry(argv[1] + 2, argc - 2, argv + 2);
  int count = 0, parallel = 2, first = 1, passed = 0, failed = 0, skipped = 0, running = 0, next = 0;
  bool list = false;
  for (entry *e = entry_first(); e != NULL; e = e->next)
    if (strcmp(e->kind, "case") == 0 && count < MAX_CASES) cases[count++] = e;
  qsort(cases, (size_t)count, sizeof cases[0], by_name);
  for (; first < argc && argv[first][0] == '-'; first++) {
    if (strcmp(argv[first], "--list") == 0) list = true;
    else if (strcmp(argv[first], "-j") == 0 && first + 1 < argc) parallel = atoi(argv[++first]);
    else return fprintf(stderr, "usage: %s [--list] [-j N] [PART...]\n", argv[0]), 2;
  }
  parallel = parallel < 1 ? 1 : parallel > MAX_JOBS ? MAX_JOBS : parallel;
  sigset_t child, mask_before;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, &mask_before);
  self_path();
  do {
    for (int i = 0; i < parallel; i++)
      while (jobs[i].pid == 0 && next < count) {
        const entry *e = cases[next++];
        if (!is_wanted(e, argc - first, argv + first)) continue;
        if (list) {
          puts(e->name);
        } else {
          start_job(&jobs[i], e, &mask_before);
          running++;
        }
      }
    if (running == 0) break;
    wait_for_child_or(now_ms() + 1000);
    for (int i = 0; i < parallel; i++) {
      int status;
      job *j = &jobs[i];
      if (j->pid == 0 || waitpid(j->pid, &status, WNOHANG) != j->pid) continue;
      int code = WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
      printf("%s %s (%lld ms)\n", code == 0 ? "ok  " : code == SKIPPED ? "skip" : "FAIL", j->e->name, (long long)(now_ms() - j->begun));
      char block[4096];
      rewind(j->report);
      for (size_t n; (n = fread(block, 1, sizeof block, j->report)) > 0;) fwrite(block, 1, n, stdout);
      fflush(stdout);
      fclose(j->report);
      j->pid = 0;
      running--;
      if (code == 0) passed++;
      else if (code == SKIPPED) skipped++;
      else if (failed++ < (int)(sizeof failures / sizeof failures[0])) failures[failed - 1] = j->e;
    }
  } while (true);
  if (list) return 0;
  for (int i = 0; i < failed && i < (int)(sizeof failures / sizeof failures[0]); i++) printf("FAIL %s\n", failures[i]->name);
  if (skipped) printf("%d skipped\n", skipped);
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0 || passed == 0;
}
