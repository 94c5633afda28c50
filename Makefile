# podkeep: what can be made. `make demo` and `make test` work on a fresh machine and say what they install.

STAGE  := $(CURDIR)/build/stage
PYTHON ?= python3
CC     ?= cc
CXX    ?= c++
export STAGE

# Debian's packages: a C and C++ compiler and tools, what the examples host (libuv, Asio), what the benches compare with
# (GLib), what the tests check with (valgrind, clang, cmake, curl, openssl), keep as pods (redis, nginx), compare with (tini,
# dumb-init) and read what the program writes (systemd, man), and Python. Rust is not among them: see Cargo.toml.
PACKAGES := build-essential pkg-config curl libuv1-dev libasio-dev libglib2.0-dev clang-14 cmake valgrind \
            redis-server nginx tini dumb-init openssl systemd man-db groff-base python3 python3-venv util-linux binutils

.PHONY: all
all: stage

.PHONY: deps
deps:
	@missing=""; for p in $(PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then echo "deps: nothing to install ($(PACKAGES))"; \
	elif ! command -v apt-get >/dev/null; then echo "deps: please install$$missing" >&2; exit 1; \
	else echo "deps: installing$$missing"; \
	  apt-get update -qq -o Acquire::Retries=3 && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Acquire::Retries=3 --no-install-recommends $$missing >/dev/null; fi

# The library, installed below build/: all programs of the tests and examples are built against this tree.
.PHONY: stage
stage:
	cargo build --release --locked
	@$(MAKE) --no-print-directory -s install-files PREFIX=$(STAGE) DESTDIR=

.PHONY: install
install:
	cargo build --release --locked
	$(MAKE) --no-print-directory install-files

# The C header, from the Rust sources. `make test` fails when it is stale.
.PHONY: header
header:
	PODKEEP_WRITE_HEADER=1 cargo test --locked --test header

# What is generated from proto/. `make test` fails when it is stale.
.PHONY: proto
proto:
	PODKEEP_WRITE_PROTO=1 cargo test --locked --test proto

.PHONY: lint
lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

.PHONY: test-rust
test-rust: stage
	cargo test --locked

# The parts, each beside what it is about.
-include bindings/cpp/cpp.mk tests/c/c.mk tests/process/process.mk tests/program/program.mk tests/group/group.mk tests/faults/faults.mk \
         tests/control/control.mk fuzz/fuzz.mk bindings/python/python.mk examples/examples.mk benches/benches.mk tests/readme/readme.mk

# What is installed on the way comes from a network that may be slow for a while.
export CARGO_NET_RETRY ?= 10
export PIP_RETRIES ?= 10
export PIP_DEFAULT_TIMEOUT ?= 60

# The tests talk to this machine alone.
export no_proxy := 127.0.0.1,localhost,::1,$(no_proxy)
export NO_PROXY := $(no_proxy)

# All that CI runs, the quick parts first.
SUITES := lint test-rust test-c test-process test-group test-group-example test-program test-faults test-control test-small test-fuzz \
          test-cpp lint-python test-python test-examples test-readme test-soak test-asan test-valgrind test-benches
.PHONY: test
test: deps
	@MAKE='$(MAKE)' tests/suites.sh $(SUITES)

.PHONY: clean
clean:
	rm -rf build target
