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

# --- Under tools ------------------------------------------------------------------------------------------------------
# Limits are stretched, loops shortened. A child of a bare fork has lost the parent's pods on purpose (their memory is
# wiped there), so leaks are no question in the suites that fork with pods alive: FAULTS_FORKING.
FAULTS_FORKING := fork calls exit
FAULTS_TOOLED := $(FAULTS_LINKED) unload
MEMCHECK := valgrind -q --error-exitcode=99 --num-callers=20
MEMCHECK_LEAKS := --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite

.PHONY: test-valgrind
test-valgrind: build/c/conformance $(FAULTS_TOOLED:%=$(FAULTS_BUILD)/%)
	@PODKEEP_TEST_SLOW=20 PODKEEP_TEST_FEWER=20 PODKEEP_TEST_TOOL=valgrind sh tests/faults/sum.sh \
	  $(foreach s,$(FAULTS_TOOLED),"$(MEMCHECK) $(if $(filter $(s),$(FAULTS_FORKING)),,$(MEMCHECK_LEAKS)) $(FAULTS_BUILD)/$(s)") \
	  "PODKEEP_TEST_WRAP='$(MEMCHECK) $(MEMCHECK_LEAKS)' build/c/conformance -j $$(nproc)"

# A library that is instrumented itself. The sanitizer's runtime comes with the test program, so it is built from the same
# sources as always, by the same compiler; RUSTC_BOOTSTRAP lets the stable one take -Zsanitizer.
SANITIZER_TARGET := x86_64-unknown-linux-gnu
SANITIZED = build/$(1)-target/$(SANITIZER_TARGET)/release
ASAN_LIB := $(call SANITIZED,asan)
TSAN_LIB := $(call SANITIZED,tsan)
$(eval $(call faults_programs,build/faults-asan,-fsanitize=address,$(ASAN_LIB)))
$(eval $(call faults_programs,build/faults-tsan,-fsanitize=thread -rdynamic,$(TSAN_LIB)))
$(eval $(call c_suite,build/c-asan,-fsanitize=address))

.PHONY: asan-library tsan-library
asan-library:
	RUSTFLAGS="-Zsanitizer=address" RUSTC_BOOTSTRAP=1 cargo build --release --locked --lib \
	  --target $(SANITIZER_TARGET) --target-dir build/asan-target
	ln -sf libpodkeep.so $(ASAN_LIB)/libpodkeep.so.0
	@nm -D --undefined-only $(ASAN_LIB)/libpodkeep.so | grep -q __asan_report || { echo "the library is not instrumented" >&2; exit 1; }
tsan-library:
	RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" RUSTC_BOOTSTRAP=1 cargo build --release --locked --lib \
	  --target $(SANITIZER_TARGET) --target-dir build/tsan-target
	ln -sf libpodkeep.so $(TSAN_LIB)/libpodkeep.so.0
	@nm -D --undefined-only $(TSAN_LIB)/libpodkeep.so | grep -q __tsan_ || { echo "the library is not instrumented" >&2; exit 1; }
$(FAULTS_TOOLED:%=build/faults-asan/%) build/faults-asan/planted: | asan-library
$(FAULTS_TOOLED:%=build/faults-tsan/%) build/faults-tsan/planted: | tsan-library
build/faults-%/planted: tests/faults/planted.c | stage
	@mkdir -p $(@D)
	$(CC) $(FAULTS_CFLAGS) -fsanitize=$(if $(findstring asan,$@),address,thread) -o $@ $<

# LD_LIBRARY_PATH: the conformance suite is linked to the staged library and meets the instrumented one here.
.PHONY: test-asan
test-asan: asan-library build/c-asan/conformance build/faults-asan/planted $(FAULTS_TOOLED:%=build/faults-asan/%)
	@! build/faults-asan/planted >/dev/null 2>&1 || { echo "AddressSanitizer does not see a planted error" >&2; exit 1; }
	@PODKEEP_TEST_SLOW=10 PODKEEP_TEST_FEWER=5 PODKEEP_TEST_TOOL=asan PODKEEP_LIBRARY=$(ASAN_LIB)/libpodkeep.so.0 \
	  LD_LIBRARY_PATH=$(abspath $(ASAN_LIB)) sh tests/faults/sum.sh \
	  $(foreach s,$(FAULTS_TOOLED),"ASAN_OPTIONS=allocator_may_return_null=1$(if $(filter $(s),$(FAULTS_FORKING) resources),:detect_leaks=0) build/faults-asan/$(s)") \
	  "ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0 build/c-asan/conformance -j $$(nproc)"

TSAN_SUITES ?= races handles input options
.PHONY: test-tsan
test-tsan: tsan-library build/faults-tsan/planted $(TSAN_SUITES:%=build/faults-tsan/%)
	@! build/faults-tsan/planted >/dev/null 2>&1 || { echo "ThreadSanitizer does not see a planted race" >&2; exit 1; }
	@PODKEEP_TEST_SLOW=20 PODKEEP_TEST_FEWER=10 PODKEEP_TEST_TOOL=tsan sh tests/faults/sum.sh $(TSAN_SUITES:%="build/faults-tsan/%")
