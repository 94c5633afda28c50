/* podkeep.h: keeps any blocking procedure in a Pod.
 *
 * Generated from the Rust sources (src/ffi) and checked against them; do not edit.
 *
 * Conventions. Handles are opaque numbers, checked before anything behind them is touched: NULL, a freed one, one of
 * another kind or a random value is PODKEEP_ERR_INVALID_HANDLE, a value is never used twice, and freeing NULL is OK.
 * After a bare fork() a handle from before answers PODKEEP_ERR_FORKED in the child; new ones work there. Getters without
 * a status answer a bad handle with -2, "" or NULL. Outputs are written only on success. Strings that come in are UTF-8
 * and copied. Structs begin with their size: start each with its _INIT macro; zero in a field is its default. Times are
 * milliseconds; PODKEEP_FOREVER is accepted by every wait and by grace_ms; other negative ones are
 * PODKEEP_ERR_INVALID_ARGUMENT; sums saturate. Callbacks are called with no lock held and may call everything here; a
 * wait for the pod a callback belongs to is PODKEEP_ERR_DEADLOCK. No call is a cancellation point of pthread_cancel.
 * PODKEEP_ERR_RESOURCES: no thread, descriptor, or memory for anything large; when not even some bytes are to be had, the
 * process is ended, as by any Rust program. INVALID_ARGUMENT, OK ... below: PODKEEP_ERR_ and so on.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0 */

#ifndef PODKEEP_H
#define PODKEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* T x = PODKEEP_T_INIT; sets struct_size and zeroes the rest, without a warning in C99..C23 and C++11..C++23. */
#ifdef __cplusplus
extern "C++" { template <class T> inline T podkeep_init_() { T t = T(); t.struct_size = sizeof(T); return t; } }
#define PODKEEP_INIT_(T) podkeep_init_<T>()
#else
#define PODKEEP_INIT_(T) { .struct_size = sizeof(T) }
#endif
#define PODKEEP_RUNTIME_SPEC_INIT PODKEEP_INIT_(podkeep_runtime_spec)
#define PODKEEP_POD_OPTIONS_INIT PODKEEP_INIT_(podkeep_pod_options)
#define PODKEEP_EVENT_INIT PODKEEP_INIT_(podkeep_event)
#define PODKEEP_GROUP_OPTIONS_INIT PODKEEP_INIT_(podkeep_group_options)
#define PODKEEP_MEMBER_OPTIONS_INIT PODKEEP_INIT_(podkeep_member_options)
#define PODKEEP_CONTROL_OPTIONS_INIT PODKEEP_INIT_(podkeep_control_options)

#define PODKEEP_FOREVER INT64_C(-1) /* a wait without a limit; 0 polls */


// The ABI this header describes; compare with podkeep_abi_version().
#define PODKEEP_ABI_VERSION 0

// What init and run_forever return for "I stopped because I was asked to": a clean end.
#define PODKEEP_CANCELLED -2147483647

// One incarnation of a pod, seen from inside: valid on any thread of its process from init's entry to teardown's
// return; afterwards, and in the child of a fork, it reads cancelled. Opaque; a handle, never an address.
typedef struct podkeep_context podkeep_context;

// A control service of this process's pods. Opaque; a handle, never an address.
typedef struct podkeep_control podkeep_control;

// Why an incarnation ended: an immutable snapshot. Opaque; a handle, never an address.
typedef struct podkeep_failure podkeep_failure;

// Pods that live together. Opaque; a handle, never an address.
typedef struct podkeep_group podkeep_group;

// A reader of state changes. Opaque; a handle, never an address.
typedef struct podkeep_monitor podkeep_monitor;

// One kept instance of a runtime. Opaque; a handle, never an address.
typedef struct podkeep_pod podkeep_pod;

// A recipe: callbacks and a config. Opaque; a handle, never an address.
typedef struct podkeep_runtime podkeep_runtime;

// What a call answers: PODKEEP_OK or one of PODKEEP_ERR_*. Numbers are never reused.
typedef int32_t podkeep_status;

// What a runtime is made of. Begin with PODKEEP_RUNTIME_SPEC_INIT. No callback may unwind out of itself; glibc's own
// forced unwinding (pthread_exit) may pass.
typedef struct podkeep_runtime_spec {
  // Of this struct, in bytes.
  size_t struct_size;
  // Required: 1 to 255 bytes of UTF-8. Copied.
  const char *name;
  // Optional. On the pod's thread, once an incarnation; 0 is success, and *state is what the others get. A failed
  // init cleans up after itself. Without it state is config.
  int32_t (*init)(struct podkeep_context *ctx, void *config, void **state);
  // Required. On the pod's thread; blocks until cancelled. 0, or PODKEEP_CANCELLED after a cancel, is a clean end.
  int32_t (*run_forever)(struct podkeep_context *ctx, void *state);
  // Optional. On the pod's thread, once if and only if init succeeded, however run_forever ended.
  int32_t (*teardown)(struct podkeep_context *ctx, void *state);
  // Optional: unblocks what cannot poll. At most once an incarnation, on a thread of the library, beside
  // run_forever; it may come before the loop inside has begun, so what it does must stick.
  void (*cancel)(struct podkeep_context *ctx, void *state);
  // The user's own.
  void *config;
  // Optional. Called with config exactly once, on any thread, which it must not end: before a failing
  // podkeep_runtime_new returns, else when the runtime was freed and each of its pods is final, or freed while NEW.
  void (*drop)(void *config);
} podkeep_runtime_spec;

