#!/bin/sh
# The library and its header from outside: every compiler and standard the header promises, the guide's program, and
# what the shared object asks of its surroundings. Run from the repository's root; $1: a directory for what is built.
set -u
out=$1
stage=$(cd "${STAGE:-build/stage}" && pwd) || exit 1
mkdir -p "$out"
passed=0 failed=0
result() { # STATUS WHAT
  if [ "$1" -eq 0 ]; then passed=$((passed + 1)); echo "ok   outside: $2"; else failed=$((failed + 1)); echo "FAIL outside: $2"; fi
}

awk '$1 == "constant" { print "  " $2 "," }' tests/faults/layout.txt >"$out/constants.inc"
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
link="-L$stage/lib -Wl,-rpath,$stage/lib -lpodkeep"
first_of() { for c; do command -v "$c" && return; done; echo "no-$1"; } # Debian's package of a version has no plain name
clang=$(first_of clang clang-14 clang-16 clang-19) clangxx=$(first_of clang++ clang++-14 clang++-16 clang++-19)
compile() { # COMPILER LANGUAGE STANDARD...
  compiler=$1 language=$2
  shift 2
  command -v "$compiler" >/dev/null || { echo "skip outside: no $compiler"; return; }
  for standard; do
    # shellcheck disable=SC2086
    "$compiler" -x "$language" "-std=$standard" $warnings -I"$stage/include" -I"$out" tests/faults/header_use.c -x none \
      $link -o "$out/header_use" && "$out/header_use"
    result $? "header with ${compiler##*/} -std=$standard"
  done
}
compile gcc c c99 gnu99 c11 gnu11 c17 gnu17 c2x gnu2x
compile "$clang" c c99 gnu99 c11 gnu11 c17 gnu17 c2x gnu2x
compile g++ c++ c++11 gnu++11 c++14 c++17 c++20 c++23
compile "$clangxx" c++ c++11 gnu++11 c++14 c++17 c++20 c++2b

# No clock that somebody may set meanwhile.
uptime_ms() { awk '{ printf "%d\n", $1 * 1000 + 0.5 }' /proc/uptime; }

for compiler in gcc "$clang"; do
  command -v "$compiler" >/dev/null || continue
  # shellcheck disable=SC2086
  "$compiler" -std=c99 -Wall -Wextra -Wpedantic -Werror -I"$stage/include" tests/faults/ticker.c $link -o "$out/ticker"
  begin=$(uptime_ms)
  "$out/ticker" >"$out/ticks"
  status=$?
  took=$(($(uptime_ms) - begin))
  ticks=$(grep -c '^tick$' "$out/ticks")
  # Each 100 ms: a wait may end late, and never early.
  [ "$status" -eq 0 ] && [ "$ticks" -ge 1 ] && [ "$ticks" -le $((took / 100)) ]
  result $? "the guide's C program with ${compiler##*/} -std=c99"
done

# Contract section 4, by symbol: nothing at exit, no stdio, no environment, no timers, no handler by signal(). The waits are for
# the library's own children, and unsetenv is for podkeep_child_run, which takes its own marker out of a child's environment.
forbidden='^(atexit|__cxa_atexit|__cxa_at_quick_exit|on_exit|pthread_atfork|__register_atfork|printf|puts|putchar|f?printf|fwrite|fputs|fflush|setenv|putenv|fork|vfork|posix_spawnp?|wait4?|signal|setitimer|alarm|timer_create|exit|pthread_cancel)$'
bad=$(nm -D --undefined-only "$stage/lib/libpodkeep.so.0" | awk '{ sub(/@.*/, "", $NF); print $NF }' | grep -E "$forbidden")
[ -z "$bad" ]
result $? "no symbol is used that would touch the host${bad:+: $bad}"
exported=$(nm -D --defined-only "$stage/lib/libpodkeep.so.0" | awk '{ print $NF }' | grep -v '^podkeep_')
[ -z "$exported" ]
result $? "no symbol without the prefix is exported${exported:+: $exported}"
readelf -d "$stage/lib/libpodkeep.so.0" | grep -q 'SONAME.*\[libpodkeep\.so\.0\]' &&
  readelf -d "$stage/lib/libpodkeep.so.0" | grep -q NODELETE
result $? "SONAME libpodkeep.so.0, never unloaded"
undocumented=$(for f in $(nm -D --defined-only "$stage/lib/libpodkeep.so.0" | awk '{ print $NF }'); do
  grep -q "$f(" "$stage/include/podkeep.h" || echo "$f"; done)
[ -z "$undocumented" ]
result $? "every exported function is in the header${undocumented:+: $undocumented}"

echo "outside: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
