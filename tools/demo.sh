#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The main job on the bundled model: evaluate, compress to W4A16, evaluate the result, let both tell a story.
set -eu
nibble=$1
cd "$(dirname "$0")/.."
model=data/models/stories260K
text=data/texts/stories.jsonl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "\$ nibble oneshot $model --scheme W4A16 --group-size 32 -o stories260K-W4A16"
"$nibble" oneshot "$model" --scheme W4A16 --group-size 32 --output-dir "$work/stories260K-W4A16"
echo
echo "\$ nibble eval stories260K-W4A16 --against $model --text $text"
"$nibble" eval "$work/stories260K-W4A16" --against "$model" --text "$text" --context 256
for which in "$model" "$work/stories260K-W4A16"; do
  echo
  echo "\$ nibble generate $(basename "$which") --prompt 'Once upon a time'"
  "$nibble" generate "$which" --prompt "Once upon a time" --max-new-tokens 60
done
echo
echo "sizes in bytes:"
stat -c '%s  %n' "$model/model.safetensors" "$work/stories260K-W4A16/model.safetensors" | sed "s|$work/||"
