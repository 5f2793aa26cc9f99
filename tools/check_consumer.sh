#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs BUILD to a scratch prefix, builds tests/consumer against it, and plans the bundled model with it.
set -eu
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/prefix" >"$work/install.log"
"$work/prefix/bin/nibble" --version
"$work/prefix/bin/nibble" help --man | cmp - "$work/prefix/share/man/man1/nibble.1"
cmake -S tests/consumer -B "$work/consumer" -DCMAKE_PREFIX_PATH="$work/prefix" --log-level=WARNING >"$work/configure.log"
cmake --build "$work/consumer" >"$work/build.log" || { cat "$work/build.log"; exit 1; }
"$work/consumer/consumer" data/models/stories260K
