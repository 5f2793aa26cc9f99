#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compresses MODEL with nibble and loads every result in transformers + compressed-tensors.
#   tools/interoperability.sh [--python PYTHON] [--recipes FOLDER] [more flags of interoperability.py] [MODEL [WORK]]
# Default: models/SmolLM2-135M-Instruct.Q4_1.gguf build/interoperability, the schemes, and an environment of its own from
# PyPI (.venv-interop or NIBBLE_INTEROP_VENV); PYTHON is one that has these packages already.
set -eu
cd "$(dirname "$0")/.."
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
work=build/interoperability
python=
positional=0
count=$#
while [ "$count" -gt 0 ]; do
  argument=$1
  shift
  count=$((count - 1))
  case $argument in
    --python) python=$1; shift; count=$((count - 1)) ;;
    --keep | --*=*) set -- "$@" "$argument" ;;
    --*) set -- "$@" "$argument" "$1"; shift; count=$((count - 1)) ;;
    *) positional=$((positional + 1)); [ "$positional" -eq 1 ] && model=$argument || work=$argument ;;
  esac
done
if [ -z "$python" ]; then
  venv=${NIBBLE_INTEROP_VENV:-.venv-interop}
  python=$venv/bin/python
  if [ ! -x "$python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q torch==2.14.0 transformers==5.17.0 compressed-tensors==0.19.0 safetensors accelerate
  fi
fi
exec "$python" tools/interoperability.py --nibble build/nibble --model "$model" --work "$work" "$@"
