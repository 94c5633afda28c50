# Process pods, from outside and from inside. `make test-process` builds and runs all; `make test-process PROCESS_ONLY="L12 J04"`
# those whose name holds a part. PODKEEP_TEST_STORM=2000: how many pods the storm starts.
STAGE ?= build/stage
PROCESS_BUILD := build/process
PROCESS_SOURCES := $(sort $(wildcard tests/process/*.c))
PROCESS_LIBRARIES := $(sort $(wildcard tests/process/library/*.c))
PROCESS_HEADERS := $(sort $(wildcard tests/process/*.h)) include/podkeep.h
PROCESS_CFLAGS := -std=c99 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wpedantic -Werror -pthread

$(PROCESS_BUILD)/%.o: tests/process/%.c $(PROCESS_HEADERS) | stage
	@mkdir -p $(@D)
	$(CC) $(PROCESS_CFLAGS) -Itests/process -I$(STAGE)/include -c -o $@ $<
$(PROCESS_BUILD)/process: $(PROCESS_SOURCES:tests/process/%.c=$(PROCESS_BUILD)/%.o)
	$(CC) -pthread -o $@ $^ -L$(STAGE)/lib -lpodkeep -Wl,-rpath,$(abspath $(STAGE)/lib)
# What podkeep_runtime_from_library loads: beside the program, which finds them there.
$(PROCESS_BUILD)/%.so: tests/process/library/%.c $(PROCESS_HEADERS) | stage
	@mkdir -p $(@D)
	$(CC) $(PROCESS_CFLAGS) -fPIC -shared -I$(STAGE)/include -o $@ $< -L$(STAGE)/lib -lpodkeep -Wl,-rpath,$(abspath $(STAGE)/lib)

.PHONY: test-process
test-process: $(PROCESS_BUILD)/process $(PROCESS_LIBRARIES:tests/process/library/%.c=$(PROCESS_BUILD)/%.so)
	$(PROCESS_BUILD)/process -j 2 $(PROCESS_ONLY)
