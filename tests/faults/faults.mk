# Faults: handles, bad input, resources, fork, exit, dlclose, every call from everywhere, footprint, layout, soak.
#   make test-faults     all of them but the soak, each suite native
#   make test-soak       100 000 lives, and fewer with a hook, a monitor, a descriptor, a failure
#   make test-valgrind   the conformance cases and these under memcheck
#   make test-asan       the same with AddressSanitizer in the tests and in the library
#   make test-tsan       the threaded ones with ThreadSanitizer in the tests and in the library; not part of `make test`
FAULTS_BUILD = build/faults
FAULTS_CFLAGS = -std=c99 -g -O1 -Wall -Wextra -Wpedantic -Werror -pthread
FAULTS_LINKED = calls handles races input options resources fork exit footprint
FAULTS_ALL = $(FAULTS_LINKED) unload layout
FAULTS_BINARIES = $(FAULTS_ALL:%=$(FAULTS_BUILD)/%)
FAULTS_SHARED = check check_status document every world
FAULTS_HEADERS = $(wildcard tests/faults/*.h) build/stage/include/podkeep.h
FAULTS_LINK = -Lbuild/stage/lib -Wl,-rpath,$(abspath build/stage/lib) -lpodkeep

$(FAULTS_BUILD)/%.o: tests/faults/%.c $(FAULTS_HEADERS) | stage
	@mkdir -p $(@D)
	$(CC) $(FAULTS_CFLAGS) -Ibuild/stage/include -c $< -o $@
$(FAULTS_LINKED:%=$(FAULTS_BUILD)/%) $(FAULTS_BUILD)/soak: $(FAULTS_BUILD)/%: $(FAULTS_BUILD)/%.o $(FAULTS_SHARED:%=$(FAULTS_BUILD)/%.o)
	$(CC) -pthread $^ $(FAULTS_LINK) -o $@
$(FAULTS_BUILD)/unload: $(FAULTS_BUILD)/unload.o $(FAULTS_BUILD)/check.o
	$(CC) -pthread $^ -ldl -o $@
$(FAULTS_BUILD)/layout: $(FAULTS_BUILD)/layout.o
	$(CC) $^ -o $@
