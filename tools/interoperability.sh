#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compresses MODEL with nibble and loads every result in transformers + compressed-tensors (own venv, from PyPI).
#   tools/interoperability.sh [MODEL] [WORK]     default: models/SmolLM2-135M-Instruct.Q4_1.gguf build/interoperability
set -eu
cd "$(dirname "$0")/.."
model=${1:-models/SmolLM2-135M-Instruct.Q4_1.gguf}
work=${2:-build/interoperability}
venv=${NIBBLE_INTEROP_VENV:-.venv-interop}
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q torch==2.14.0 transformers==5.17.0 compressed-tensors==0.19.0 safetensors accelerate
fi
exec "$venv/bin/python" tools/interoperability.py --nibble build/nibble --model "$model" --work "$work"