// Where a pod runs: PODKEEP_HOST_*.
typedef int32_t podkeep_host;

// When a pod is ready: PODKEEP_READY_*.
typedef int32_t podkeep_ready_mode;

// Whether another life follows an end: PODKEEP_RESTART_*.
typedef int32_t podkeep_restart;

// How a pod is kept. Begin with PODKEEP_POD_OPTIONS_INIT; zero in a field is its default. A field that has no effect on
// such a pod is refused with INVALID_ARGUMENT.
typedef struct podkeep_pod_options {
  // Of this struct, in bytes.
  size_t struct_size;
  // NULL: the runtime's. 1 to 255 bytes of UTF-8; copied. The kernel's thread gets the first 15 bytes.
  const char *name;
  // PODKEEP_HOST_*.
  podkeep_host host;
  // PODKEEP_READY_*.
  podkeep_ready_mode ready;
  // 0: no limit on the way to ready.
  int64_t ready_timeout_ms;
  // The budget of the whole stop, until force. 0: 5000; PODKEEP_FOREVER: never force.
  int64_t grace_ms;
  // Process: from the polite signal, when the grace is spent, to SIGKILL. 0: 1000. Nothing else has a use for it.
  int64_t kill_after_ms;
  // All that podkeep_context_extend may add. 0: 60000.
  int64_t extend_max_ms;
  // Thread: in bytes, at least PTHREAD_STACK_MIN. 0: what pthread_create gives.
  size_t stack_size;
  // Thread: a signal that gets S out of its system call when a stop is asked for. 0: no kick.
  int32_t kick_signal;
  // Command: what cancel sends to its main process. 0: SIGTERM.
  int32_t stop_signal;
  // Process: "KEY=VALUE" ..., NULL-ended, over the inherited ones; copied.
  const char *const *env;
  // Process: its directory; NULL: inherited. Copied.
  const char *cwd;
  // Bytes for podkeep_context_args; copied; handed out 16-byte aligned.
  const void *args;
  // Their number.
  size_t args_len;
  // PODKEEP_RESTART_*. What a user stopped is never restarted, nor is a thread that was let go.
  podkeep_restart restart;
  // At most so many in restart_window_ms, then FAILED. 0: 8; UINT32_MAX: any number.
  uint32_t max_restarts;
  // Slides. A life that was RUNNING for as long makes the delay begin anew. 0: 60000.
  int64_t restart_window_ms;
  // The delay before another life; it doubles, and each is drawn from 75 to 100 % of it. 0: 100.
  int64_t backoff_ms;
  // It doubles up to that. 0: 30000.
  int64_t backoff_max_ms;
  // While RUNNING podkeep_context_heartbeat must come at least that often. 0: it need not.
  int64_t watchdog_ms;
  // Command, with PODKEEP_READY_PORT: the TCP port on which the child's own group must listen.
  int32_t ready_port;
  // 0.
  int32_t reserved;
} podkeep_pod_options;

// Where a pod is in its life: PODKEEP_STATE_*.
typedef int32_t podkeep_state;

// Where in an incarnation: PODKEEP_PHASE_*.
typedef int32_t podkeep_phase;

// How a failure showed itself: PODKEEP_KIND_*.
typedef int32_t podkeep_kind;

// What a member's restart takes along: PODKEEP_ONE_FOR_ONE ...
typedef int32_t podkeep_strategy;

// How a group is kept. Begin with PODKEEP_GROUP_OPTIONS_INIT; zero in a field is its default.
typedef struct podkeep_group_options {
  // Of this struct, in bytes.
  size_t struct_size;
  // NULL: "group". 1 to 255 bytes of UTF-8; copied.
  const char *name;
  // PODKEEP_ONE_FOR_ONE, PODKEEP_ONE_FOR_ALL, PODKEEP_REST_FOR_ONE. Those that are taken along stop in reverse order and
  // come back in order, whatever their own policy, and it is not counted.
  podkeep_strategy strategy;
  // 0: a member's final failure cancels all; 1: it does not.
  int32_t keep_going;
  // One budget for the whole stop. 0: the longest chain of the members'.
  int64_t grace_ms;
} podkeep_group_options;

// How a pod is a member. Begin with PODKEEP_MEMBER_OPTIONS_INIT; zero in a field is its default.
typedef struct podkeep_member_options {
  // Of this struct, in bytes.
  size_t struct_size;
  // Names of members added before that must be ready first, and stop later; NULL-ended. NULL: none.
  const char *const *after;
  // 1: its normal end, too, stops the group.
  int32_t significant;
  // 0.
  int32_t reserved;
} podkeep_member_options;

// A change of a pod's state. Begin with PODKEEP_EVENT_INIT.
typedef struct podkeep_event {
  // Of this struct, in bytes.
  size_t struct_size;
  // Grows with every event of the process.
  uint64_t sequence;
  // CLOCK_MONOTONIC.
  uint64_t time_ns;
  // Borrowed; may be dead by now.
  struct podkeep_pod *pod;
  // Until this monitor's next call.
  const char *name;
  // Of that incarnation, when `to` follows one; until this monitor's next call. Borrowed.
  const struct podkeep_failure *failure;
  // PODKEEP_STATE_*.
  podkeep_state from;
  // Equal to from: the state found when the monitor was made.
  podkeep_state to;
  // Which life of the pod.
  uint32_t incarnation;
  // Events of this pod merged into this one, because the reader was slow.
  uint32_t missed;
} podkeep_event;

