/* hostile.c: a child that breaks the rules of its channel: its own pod is lost, with a sentence, and nothing else is harmed.
 *
 * The program claims its pod by hand. It finds the channel in PODKEEP_CHILD ("socket:memory:..."); the claim is a word of
 * the memory (src/host/process/block.rs); a message is its length in 4 bytes, its kind in one, its content (frame.rs). */
#include "actor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int channel, memory, shown; /* of PODKEEP_CHILD; what is shown to all children must be read-only to each */
enum { INIT_OK = 1, READY, RECORD, RUN_RETURNED, STATUS, EXTEND, END, LOOK, HOOK_RECORD, FAILED }; /* kinds */
enum { CLAIMED_AT = 24 };                                                    /* in the memory */

static void put(const void *bytes, size_t n) {
  const char *at = bytes;
  while (n > 0) {
    ssize_t sent = send(channel, at, n, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) _exit(44); /* the host has closed its end */
    at += sent, n -= (size_t)sent;
  }
}
static void put_frame(int kind, const void *content, uint32_t n) {
  uint32_t length = n + 1;
  unsigned char head[5] = {(unsigned char)length, (unsigned char)(length >> 8), (unsigned char)(length >> 16), (unsigned char)(length >> 24), (unsigned char)kind};
  put(head, 5);
  put(content, n);
}
static void put_status(const char *text, uint32_t n) {
  static unsigned char content[70000];
  memcpy(content, &n, 4);
  memcpy(content + 4, text, n);
  put_frame(STATUS, content, n + 4);
}
static void put_record(void) { put_frame(RECORD, "\3\0\7\0\0\0\4\0\0\0text\0\0\0\0", 18); }
static void put_garbage(size_t n) {
  unsigned char block[4096];
  for (; n > 0; n -= n < sizeof block ? n : sizeof block) {
    for (size_t i = 0; i < sizeof block; i++) block[i] = (unsigned char)random_below(256);
    put(block, n < sizeof block ? n : sizeof block);
  }
}
static void claim(void) {
  char *block = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  CHECK(block != MAP_FAILED);
  STORE(*(uint32_t *)(void *)(block + CLAIMED_AT), 1u);
  CHECK(munmap(block, 4096) == 0);
}
static void run(void) {
  claim();
  put_frame(INIT_OK, "", 0);
}
static void stay(void) {
  event_set(&B->events[0]);
  for (;;) pause();
}
enum { FLOODERS = 4 };
/* Goes on saying what is well formed, out of reach of its group, or in it; the child itself has ended. */
static void flood_from_below(bool escaped, bool large) {
  static char text[65536];
  memset(text, 'x', sizeof text);
  run();
  if (large && fork() == 0) { /* one alone: the words of several would mix */
    if (escaped) setsid();
    B->numbers[0] = getpid();
    put_status(text, sizeof text);
    event_set(&B->events[1]);
    for (;;) put_status(text, sizeof text);
  }
  if (large) event_wait(&B->events[1]), _exit(0);
  for (int i = 0; i < FLOODERS; i++)
    if (fork() == 0) {
      if (escaped) setsid();
      B->numbers[i] = getpid();
      if (ADD(B->numbers[FLOODERS], 1) == FLOODERS) event_set(&B->events[1]);
      static const char status[] = "\x0b\0\0\0\5\6\0\0\0and on"; /* one send: whole words even when several say them */
      for (;;) put(status, sizeof status - 1);
    }
  event_wait(&B->events[1]);
  _exit(0);
}

