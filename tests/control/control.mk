# The control service, asked by clients that are not ours: Python's grpcio with its health and reflection packages, at the
# versions of requirements.txt, in a virtualenv of their own.
#   make test-control                      all of it; what needs root is skipped without, and says so
#   CONTROL_ONLY="health tls" make ...     the cases with one of these words in their name
STAGE ?= build/stage
CONTROL_BUILD := build/control
CONTROL_CFLAGS := -std=c99 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Wpedantic -Werror -pthread
CONTROL_ONLY ?=

$(CONTROL_BUILD)/host: tests/control/host.c include/podkeep.h | stage
	@mkdir -p $(CONTROL_BUILD)
	$(CC) $(CONTROL_CFLAGS) -I$(STAGE)/include -o $@ $< -L$(STAGE)/lib -lpodkeep -Wl,-rpath,$(abspath $(STAGE)/lib)

$(CONTROL_BUILD)/venv/made: tests/control/requirements.txt
	@mkdir -p $(CONTROL_BUILD)
	$(PYTHON) -m venv --clear $(CONTROL_BUILD)/venv
	$(CONTROL_BUILD)/venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: test-control
test-control: stage $(CONTROL_BUILD)/host $(CONTROL_BUILD)/venv/made
	@CASES=tests/control STAGE='$(STAGE)' BUILD='$(CONTROL_BUILD)' PYTHONPATH=bindings/python/src \
	  PODKEEP_LIBRARY='$(STAGE)/lib/libpodkeep.so.0' $(CONTROL_BUILD)/venv/bin/python tests/program/run.py $(CONTROL_ONLY)

# The library without the control service, in directories of its own: it exports the same functions, and pods live there as
# ever: a part of the conformance suite is run with it.
SMALL := build/small
$(SMALL)/small: tests/control/small.c include/podkeep.h | stage
	@mkdir -p $(SMALL)
	$(CC) $(CONTROL_CFLAGS) -I$(STAGE)/include -o $@ $< -L$(STAGE)/lib -lpodkeep

.PHONY: test-small
test-small: $(SMALL)/small build/c/conformance
	CARGO_TARGET_DIR=$(SMALL)/target cargo build --release --locked --no-default-features --features cli
	@$(MAKE) --no-print-directory -s install-files PREFIX=$(abspath $(SMALL))/stage DESTDIR= \
	  PODKEEP_LIBRARY_FILE=$(SMALL)/target/release/libpodkeep.so PODKEEP_PROGRAM_FILE=$(SMALL)/target/release/podkeep
	@for tree in $(STAGE) $(SMALL)/stage; do nm -D --defined-only $$tree/lib/libpodkeep.so.0 | awk '{ print $$NF }' | sort >$$tree.symbols; done; \
	  diff $(STAGE).symbols $(SMALL)/stage.symbols && echo "symbols: ok"
	@LD_LIBRARY_PATH=$(abspath $(SMALL))/stage/lib $(SMALL)/small
	LD_LIBRARY_PATH=$(abspath $(SMALL))/stage/lib build/c/conformance --host all L2_ L4_ L7_ L10_ L12_ S9_
