/* members.h: groups under test, with members in threads, in child processes and of commands, and a journal of the group's
 * monitor in which each change of each member is kept in the order in which it was told.
 *
 * The cases stand on tests/process: world.h (assertions, events), actor.h (callbacks that do as the case says, the same in a
 * thread and in a child) and its runner. */
#ifndef GROUP_MEMBERS_H
#define GROUP_MEMBERS_H

#include "actor.h"

typedef enum where { THREAD, PROCESS, COMMAND, MIXED } where;

typedef struct member {
  where where;
  actor *a;                       /* NULL: a command */
  const char *script;             /* a command's; NULL: it sleeps */
  podkeep_pod_options options;    /* read by join_group */
  bool significant;
  podkeep_pod *pod;
  char name[24];
} member;

/* Its run_forever waits for the cancel, or until fall() makes it fail or leave() return 0. */
member *member_new(where where, const char *name);
void member_make(member *m);      /* its pod, NEW */
void join_group(podkeep_group *g, member *m, const char *after); /* makes it; after: names with blanks between, or NULL */
member *member_in(podkeep_group *g, where where, const char *name, const char *after);
void fall(member *m);             /* run_forever fails with 7; a command is killed */
void leave(member *m);            /* run_forever returns 0; not for commands */
bool is_back(const member *m);    /* no fall is still to come or on its way; of one that comes back, and true of a command */
void members_forget(void);        /* a loop's round is over: its orders are needed no more */
pid_t member_pid(member *m);      /* of one that is RUNNING, not in a thread */

podkeep_group *group_new(podkeep_strategy strategy, bool keep_going, int64_t grace_ms);
void group_up(podkeep_group *g);  /* started, and RUNNING, which its monitors were told of each member */
void group_down(podkeep_group *g, podkeep_status want); /* closed and freed */
podkeep_state group_state(podkeep_group *g);
#define CHECK_GROUP(g, want) CHECK_INT(group_state(g), PODKEEP_STATE_##want)
/* The group's failure is this member's, with that in its message (NULL: anything). */
void check_group_failure_at(const char *file, int line, podkeep_group *g, const char *name, podkeep_kind kind, const char *part);
#define CHECK_GROUP_FAILURE(g, name, kind, part) check_group_failure_at(__FILE__, __LINE__, g, name, PODKEEP_KIND_##kind, part)

/* The journal. One sign a state: '<' STARTING, '+' RUNNING, '>' STOPPING, '-' RESTARTING, '.' STOPPED, '!' FAILED, '~' ABANDONED. */
typedef struct journal journal;
journal *journal_of(podkeep_group *g);
void journal_free(journal *j);
/* More may be told in a moment than a monitor holds for a late reader: events of a member are merged then, and the order is
 * not checked, which is noted. */
void journal_may_miss(journal *j);
void journal_read(journal *j, int64_t ms);     /* all that is there, and what comes within that time */
size_t journal_mark(journal *j);               /* what is behind it is of no interest any more */
/* Reads on until a member has entered that state behind the mark, for the n-th time. */
void journal_until_at(const char *file, int line, journal *j, size_t mark, const char *name, char sign, int n);
#define JOURNAL_UNTIL(j, mark, name, sign) journal_until_at(__FILE__, __LINE__, j, mark, name, sign, 1)
#define JOURNAL_UNTIL_NTH(j, mark, name, sign, n) journal_until_at(__FILE__, __LINE__, j, mark, name, sign, n)
/* "fig- kiwi-": what was told behind the mark of those states; this thread's until the second next call. */
const char *journal_words(journal *j, size_t mark, const char *signs);
/* No member is STARTING before those it comes after were RUNNING, and none of those stops by the group's will while it lives.
 * `deaths`: members may die by themselves, and then go down whoever needs them. */
void journal_check_order(journal *j, bool deaths);

int32_t act_member(actor *a, podkeep_context *ctx); /* member_new's run_forever */

#endif