// Where a control service listens, and to whom. Begin with PODKEEP_CONTROL_OPTIONS_INIT; zero in a field is its default.
typedef struct podkeep_control_options {
  // Of this struct, in bytes.
  size_t struct_size;
  // "unix:PATH": a socket for this user and root, made with its directory if only that is missing; "tcp:HOST:PORT", port 0:
  // any. NULL: a private socket of this process.
  const char *address;
  // PEM files, all three or none: the service's certificate ...
  const char *tls_cert;
  // ... its key ...
  const char *tls_key;
  // ... and the authorities that vouch for its clients. Needed for an address that other machines can reach.
  const char *tls_client_ca;
} podkeep_control_options;

// Done.
#define PODKEEP_OK 0

// An argument cannot be used; podkeep_last_error names it.
#define PODKEEP_ERR_INVALID_ARGUMENT -1

// NULL, freed, of another kind, or never handed out.
#define PODKEEP_ERR_INVALID_HANDLE -2

// Not in this state of its life.
#define PODKEEP_ERR_INVALID_STATE -3

// The wait's limit has passed; what was waited for goes on.
#define PODKEEP_ERR_TIMEOUT -4

// The pod failed: podkeep_pod_failure tells.
#define PODKEEP_ERR_FAILED -5

// It ended without failure before what was waited for.
#define PODKEEP_ERR_ENDED -6

// The call would wait for itself.
#define PODKEEP_ERR_DEADLOCK -7

// The handle was made before a fork, in the parent.
#define PODKEEP_ERR_FORKED -8

// No thread, descriptor or memory to be had; nothing was left behind.
#define PODKEEP_ERR_RESOURCES -9

// Not in this build.
#define PODKEEP_ERR_UNSUPPORTED -10

// Not allowed.
#define PODKEEP_ERR_DENIED -11

// Nobody answers there.
#define PODKEEP_ERR_UNREACHABLE -12

// A bug of podkeep's, caught.
#define PODKEEP_ERR_INTERNAL -13

// There is none of that name.
#define PODKEEP_ERR_NOT_FOUND -14

// Made, not started.
#define PODKEEP_STATE_NEW 0

// On its way to ready.
#define PODKEEP_STATE_STARTING 1

// Ready, and run_forever is entered.
#define PODKEEP_STATE_RUNNING 2

// On its way down.
#define PODKEEP_STATE_STOPPING 3

// Between two incarnations.
#define PODKEEP_STATE_RESTARTING 4

// Ended without a failure. Final.
#define PODKEEP_STATE_STOPPED 5

// Ended with a failure. Final.
#define PODKEEP_STATE_FAILED 6

// Its grace is spent and its thread was let go; FAILED if the thread comes back.
#define PODKEEP_STATE_ABANDONED 7

// In a thread of this process.
#define PODKEEP_HOST_THREAD 0

// In a child process.
#define PODKEEP_HOST_PROCESS 1

// As soon as run_forever is entered.
#define PODKEEP_READY_ON_RUN 0

// When it says so: podkeep_context_ready.
#define PODKEEP_READY_NOTIFY 1

// When it listens on its TCP port.
#define PODKEEP_READY_PORT 2

// Never.
#define PODKEEP_RESTART_NEVER 0

// After a failure.
#define PODKEEP_RESTART_ON_FAILURE 1

// After any end but a user's cancel.
#define PODKEEP_RESTART_ALWAYS 2

// Before init was entered.
#define PODKEEP_PHASE_SPAWN 0

// In init.
#define PODKEEP_PHASE_INIT 1

// On the way to ready.
#define PODKEEP_PHASE_READY 2

// In run_forever.
#define PODKEEP_PHASE_RUN 3

// In the cancel hook, or waiting for it.
#define PODKEEP_PHASE_CANCEL 4

// In teardown.
#define PODKEEP_PHASE_TEARDOWN 5

// A callback returned non-zero.
#define PODKEEP_KIND_RETURNED 0

// A Rust panic.
#define PODKEEP_KIND_PANIC 1

// An exception of C++, Python ...
#define PODKEEP_KIND_EXCEPTION 2

// It exited, or its thread was ended from inside, without the library's word.
#define PODKEEP_KIND_EXIT 3

// A signal.
#define PODKEEP_KIND_SIGNAL 4

// A limit was reached.
#define PODKEEP_KIND_TIMEOUT 5

// A heartbeat was missed.
#define PODKEEP_KIND_WATCHDOG 6

// The end is known, its reason is not.
#define PODKEEP_KIND_LOST 7

// Itself.
#define PODKEEP_ONE_FOR_ONE 0

// All members.
#define PODKEEP_ONE_FOR_ALL 1

// Those that were added later.
#define PODKEEP_REST_FOR_ONE 2

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The constant's name, "PODKEEP_ERR_TIMEOUT"; "PODKEEP_ERR_UNKNOWN" for a number that is none. Static, never NULL.
// Any thread; does not block.
const char *podkeep_status_name(podkeep_status status);

// One sentence about this thread's last call that did not answer PODKEEP_OK: the argument, the value, the way out.
// "" before the first. Never NULL; lives until this thread's next such call. A call that answers OK leaves it as it
// is, and so does podkeep_pod_cancel, always. Any thread; does not block.
const char *podkeep_last_error(void);

