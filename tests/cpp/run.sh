#!/bin/bash
# The C++ tests, against an installed tree: STAGE, or build/stage. With words as arguments only those parts run:
# compile units programs process dynamic installed example asan
set -u
cd "$(dirname "$0")/../.."
STAGE=$(realpath "${STAGE:-build/stage}")
OUT=build/cpp
GXX=${GXX:-g++}
CLANGXX=${CLANGXX:-$(command -v clang++ clang++-14 clang++-15 clang++-16 clang++-17 clang++-18 clang++-19 | head -n 1)}
WARN="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
INC="-I$STAGE/include"
LINK="-L$STAGE/lib -lpodkeep -Wl,-rpath,$STAGE/lib -pthread"
unset LD_LIBRARY_PATH PODKEEP_LIBRARY
PARTS=${*:-compile units programs process dynamic installed example asan}
passed=0 failed=0
mkdir -p "$OUT"
scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$scratch"' EXIT

wanted() { case " $PARTS " in *" $1 "*) true ;; *) false ;; esac; }
ok() { passed=$((passed + 1)); echo "ok    $1"; }
bad() { failed=$((failed + 1)); echo "FAIL  $1"; head -n 12 "$scratch/log" | cut -c1-400 | sed 's/^/      /'; }
# try "name" command...: one case
try() { local name=$1; shift; if timeout 120 "$@" >"$scratch/log" 2>&1; then ok "$name"; else bad "$name"; fi; }
# suite "name" program: adds the cases a program counts itself
suite() {
  local name=$1 tail; shift
  timeout 600 "$@" >"$scratch/suite" 2>&1
  tail=$(tail -n 1 "$scratch/suite")
  if [[ $tail =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]] && [ "${BASH_REMATCH[1]}" -gt 0 ]; then
    passed=$((passed + BASH_REMATCH[1])); failed=$((failed + BASH_REMATCH[2]))
    sed "\$d; s/^\(ok\|FAIL\)  */&$name: /" "$scratch/suite"
  else
    cp "$scratch/suite" "$scratch/log"; bad "$name: did not end"
  fi
}
# build OUT-NAME COMPILER FLAGS SOURCE...: a program of objects, two compilers at a time
build() {
  local name=$1 compiler=$2 flags=$3 objects="" source; shift 3
  mkdir -p "$OUT/$name.o"
  for source in "$@"; do objects="$objects $OUT/$name.o/$(basename "$source" .cpp).o"; done
  printf '%s\n' "$@" | xargs -P 2 -I{} sh -c "$compiler $flags $INC -c {} -o $OUT/$name.o/\$(basename {} .cpp).o" >"$scratch/log" 2>&1 &&
    $compiler $flags $objects -o "$OUT/$name" $LINK >>"$scratch/log" 2>&1 && ok "builds: $name" || { bad "builds: $name"; false; }
}
compilers() { echo "$GXX"; [ -z "$CLANGXX" ] || echo "$CLANGXX"; }
[ -n "$CLANGXX" ] || echo "note  no clang++ found: its half of the compile checks is left out"

