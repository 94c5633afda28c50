/* The library without its control service: the same functions, which say so, and the rest as ever. */
#include <podkeep.h>

#include <stdio.h>
#include <string.h>

static int wrong;
static void is(const char *call, podkeep_status status, podkeep_status want, const char *words) {
  if (status == want && strstr(podkeep_last_error(), words)) return;
  fprintf(stderr, "%s: %s (%s), not %s\n", call, podkeep_status_name(status), podkeep_last_error(), podkeep_status_name(want));
  wrong++;
}

int main(void) {
  podkeep_control_options options = PODKEEP_CONTROL_OPTIONS_INIT;
  podkeep_control *control = (podkeep_control *)&wrong;
  podkeep_state state = -9;
  const char *address = "as it was";
  is("serve(NULL)", podkeep_control_serve(NULL, &control), PODKEEP_ERR_UNSUPPORTED, "feature grpc");
  options.address = "unix:/tmp/never.sock";
  is("serve", podkeep_control_serve(&options, &control), PODKEEP_ERR_UNSUPPORTED, "feature grpc");
  is("serve to nowhere", podkeep_control_serve(&options, NULL), PODKEEP_ERR_INVALID_ARGUMENT, "out_control");
  is("address", podkeep_control_address((podkeep_control *)&wrong, &address), PODKEEP_ERR_INVALID_HANDLE, "control");
  is("free", podkeep_control_free((podkeep_control *)&wrong), PODKEEP_ERR_INVALID_HANDLE, "control");
  if (podkeep_control_free(NULL) != PODKEEP_OK) wrong++;
  is("terminate", podkeep_terminate("unix:/tmp/never.sock", "pod", 100), PODKEEP_ERR_UNSUPPORTED, "feature grpc");
  is("query", podkeep_query("unix:/tmp/never.sock", "pod", 100, &state), PODKEEP_ERR_UNSUPPORTED, "feature grpc");
  is("query", podkeep_query(NULL, "pod", 100, &state), PODKEEP_ERR_INVALID_ARGUMENT, "address");
  if (control != (podkeep_control *)&wrong || state != -9 || strcmp(address, "as it was") != 0) {
    fprintf(stderr, "an answer was written without success\n");
    wrong++;
  }
  printf("small: %s\n", wrong ? "failed" : "ok");
  return wrong != 0;
}