// PODKEEP_ABI_VERSION of the library at run time. Any thread; does not block.
uint32_t podkeep_abi_version(void);

// The library's version, "0.1.0". Static. Any thread; does not block.
const char *podkeep_version(void);

// Cancels every pod of the process, refuses new ones, and waits up to timeout_ms; afterwards no callback but a drop
// starts (a thread that comes back late gets no teardown). *left, which may be NULL: how many pods did not end.
// Not a poll: with 0, too, pods that have not ended by then get no teardown. Repeatable; a later podkeep_runtime_new or podkeep_pod_new is INVALID_STATE. With PODKEEP_FOREVER a pod that is
// ABANDONED is not waited for. What children that have ended left on their stderr is waited for, too, as long as the host's
// takes some of it every 2 s. Any thread; blocks.
// OK; TIMEOUT: some are left, the sentence tells which and where they are stuck; INVALID_ARGUMENT: a negative time;
// DEADLOCK: from a pod's thread, a hook, a log callback or a drop (not with 0); RESOURCES.
podkeep_status podkeep_shutdown(int64_t timeout_ms,
                                uint32_t *left);

// How many threads were let go (ABANDONED) and have not come back. Any thread; does not block.
// OK; INVALID_ARGUMENT: out is NULL; RESOURCES.
podkeep_status podkeep_abandoned(uint32_t *out_count);

// Makes a runtime. Takes config over from the first moment: whatever is answered, its drop is called exactly once.
// Any thread; does not block. *out is the caller's, to be freed with podkeep_runtime_free.
// OK; INVALID_ARGUMENT: no spec, out, name or run_forever, a bad struct_size or name; INVALID_STATE: after a shutdown;
// RESOURCES.
podkeep_status podkeep_runtime_new(const struct podkeep_runtime_spec *spec,
                                   struct podkeep_runtime **out_runtime);

// Makes a runtime of any program: cancel is a signal, ready is on exec, by sd_notify (PODKEEP_READY_NOTIFY) or by its port
// (PODKEEP_READY_PORT). For process pods only. argv is NULL-ended and copied, of any bytes; argv[0] is searched in the
// child's PATH when the pod is started. A program that calls podkeep_child_run with an exported runtime of this name takes its
// pod over, and from there on has the library's full channel. Any thread; does not block. *out is the caller's.
// OK; INVALID_ARGUMENT: no name, argv or out, an empty argv; INVALID_STATE: after a shutdown; RESOURCES.
podkeep_status podkeep_runtime_from_command(const char *name,
                                            const char *const *argv,
                                            struct podkeep_runtime **out_runtime);

// As podkeep_runtime_from_command, of a program that is known to call podkeep_child_run with an exported runtime of this
// name: ready and failure are its runtime's own word from the beginning, and an end before it took its pod over is a
// failure (phase SPAWN), whatever its exit code. Threads, blocking, ownership and statuses as there.
podkeep_status podkeep_runtime_from_program(const char *name,
                                            const char *const *argv,
                                            struct podkeep_runtime **out_runtime);

// Makes a runtime of a shared library that exports `const podkeep_runtime_spec *symbol(void)` and is linked against the
// same libpodkeep. For thread, process and main pods: as a process it is run by the `podkeep` program, and not loaded
// here; otherwise it is loaded when the first pod is made, and never unloaded. path is made absolute here; its spec's drop
// is not called. The runtime's name is the symbol. Any thread; does not block. *out is the caller's.
// OK; INVALID_ARGUMENT: no path, symbol or out; NOT_FOUND: there is no such file; INVALID_STATE: after a shutdown;
// RESOURCES.
podkeep_status podkeep_runtime_from_library(const char *path,
                                            const char *symbol,
                                            struct podkeep_runtime **out_runtime);

// Says where the `podkeep` program is, which process pods need; NULL: it is looked for again, in the variable
// PODKEEP_PROGRAM, beside the library (in its directory, in ../bin) and in PATH. Any thread; does not block; concerns later
// starts. OK; NOT_FOUND: there is no program; INVALID_ARGUMENT: not UTF-8; RESOURCES.
podkeep_status podkeep_set_program(const char *path);

// Lets the children of this program's process pods run `runtime`, which they find by its name. First thing in main, before
// podkeep_child_run; of two of one name the later counts. It keeps nothing alive: once the runtime is freed and its pods have
// ended it is exported no more. Any thread; does not block. OK; INVALID_HANDLE; INVALID_STATE: after a shutdown; FORKED.
podkeep_status podkeep_export(struct podkeep_runtime *runtime);

// Frees the handle; its pods live on, and the config's drop is called when the last of them has ended. Any thread and
// place; does not block. OK (NULL, too); INVALID_HANDLE; FORKED.
podkeep_status podkeep_runtime_free(struct podkeep_runtime *runtime);

// True from the first stop request, of whatever reason; true, too, for a context that is over or none. One atomic
// load. Any thread, signal handlers too; does not block.
bool podkeep_context_cancelled(const struct podkeep_context *ctx);

// Sleeps until cancelled or timeout_ms (0 looks once). Any thread; blocks.
// OK: cancelled, or over; TIMEOUT: not yet; DEADLOCK: from a log callback or a drop (not with 0); INVALID_ARGUMENT: a
// negative time; INVALID_HANDLE.
podkeep_status podkeep_context_wait(struct podkeep_context *ctx,
                                    int64_t timeout_ms);