if wanted compile; then
  # Alone, no warning, every dialect; the names of what fails come out.
  rm -f "$scratch/matrix"
  { compilers; [ -z "$CLANGXX" ] || echo "$CLANGXX -stdlib=libc++"; } | while read -r compiler; do
    echo '#include <string>' | $compiler -fsyntax-only -x c++ - 2>/dev/null || { echo "note  left out: $compiler"; continue; }
    for std in 17 20 23; do
      dialect=c++$std
      $compiler -std=$dialect -E -x c++ /dev/null >/dev/null 2>&1 || dialect=c++2b
      for flags in "" "-fno-exceptions -fno-rtti" "-fno-rtti -DPODKEEP_DYNAMIC" "-fno-exceptions -DPODKEEP_DYNAMIC"; do
        case "$compiler$flags" in *libc++*PODKEEP*) continue ;; esac
        echo "$compiler -std=$dialect $flags" >>"$scratch/matrix"
      done
    done
  done
  xargs -P 2 -d '\n' -I{} sh -c "if {} $WARN $INC -fsyntax-only tests/cpp/compile_all.cpp 2>$scratch/err.\$\$; then echo 'ok    compiles: {}'; else echo 'FAIL  compiles: {}'; head -n 8 $scratch/err.\$\$; fi" \
    <"$scratch/matrix" >"$scratch/done"
  passed=$((passed + $(grep -c '^ok ' "$scratch/done"))) failed=$((failed + $(grep -c '^FAIL ' "$scratch/done")))
  sort "$scratch/done" | grep . | cut -c1-300

  # What is left over for the including program: only macros with the prefix.
  std_headers=$(cat "$STAGE"/include/podkeep.hpp "$STAGE"/include/podkeep/*.hpp "$STAGE"/include/podkeep.h | sed -n 's/^ *# *include *<\([^>]*\)>.*/#include <\1>/p' | grep -v podkeep | sort -u)
  macros() { "$GXX" -std=c++20 $2 $INC -dM -E -x c++ "$1" | sed -n 's/^#define \([A-Za-z_0-9]*\).*/\1/p' | sort; }
  for flags in "-DLINKED" "-DPODKEEP_DYNAMIC"; do
    echo "$std_headers" >"$scratch/before.hpp"
    { echo "$std_headers"; echo '#include <podkeep.hpp>'; } >"$scratch/after.hpp"
    macros "$scratch/before.hpp" "$flags" >"$scratch/before"
    macros "$scratch/after.hpp" "$flags" >"$scratch/after"
    comm -13 "$scratch/before" "$scratch/after" >"$scratch/new"
    try "only PODKEEP_ macros remain ($flags)" sh -c "grep -q PODKEEP_ERR_TIMEOUT\\\\\\|PODKEEP_H $scratch/new && ! grep -v ^PODKEEP_ $scratch/new"
  done

  try "the good piece compiles" "$GXX" -std=c++17 $WARN $INC -fsyntax-only -DPIECE=0 tests/cpp/compile_not.cpp
  for piece in 1 2 3 4 5 6; do
    sentence=$(sed -n "s/^#elif PIECE == $piece  *\/\/ //p" tests/cpp/compile_not.cpp)
    try "does not compile: $sentence" sh -c "$GXX -std=c++17 $INC -fsyntax-only -DPIECE=$piece tests/cpp/compile_not.cpp 2>&1 | tee /dev/stderr | grep -Eq 'error.*($sentence)'"
  done
fi

if wanted units; then
  # One program of two units, each its own way. -DPODKEEP_DYNAMIC in one of them needs the library's path at run time.
  for a in "17" "20" "17 -fno-exceptions" "20 -DPODKEEP_DYNAMIC"; do
    "$GXX" -std=c++$a $WARN $INC -c tests/cpp/units_a.cpp -o "$scratch/a${a// /_}.o"
  done
  for b in "17" "20" "17 -fno-exceptions" "17 -DPODKEEP_DYNAMIC" "20 -DPODKEEP_DYNAMIC -fno-exceptions"; do
    "${CLANGXX:-$GXX}" -std=c++$b $WARN $INC -c tests/cpp/units_b.cpp -o "$scratch/b${b// /_}.o"
    for a in "17" "20" "17 -fno-exceptions" "20 -DPODKEEP_DYNAMIC"; do
      try "two units: c++$a with c++$b" sh -c "$GXX '$scratch/a${a// /_}.o' '$scratch/b${b// /_}.o' -o $scratch/units $LINK && LD_LIBRARY_PATH=$STAGE/lib $scratch/units"
    done
  done
fi

PROGRAM="tests/cpp/main.cpp tests/cpp/test_shapes.cpp tests/cpp/test_pod.cpp tests/cpp/test_failures.cpp tests/cpp/test_context.cpp tests/cpp/test_monitor.cpp tests/cpp/test_group.cpp tests/cpp/test_group_life.cpp tests/cpp/test_control.cpp"
if wanted programs || wanted asan; then
  try "makes certificates" tests/control/certificates.sh "$scratch/certificates"
  export PODKEEP_TEST_CERTIFICATES=$scratch/certificates
fi
if wanted programs; then
  build cpp20 "$GXX" "-std=c++20 -O2 $WARN" $PROGRAM && suite "c++20" "$OUT/cpp20"
  build cpp17 "${CLANGXX:-$GXX}" "-std=c++17 -O1 $WARN" $PROGRAM && suite "c++17" "$OUT/cpp17"
  build statuses20 "$GXX" "-std=c++20 -O2 -fno-exceptions -fno-rtti $WARN" tests/cpp/test_statuses.cpp && suite "statuses, c++20" "$OUT/statuses20"
  build statuses17 "${CLANGXX:-$GXX}" "-std=c++17 -fno-exceptions $WARN" tests/cpp/test_statuses.cpp && suite "statuses, c++17" "$OUT/statuses17"
fi

if wanted process; then
  "$GXX" -std=c++17 -O1 -fPIC -shared $WARN $INC tests/cpp/worker.cpp -o "$OUT/libworker.so" $LINK
  export PODKEEP_TEST_WORKER=$PWD/$OUT/libworker.so
  build process20 "$GXX" "-std=c++20 -O2 $WARN" tests/cpp/test_process.cpp && suite "process, c++20" "$OUT/process20"
  build supervision20 "$GXX" "-std=c++20 -O2 $WARN" tests/cpp/test_supervision.cpp && suite "supervision" "$OUT/supervision20"
  build process17 "${CLANGXX:-$GXX}" "-std=c++17 -O1 $WARN" tests/cpp/test_process.cpp && suite "process, c++17" "$OUT/process17"
fi

if wanted dynamic; then
  LINKED=$LINK LINK="-ldl -pthread"
  build dynamic20 "$GXX" "-std=c++20 -O2 $WARN" tests/cpp/test_dynamic.cpp
  build dynamic17 "${CLANGXX:-$GXX}" "-std=c++17 -fno-exceptions $WARN" tests/cpp/test_dynamic.cpp
  LINK=$LINKED
  library=$STAGE/lib/libpodkeep.so.0
  echo 'int something_else;' | cc -shared -x c - -o "$scratch/other.so"
  echo 'unsigned podkeep_abi_version(void) { return 7; }' | cc -shared -x c - -o "$scratch/abi7.so"
  echo 'unsigned podkeep_abi_version(void) { return 0; }' | cc -shared -x c - -o "$scratch/old.so"
  echo 'no library' >"$scratch/text.so"
  for program in dynamic20 dynamic17; do
    run=$OUT/$program
    try "$program: is linked with no podkeep" sh -c "! readelf -d $run | grep -q podkeep"
    try "$program: works, found by its name" env LD_LIBRARY_PATH="$STAGE/lib" "$run" works
    try "$program: works, found by PODKEEP_LIBRARY" env PODKEEP_LIBRARY="$library" "$run" works
    try "$program: an empty PODKEEP_LIBRARY is none" env PODKEEP_LIBRARY= LD_LIBRARY_PATH="$STAGE/lib" "$run" works
    if ! ldconfig -p 2>/dev/null | grep -q libpodkeep; then
      try "$program: no library" "$run" refused PODKEEP_ERR_NOT_FOUND '"libpodkeep.so.0"' PODKEEP_LIBRARY 'cannot open shared object file'
      try "$program: a failure is not for ever" "$run" later "$library"
    fi
    try "$program: PODKEEP_LIBRARY names nothing" env PODKEEP_LIBRARY="$scratch/none.so" LD_LIBRARY_PATH="$STAGE/lib" "$run" refused PODKEEP_ERR_NOT_FOUND "$scratch/none.so" 'no other name is tried'
    try "$program: PODKEEP_LIBRARY names a text" env PODKEEP_LIBRARY="$scratch/text.so" "$run" refused PODKEEP_ERR_NOT_FOUND "$scratch/text.so" PODKEEP_LIBRARY
    try "$program: another library" env PODKEEP_LIBRARY="$scratch/other.so" "$run" refused PODKEEP_ERR_UNSUPPORTED "$scratch/other.so" 'is no podkeep library'
    try "$program: another ABI" env PODKEEP_LIBRARY="$scratch/abi7.so" "$run" refused PODKEEP_ERR_UNSUPPORTED 'ABI version 7' 'compiled for 0'
    try "$program: an older library" env PODKEEP_LIBRARY="$scratch/old.so" "$run" refused PODKEEP_ERR_UNSUPPORTED 'older than this program' 'has no podkeep_'
  done
fi

if wanted installed; then
  # Installed with a DESTDIR, then moved as a whole, with a blank in its path: nothing in it may know where it was.
  for libdir in lib lib/x86_64-linux-gnu; do
    rm -rf "$scratch/dest" "$scratch/moved tree" "$scratch/project"
    try "installs ($libdir)" "${MAKE:-make}" --no-print-directory install-files PREFIX=/opt/pk DESTDIR="$scratch/dest" LIBDIR=$libdir PODKEEP_LIBRARY_FILE="$STAGE/lib/libpodkeep.so.0" PODKEEP_PROGRAM_FILE="$STAGE/bin/podkeep"
    try "installed files name no place ($libdir)" sh -c "! grep -rIl -e '$scratch' -e '/opt/pk' -e '$PWD' '$scratch/dest' --include=*.h --include=*.hpp --include=*.pc --include=*.cmake"
    mv "$scratch/dest/opt/pk" "$scratch/moved tree"
    tree="$scratch/moved tree"
    export PKG_CONFIG_PATH="$tree/$libdir/pkgconfig"
    try "pkg-config knows the version ($libdir)" sh -c '[ "$(pkg-config --modversion podkeep)" = "$(sed -n "s/^version *= *\"\(.*\)\"/\1/p" Cargo.toml | head -n 1)" ]'
    try "pkg-config: C++ ($libdir)" sh -c "eval $GXX -std=c++17 $WARN tests/cpp/installed/program.cpp -o $scratch/pc_cpp \$(pkg-config --cflags --libs podkeep) && LD_LIBRARY_PATH='$tree/$libdir' $scratch/pc_cpp"
    try "pkg-config: C ($libdir)" sh -c "eval cc -std=c99 -Wall -Wextra -Wpedantic -Werror tests/cpp/installed/program.c -o $scratch/pc_c \$(pkg-config --cflags --libs podkeep) && LD_LIBRARY_PATH='$tree/$libdir' $scratch/pc_c"
    try "CMake configures and builds ($libdir)" sh -c "cmake -S tests/cpp/installed -B $scratch/project -DCMAKE_PREFIX_PATH='$tree' -DCMAKE_CXX_COMPILER=$GXX && cmake --build $scratch/project -j 2"
    for program in from_c linked; do try "CMake: $program runs ($libdir)" "$scratch/project/$program"; done
    try "CMake: dynamic runs ($libdir)" env LD_LIBRARY_PATH="$tree/$libdir" "$scratch/project/dynamic"
    rm "$tree/$libdir/libpodkeep.so.0"
    try "CMake says that the library is missing ($libdir)" sh -c "! cmake -S tests/cpp/installed -B $scratch/project2 -DCMAKE_PREFIX_PATH='$tree' >$scratch/cmake 2>&1 && grep -q 'libpodkeep.so.0 is' $scratch/cmake"
    rm -rf "$scratch/project2"
    unset PKG_CONFIG_PATH
  done
  try "install refuses a LIBDIR outside of PREFIX" sh -c "! ${MAKE:-make} install-files PREFIX=/opt/pk DESTDIR='$scratch/dest2' LIBDIR=/usr/lib PODKEEP_LIBRARY_FILE='$STAGE/lib/libpodkeep.so.0' PODKEEP_PROGRAM_FILE='$STAGE/bin/podkeep' && [ ! -e '$scratch/dest2' ]"
fi

if wanted example; then
  if build asio_http "$GXX" "-std=c++17 -O1 $WARN" examples/cpp/asio_http.cpp; then
    "$OUT/asio_http" >"$scratch/said" 2>&1 &
    server=$!
    for _ in $(seq 400); do grep -q '^listening on ' "$scratch/said" && break; sleep 0.05; done  # its line is all there is to wait for
    url=$(sed -n 's/^listening on //p' "$scratch/said")
    cp "$scratch/said" "$scratch/log"
    if [ -n "$url" ]; then
      try "asio_http: serves a page" sh -c "curl -sS --max-time 20 '$url' | grep '<h1>Served from a pod</h1>'"
      try "asio_http: 404 elsewhere" sh -c "[ \$(curl -sS --max-time 20 -o /dev/null -w '%{http_code}' '${url}else') = 404 ]"
      try "asio_http: twenty clients at once" sh -c "seq 20 | xargs -P 20 -I{} curl -sSf --max-time 20 -o /dev/null '$url'"
      port=${url%/}; port=${port##*:}
      try "asio_http: a taken port is the runtime's own exception" sh -c "$OUT/asio_http $port 2>&1 | tee /dev/stderr | grep -q 'asio_http: bind: Address already in use'"
      kill -TERM "$server"
      wait "$server"; code=$?
      cp "$scratch/said" "$scratch/log"
      if [ $code = 0 ]; then ok "asio_http: SIGTERM ends it cleanly"; else bad "asio_http: SIGTERM ends it cleanly (exit $code)"; fi
      try "asio_http: its teardown ran" grep -q '^served [0-9]* requests' "$scratch/said"
    else
      bad "asio_http: says where it listens"; kill "$server"
    fi
    server=
  fi
fi

if wanted asan; then
  export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
  SAN="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
  build cpp20_asan "$GXX" "-std=c++20 $SAN" $PROGRAM && {
    try "the sanitizer is there" sh -c "nm $OUT/cpp20_asan | grep -q __asan_init"
    suite "asan" "$OUT/cpp20_asan"
  }
  build statuses_asan "$GXX" "-std=c++17 -fno-exceptions $SAN" tests/cpp/test_statuses.cpp && suite "asan, statuses" "$OUT/statuses_asan"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
