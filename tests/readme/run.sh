#!/bin/bash
# Builds and runs every code example of README.md and docs/guide.md, as it stands there, and follows the links of all pages.
#
#   tests/readme/run.sh        against build/stage, or the tree that STAGE names; PYTHON, CC and CXX as in the Makefile
#
# The line before a fence of C, C++ or Python says what the example is; a fence without such a line fails:
#
#   <!-- test: program [expect=WORD] [signal=NAME] -->
#                                            a whole program: it must exit with 0 (and print WORD); with a signal, which it
#                                            gets when it has printed its first line
#   <!-- test: runtime [kick=SIGNAL] [notify] [pkg=MODULE] -->
#                                            C functions init, run_forever, cancel, teardown: harness.c keeps them in a pod
#   <!-- test: library symbol=NAME -->       a shared library in C: library.c keeps its runtime in a thread and in a process
set -u
cd "$(dirname "$0")/../.." || exit 1
stage=${STAGE:-build/stage}
stage=$(cd "$stage" 2>/dev/null && pwd) || { echo "no staged library: run 'make stage' first" >&2; exit 1; }
out=build/readme
rm -rf "$out" && mkdir -p "$out" || exit 1
warnings='-O1 -g -Wall -Wextra -Wpedantic -Werror'
link="-I$stage/include -L$stage/lib -lpodkeep -Wl,-rpath,$stage/lib"
limit=${PODKEEP_TEST_LIMIT:-60} # seconds an example may take: a safety net

