# The `podkeep` program: its guardian, `podkeep run`, and what it is as a container's first process.
#   make test-program                      all of it; what needs root or an allowed PID namespace is skipped without, and says so
#   PROGRAM_ONLY="guard pid1" make ...     the cases with one of these words in their name
# Compared with tini and dumb-init (Debian: tini, dumb-init), where they are installed.
STAGE ?= build/stage
PROGRAM_BUILD := build/program
PROGRAM_CFLAGS := -std=c99 -g -O1 -Wall -Wextra -Wpedantic -Werror
PROGRAM_ONLY ?=

$(PROGRAM_BUILD)/libworker.so: tests/program/worker.c include/podkeep.h | stage
	@mkdir -p $(PROGRAM_BUILD)
	$(CC) $(PROGRAM_CFLAGS) -fPIC -shared -I$(STAGE)/include -o $@ $< -L$(STAGE)/lib -lpodkeep

# As a plug-in is often linked: without naming the library.
$(PROGRAM_BUILD)/libunnamed.so: tests/program/worker.c include/podkeep.h | stage
	@mkdir -p $(PROGRAM_BUILD)
	$(CC) $(PROGRAM_CFLAGS) -fPIC -shared -I$(STAGE)/include -o $@ $<

$(PROGRAM_BUILD)/librecorder.so: tests/program/recorder.c include/podkeep.h | stage
	@mkdir -p $(PROGRAM_BUILD)
	$(CC) $(PROGRAM_CFLAGS) -fPIC -shared -I$(STAGE)/include -o $@ $<

.PHONY: test-program
test-program: stage $(PROGRAM_BUILD)/libworker.so $(PROGRAM_BUILD)/libunnamed.so $(PROGRAM_BUILD)/librecorder.so
	@STAGE='$(STAGE)' BUILD='$(PROGRAM_BUILD)' $(PYTHON) tests/program/run.py $(PROGRAM_ONLY)