// A descriptor that is readable once cancelled, for poll, epoll and event loops. The pod's own, the same at each call,
// closed with the incarnation: never read or close it. Any thread; does not block.
// -1: none is to be had, polling works still, or the context is over or from before a fork; -2: no context.
int podkeep_context_fd(struct podkeep_context *ctx);

// Milliseconds until force, rounded up; -1: not cancelled, or no limit; -2: no context. Any thread; does not block.
int64_t podkeep_context_time_left(const struct podkeep_context *ctx);

// The pod's own word that it is ready. Said inside init it is held until init has succeeded; where it does not apply
// it is ignored. Any thread; does not block.
// OK; INVALID_STATE: the context is over; INVALID_HANDLE; FORKED.
podkeep_status podkeep_context_ready(struct podkeep_context *ctx);

// "I live". Any thread; does not block. Statuses as podkeep_context_ready.
podkeep_status podkeep_context_heartbeat(struct podkeep_context *ctx);

// Asks for more time: the present limit (ready, watchdog, grace) becomes at least ms from now, all in all not beyond
// extend_max_ms; without a limit it has no effect. Any thread; does not block.
// Statuses as podkeep_context_ready, and INVALID_ARGUMENT: a negative time.
podkeep_status podkeep_context_extend(struct podkeep_context *ctx,
                                      int64_t ms);

// A text that says what the pod is doing, for people: timeouts tell it. UTF-8, copied. Any thread; does not block.
// Statuses as podkeep_context_ready, and INVALID_ARGUMENT: NULL or not UTF-8.
podkeep_status podkeep_context_status(struct podkeep_context *ctx,
                                      const char *status_text);

// Stores why the callback is about to fail; it counts when the callback then returns non-zero, whose code wins; the
// last one before the return wins, a clean return discards it, and in the cancel hook it counts by itself. message is
// UTF-8, copied whole; NULL is "". Any thread; does not block.
// Returns code, or -1 for 0, so that a callback can end with `return podkeep_context_fail(...)`.
int32_t podkeep_context_fail(struct podkeep_context *ctx,
                             int32_t code,
                             const char *message);

// As podkeep_context_fail, for a failure of another kind (PODKEEP_KIND_*): bindings say EXCEPTION. A kind that is none
// is stored as RETURNED.
int32_t podkeep_context_fail_as(struct podkeep_context *ctx,
                                int32_t kind,
                                int32_t code,
                                const char *message);

// As podkeep_context_fail_as, with data_len bytes of the caller's own that travel with the record, from a process, too:
// podkeep_failure_data. Copied; up to 4 MiB cross from a process, more are left behind.
int32_t podkeep_context_fail_with(struct podkeep_context *ctx,
                                  int32_t kind,
                                  int32_t code,
                                  const char *message,
                                  const void *data,
                                  size_t data_len);

// Which life of the pod this is: 0, 1, 2 ... (uint32_t)-2: no context. Any thread; does not block.
uint32_t podkeep_context_incarnation(const struct podkeep_context *ctx);

// The bytes given with the pod's options, on a 16-byte boundary; they live as long as the pod. *len, which may be
// NULL, is their number. NULL: there are none, or no context. Any thread; does not block.
const void *podkeep_context_args(const struct podkeep_context *ctx,
                                 size_t *len);

// The pod's name; it lives as long as the process. "": no context. Any thread; does not block.
const char *podkeep_context_name(const struct podkeep_context *ctx);

// Makes a pod: NEW. Any thread; does not block. options may be NULL. *out is the caller's, to be freed with
// podkeep_pod_free; the runtime may be freed before.
// OK; INVALID_ARGUMENT: the sentence names the field; INVALID_HANDLE, FORKED: the runtime; INVALID_STATE: after a
// shutdown; UNSUPPORTED: a field that this build cannot honour; RESOURCES.
podkeep_status podkeep_pod_new(struct podkeep_runtime *runtime,
                               const struct podkeep_pod_options *options,
                               struct podkeep_pod **out_pod);

// Starts it; does not wait for ready. Any thread; blocks for a process pod until its program has begun. A program that
// cannot be run is a failure of the pod (phase SPAWN).
// OK; INVALID_STATE: it was started or cancelled before, is a group's member, or its callbacks cannot be run in a child (the
// runtime was not exported, podkeep_child_run was never called, this is a child that has not claimed its pod); NOT_FOUND:
// no podkeep program; RESOURCES: no thread or process to be had; after the last two nothing was left behind and it is NEW
// still; INVALID_HANDLE; FORKED.
podkeep_status podkeep_pod_start(struct podkeep_pod *pod);

// Asks for the end: the state changes before this returns. Any thread, any time, any number of times, signal handlers
// too; never blocks, is lock-free, keeps errno and the last error as they are.
// OK; INVALID_HANDLE; FORKED.
podkeep_status podkeep_pod_cancel(struct podkeep_pod *pod);

// Waits until this incarnation is ready. Any thread; blocks up to timeout_ms (0 looks once).
// OK: it has been ready and has not failed; FAILED; ENDED: stopping or ended and never ready; TIMEOUT: the sentence
// tells where it is stuck; INVALID_STATE: it is NEW; DEADLOCK: from its own thread or hook, a log callback or a drop
// (not with 0); INVALID_ARGUMENT: a negative time; INVALID_HANDLE; FORKED.
podkeep_status podkeep_pod_wait_ready(struct podkeep_pod *pod,
                                      int64_t timeout_ms);

