/* members.c: see members.h. */
#include "members.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_MEMBERS = 128, MAX_ENTRIES = 1 << 16 };

/* The library's threads for groups and for hooks belong to the measure of a host. Not in a pod's child, which has no groups. */
EXPORTS(warm_groups) {
  if (getenv("PODKEEP_CHILD") != NULL) return;
  podkeep_group *g = group_new(PODKEEP_ONE_FOR_ONE, false, 0);
  group_up(g);
  group_down(g, PODKEEP_OK);
}

/* --- Members ---------------------------------------------------------------------------------------------------------- */

enum { ASKED = 0, CODE = 0, TAKEN = 7 }; /* of the actor's events and numbers */

int32_t act_member(actor *a, podkeep_context *ctx) {
  STORE(a->numbers[TAKEN], 0);
  while (!podkeep_context_cancelled(ctx)) {
    event_wait_for(&a->events[ASKED], LIMIT_MS);
    if (podkeep_context_cancelled(ctx)) break;
    a->events[ASKED].set = 0;
    STORE(a->numbers[TAKEN], 1); /* before: at no time a code is neither there nor taken */
    int64_t code = __atomic_exchange_n(&a->numbers[CODE], 0, __ATOMIC_SEQ_CST);
    if (code != 0) return code == 1 ? 0 : podkeep_context_fail(ctx, (int32_t)code, "it was made to fall");
    STORE(a->numbers[TAKEN], 0);
  }
  return 0;
}
static int32_t act_wake(actor *a, podkeep_context *ctx) {
  (void)ctx;
  event_set(&a->events[ASKED]);
  return 0;
}

member *member_new(where where, const char *name) {
  member *m = calloc(1, sizeof *m);
  CHECK(m != NULL && where != MIXED);
  m->where = where;
  snprintf(m->name, sizeof m->name, "%s", name);
  podkeep_pod_options plain = PODKEEP_POD_OPTIONS_INIT;
  m->options = plain;
  m->options.host = where == THREAD ? PODKEEP_HOST_THREAD : PODKEEP_HOST_PROCESS;
  m->options.backoff_ms = 1;
  m->options.backoff_max_ms = 20;
  m->options.grace_ms = LIMIT_MS;
  if (where != COMMAND) {
    m->a = actor_like(name, act_member);
    DOES(m->a->hook, act_wake);
  }
  return m;
}
void member_make(member *m) {
  if (m->pod != NULL) return;
  if (m->a != NULL) {
    m->a->options = m->options;
    m->pod = actor_make(m->a);
  } else {
    const char *const argv[] = {"/bin/sh", "-c", m->script ? m->script : "exec sleep 1000", NULL};
    m->options.name = m->name;
    m->pod = command_make(m->name, argv, &m->options);
  }
}
static struct order {
  podkeep_group *group;
  char name[24], after[200];
} orders[MAX_MEMBERS];
static int order_count;

void join_group(podkeep_group *g, member *m, const char *after) {
  const char *names[MAX_MEMBERS + 1];
  char copy[4096];
  int n = 0;
  member_make(m);
  snprintf(copy, sizeof copy, "%s", after ? after : "");
  for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) names[n++] = word;
  names[n] = NULL;
  podkeep_member_options options = PODKEEP_MEMBER_OPTIONS_INIT;
  options.after = names;
  options.significant = m->significant;
  CHECK_OK(podkeep_group_add(g, m->pod, &options));
  if (order_count < MAX_MEMBERS) {
    struct order *o = &orders[order_count++];
    o->group = g;
    snprintf(o->name, sizeof o->name, "%s", m->name);
    snprintf(o->after, sizeof o->after, "%s", after ? after : "");
  }
}
void members_forget(void) { order_count = 0; }
member *member_in(podkeep_group *g, where where, const char *name, const char *after) {
  member *m = member_new(where, name);
  join_group(g, m, after);
  return m;
}
pid_t member_pid(member *m) { return pod_pid(m->pod); }
static void ask(member *m, int64_t code) {
  STORE(m->a->numbers[CODE], code);
  event_set(&m->a->events[ASKED]);
}
void fall(member *m) {
  if (m->a == NULL) CHECK_INT(kill(member_pid(m), SIGKILL), 0);
  else ask(m, 7);
}
void leave(member *m) {
  CHECK(m->a != NULL);
  ask(m, 1);
}

