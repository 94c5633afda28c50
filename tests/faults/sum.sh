#!/bin/sh
# Runs each command given as one argument, shows what it prints and adds its "N passed, N failed" to one last line. A suite
# that ends without such a line, or with a status that does not fit it, counts as a failure.
passed=0 failed=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
for suite; do
  { sh -c "$suite" 2>&1; echo "status $?"; } | tee "$log" | grep -av --line-buffered -e '^status [0-9]*$' -e '^ok  '
  line=$(grep -a '[0-9][0-9]* passed, [0-9][0-9]* failed$' "$log" | tail -n 1)
  status=$(sed -n 's/^status //p' "$log" | tail -n 1)
  p=$(echo "$line" | sed -n 's/^.*[^0-9]*\b\([0-9][0-9]*\) passed, .*/\1/p')
  f=$(echo "$line" | sed -n 's/^.* passed, \([0-9][0-9]*\) failed$/\1/p')
  if [ -z "$line" ] || { [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; }; then
    echo "FAIL $suite: ended with status $status"
    f=$((${f:-0} + 1))
  fi
  passed=$((passed + ${p:-0})) failed=$((failed + f))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
