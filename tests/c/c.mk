# The conformance suite in C. `make test-c` builds it and runs it in each host; `make test-c C_ONLY="L9 S5"` runs a part.
# Another makefile may build it with other flags into another directory:
#   $(call c_suite,build/c-asan,-fsanitize=address,$$(ASAN_RUNTIME))   gives the target build/c-asan/conformance
# and run the plain one under a tool:  PODKEEP_TEST_SLOW=20 PODKEEP_TEST_WRAP="valgrind -q" build/c/conformance

STAGE ?= build/stage
C_SUITE_SOURCES := $(sort $(wildcard tests/c/*.c))
C_SUITE_HEADERS := $(sort $(wildcard tests/c/*.h))
# At a fixed address: a child of a case is the same program started anew, and finds the case's callbacks by their pointers.
C_SUITE_CFLAGS := -std=c99 -D_GNU_SOURCE -O1 -g -fno-pie -Wall -Wextra -Wpedantic -Werror -pthread

# $(1): directory, $(2): further flags of the compiler, $(3): of the linker
define c_suite
$(1)/%.o: tests/c/%.c $$(C_SUITE_HEADERS) | stage
	@mkdir -p $(1)
	$$(CC) $$(C_SUITE_CFLAGS) $(2) -Itests/c -I$$(STAGE)/include -c -o $$@ $$<
$(1)/conformance: $$(C_SUITE_SOURCES:tests/c/%.c=$(1)/%.o)
	$$(CC) -pthread -no-pie $(3) -o $$@ $$^ -L$$(STAGE)/lib -lpodkeep -Wl,-rpath,$$(abspath $$(STAGE)/lib)
endef

$(eval $(call c_suite,build/c,))

.PHONY: test-c
test-c: build/c/conformance
	@sed -n '/^<!-- list-skipped -->$$/,/^<!-- end -->$$/p' tests/c/README.md | sed '1d;$$d' >build/c/skipped.md
	@build/c/conformance --list-skipped | diff build/c/skipped.md - || \
	  { echo "tests/c/README.md does not list what conformance --list-skipped prints" >&2; exit 1; }
	build/c/conformance --host all $(C_ONLY)