# One file an example: NAME.EXT, and NAME.how with the words of its line.
extract() {
  awk -v out="$out" -v base="$2" '
    /^```/ && inside { inside = 0; close(file); next }
    /^```(c|cpp|python)$/ {
      ext = substr($0, 4); if (ext == "python") ext = "py"
      stem = sprintf("%s/%s-%03d", out, base, NR)
      file = stem "." ext; inside = 1
      print "" how > (stem ".how"); close(stem ".how")
      how = ""; next
    }
    /^```/ { inside = 1; file = "/dev/null"; how = ""; next }
    inside { print > file; next }
    /^<!-- test: .* -->$/ { how = $0; sub(/^<!-- test: /, "", how); sub(/ -->$/, "", how); next }
    /./ { how = "" }
  ' "$1"
}
extract README.md readme
extract docs/guide.md guide

has() { grep -qE "^(static )?(int32_t|void) $2\(" "$1"; }

word() { # NAME WORDS...: what stands behind NAME=
  local name=$1 each
  shift
  for each; do case $each in "$name"=*) echo "${each#"$name"=}" ;; esac; done
}

run() { # EXAMPLE SIGNAL: with an empty line as its standard input; what it prints comes out
  local from pid line
  if [ -z "$2" ]; then
    printf '\n' | timeout -k 5 "$limit" "$1.bin" 2>&1
    return
  fi
  # The signal is for the example itself. A `timeout` around it that got the signal before its own fork has returned
  # would exit, and leave the example behind.
  exec {from}< <(exec "$1.bin" 2>&1)
  pid=$!
  if IFS= read -r -t "$limit" line <&"$from"; then
    echo "$line"
    kill -s "$2" "$pid"
  else
    kill -s KILL "$pid"
  fi
  timeout -k 5 "$limit" cat <&"$from" || kill -s KILL "$pid"
  exec {from}<&-
  wait "$pid"
}

build() { # EXAMPLE WORDS...: makes EXAMPLE.bin
  local example=$1 kind=$2 more='' word behind=''
  shift 2
  for word; do
    case $word in
      kick=*) more="$more -DKICK_SIGNAL=${word#kick=}" ;;
      notify) more="$more -DNOTIFY" ;;
      pkg=*) more="$more $(pkg-config --cflags --libs "${word#pkg=}")" || return 1 ;;
      expect=* | signal=* | symbol=*) ;;
      *) echo "unknown word in its test line: $word" >&2; return 1 ;;
    esac
  done
  case $kind:$example in
    program:*.c | runtime:*.c)
      if [ "$kind" = runtime ]; then
        behind=tests/readme/harness.c
        has "$example" init && more="$more -DHAS_INIT"
        has "$example" cancel && more="$more -DHAS_CANCEL"
        has "$example" teardown && more="$more -DHAS_TEARDOWN"
        { printf '#line 1 "%s"\n' "$example"; cat "$example"; printf '#line 1 "%s"\n' "$behind"; cat "$behind"; } >"$example.whole.c"
      else
        cp "$example" "$example.whole.c"
      fi
      # shellcheck disable=SC2086
      ${CC:-cc} -std=c99 $warnings "$example.whole.c" $link $more -o "$example.bin" ;;
    library:*.c)
      # shellcheck disable=SC2086
      ${CC:-cc} -std=c99 $warnings -shared -fPIC "$example" $link $more -o "$example.so" &&
        ${CC:-cc} -std=c99 $warnings tests/readme/library.c $link -o "$out/library" &&
        printf '#!/bin/sh\nexec %s %s %s\n' "$out/library" "$example.so" "$(word symbol "$@")" >"$example.bin" &&
        chmod +x "$example.bin" ;;
    program:*.cpp)
      # shellcheck disable=SC2086
      ${CXX:-c++} -std=c++17 $warnings "$example" $link $more -o "$example.bin" ;;
    program:*.py)
      printf '#!/bin/sh\nexec env PODKEEP_LIBRARY=%s PYTHONPATH=bindings/python/src PYTHONDONTWRITEBYTECODE=1 %s %s\n' \
        "$stage/lib/libpodkeep.so.0" "${PYTHON:-python3}" "$example" >"$example.bin"
      chmod +x "$example.bin" ;;
    *) echo "no way to run a \"$kind\" of this language" >&2; return 1 ;;
  esac
}

passed=0 failed=0 examples=0
for example in "$out"/*.c "$out"/*.cpp "$out"/*.py; do
  case $example in *\** | *.whole.c) continue ;; esac
  read -r -a how <"${example%.*}.how"
  name=$(basename "$example")
  log=$example.log
  if [ ${#how[@]} = 0 ]; then
    echo "no test line stands before it" >"$log"
  elif build "$example" "${how[@]}" >"$log" 2>&1; then
    if run "$example" "$(word signal "${how[@]}")" >>"$log" 2>&1; then
      missing=
      expected=$(word expect "${how[@]}")
      if [ -n "$expected" ]; then grep -q -- "$expected" "$log" || missing=" $expected"; fi
      if [ -z "$missing" ]; then
        echo "ok: $name (${how[*]})"
        passed=$((passed + 1)) examples=$((examples + 1))
        continue
      fi
      echo "it did not print:$missing" >>"$log"
    else
      echo "exit status $?" >>"$log"
    fi
  fi
  echo "FAILED: $name (${how[*]-})"
  sed 's/^/    /' "$log"
  failed=$((failed + 1))
done
# Links within the repository: the file is there, and so is the heading.
slugs() { # as GitHub makes them of headings
  grep -E '^#+ ' "$1" | sed -E 's/^#+ //' | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9 _-]//g; s/ /-/g'
}
for page in README.md CONTRIBUTING.md CHANGELOG.md docs/*.md docs/*/*.md bindings/python/README.md benches/README.md; do
  log=$out/links.log
  : >"$log"
  # A link may be broken over two lines.
  tr '\n' ' ' <"$page" | grep -oE '\]\([^)[:space:]]+\)' | sed -E 's/^\]\(//; s/\)$//' | sort -u | while read -r link; do
    case $link in http://* | https://*) continue ;; esac
    file=${link%%#*} anchor=
    case $link in *#*) anchor=${link#*#} ;; esac
    if [ -z "$file" ]; then target=$page; else target=$(dirname "$page")/$file; fi
    if [ ! -e "$target" ]; then
      echo "$link: there is no $target" >>"$log"
    elif [ -n "$anchor" ] && ! slugs "$target" | grep -qx -- "$anchor"; then
      echo "$link: no heading of $target" >>"$log"
    fi
  done
  if [ -s "$log" ]; then
    echo "FAILED: links of $page"
    sed 's/^/    /' "$log"
    failed=$((failed + 1))
  else
    echo "ok: links of $page"
    passed=$((passed + 1))
  fi
done
# Examples that nobody finds any more would pass.
[ "$examples" -gt 0 ] || failed=$((failed + 1))
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
