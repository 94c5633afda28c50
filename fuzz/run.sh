#!/usr/bin/env bash
# Runs every target, or those that are named at the end. `run.sh runs N`: on what is kept and N inputs more or less, the
# same each time. `run.sh seconds N`: on new inputs for N seconds in all; what it learns stays in build/fuzz/corpus.
set -u
cd "$(dirname "$0")/.."
how=$1 many=$2
shift 2
programs=build/fuzz/$(rustc --print host-tuple)/release
targets=${*:-$(cd fuzz/targets && ls -- *.rs | sed 's/\.rs$//')}
found=build/fuzz/found passed=0 failed=0
mkdir -p $found
for target in $targets; do
  case $how in
    runs) rm -rf build/fuzz/once && learnt=build/fuzz/once limit="-runs=$many -seed=1" ;;
    seconds) learnt=build/fuzz/corpus/$target limit="-max_total_time=$((many / $(echo "$targets" | wc -w)))" ;;
  esac
  mkdir -p "$learnt"
  # 64 KiB: more than the channel is read in at once. The time is for one input, on a machine that is busy.
  # shellcheck disable=SC2086
  if output=$(nice -n 10 "$programs/$target" $limit -max_len=65536 -timeout=60 -rss_limit_mb=512 -reload=0 \
    -artifact_prefix="$found/$target-" "$learnt" "fuzz/corpus/$target" 2>&1); then
    echo "ok   $target: $(echo "$output" | sed -n 's/^Done \(.*\)/\1/p'), $(echo "$output" | sed -n 's/.*DONE  *cov: \([0-9]*\).*/\1 edges/p')"
    passed=$((passed + 1))
  else
    echo "$output" | grep -v -e '^#' -e 'Uses:'
    echo "FAIL $target: see above; again: $programs/$target $found/$target-..."
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
