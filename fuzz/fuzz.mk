# Whatever bytes come: `make test-fuzz` on what is kept and a little more, `make fuzz FUZZ_SECONDS=600` on new ones; see
# fuzz/README.md. FUZZ_TARGETS: those alone. A package of its own, whose flags (fuzz/.cargo/config.toml) are for it alone.
FUZZ_SECONDS ?= 600
FUZZ_RUNS ?= 2000
FUZZ_TARGETS ?=

.PHONY: fuzz-build
fuzz-build:
	cd fuzz && cargo fmt --check && cargo build --release --locked

.PHONY: fuzz
fuzz: fuzz-build
	@fuzz/run.sh seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

.PHONY: test-fuzz
test-fuzz: fuzz-build
	@fuzz/run.sh runs $(FUZZ_RUNS) $(FUZZ_TARGETS)
