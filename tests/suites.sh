#!/bin/bash
# Runs the suites one after another, each a target of the Makefile, and stops at the first that fails: `make test`.
#
#   tests/suites.sh SUITE...
#
# A suite that hangs is named, with what still ran, and ended:
#   SUITE_LIMIT   seconds for one suite (1800: some three times what the longest needs)
#   TEST_LIMIT    seconds for all of them (no limit)
set -u
cd "$(dirname "$0")/.." || exit 1
export PODKEEP_SUITES=$$ # by it what a suite leaves behind is known
limit=${SUITE_LIMIT:-1800} all=${TEST_LIMIT:-}

# Those that have our word in their environment; not this shell.
ours() {
  local environ pid
  for environ in $(grep -lszxF "PODKEEP_SUITES=$$" /proc/[0-9]*/environ); do
    pid=${environ#/proc/}
    echo "${pid%/environ}"
  done | grep -vx -e $$ -e $BASHPID
}

for suite; do
  begin=$SECONDS
  most=$limit
  if [ -n "$all" ] && [ $((all - begin)) -lt "$most" ]; then most=$((all - begin)); fi
  [ "$most" -gt 0 ] || most=1
  echo "== $suite"
  # A shell without job control, or nohup, has its children ignore some signals; the tests send them.
  timeout --foreground -k 30 "$most" env --default-signal=HUP,INT,QUIT,PIPE "${MAKE:-make}" --no-print-directory "$suite"
  code=$?
  if [ $code = 0 ]; then
    echo "== $suite passed in $((SECONDS - begin)) s"
    continue
  fi
  if [ $code = 124 ] || [ $code = 137 ]; then
    echo "== $suite: no end within $most s; what runs:"
    for pid in $(ours); do
      echo "$pid $(tr '\n' ' ' 2>/dev/null </proc/"$pid"/wchan) $(tr '\0\n' '  ' 2>/dev/null </proc/"$pid"/cmdline | cut -c 1-200)"
    done
    # It would keep our output open.
    for pid in $(ours); do kill -KILL "$pid" 2>/dev/null; done
  fi
  echo "== $suite failed after $((SECONDS - begin)) s"
  exit 1
done
echo "$# passed, 0 failed"