PROGRAM(hostile) {
  const char *how = arg_list[0], *marker = getenv("PODKEEP_CHILD");
  CHECK(marker != NULL && sscanf(marker, "%d:%d:%d", &channel, &memory, &shown) == 3);
  fcntl(channel, F_SETFL, fcntl(channel, F_GETFL) & ~O_NONBLOCK);
  random_seed(1);
#define HOW(name) if (strcmp(how, name) == 0)
  HOW("garbage at once") put_garbage(5000), stay();
  HOW("garbage when claimed") claim(), put_garbage(100000), stay();
  HOW("garbage when running") run(), put_garbage(100000), stay();
  HOW("a length of 4 GiB") run(), put("\xff\xff\xff\xff\x06", 5), stay();
  HOW("a length of nothing") run(), put("\0\0\0\0", 4), stay();
  HOW("an unknown kind") run(), put_frame(77, "abc", 3), stay();
  HOW("kind 0") run(), put_frame(0, "", 0), stay();
  HOW("a host's word") run(), put_frame(LOOK, "", 0), stay();
  HOW("a word before the claim") put_frame(READY, "", 0), stay();
  HOW("a word after the end") run(), put_frame(RUN_RETURNED, "", 1), put_frame(END, "", 1), put_frame(READY, "", 0), stay();
  HOW("bytes behind a word") run(), put_frame(READY, "more", 4), stay();
  HOW("a word cut short") run(), put_frame(EXTEND, "\1", 1), stay();
  HOW("a status that is no text") run(), put_status("\xff\xfe", 2), stay();
  HOW("an inner length too long") run(), put_frame(STATUS, "\xff\xff\xff\x7f" "x", 5), stay();
  HOW("neither yes nor no") run(), put_frame(RUN_RETURNED, "\2", 1), stay();
  HOW("no such phase") run(), put_frame(RECORD, "\x63\0\7\0\0\0\4\0\0\0text\0\0\0\0", 18), stay();
  HOW("records without end") {
    run();
    for (;;) put_record();
  }
  HOW("failures without end") {
    run();
    for (;;) put_record(), put_frame(FAILED, "", 0);
  }
  HOW("a failure without a record") run(), put_frame(RUN_RETURNED, "\1", 1), stay();
  HOW("channel closed") run(), close(channel), stay();
  HOW("channel shut") run(), shutdown(channel, SHUT_WR), stay();
  HOW("channel shut both ways") run(), shutdown(channel, SHUT_RDWR), stay();
  HOW("part of a word, then gone") run(), put("\x10\0\0", 3), _exit(0);
  HOW("part of a large word, then killed") {
    char text[5000] = {0};
    run(), put("\0\0\x10\0\5", 5), put(text, sizeof text), kill(getpid(), SIGKILL);
  }
  HOW("part of a word, then silence") run(), put("\x10\0\0\0\x06", 5), stay();
  HOW("one byte at a time") {
    run();
    static const unsigned char ready[] = {1, 0, 0, 0, READY};
    for (int i = 0; i < 5; i++) put(ready + i, 1);
    stay();
  }
  HOW("floods") {
    run();
    event_set(&B->events[0]);
    for (;;) put_status("flooding", 8);
  }
  HOW("floods with large words") {
    static char text[65536];
    memset(text, 'x', sizeof text);
    run();
    event_set(&B->events[0]);
    for (;;) put_status(text, sizeof text);
  }
  HOW("extends without end") {
    run();
    event_set(&B->events[0]);
    for (;;) put_frame(EXTEND, "\xff\xff\xff\xff\xff\xff\xff\x7f", 8);
  }
  HOW("floods from below") flood_from_below(false, false);
  HOW("floods from below, escaped") flood_from_below(true, false);
  HOW("floods from below with large words") flood_from_below(false, true);
  HOW("floods from below with large words, escaped") flood_from_below(true, true);
  HOW("passes descriptors") {
    run();
    for (int i = 0; i < 300; i++) {
      union { char bytes[CMSG_SPACE(sizeof(int) * 8)]; struct cmsghdr head; } control;
      memset(&control, 0, sizeof control);
      struct iovec part = {(void *)(uintptr_t)"\x01\0\0\0\x02", 5};
      struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
      control.head.cmsg_level = SOL_SOCKET, control.head.cmsg_type = SCM_RIGHTS, control.head.cmsg_len = CMSG_LEN(sizeof(int) * 8);
      for (int k = 0; k < 8; k++) memcpy(CMSG_DATA(&control.head) + k * sizeof(int), &(int){0}, sizeof(int));
      if (sendmsg(channel, &message, MSG_NOSIGNAL) < 0) break;
    }
    stay();
  }
  HOW("the end without an exit") run(), put_frame(RUN_RETURNED, "", 1), put_frame(END, "", 1), stay();
  HOW("the end of a failed init without an exit") claim(), put_record(), put_frame(END, "\1", 1), stay();
  HOW("the end of a run that never returned") run(), put_frame(END, "", 1), stay();
  HOW("the end, and part of a word") run(), put_frame(END, "", 1), put("\x10\0", 2), stay();
  HOW("overwrites the memory") {
    struct stat s;
    CHECK(fstat(memory, &s) == 0);
    int shrunk = ftruncate(memory, 0), grown = ftruncate(memory, s.st_size + (1 << 20));
    B->numbers[0] = shrunk == 0 || grown == 0;
    unsigned char *at = mmap(NULL, (size_t)s.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    CHECK(at != MAP_FAILED);
    run();
    event_set(&B->events[0]);
    for (;;) {
      for (off_t i = 0; i < s.st_size; i++) at[i] = (unsigned char)random_below(256);
      if (event_is_set(&B->events[1])) _exit(3);
    }
  }
  HOW("overwrites what all children are shown") {
    struct stat s;
    char path[64];
    CHECK(fstat(shown, &s) == 0 && s.st_size > 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", shown);
    fchmod(shown, 0777);
    int again = open(path, O_RDWR); /* the same file, opened anew */
    const int fds[] = {shown, again};
    for (int i = 0; i < 2; i++) {
      unsigned char *at = mmap(NULL, (size_t)s.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
      if (at != MAP_FAILED) {
        B->numbers[0] |= 1;
        memset(at, 0xff, (size_t)s.st_size);
      }
      if (write(fds[i], "\xff\xff\xff\xff\xff\xff\xff\xff", 8) == 8) B->numbers[0] |= 2;
      if (ftruncate(fds[i], 0) == 0) B->numbers[0] |= 4;
      if (fallocate(fds[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0) B->numbers[0] |= 8;
    }
    unsigned char *at = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, shown, 0);
    CHECK(at != MAP_FAILED);
    if (mprotect(at, (size_t)s.st_size, PROT_READ | PROT_WRITE) == 0) B->numbers[0] |= 16;
    run(), stay();
  }
  HOW("punches holes in the memory") {
    B->numbers[0] = fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
    run(), stay();
  }
  check_failed(__FILE__, __LINE__, "no such way: %s", how);
}

static podkeep_pod *hostile_start(const char *how, bool notify) {
  const char *const argv[] = {self_path(), "--do", "hostile", how, NULL};
  podkeep_runtime *runtime;
  podkeep_pod *pod;
  podkeep_pod_options o = process_options();
  o.grace_ms = slow_ms(300), o.kill_after_ms = slow_ms(300), o.extend_max_ms = slow_ms(300);
  if (notify) o.ready = PODKEEP_READY_NOTIFY;
  CHECK_OK(podkeep_runtime_from_program("hostile", argv, &runtime));
  CHECK_OK(podkeep_pod_new(runtime, &o, &pod));
  CHECK_OK(podkeep_runtime_free(runtime));
  STORE(B->events[0].set, 0u), STORE(B->events[1].set, 0u);
  CHECK_OK(podkeep_pod_start(pod));
  return pod;
}
static actor *bystander;
static void bystander_is_well(void) {
  CHECK_STATE(bystander->pod, RUNNING);
  CHECK(alive(bystander->pid));
  actor *fresh = actor_new("fresh"); /* and the library has eyes and ears for others */
  actor_running(fresh);
  CHECK(kill(fresh->pid, SIGKILL) == 0);
  int64_t begun = now_ms();
  CHECK_STATUS(podkeep_pod_join(fresh->pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(2000));
  actor_free(fresh);
}
static void lost_all_the_same(const char *const ways[]) {
  bystander = actor_new("bystander");
  actor_running(bystander);
  for (int i = 0; ways[i] != NULL; i++) {
    podkeep_pod *pod = hostile_start(ways[i], false);
    CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
    podkeep_failure *f;
    CHECK_OK(podkeep_pod_failure(pod, &f));
    if (podkeep_failure_kind(f) != PODKEEP_KIND_LOST)
      check_failed(__FILE__, __LINE__, "%s: kind %d: %s", ways[i], podkeep_failure_kind(f), podkeep_failure_message(f));
    CHECK_INT(podkeep_failure_code(f), 0);
    CHECK(strlen(podkeep_failure_message(f)) > 10);
    CHECK_OK(podkeep_failure_free(f));
    CHECK_OK(podkeep_pod_free(pod));
    bystander_is_well();
  }
  actor_close(bystander, PODKEEP_OK);
}
TEST(S3_hostile__garbage_is_lost) {
  static const char *const ways[] = {"garbage at once", "garbage when claimed", "garbage when running", NULL};
  lost_all_the_same(ways);
}
TEST(S3_hostile__bad_lengths_are_lost) {
  static const char *const ways[] = {"a length of 4 GiB", "a length of nothing", "bytes behind a word", "a word cut short",
                                     "an inner length too long", NULL};
  lost_all_the_same(ways);
}
TEST(S3_hostile__words_out_of_place_are_lost) {
  static const char *const ways[] = {"an unknown kind", "kind 0", "a host's word", "a word before the claim",
                                     "a status that is no text", "neither yes nor no", "no such phase",
                                     "records without end", "a failure without a record", NULL};
  lost_all_the_same(ways);
}
TEST(S3_hostile__failures_without_end_are_lost) { /* each has its step, so none waits for one */
  podkeep_pod *pod = hostile_start("failures without end", false);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(pod, &f));
  int count = 0, lost = 0;
  for (const podkeep_failure *each = f; each != NULL; each = podkeep_failure_secondary(each))
    count++, lost += podkeep_failure_kind(each) == PODKEEP_KIND_LOST;
  CHECK_INT(lost, 1);
  CHECK(count <= 100);
  CHECK_OK(podkeep_failure_free(f));
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S3_hostile__a_word_after_the_end_is_lost_or_not_heard) { /* nobody listens after the end; it stays, and is made to end */
  podkeep_pod *pod = hostile_start("a word after the end", false);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(pod, &f));
  CHECK(podkeep_failure_kind(f) == PODKEEP_KIND_LOST || podkeep_failure_kind(f) == PODKEEP_KIND_TIMEOUT);
  CHECK_OK(podkeep_failure_free(f));
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S3_hostile__a_closed_channel_is_lost) {
  static const char *const ways[] = {"channel closed", "channel shut", "channel shut both ways", NULL};
  lost_all_the_same(ways);
}
static void cut_by_its_end(const char *how, podkeep_kind kind, int32_t code) { /* its real end is told */
  podkeep_pod *pod = hostile_start(how, false);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(pod, &f));
  CHECK_INT(podkeep_failure_kind(f), kind);
  CHECK_INT(podkeep_failure_code(f), code);
  CHECK_HASNT(podkeep_failure_message(f), "trusted");
  CHECK(podkeep_failure_secondary(f) == NULL);
  CHECK_OK(podkeep_failure_free(f));
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S3_hostile__part_of_a_word_then_gone) { cut_by_its_end("part of a word, then gone", PODKEEP_KIND_EXIT, 0); }
TEST(S2_killed_in_the_middle_of_a_large_word) {
  cut_by_its_end("part of a large word, then killed", PODKEEP_KIND_SIGNAL, SIGKILL);
}
TEST(S3_hostile__part_of_a_word_then_silence) {
  podkeep_pod *pod = hostile_start("part of a word, then silence", false);
  event_wait(&B->events[0]);
  CHECK_STATUS(podkeep_pod_join(pod, SHORT_MS), PODKEEP_ERR_TIMEOUT);
  int64_t begun = now_ms();
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(300 + 300 + SLACK));
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(S3_hostile__slow_is_no_crime) {
  podkeep_pod *pod = hostile_start("one byte at a time", true);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  CHECK_STATE(pod, RUNNING);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED); /* it reads no cancel */
  CHECK_OK(podkeep_pod_free(pod));
}
static void floods(const char *how) {
  bystander = actor_new("bystander");
  actor_running(bystander);
  podkeep_pod *pod = hostile_start(how, false);
  event_wait(&B->events[0]);
  bystander_is_well();
  CHECK_STATE(pod, RUNNING);
  int64_t begun = now_ms();
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(300 + 300 + 300 + SLACK)); /* one of them is what it could extend */
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(pod, &f));
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_TIMEOUT);
  CHECK_OK(podkeep_failure_free(f));
  CHECK_OK(podkeep_pod_free(pod));
  bystander_is_well();
  actor_close(bystander, PODKEEP_OK);
}
TEST(S3_hostile__a_flood_delays_nobody) { floods("floods"); }
TEST(S3_hostile__a_flood_of_large_words_delays_nobody) { floods("floods with large words"); }
TEST(S3_hostile__extends_are_bounded) { floods("extends without end"); }