bool is_back(const member *m) { /* a code that is taken is so until the next life */
  return m->a == NULL || (LOAD(m->a->numbers[CODE]) == 0 && LOAD(m->a->numbers[TAKEN]) == 0);
}

/* --- Groups ----------------------------------------------------------------------------------------------------------- */

podkeep_group *group_new(podkeep_strategy strategy, bool keep_going, int64_t grace_ms) {
  podkeep_group *g;
  podkeep_group_options options = PODKEEP_GROUP_OPTIONS_INIT;
  options.name = "team";
  options.strategy = strategy;
  options.keep_going = keep_going;
  options.grace_ms = grace_ms;
  CHECK_OK(podkeep_group_new(&options, &g));
  return g;
}
void group_up(podkeep_group *g) {
  CHECK_OK(podkeep_group_start(g));
  CHECK_OK(podkeep_group_wait_ready(g, LIMIT_MS));
  /* A state is shown before it is told. What a new monitor finds was told to the others. */
  podkeep_monitor *m;
  CHECK_OK(podkeep_monitor_new_group(g, &m));
  CHECK_OK(podkeep_monitor_free(m));
}
void group_down(podkeep_group *g, podkeep_status want) {
  CHECK_STATUS(podkeep_group_close(g), want);
  CHECK_OK(podkeep_group_free(g));
}
podkeep_state group_state(podkeep_group *g) {
  podkeep_state state = -1;
  CHECK_OK(podkeep_group_state(g, &state));
  return state;
}
void check_group_failure_at(const char *file, int line, podkeep_group *g, const char *name, podkeep_kind kind, const char *part) {
  podkeep_failure *f = NULL;
  check_status(file, line, "podkeep_group_failure", podkeep_group_failure(g, &f), PODKEEP_OK);
  if (f == NULL) check_failed(file, line, "the group has no failure; its state is %d", group_state(g));
  check_str(file, line, "whose failure", podkeep_failure_pod_name(f), name);
  check_int(file, line, "the failure's kind", podkeep_failure_kind(f), kind);
  if (part) check_has(file, line, "the failure's message", podkeep_failure_message(f), part);
  CHECK_OK(podkeep_failure_free(f));
}

/* --- The journal ------------------------------------------------------------------------------------------------------ */