// Waits for the end, and for a bounded moment until its thread is gone. Any thread; blocks up to timeout_ms (0 looks
// once); the config's drop may be called here when the pod was cancelled while NEW and its runtime was freed.
// OK: STOPPED; FAILED; TIMEOUT: the sentence tells where it is stuck; at once with PODKEEP_FOREVER when it is
// ABANDONED; INVALID_STATE: it is NEW; DEADLOCK, INVALID_ARGUMENT, INVALID_HANDLE, FORKED: as podkeep_pod_wait_ready.
podkeep_status podkeep_pod_join(struct podkeep_pod *pod,
                                int64_t timeout_ms);

// Cancels and waits for the end, bounded by the grace. Any thread; blocks. A NEW pod is STOPPED; twice is harmless.
// OK: STOPPED; FAILED; TIMEOUT: ABANDONED, the sentence tells where its thread is stuck; DEADLOCK: from its own thread
// or hook (then it is not cancelled), a log callback or a drop; INVALID_STATE: it is a group's member; INVALID_HANDLE;
// FORKED.
podkeep_status podkeep_pod_close(struct podkeep_pod *pod);

// Ends the handle: a running pod is cancelled and let go; who waits already goes on waiting. Any thread and place;
// never blocks, but the config's drop may be called here when the pod is NEW and its runtime was freed. OK (NULL, too); INVALID_HANDLE; FORKED.
podkeep_status podkeep_pod_free(struct podkeep_pod *pod);

// *out: PODKEEP_STATE_*, now. Any thread; does not block. OK; INVALID_ARGUMENT: out is NULL; INVALID_HANDLE; FORKED.
podkeep_status podkeep_pod_state(struct podkeep_pod *pod,
                                 podkeep_state *out_state);

// *out: its name; it lives as long as the process. Any thread; does not block. Statuses as podkeep_pod_state.
podkeep_status podkeep_pod_name(struct podkeep_pod *pod, const char **out_name);

// *out: the kernel's thread or process id of S; 0: none. Any thread; does not block. Statuses as podkeep_pod_state.
podkeep_status podkeep_pod_id(struct podkeep_pod *pod,
                              int64_t *out_id);

// *out: lives after the first. Any thread; does not block. Statuses as podkeep_pod_state.
podkeep_status podkeep_pod_restarts(struct podkeep_pod *pod, uint32_t *out_restarts);

// *out: why the present or last incarnation failed, a snapshot of the caller's, to be freed with podkeep_failure_free;
// NULL: it has not failed. Any thread; does not block. Statuses as podkeep_pod_state, and RESOURCES.
podkeep_status podkeep_pod_failure(struct podkeep_pod *pod,
                                   struct podkeep_failure **out_failure);

// Runs the pod in this very thread, as a container's main process: SIGINT and SIGTERM cancel it; a second one ends the process
// with 128 + its number, and so does a grace that is spent (124 without a signal). A pod with PODKEEP_HOST_PROCESS is started
// and waited for: when its grace is spent it is made to end, and the code is the same; as PID 1 this process then reaps the
// orphans it inherits. The handlers are put back afterwards. Where a callback ends the process's first thread from inside
// (pthread_exit), the process ends with the code, by _exit. A supervisor that gave NOTIFY_SOCKET is told READY=1, STATUS=,
// STOPPING=1 and, if it asked for it, WATCHDOG=1. Any thread; blocks until the end, and until what is left of a child's
// stderr is passed on, or the host's takes nothing for 2 s; one at a time.
// OK: it has ended, and *out_exit_code is what main should return: 0 only for a clean end, a failure's code if that is 1 to
// 255, else 1; 128 + n for a signal, 124 for a limit, 127 when it could not be started; INVALID_STATE: it is not NEW, is a
// group's member, or another one is run; DEADLOCK: from inside a pod, a log callback or a drop; RESOURCES; NOT_FOUND: no
// podkeep program; INVALID_ARGUMENT: out_exit_code is NULL, or the pod's kick_signal is SIGINT or SIGTERM; INVALID_HANDLE;
// FORKED.
podkeep_status podkeep_pod_run(struct podkeep_pod *pod,
                               int32_t *out_exit_code);

// First thing in main, after podkeep_export: in a process pod's child, runs its runtime in this very thread, tears it
// down, and gives the exit code that main should return. Elsewhere it answers ENDED at once; that it was called lets this
// program start process pods of its own callbacks. Blocks in a child until its pod has ended.
// OK: this was a pod's child; ENDED: it is none, go on; UNSUPPORTED: the host has another version of podkeep;
// INVALID_ARGUMENT: out_exit_code is NULL; DEADLOCK: from inside a pod; RESOURCES.
podkeep_status podkeep_child_run(int32_t *out_exit_code);

// The pod that failed; the name lives as long as the process. "": no failure. Any thread; does not block.
const char *podkeep_failure_pod_name(const struct podkeep_failure *failure);

// Which of its lives. (uint32_t)-2: no failure. Any thread; does not block.
uint32_t podkeep_failure_incarnation(const struct podkeep_failure *failure);

// PODKEEP_PHASE_*; -2: no failure. Any thread; does not block.
podkeep_phase podkeep_failure_phase(const struct podkeep_failure *failure);

