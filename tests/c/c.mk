# The conformance suite in C. `make test-c` builds and runs it; `make test-c C_ONLY="L9 S5"` runs a part.
# Another makefile may build it with other flags into another directory:
#   $(call c_suite,build/c-asan,-fsanitize=address)   gives the target build/c-asan/conformance
# and run the plain one under a tool:  PODKEEP_TEST_SLOW=20 PODKEEP_TEST_WRAP="valgrind -q" build/c/conformance

STAGE ?= build/stage
C_SUITE_SOURCES := $(sort $(wildcard tests/c/*.c))
C_SUITE_HEADERS := $(sort $(wildcard tests/c/*.h))
C_SUITE_CFLAGS := -std=c99 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wpedantic -Werror -pthread

# $(1): directory, $(2): further flags
define c_suite
$(1)/%.o: tests/c/%.c $$(C_SUITE_HEADERS) | stage
	@mkdir -p $(1)
	$$(CC) $$(C_SUITE_CFLAGS) $(2) -Itests/c -I$$(STAGE)/include -c -o $$@ $$<
$(1)/conformance: $$(C_SUITE_SOURCES:tests/c/%.c=$(1)/%.o)
	$$(CC) -pthread $(2) -o $$@ $$^ -L$$(STAGE)/lib -lpodkeep -Wl,-rpath,$$(abspath $$(STAGE)/lib)
endef

$(eval $(call c_suite,build/c,))

.PHONY: test-c
test-c: build/c/conformance
	build/c/conformance $(C_ONLY)
