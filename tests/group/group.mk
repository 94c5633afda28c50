# Groups, with members in threads, in child processes and of commands. `make test-group` builds and runs all; `make test-group
# GROUP_ONLY="strategy race"` those whose name holds a part. Stands on what tests/process has: assertions, actors, the runner.
STAGE ?= build/stage
GROUP_BUILD := build/group
GROUP_SOURCES := $(sort $(wildcard tests/group/*.c)) tests/process/world.c tests/process/processes.c tests/process/actor.c tests/process/runner.c
GROUP_OBJECTS := $(patsubst tests/%.c,$(GROUP_BUILD)/%.o,$(GROUP_SOURCES))
GROUP_HEADERS := $(sort $(wildcard tests/group/*.h tests/process/*.h)) include/podkeep.h
GROUP_CFLAGS := -std=c99 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wpedantic -Werror -pthread

$(GROUP_BUILD)/%.o: tests/%.c $(GROUP_HEADERS) | stage
	@mkdir -p $(@D)
	$(CC) $(GROUP_CFLAGS) -Itests/group -Itests/process -I$(STAGE)/include -c -o $@ $<
$(GROUP_BUILD)/groups: $(GROUP_OBJECTS)
	$(CC) -pthread -o $@ $^ -L$(STAGE)/lib -lpodkeep -Wl,-rpath,$(abspath $(STAGE)/lib)

# Redis, a web server and a worker, in C and in Python, killed at any time for some seconds each, or for a minute:
# PODKEEP_TEST_MINUTE=1. Needs redis-server.
$(GROUP_BUILD)/example: examples/c/group.c include/podkeep.h | stage
	@mkdir -p $(@D)
	$(CC) -std=c99 -O2 -g -Wall -Wextra -Wpedantic -Werror -I$(STAGE)/include -o $@ $< -L$(STAGE)/lib -lpodkeep -Wl,-rpath,$(abspath $(STAGE)/lib)

.PHONY: test-group test-group-example
test-group: $(GROUP_BUILD)/groups
	$(GROUP_BUILD)/groups -j 2 $(GROUP_ONLY)
test-group-example: $(GROUP_BUILD)/example
	$(PYTHON) tests/group/test_example.py $< $(STAGE)
