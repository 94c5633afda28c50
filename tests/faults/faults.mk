# Faults: handles, bad input, resources, fork, exit, dlclose, every call from everywhere, footprint, layout, soak.
#   make test-faults     all of them but the soak
#   make test-soak       100 000 lives, and fewer with a hook, a monitor, a descriptor, a failure
#   make test-valgrind   the conformance cases and these under memcheck
#   make test-asan       the same with AddressSanitizer in the tests and in the library
# FAULTS_ONLY="handles fork" runs these suites alone.
STAGE ?= build/stage
FAULTS_BUILD := build/faults
FAULTS_CFLAGS := -std=c99 -g -O1 -Wall -Wextra -Wpedantic -Werror -pthread
FAULTS_LINKED := calls handles races input options resources fork inside exit footprint
FAULTS_SUITES := $(FAULTS_LINKED) inject moments unload layout
FAULTS_ONLY ?= $(FAULTS_SUITES)
FAULTS_SHARED := check check_status document every world
FAULTS_HEADERS := $(sort $(wildcard tests/faults/*.h)) include/podkeep.h

# The programs of this folder, built into $(1) with further flags $(2), against the library in $(3), linked with $(4) too.
define faults_programs
$(1)/%.o: tests/faults/%.c $$(FAULTS_HEADERS) | stage
	@mkdir -p $(1)
	$$(CC) $$(FAULTS_CFLAGS) $(2) -I$$(STAGE)/include -c -o $$@ $$<
$$(FAULTS_LINKED:%=$(1)/%) $(1)/inject $(1)/moments $(1)/soak: $(1)/%: $(1)/%.o $$(FAULTS_SHARED:%=$(1)/%.o)
	$$(CC) -pthread $(4) -o $$@ $$^ -L$(3) -lpodkeep -Wl,-rpath,$$(abspath $(3))
$(1)/unload: $(1)/unload.o $(1)/check.o
	$$(CC) -pthread $(4) -o $$@ $$^ -ldl -Wl,-rpath,$$(abspath $(3))
$(1)/layout: $(1)/layout.o
	$$(CC) $(4) -o $$@ $$^
.SECONDARY: $$(patsubst %,$(1)/%.o,$$(FAULTS_SUITES) $$(FAULTS_SHARED) soak)
endef
$(eval $(call faults_programs,$(FAULTS_BUILD),,$(STAGE)/lib))

.PHONY: test-faults
test-faults: $(FAULTS_SUITES:%=$(FAULTS_BUILD)/%)
	@sh tests/faults/sum.sh $(FAULTS_ONLY:%="$(FAULTS_BUILD)/%") "sh tests/faults/outside.sh $(FAULTS_BUILD)/outside"

.PHONY: test-soak
test-soak: $(FAULTS_BUILD)/soak
	$(FAULTS_BUILD)/soak

# --- Under tools ------------------------------------------------------------------------------------------------------
# Limits are stretched, loops shortened. A child of a bare fork has lost the parent's pods on purpose (their memory is
# wiped there), so leaks are no question in the suites that fork with pods alive: FAULTS_FORKING.
FAULTS_FORKING := fork inside calls exit
FAULTS_TOOLED := $(FAULTS_LINKED) unload
# A thread that spins or naps shares memcheck's one processor with the one that it waits for: --fair-sched.
MEMCHECK := valgrind -q --error-exitcode=99 --num-callers=20 --fair-sched=yes
MEMCHECK_LEAKS := --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite

# So in these cases of the conformance suite; all others are asked for their leaks too.
MEMCHECK_FORKING := S8_lives__fork_in_the_delay S8_watchdog__stalled S8_watchdog__one_fresh_interval
MEMCHECK_CASES = PODKEEP_TEST_SLOW=8 PODKEEP_TEST_WRAP='$(MEMCHECK) $(1)' build/c/conformance -j $(2)
.PHONY: test-valgrind
test-valgrind: build/c/conformance $(FAULTS_TOOLED:%=$(FAULTS_BUILD)/%)
	@PODKEEP_TEST_SLOW=20 PODKEEP_TEST_FEWER=20 PODKEEP_TEST_TOOL=valgrind sh tests/faults/sum.sh \
	  $(foreach s,$(FAULTS_TOOLED),"$(MEMCHECK) $(if $(filter $(s),$(FAULTS_FORKING)),,$(MEMCHECK_LEAKS)) $(FAULTS_BUILD)/$(s)") \
	  "$(call MEMCHECK_CASES,,2) $(MEMCHECK_FORKING)" \
	  "$(call MEMCHECK_CASES,$(MEMCHECK_LEAKS),4) $$(build/c/conformance --list | grep -v $(MEMCHECK_FORKING:%=-e %) | tr '\n' ' ')"

# A library that is instrumented itself, built from the same sources as always, by the same compiler; RUSTC_BOOTSTRAP lets
# the stable one take -Zsanitizer. The sanitizer's runtime comes with the test program, and it is the one of the library's
# compiler: it takes its own locks over a fork, where older ones (the C compiler's here) leave a child of a busy process
# hanging in malloc or pthread_create. ThreadSanitizer was tried
# the same way and is of no use here: the standard library's locks, which cannot be built anew without its sources, are
# not instrumented, so each RwLock and Arc that is contended reads as a race.
SANITIZER_TARGET := x86_64-unknown-linux-gnu
ASAN_LIB := build/asan-target/$(SANITIZER_TARGET)/release
ASAN_RUNTIME = -Wl,--export-dynamic,--whole-archive \
  $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(SANITIZER_TARGET)/lib/librustc-*rt.asan.a) \
  -Wl,--no-whole-archive -ldl -lm -lrt -lresolv
$(eval $(call faults_programs,build/faults-asan,-fsanitize=address,$(ASAN_LIB),$$(ASAN_RUNTIME)))
$(eval $(call c_suite,build/c-asan,-fsanitize=address,$$(ASAN_RUNTIME)))

.PHONY: asan-library
asan-library:
	RUSTFLAGS="-Zsanitizer=address" RUSTC_BOOTSTRAP=1 cargo build --release --locked --lib \
	  --target $(SANITIZER_TARGET) --target-dir build/asan-target
	ln -sf libpodkeep.so $(ASAN_LIB)/libpodkeep.so.0
	@nm -D --undefined-only $(ASAN_LIB)/libpodkeep.so | grep -q __asan_report || { echo "the library is not instrumented" >&2; exit 1; }
$(FAULTS_TOOLED:%=build/faults-asan/%) build/faults-asan/planted: | asan-library
build/faults-asan/planted: tests/faults/planted.c
	@mkdir -p $(@D)
	$(CC) $(FAULTS_CFLAGS) -fsanitize=address -c -o $@.o $<
	$(CC) -pthread $(ASAN_RUNTIME) -o $@ $@.o

# LD_LIBRARY_PATH: the conformance suite is linked to the staged library and meets the instrumented one here.
.PHONY: test-asan
test-asan: asan-library build/c-asan/conformance build/faults-asan/planted $(FAULTS_TOOLED:%=build/faults-asan/%)
	@! build/faults-asan/planted >/dev/null 2>&1 || { echo "AddressSanitizer does not see a planted error" >&2; exit 1; }
	@PODKEEP_TEST_SLOW=10 PODKEEP_TEST_FEWER=5 PODKEEP_TEST_TOOL=asan PODKEEP_LIBRARY=$(ASAN_LIB)/libpodkeep.so.0 \
	  LD_LIBRARY_PATH=$(abspath $(ASAN_LIB)) sh tests/faults/sum.sh \
	  $(foreach s,$(FAULTS_TOOLED),"ASAN_OPTIONS=allocator_may_return_null=1$(if $(filter $(s),$(FAULTS_FORKING) resources),:detect_leaks=0) build/faults-asan/$(s)") \
	  "ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0 build/c-asan/conformance -j $$(nproc)"