static void flooded_from_below(const char *how) {
  bystander = actor_new("bystander");
  actor_running(bystander);
  podkeep_pod *pod = hostile_start(how, false);
  event_wait(&B->events[1]);
  int64_t begun = now_ms();
  podkeep_status status = podkeep_pod_join(pod, LIMIT_MS);
  for (int i = 0; i < FLOODERS; i++)
    if (B->numbers[i] && alive((pid_t)B->numbers[i])) kill((pid_t)B->numbers[i], SIGKILL); /* it had left the group */
  CHECK_STATUS(status, PODKEEP_ERR_FAILED); /* its end without the library's word */
  CHECK_BELOW(now_ms() - begun, slow_ms(2000));
  bystander_is_well();
  CHECK_OK(podkeep_pod_free(pod));
  actor_close(bystander, PODKEEP_OK);
}
TEST(S3_hostile__a_grandchilds_flood_outlives_no_child) { flooded_from_below("floods from below"); }
TEST(S3_hostile__an_escaped_flood_outlives_no_child) { flooded_from_below("floods from below, escaped"); }
TEST(S3_hostile__a_grandchilds_large_flood_outlives_no_child) { flooded_from_below("floods from below with large words"); }
TEST(S3_hostile__an_escaped_large_flood_outlives_no_child) { flooded_from_below("floods from below with large words, escaped"); }
TEST(S3_hostile__passed_descriptors_are_not_kept) {
  int before = open_descriptors();
  podkeep_pod *pod = hostile_start("passes descriptors", false);
  event_wait(&B->events[0]);
  UNTIL(open_descriptors() <= before + 8); /* the pod's own */
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_OK(podkeep_pod_free(pod));
  UNTIL(open_descriptors() <= before);
}
static void end_without_an_exit(const char *how) { /* it says that all is over, and stays: one grace for all of that */
  podkeep_pod *pod = hostile_start(how, false);
  int64_t begun = now_ms();
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  CHECK_BELOW(now_ms() - begun, slow_ms(300 + 300 + SLACK));
  CHECK_STATE(pod, FAILED);
  CHECK_OK(podkeep_pod_free(pod));
}
TEST(L12_hostile__the_end_without_an_exit) { end_without_an_exit("the end without an exit"); }
TEST(L12_hostile__the_end_without_an_exit__of_a_failed_init) { end_without_an_exit("the end of a failed init without an exit"); }
TEST(L12_hostile__the_end_without_an_exit__of_a_run) { end_without_an_exit("the end of a run that never returned"); }
TEST(L12_hostile__the_end_without_an_exit__and_part_of_a_word) { end_without_an_exit("the end, and part of a word"); }
TEST(S3_hostile__overwritten_memory) {
  bystander = actor_new("bystander");
  actor_running(bystander);
  podkeep_pod *pod = hostile_start("overwrites the memory", false);
  event_wait(&B->events[0]);
  CHECK_INT(B->numbers[0], 0); /* it is sealed: a host that reads it never faults */
  for (int i = 0; i < 200; i++) { /* what looks at that memory: sentences, the state, the id */
    podkeep_status status = podkeep_pod_join(pod, 1);
    CHECK(status == PODKEEP_ERR_TIMEOUT);
    state_of(pod);
  }
  bystander_is_well();
  event_set(&B->events[1]);
  CHECK_STATUS(podkeep_pod_join(pod, LIMIT_MS), PODKEEP_ERR_FAILED);
  podkeep_failure *f;
  CHECK_OK(podkeep_pod_failure(pod, &f));
  CHECK(podkeep_failure_phase(f) >= PODKEEP_PHASE_SPAWN && podkeep_failure_phase(f) <= PODKEEP_PHASE_TEARDOWN);
  CHECK_INT(podkeep_failure_kind(f), PODKEEP_KIND_EXIT); /* its real end */
  CHECK_INT(podkeep_failure_code(f), 3);
  CHECK_OK(podkeep_failure_free(f));
  CHECK_OK(podkeep_pod_free(pod));
  actor_close(bystander, PODKEEP_OK);
}
TEST(S3_hostile__what_all_are_shown_is_nobodys_to_write) {
  bystander = actor_new("bystander");
  actor_running(bystander);
  podkeep_pod *pod = hostile_start("overwrites what all children are shown", false);
  event_wait(&B->events[0]);
  bystander_is_well();
  CHECK_INT(bystander->teardown.count, 0);
  CHECK_INT(B->numbers[0], 0);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_OK(podkeep_pod_free(pod));
  actor_close(bystander, PODKEEP_OK);
}
TEST(S3_hostile__holes_in_the_memory) {
  podkeep_pod *pod = hostile_start("punches holes in the memory", false);
  event_wait(&B->events[0]);
  CHECK_STATUS(podkeep_pod_join(pod, 1), PODKEEP_ERR_TIMEOUT);
  CHECK_STATUS(podkeep_pod_close(pod), PODKEEP_ERR_FAILED);
  CHECK_OK(podkeep_pod_free(pod));
}
