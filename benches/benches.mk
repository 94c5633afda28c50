# Benches. `make bench` is the table of record (one CPU, a minute or two); `make test-benches` only proves that the
# benches build and run. Needs g++ with C++20 and libglib2.0-dev (`make deps`).
STAGE ?= build/stage
CC ?= cc
CXX ?= c++

BENCH_OUT := build/benches
BENCH_CPU ?= 0
# A loop of eight cycles takes nine when it lies across two cache lines: hence the alignment.
BENCH_FLAGS := -O2 -g -falign-loops=64 -Wall -Wextra -Wpedantic -Werror -I$(STAGE)/include
BENCH_OBJECTS := $(addprefix $(BENCH_OUT)/,bench.o measure.o peer_pthread.o peer_jthread.o peer_gcancellable.o \
	peer_podkeep.o)

$(BENCH_OUT):
	mkdir -p $@

$(BENCH_OUT)/%.o: benches/%.c benches/peers.h benches/measure.h include/podkeep.h | stage $(BENCH_OUT)
	$(CC) -std=c99 -D_GNU_SOURCE $(BENCH_FLAGS) $(if $(filter %cancellable.o,$@),$$(pkg-config --cflags gio-2.0)) -c $< -o $@

$(BENCH_OUT)/%.o: benches/%.cpp benches/peers.h | stage $(BENCH_OUT)
	$(CXX) -std=c++20 $(BENCH_FLAGS) -c $< -o $@

$(BENCH_OUT)/libfloor.so: benches/floor.c | $(BENCH_OUT)
	$(CC) -std=c99 -D_GNU_SOURCE $(BENCH_FLAGS) -fPIC -shared $< -o $@

$(BENCH_OUT)/bench: $(BENCH_OBJECTS) $(BENCH_OUT)/libfloor.so
	$(CXX) $(BENCH_OBJECTS) -o $@ -L$(BENCH_OUT) -lfloor -L$(STAGE)/lib -lpodkeep $$(pkg-config --libs gio-2.0) \
		-pthread -lm -Wl,-rpath,$(abspath $(BENCH_OUT)) -Wl,-rpath,$(abspath $(STAGE)/lib)

.PHONY: bench test-benches
bench: $(BENCH_OUT)/bench
	taskset -c $(BENCH_CPU) $(BENCH_OUT)/bench $(BENCH_ARGS)

test-benches: $(BENCH_OUT)/bench
	@if $(BENCH_OUT)/bench --quick >$(BENCH_OUT)/quick.txt && ! grep -q 'not measured' $(BENCH_OUT)/quick.txt; then \
		echo 'ok: the benches build and every measure runs'; echo '1 passed, 0 failed'; \
	else cat $(BENCH_OUT)/quick.txt; echo 'FAILED: the quick run of the benches'; echo '0 passed, 1 failed'; exit 1; fi