// PODKEEP_KIND_*; -2: no failure. Any thread; does not block.
podkeep_kind podkeep_failure_kind(const struct podkeep_failure *failure);

// The callback's return value, exit code or signal number; -2: no failure. Any thread; does not block.
int32_t podkeep_failure_code(const struct podkeep_failure *failure);

// The whole message, UTF-8; it lives as long as the failure. "": no failure. Any thread; does not block.
const char *podkeep_failure_message(const struct podkeep_failure *failure);

// The bytes that podkeep_context_fail_with gave along; they live as long as the failure. *len, which may be NULL, is their
// number. NULL: there are none, or no failure. Any thread; does not block.
const void *podkeep_failure_data(const struct podkeep_failure *failure,
                                 size_t *len);

// The end (at most 64 KiB) of what the pod's child process wrote to stderr, with what is not UTF-8 shown as it can be; it
// lives as long as the failure. "": nothing, a thread pod's, or no failure. Any thread; does not block.
const char *podkeep_failure_stderr(const struct podkeep_failure *failure);

// The next failure of the same incarnation, in order of time; NULL: none. Borrowed: it lives as long as the first, and
// freeing it is INVALID_ARGUMENT. Any thread; does not block.
const struct podkeep_failure *podkeep_failure_secondary(const struct podkeep_failure *failure);

// Frees a failure that podkeep_pod_failure gave, with what hangs on it. Any thread and place; does not block.
// OK (NULL, too); INVALID_ARGUMENT: it is borrowed (a secondary, or out of an event); INVALID_HANDLE; FORKED.
podkeep_status podkeep_failure_free(struct podkeep_failure *failure);

// Makes a group: NEW, without members. Any thread; does not block. options may be NULL. *out is the caller's, to be freed
// with podkeep_group_free.
// OK; INVALID_ARGUMENT: the sentence names the field; INVALID_STATE: after a shutdown; RESOURCES.
podkeep_status podkeep_group_new(const struct podkeep_group_options *options,
                                 struct podkeep_group **out_group);

// Adds a pod that is NEW, and shares it: freeing its handle then drops only the handle, and it is started and stopped by
// the group alone (podkeep_pod_cancel ends it, as its normal end). Any thread; does not block. options may be NULL.
// OK; INVALID_ARGUMENT: a member of its name, a bad field; INVALID_STATE: the group was started, the pod was, or is in
// a group; NOT_FOUND: an unknown name in after; INVALID_HANDLE; FORKED.
podkeep_status podkeep_group_add(struct podkeep_group *group,
                                 struct podkeep_pod *pod,
                                 const struct podkeep_member_options *options);

// Starts its members, each when those it comes after are ready; does not wait for that. Any thread; does not block.
// OK; INVALID_STATE: it was started or cancelled before, or after a shutdown; RESOURCES; INVALID_HANDLE; FORKED.
podkeep_status podkeep_group_start(struct podkeep_group *group);

// Asks for the end: each member stops when those that come after it are down. Any thread, any number of times, but not a
// signal handler; does not block. OK; INVALID_HANDLE; FORKED.
podkeep_status podkeep_group_cancel(struct podkeep_group *group);

// Waits until every member is ready or has cleanly ended (with keep_going: or has failed). Any thread; blocks up to
// timeout_ms (0 looks once).
// OK; FAILED: a member failed for good; ENDED: it ends, or a member ended that others wait for; TIMEOUT: the sentence
// tells of each that is late; INVALID_STATE: it is NEW; DEADLOCK: from a member's own thread or hook, a log callback or a
// drop (not with 0); INVALID_ARGUMENT: a negative time; INVALID_HANDLE; FORKED.
podkeep_status podkeep_group_wait_ready(struct podkeep_group *group,
                                        int64_t timeout_ms);

// Waits for the end of all members. Any thread; blocks up to timeout_ms (0 looks once).
// OK: STOPPED; FAILED: a member failed for good; TIMEOUT, at once with PODKEEP_FOREVER when one is ABANDONED;
// INVALID_STATE: it is NEW; the others as podkeep_group_wait_ready.
podkeep_status podkeep_group_join(struct podkeep_group *group, int64_t timeout_ms);

// Cancels and waits for the end, bounded by the graces. Any thread; blocks.
// OK: STOPPED; FAILED; TIMEOUT: a member is ABANDONED; DEADLOCK (then nothing is cancelled); INVALID_HANDLE; FORKED.
podkeep_status podkeep_group_close(struct podkeep_group *group);

// *out: PODKEEP_STATE_*, now. Any thread; does not block. OK; INVALID_ARGUMENT: out is NULL; INVALID_HANDLE; FORKED.
podkeep_status podkeep_group_state(struct podkeep_group *group,
                                   podkeep_state *out_state);

// *out: the failure of the member that failed first for good, with its name; a snapshot of the caller's, to be freed with
// podkeep_failure_free; NULL: none did. Any thread; does not block. Statuses as podkeep_group_state, and RESOURCES.
podkeep_status podkeep_group_failure(struct podkeep_group *group,
                                     struct podkeep_failure **out_failure);

// Ends the handle: what runs is cancelled and let go, and its members with it. Any thread and place; never blocks. OK (NULL,
// too); INVALID_HANDLE; FORKED.
podkeep_status podkeep_group_free(struct podkeep_group *group);

