/* Sections 8 and 10: a main pod that is restarted: what the one above hears, what a signal does in the delay, and that its reign ends. */
#include "lives.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bool is_default(int signal_number) {
  struct sigaction now;
  CHECK_INT(sigaction(signal_number, NULL, &now), 0);
  return now.sa_handler == SIG_DFL;
}

/* It is a user's stop, and ends the delay at once; the exit code, 0, is checked by start_pod. */
TEST_MAIN(S8_main__SIGTERM_in_the_delay) {
  probe *p = far_away("waiting");
  podkeep_pod *pod = probe_start(p);
  until_restarting(pod);
  CHECK_INT(kill(getpid(), SIGTERM), 0);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  UNTIL(is_default(SIGTERM)); /* a moment after the end is shown */
  probe_free(p);
  CHECK_INT(p->lives[1].init.count, 0);
}

TEST_MAIN(S8_main__SIGTERM_in_a_later_life) {
  probe *p = restarting("later", 3);
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[2].run.entered);
  CHECK_INT(kill(getpid(), SIGTERM), 0);
  CHECK_OK(podkeep_pod_join(pod, LIMIT_MS));
  UNTIL(is_default(SIGTERM));
  probe_free(p);
}

/* Whatever became of its thread: the handlers are put back, and another main pod may follow. */
TEST_MAIN(S8_main__its_reign_ends_though_its_thread_was_ended_from_inside) {
  probe *p = restarting("deserter", 2);
  p->lives[0].run.does = does_exit;
  p->lives[0].s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[0].run.entered);
  CHECK_OK(podkeep_pod_cancel(pod)); /* if there is another life, it ends now */
  podkeep_status status = podkeep_pod_join(pod, LIMIT_MS);
  CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
  UNTIL(is_default(SIGTERM));
  probe_free(p);
  probe *next = probe_new("successor");
  probe_running(next);
  probe_close(next, PODKEEP_OK);
}

TEST_MAIN(S8_main__its_reign_ends_though_a_later_life_ran_elsewhere) {
  probe *p = restarting("emigrant", 2);
  p->lives[0].run.does = does_exit;
  p->lives[0].s_may_die = true;
  podkeep_pod *pod = probe_start(p);
  podkeep_state state = -1; /* FAILED, or at home somewhere else */
  UNTIL(podkeep_pod_state(pod, &state) == PODKEEP_OK && (state == PODKEEP_STATE_FAILED || event_is_set(&p->lives[1].run.entered)));
  podkeep_status status = podkeep_pod_close(pod);
  CHECK(status == PODKEEP_OK || status == PODKEEP_ERR_FAILED);
  UNTIL(is_default(SIGTERM));
  probe_free(p);
}

/* "READY=1", then nothing of a stop before there is one that no life follows. */
TEST_MAIN(S8_main__the_one_above_hears_of_no_stop_between_lives) {
  struct sockaddr_un place;
  char dir[64];
  const char *tmp = getenv("TMPDIR");
  memset(&place, 0, sizeof place);
  place.sun_family = AF_UNIX;
  snprintf(dir, sizeof dir, "%.40s/podkeep-XXXXXX", tmp && *tmp ? tmp : "/tmp");
  CHECK(mkdtemp(dir) != NULL);
  snprintf(place.sun_path, sizeof place.sun_path, "%s/above", dir);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&place, sizeof place) == 0);
  CHECK_INT(setenv("NOTIFY_SOCKET", place.sun_path, 1), 0);
  probe *p = restarting("reported", 3);
  podkeep_pod *pod = probe_start(p);
  event_wait(&p->lives[2].run.entered);
  CHECK_OK(podkeep_pod_wait_ready(pod, LIMIT_MS));
  char heard[512] = "", word[128];
  ssize_t n;
  while ((n = recv(fd, word, sizeof word - 1, MSG_DONTWAIT)) >= 0) {
    word[n] = '\0';
    strncat(heard, word, sizeof heard - strlen(heard) - 2);
    strcat(heard, "\n");
  }
  unlink(place.sun_path);
  rmdir(dir);
  CHECK(strstr(heard, "STOPPING=1") == NULL);
  CHECK_HAS(heard, "READY=1");
  close(fd);
  probe_close(p, PODKEEP_OK);
}