typedef struct entry_of {
  char name[24], sign, before;
} entry_of;
struct journal {
  podkeep_group *group;
  podkeep_monitor *monitor;
  size_t count;
  uint64_t sequence;
  bool ended; /* and all is read */
  bool may_miss, missed;
  entry_of entries[MAX_ENTRIES];
};
static char sign_of(podkeep_state state) {
  static const char signs[] = "0<+>-.!~";
  return state >= 0 && state <= 7 ? signs[state] : '?';
}
journal *journal_of(podkeep_group *g) {
  journal *j = calloc(1, sizeof *j);
  CHECK(j != NULL);
  j->group = g;
  CHECK_OK(podkeep_monitor_new_group(g, &j->monitor));
  return j;
}
void journal_free(journal *j) {
  CHECK_OK(podkeep_monitor_free(j->monitor));
  free(j);
}
void journal_may_miss(journal *j) { j->may_miss = true; }
static bool journal_next(journal *j, int64_t ms) {
  podkeep_event e = PODKEEP_EVENT_INIT;
  podkeep_status status = podkeep_monitor_next(j->monitor, &e, ms);
  j->ended = status == PODKEEP_ERR_ENDED;
  if (status == PODKEEP_ERR_TIMEOUT || j->ended) return false;
  CHECK_OK(status);
  CHECK(e.sequence > j->sequence);
  j->sequence = e.sequence;
  if (!j->may_miss) CHECK_INT(e.missed, 0); /* the journal reads in time */
  j->missed |= e.missed != 0;
  CHECK(j->count < MAX_ENTRIES);
  entry_of *x = &j->entries[j->count];
  snprintf(x->name, sizeof x->name, "%s", e.name);
  x->sign = sign_of(e.to);
  x->before = sign_of(e.from);
  if (e.from != e.to || e.missed != 0) j->count++;
  return true;
}
void journal_read(journal *j, int64_t ms) {
  int64_t until = now_ms() + ms;
  for (;;) {
    int64_t left = until - now_ms();
    if (!journal_next(j, left > 0 ? left : 0) && (left <= 0 || j->ended)) return;
  }
}
size_t journal_mark(journal *j) {
  journal_read(j, 0);
  return j->count;
}
void journal_until_at(const char *file, int line, journal *j, size_t mark, const char *name, char sign, int n) {
  int64_t until = now_ms() + LIMIT_MS;
  for (size_t at = mark; n > 0;) {
    for (; at < j->count && n > 0; at++)
      if (j->entries[at].sign == sign && strcmp(j->entries[at].name, name) == 0) n--;
    if (n == 0) return;
    if (now_ms() > until || j->ended)
      check_failed(file, line, "%s \"%s%c\": %s", j->ended ? "ended without" : "waited too long for", name, sign, journal_words(j, mark, "<+>-.!~"));
    journal_next(j, 100);
  }
}
const char *journal_words(journal *j, size_t mark, const char *signs) {
  static char texts[2][1 << 14];
  static unsigned turn;
  char *text = texts[turn++ % 2];
  size_t used = 0;
  text[0] = '\0';
  for (size_t i = mark; i < j->count && used + 40 < sizeof texts[0]; i++)
    if (strchr(signs, j->entries[i].sign))
      used += (size_t)sprintf(text + used, "%s%s%c", used ? " " : "", j->entries[i].name, j->entries[i].sign);
  return text;
}

static const struct order *order_of(journal *j, const char *name) {
  for (int i = 0; i < order_count; i++)
    if (orders[i].group == j->group && strcmp(orders[i].name, name) == 0) return &orders[i];
  check_failed(__FILE__, __LINE__, "no member \"%s\"", name);
}
static bool is_named(const char *words, const char *name) {
  size_t n = strlen(name);
  for (const char *at = words; (at = strstr(at, name)) != NULL; at += n)
    if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0')) return true;
  return false;
}
/* The newest sign of a member before that entry. */
static char sign_at(const journal *j, const char *name, size_t before) {
  while (before-- > 0)
    if (strcmp(j->entries[before].name, name) == 0) return j->entries[before].sign;
  return '0';
}
void journal_check_order(journal *j, bool deaths) {
  if (j->missed) {
    note("the journal has gaps: the order is not checked");
    return;
  }
  for (size_t i = 0; i < j->count; i++) {
    const entry_of *e = &j->entries[i];
    for (int o = 0; o < order_count; o++) {
      const struct order *other = &orders[o];
      if (other->group != j->group) continue;
      if (e->sign == '<' && is_named(order_of(j, e->name)->after, other->name)) {
        char sign = sign_at(j, other->name, i);
        bool was_ready = false;
        for (size_t k = 0; k < i; k++)
          was_ready |= j->entries[k].sign == '+' && strcmp(j->entries[k].name, other->name) == 0;
        /* One that dies in this moment was up when the start was decided. */
        if (!was_ready || (!deaths && strchr("+.!", sign) == NULL))
          check_failed(__FILE__, __LINE__, "%s is STARTING and %s is '%c': %s", e->name, other->name, sign, journal_words(j, 0, "<+>-.!~"));
      }
      if (!deaths && e->sign == '>' && is_named(other->after, e->name)) {
        char sign = sign_at(j, other->name, i);
        if (strchr("<+>", sign) != NULL)
          check_failed(__FILE__, __LINE__, "%s is STOPPING and %s is '%c': %s", e->name, other->name, sign, journal_words(j, 0, "<+>-.!~"));
      }
    }
  }
}
