#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The main job on a real model: NIBBLE MODEL. Compresses, verifies, evaluates against the original, and checks that the
# result does not depend on threads and survives kill -9.
set -eu
nibble=$1
model=$2
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
text=data/texts/wiki.test.raw

weights() { sha256sum "$1/model.safetensors" | cut -d' ' -f1; }

for scheme in W4A16 W4A16_ASYM W8A16 W8A8 FP8_DYNAMIC; do
  echo "-- $scheme"
  group=""
  case $scheme in W4A16*|W8A16) group="--group-size 64" ;; esac
  # shellcheck disable=SC2086  # two words or none
  "$nibble" oneshot "$model" --scheme "$scheme" $group --output-dir "$work/$scheme" --quiet >/dev/null
  "$nibble" verify "$work/$scheme"
  "$nibble" eval "$work/$scheme" --against "$model" --text "$text" --context 512 --max-windows 4
done

echo "-- the same bytes for 1, 2 and 4 threads"
for threads in 1 2 4; do
  "$nibble" oneshot "$model" --scheme W4A16 --group-size 64 --output-dir "$work/threads-$threads" --threads $threads --quiet >/dev/null
  weights "$work/threads-$threads"
done | sort -u | { read -r first; if read -r second; then echo "differ: $first $second"; exit 1; fi; echo "$first"; }

echo "-- kill -9 at 20 moments: the source is whole, nothing but a partial folder is left, the next run works"
source_sum=$(sha256sum "$model")
for i in $(seq 1 20); do
  "$nibble" oneshot "$model" --scheme W4A16 --group-size 64 --output-dir "$work/killed" --quiet >/dev/null 2>&1 &
  pid=$!
  sleep "0.$(printf %02d $(((i * 37) % 50 + 1)))"
  kill -9 $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
  if [ -e "$work/killed" ]; then
    [ "$(weights "$work/killed")" = "$(weights "$work/threads-1")" ] || { echo "a damaged output was left"; exit 1; }
    rm -rf "$work/killed"
  fi
done
[ "$source_sum" = "$(sha256sum "$model")" ] || { echo "the source was changed"; exit 1; }
"$nibble" oneshot "$model" --scheme W4A16 --group-size 64 --output-dir "$work/killed" --overwrite --quiet >/dev/null
[ "$(weights "$work/killed")" = "$(weights "$work/threads-1")" ] || { echo "the run after the kills differs"; exit 1; }
find "$work" -maxdepth 1 -name '*.partial' | grep . && { echo "a partial folder is left after a finished run"; exit 1; }

echo "-- a calibrated run: the same bytes for 1, 2 and 4 threads, and after 20 kills, each resumed"
sh tools/kill_and_resume.sh "$nibble" "$model"
echo "end to end: ok"
