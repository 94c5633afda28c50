# The C examples, their tests, and the demo. Needs libuv1-dev, curl and python3 (`make deps`).
STAGE ?= build/stage
CC ?= cc
PYTHON ?= python3

EXAMPLES_OUT := build/examples
EXAMPLES_C := ticker uv_http accept
EXAMPLES_BIN := $(addprefix $(EXAMPLES_OUT)/,$(EXAMPLES_C))
EXAMPLES_FLAGS := -std=c99 -O2 -g -Wall -Wextra -Wpedantic -Werror
EXAMPLES_LINK = -I$(STAGE)/include -L$(STAGE)/lib -lpodkeep -Wl,-rpath,$(abspath $(STAGE)/lib)

$(EXAMPLES_OUT):
	mkdir -p $@

$(EXAMPLES_OUT)/uv_http: EXAMPLES_LINK += $$(pkg-config --cflags --libs libuv)
$(EXAMPLES_BIN): $(EXAMPLES_OUT)/%: examples/c/%.c include/podkeep.h | stage $(EXAMPLES_OUT)
	$(CC) $(EXAMPLES_FLAGS) $< $(EXAMPLES_LINK) -o $@

.PHONY: examples-c test-examples demo
examples-c: $(EXAMPLES_BIN)

# The demo is a test of its own: it must show what it says.
test-examples: $(EXAMPLES_BIN)
	$(PYTHON) tests/examples/test_examples.py $(EXAMPLES_OUT) $(STAGE)

# In two steps, so that what deps installs is there before anything is built.
demo: deps
	@$(MAKE) --no-print-directory $(EXAMPLES_OUT)/uv_http
	@echo
	@$(PYTHON) examples/demo/demo.py $(EXAMPLES_OUT)/uv_http $(STAGE)
