#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A calibrated run gives the same bytes for any number of threads and after any kill: NIBBLE MODEL [KILLS].
# Runs GPTQ of the first ten blocks on 1, 2 and 4 threads, then kills runs with -9 at KILLS (20) moments spread over a
# run, each resumed.
set -eu
nibble=$1
model=$2
kills=${3:-20}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

weights() { sha256sum "$1/model.safetensors" | cut -d' ' -f1; }
# Becomes the program, so that in the background its number is the program's.
compress() {
  exec "$nibble" oneshot "$model" --scheme W4A16 --group-size 64 --method gptq --ignore 're:.*layers\.[12][0-9]\..*' \
    --ignore lm_head --dataset data/texts/c4_sample.jsonl --num-calibration-samples 4 --max-seq-length 128 --quiet \
    "$@" >/dev/null
}
# Milliseconds since the epoch.
now() { echo $(($(date +%s%N) / 1000000)); }

for threads in 1 4 2; do
  start=$(now)
  (compress --output-dir "$work/threads-$threads" --threads $threads)
  span=$(($(now) - start))
  echo "$(weights "$work/threads-$threads") $threads threads, $span ms"
done
expected=$(weights "$work/threads-2")
for threads in 1 4; do
  [ "$(weights "$work/threads-$threads")" = "$expected" ] || { echo "$threads threads give other bytes"; exit 1; }
done

# Moments after the start of a run or of its resumption: 1 to 40 % of a whole run, so that many fall into one.
killed=0 runs=0
while [ "$killed" -lt "$kills" ]; do
  rm -rf "$work/killed"
  resume=
  while [ "$killed" -lt "$kills" ]; do
    moment=$((span * (1 + killed * 23 % 40) / 100))
    # shellcheck disable=SC2086  # a flag or nothing
    compress --output-dir "$work/killed" $resume &
    pid=$!
    sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
    kill -9 $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    [ -e "$work/killed" ] && break
    killed=$((killed + 1))
    resume=--resume
  done
  # shellcheck disable=SC2086
  [ -e "$work/killed" ] || (compress --output-dir "$work/killed" $resume)
  runs=$((runs + 1))
  [ "$(weights "$work/killed")" = "$expected" ] || { echo "run $runs differs after $killed kills"; exit 1; }
  find "$work" -maxdepth 1 -name '*.partial' | grep . && { echo "a partial folder is left after a finished run"; exit 1; }
done
echo "$killed kills in $runs runs: the same bytes"
