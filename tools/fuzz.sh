#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the fuzz targets with clang and runs each for SECONDS seconds from its corpus in fuzz/corpus/.
set -eu
seconds=${1:-20}
cd "$(dirname "$0")/.."
cmake -S . -B build-fuzz -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS="-O1 -g1" -DCMAKE_CXX_COMPILER=clang++-14 \
  -DNIBBLE_BUILD_FUZZ=ON -DNIBBLE_BUILD_TESTS=OFF -DNIBBLE_SANITIZE=address,undefined --log-level=WARNING
cmake --build build-fuzz --target fuzzers
for target in build-fuzz/fuzz/*_fuzz; do
  name=$(basename "$target")
  work=$(mktemp -d)
  echo "fuzz $name for $seconds s"
  mkdir -p "fuzz/corpus/$name"
  if ! "$target" "$work" "fuzz/corpus/$name" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
       -artifact_prefix="build-fuzz/$name-" >"build-fuzz/$name.log" 2>&1; then
    tail -40 "build-fuzz/$name.log"
    exit 1
  fi
  tail -1 "build-fuzz/$name.log"
  rm -rf "$work"
done
