# The `podkeep` program: its guardian, `podkeep run`, and what it is as a container's first process.
#   make test-program                      all of it; what needs root or an allowed PID namespace is skipped without, and says so
#   PROGRAM_ONLY="guard pid1" make ...     the cases with one of these words in their name
# The manifest is checked by the schemas of the PyPI package kubernetes-validate, in a virtualenv below build/; the unit by
# systemd's own parser, which needs no systemd that runs; the completions and pages by the shells and tools there are.
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

$(PROGRAM_BUILD)/librecorder_before.so: tests/program/recorder.c include/podkeep.h | stage
	@mkdir -p $(PROGRAM_BUILD)
	$(CC) $(PROGRAM_CFLAGS) -DWITHOUT_CONTROL -fPIC -shared -I$(STAGE)/include -o $@ $<

$(PROGRAM_BUILD)/host $(PROGRAM_BUILD)/caller: $(PROGRAM_BUILD)/%: tests/program/%.c include/podkeep.h | stage
	@mkdir -p $(PROGRAM_BUILD)
	$(CC) $(PROGRAM_CFLAGS) -D_GNU_SOURCE -pthread -I$(STAGE)/include -o $@ $< -L$(STAGE)/lib -lpodkeep -Wl,-rpath,$(abspath $(STAGE))/lib

.PHONY: test-program
test-program: stage $(addprefix $(PROGRAM_BUILD)/,host caller libworker.so libunnamed.so librecorder.so librecorder_before.so)
	@$(PYTHON) tests/program/exported.py
	@STAGE='$(STAGE)' BUILD='$(PROGRAM_BUILD)' $(PYTHON) tests/program/run.py $(PROGRAM_ONLY)
