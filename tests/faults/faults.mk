# Faults: handles, bad input, resources, fork, exit, dlclose, every call from everywhere, footprint, layout, soak.
#   make test-faults     all of them but the soak
#   make test-soak       100 000 lives, and fewer with a hook, a monitor, a descriptor, a failure
#   make test-valgrind   the conformance cases and these under memcheck
#   make test-asan       the same with AddressSanitizer in the tests and in the library
#   make test-tsan       those with threads under ThreadSanitizer; an extra, not part of `make test`
# FAULTS_ONLY="handles fork" runs these suites alone.
STAGE ?= build/stage
FAULTS_BUILD := build/faults
FAULTS_CFLAGS := -std=c99 -g -O1 -Wall -Wextra -Wpedantic -Werror -pthread
FAULTS_LINKED := calls handles races input options resources fork exit footprint
FAULTS_SUITES := $(FAULTS_LINKED) unload layout
FAULTS_ONLY ?= $(FAULTS_SUITES)
FAULTS_SHARED := check check_status document every world
FAULTS_HEADERS := $(sort $(wildcard tests/faults/*.h))

# The programs of this folder, built into $(1) with further flags $(2), against the library in $(3).
define faults_programs
$(1)/%.o: tests/faults/%.c $$(FAULTS_HEADERS) | stage
	@mkdir -p $(1)
	$$(CC) $$(FAULTS_CFLAGS) $(2) -I$$(STAGE)/include -c -o $$@ $$<
$$(FAULTS_LINKED:%=$(1)/%) $(1)/soak: $(1)/%: $(1)/%.o $$(FAULTS_SHARED:%=$(1)/%.o)
	$$(CC) -pthread $(2) -o $$@ $$^ -L$(3) -lpodkeep -Wl,-rpath,$$(abspath $(3))
$(1)/unload: $(1)/unload.o $(1)/check.o
	$$(CC) -pthread $(2) -o $$@ $$^ -ldl -Wl,-rpath,$$(abspath $(3))
$(1)/layout: $(1)/layout.o
	$$(CC) $(2) -o $$@ $$^
.SECONDARY: $$(patsubst %,$(1)/%.o,$$(FAULTS_SUITES) $$(FAULTS_SHARED) soak)
endef
$(eval $(call faults_programs,$(FAULTS_BUILD),,$(STAGE)/lib))

.PHONY: test-faults
test-faults: $(FAULTS_SUITES:%=$(FAULTS_BUILD)/%)
	@sh tests/faults/sum.sh $(FAULTS_ONLY:%="$(FAULTS_BUILD)/%") "sh tests/faults/outside.sh $(FAULTS_BUILD)/outside"

.PHONY: test-soak
test-soak: $(FAULTS_BUILD)/soak
	$(FAULTS_BUILD)/soak
