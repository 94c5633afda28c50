/* The child of the peers that execute a program. Without an argument: says ready on 1, waits for the end of 0, exits.
 * `notify`: says ready as sd_notify(3) does, waits for a signal. `pause`: says nothing, waits for a signal. `fail`: ends
 * with 1 at once. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int say_ready(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const char *name = getenv("NOTIFY_SOCKET");
  if (name == NULL || name[0] != '@' || strlen(name) >= sizeof address.sun_path) return 0;
  memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
  const int to = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
  return to >= 0 && sendto(to, "READY=1", 7, 0, (struct sockaddr *)&address, length) == 7;
}

int main(int argc, char **argv) {
  char byte;
  if (argc > 1 && strcmp(argv[1], "fail") == 0) return 1;
  if (argc > 1) {
    if (strcmp(argv[1], "notify") == 0 && !say_ready()) return 1;
    for (;;) pause();
  }
  if (write(STDOUT_FILENO, "r", 1) != 1) return 1;
  return read(STDIN_FILENO, &byte, 1) != 0;
}
