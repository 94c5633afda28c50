#include "document.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char headings[COLUMNS][WORD];
struct line lines[ROWS];
int line_count;

/* Splits "| a | `b` | c |"; gives how many cells. */
static int split(char *text, char *cell[], int max) {
  int n = 0;
  char *next = strchr(text, '|');
  while (next && n < max) {
    char *from = next + 1, *to = strchr(from, '|');
    if (!to) break;
    next = to;
    while (from < to && (isspace((unsigned char)*from) || *from == '`')) from++;
    while (to > from && (isspace((unsigned char)to[-1]) || to[-1] == '`')) to--;
    cell[n] = malloc((size_t)(to - from) + 1);
    memcpy(cell[n], from, (size_t)(to - from));
    cell[n++][to - from] = 0;
  }
  return n;
}

void read_document(void) {
  const char *path = getenv("PODKEEP_CALLS_MD");
  FILE *f = fopen(path ? path : "docs/reference/calls.md", "r");
  char text[1000];
  if (!f) {
    perror("docs/reference/calls.md (run from the repository's root, or set PODKEEP_CALLS_MD)");
    exit(2);
  }
  while (fgets(text, sizeof text, f)) {
    char *cell[COLUMNS];
    int n, i, heading = strncmp(text, "| call |", 8) == 0;
    if (!heading && strncmp(text, "| `podkeep_", 11) != 0) continue;
    n = split(text, cell, COLUMNS);
    if (!heading) snprintf(lines[line_count].key, sizeof lines[0].key, "%s", cell[0]);
    for (i = 1; i < n; i++)
      snprintf(heading ? headings[i - 1] : lines[line_count].cell[i - 1], WORD, "%s", cell[i]);
    for (i = 0; i < n; i++) free(cell[i]);
    if (!heading && ++line_count == ROWS) break;
  }
  fclose(f);
}

const struct line *line_of(const char *key) {
  int i;
  for (i = 0; i < line_count; i++)
    if (strcmp(lines[i].key, key) == 0) return &lines[i];
  return NULL;
}

int column_of(const char *heading) {
  int i;
  for (i = 0; i < COLUMNS; i++)
    if (strcmp(headings[i], heading) == 0) return i;
  fprintf(stderr, "    calls.md has no column \"%s\"\n", heading);
  exit(1);
}
