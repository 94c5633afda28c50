# Benches. `make bench` is the table of record of thread pods, `make bench-processes` of process pods, `make
# bench-supervision` of restarts (one CPU, some minutes each); `make test-benches` only proves that the benches build and
# run. Needs g++ with C++20, libglib2.0-dev and libuv1-dev (`make deps`), and python3; `make deps-otp` installs what the
# last of them compares with if it is there.
STAGE ?= build/stage
CC ?= cc
CXX ?= c++

BENCH_OUT := build/benches
BENCH_CPU ?= 0
# A loop of eight cycles takes nine when it lies across two cache lines: hence the alignment.
BENCH_FLAGS := -O2 -g -falign-loops=64 -Wall -Wextra -Wpedantic -Werror -I$(STAGE)/include
BENCH_CC = $(CC) -std=c99 -D_GNU_SOURCE $(BENCH_FLAGS)
BENCH_PODKEEP := -L$(STAGE)/lib -lpodkeep -Wl,-rpath,$(abspath $(STAGE)/lib)
BENCH_OBJECTS := $(addprefix $(BENCH_OUT)/,bench.o rounds.o measure.o peer_pthread.o peer_jthread.o peer_gcancellable.o \
	peer_podkeep.o)
BENCH_PROCESS_OBJECTS := $(addprefix $(BENCH_OUT)/,processes.o rounds.o process_measure.o peer_exec.o peer_uv.o)
BENCH_POD_OBJECTS := $(addprefix $(BENCH_OUT)/,peer_pods.o rounds.o process_measure.o)
BENCH_WATCHED := $(addprefix $(BENCH_OUT)/,rounds.o process_measure.o answer.o)
BENCH_WATCHER := $(addprefix $(BENCH_OUT)/,supervision.o observe.o rounds.o process_measure.o)
BENCH_SUPERVISION := $(addprefix $(BENCH_OUT)/,bench-supervision bench-supervised bench-loops child-static)
BENCH_PROGRAMS := $(BENCH_SUPERVISION) \
	$(addprefix $(BENCH_OUT)/,bench bench-processes bench-pods child-dynamic child-linked)

$(BENCH_OUT):
	mkdir -p $@

$(BENCH_OUT)/%.o: benches/%.c benches/peers.h benches/measure.h benches/processes.h benches/rounds.h benches/observe.h \
		include/podkeep.h | stage $(BENCH_OUT)
	$(BENCH_CC) $(if $(filter %cancellable.o,$@),$$(pkg-config --cflags gio-2.0)) $(if $(filter %_uv.o,$@),$$(pkg-config \
		--cflags libuv)) -c $< -o $@

$(BENCH_OUT)/%.o: benches/%.cpp benches/peers.h | stage $(BENCH_OUT)
	$(CXX) -std=c++20 $(BENCH_FLAGS) -c $< -o $@

$(BENCH_OUT)/libfloor.so: benches/floor.c | $(BENCH_OUT)
	$(BENCH_CC) -fPIC -shared $< -o $@

$(BENCH_OUT)/bench: $(BENCH_OBJECTS) $(BENCH_OUT)/libfloor.so
	$(CXX) $(BENCH_OBJECTS) -o $@ -L$(BENCH_OUT) -lfloor $(BENCH_PODKEEP) $$(pkg-config --libs gio-2.0) \
		-pthread -Wl,-rpath,$(abspath $(BENCH_OUT))

$(BENCH_OUT)/bench-processes: $(BENCH_PROCESS_OBJECTS)
	$(CC) $(BENCH_PROCESS_OBJECTS) -o $@ $(BENCH_PODKEEP) $$(pkg-config --libs libuv)

$(BENCH_OUT)/bench-pods: $(BENCH_POD_OBJECTS)
	$(CC) $(BENCH_POD_OBJECTS) -o $@ $(BENCH_PODKEEP)

$(BENCH_OUT)/bench-supervision: $(BENCH_WATCHER)
	$(CC) $^ -o $@ $(BENCH_PODKEEP)

$(BENCH_OUT)/bench-supervised: $(BENCH_OUT)/peer_supervised.o $(BENCH_WATCHED)
	$(CC) $^ -o $@ $(BENCH_PODKEEP)

$(BENCH_OUT)/bench-loops: $(BENCH_OUT)/peer_loops.o $(BENCH_WATCHED)
	$(CC) $^ -o $@ $(BENCH_PODKEEP) -pthread

$(BENCH_OUT)/child-static: benches/child.c | $(BENCH_OUT)
	$(BENCH_CC) -static $< -o $@

$(BENCH_OUT)/child-dynamic: benches/child.c | $(BENCH_OUT)
	$(BENCH_CC) $< -o $@

$(BENCH_OUT)/child-linked: benches/child.c | stage $(BENCH_OUT)
	$(BENCH_CC) $< -o $@ -Wl,--no-as-needed $(BENCH_PODKEEP)

.PHONY: bench bench-processes bench-supervision deps-otp test-benches
bench: $(BENCH_OUT)/bench
	taskset -c $(BENCH_CPU) $(BENCH_OUT)/bench $(BENCH_ARGS)

# podkeep from Python, as it stands in the sources.
PYTHON ?= python3
BENCH_PYTHON = PYTHON='$(PYTHON)' PYTHONPATH=$(CURDIR)/bindings/python/src PYTHONDONTWRITEBYTECODE=1 \
	PODKEEP_LIBRARY=$(abspath $(STAGE))/lib/libpodkeep.so.0
bench-processes: $(BENCH_PROGRAMS)
	$(BENCH_PYTHON) taskset -c $(BENCH_CPU) $(BENCH_OUT)/bench-processes $(BENCH_ARGS)

bench-supervision: $(BENCH_SUPERVISION)
	taskset -c $(BENCH_CPU) $(BENCH_OUT)/bench-supervision $(BENCH_ARGS)

deps-otp:
	command -v escript >/dev/null || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends erlang-base; }

test-benches: $(BENCH_PROGRAMS)
	@passed=0; failed=0; for bench in bench bench-processes bench-supervision; do \
		if $(BENCH_PYTHON) $(BENCH_OUT)/$$bench --quick >$(BENCH_OUT)/quick.txt && ! grep -q 'not measured' $(BENCH_OUT)/quick.txt; then \
			echo "ok: $$bench builds and every measure runs"; passed=$$((passed + 1)); \
		else cat $(BENCH_OUT)/quick.txt; echo "FAILED: the quick run of $$bench"; failed=$$((failed + 1)); fi; \
	done; echo "$$passed passed, $$failed failed"; [ $$failed = 0 ]
