/* docs/reference/calls.md, read as data: each table that begins with "| call |" has the places in its heading and a call
 * a line. The document is the only place where the answers are written down. */
#ifndef FAULTS_DOCUMENT_H
#define FAULTS_DOCUMENT_H

enum { COLUMNS = 16, ROWS = 160, WORD = 32 };
struct line {
  char key[80];
  char cell[COLUMNS][WORD];
};
extern struct line lines[ROWS];
extern int line_count;

void read_document(void); /* from PODKEEP_CALLS_MD, else docs/reference/calls.md; the program ends when there is none */
const struct line *line_of(const char *key); /* NULL: no such line */
int column_of(const char *heading);          /* the program ends when there is no such column */

#endif