// Watches a pod; NULL: every pod of the process. It first tells each watched pod's present state, then every change in
// order. Any thread; does not block. *out is the caller's, to be freed with podkeep_monitor_free.
// OK; INVALID_ARGUMENT: out is NULL; INVALID_HANDLE, FORKED: the pod; RESOURCES.
podkeep_status podkeep_monitor_new(struct podkeep_pod *pod,
                                   struct podkeep_monitor **out_monitor);

// Watches the members of a group: present and, until it is started, to come. Any thread; does not block. *out is the
// caller's, to be freed with podkeep_monitor_free. Its descriptor also tells that the group's own state has changed, though
// no event may wait: read on until TIMEOUT, then look at the group.
// OK; INVALID_ARGUMENT: out is NULL; RESOURCES; INVALID_HANDLE; FORKED.
podkeep_status podkeep_monitor_new_group(struct podkeep_group *group,
                                         struct podkeep_monitor **out_monitor);

// *out: a descriptor that is readable while events wait and from the end on, for poll, epoll and event loops; the
// monitor's own, made at the first call: only poll it. Any thread; does not block.
// OK; INVALID_ARGUMENT: out is NULL; RESOURCES: no descriptor to be had; INVALID_HANDLE; FORKED.
podkeep_status podkeep_monitor_fd(struct podkeep_monitor *monitor,
                                  int *out_fd);

// *out: the next event. Any thread, one at a time; blocks up to timeout_ms (0 looks once).
// OK; TIMEOUT: none came; ENDED: the one pod or group is final and all is read, or the monitor was freed meanwhile; DEADLOCK:
// from a log callback or a drop (not with 0); INVALID_ARGUMENT: out, its struct_size, a negative time; RESOURCES;
// INVALID_HANDLE; FORKED.
podkeep_status podkeep_monitor_next(struct podkeep_monitor *monitor,
                                    struct podkeep_event *out_event,
                                    int64_t timeout_ms);

// Frees a monitor; who waits in podkeep_monitor_next reads what is there, then gets ENDED; who polls its descriptor is
// woken, and it is closed. Any thread and place; does not block. OK (NULL, too); INVALID_HANDLE; FORKED.
podkeep_status podkeep_monitor_free(struct podkeep_monitor *monitor);

// Begins to answer for all pods of the process, those that are made later too, on a thread of the library's own. Any thread;
// blocks until it listens. options may be NULL. *out is the caller's, to be freed with podkeep_control_free.
// OK; INVALID_ARGUMENT: the sentence names the field; DENIED: other machines can reach the address and there is no TLS, or the
// directory is another user's; INVALID_STATE: somebody listens there, or after a shutdown; NOT_FOUND: no such directory;
// UNREACHABLE: the host's name is not known; RESOURCES; UNSUPPORTED: this build has no control service.
podkeep_status podkeep_control_serve(const struct podkeep_control_options *options,
                                     struct podkeep_control **out_control);

// *out: where it listens, as a client can use it: with the real port. It lives as long as the handle. Any thread; does not
// block. OK; INVALID_ARGUMENT: out is NULL; INVALID_HANDLE; FORKED.
podkeep_status podkeep_control_address(struct podkeep_control *control,
                                       const char **out_address);

// Ends a control service: its socket is gone, and its clients see their calls end. The pods go on. Any thread and place;
// blocks for a moment (at most 0.1 s for clients that do not let go). OK (NULL, too); INVALID_HANDLE; FORKED.
podkeep_status podkeep_control_free(struct podkeep_control *control);

// TERMINATE by address, the static cancel: asks a pod or a group of another process for its end and waits for that. A pod
// that is given up on goes on ending. A pod cannot know that it waits for itself: from its own thread this ends with its
// limit. Any thread; blocks up to timeout_ms.
// OK: it has ended without a failure; FAILED: with one, which the sentence tells; TIMEOUT: the limit, or its thread was let go
// (the sentence tells if the process did not answer, so that nothing was asked);
// NOT_FOUND: no pod or group of that name; UNREACHABLE: nobody answers there, or no longer; DENIED: another user's process, or
// TLS refuses a side; DEADLOCK: from a log callback or a drop (not with 0); INVALID_ARGUMENT; RESOURCES; UNSUPPORTED.
podkeep_status podkeep_terminate(const char *address,
                                 const char *pod_name,
                                 int64_t timeout_ms);

// *out: PODKEEP_STATE_* of a pod or a group of another process, now. Any thread; blocks up to timeout_ms, on the way there and
// back. Statuses as podkeep_terminate, without FAILED.
podkeep_status podkeep_query(const char *address,
                             const char *pod_name,
                             int64_t timeout_ms,
                             podkeep_state *out_state);

// Sends the library's log to a callback; NULL: nowhere. level: 1 error, 2 warn, 3 info, 4 debug; lines above max_level
// are not sent. The callback is called on a thread of the library, one line at a time; pod is "" for a line about none;
// both strings live until it returns. user_data is taken over from the first moment: drop (which may be NULL) is
// called with it exactly once, when it was replaced, removed or refused; a line being told just then is finished
// first, on the library's thread. Any thread and place; does not block.
// OK; INVALID_ARGUMENT: a max_level that is none; INVALID_STATE: after a shutdown; RESOURCES.
podkeep_status podkeep_set_log(void (*log)(int32_t level,
                                           const char *pod,
                                           const char *message,
                                           void *user_data),
                               int32_t max_level,
                               void *user_data,
                               void (*drop)(void *user_data));

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PODKEEP_H */
