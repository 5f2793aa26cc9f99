#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Perplexity with nibble and with transformers in one run: the same token ids, windows and threads, in turn.

    .venv-interop/bin/python tools/bench_perplexity.py --nibble build/nibble \
        --model models/SmolLM2-135M-Instruct.Q4_1.gguf --windows 10 --rounds 3

Prints seconds a round (model loading not counted for transformers, counted for nibble), the median of the paired
ratios, and both perplexities. A GGUF needs the package gguf in the environment.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import time

import torch
import transformers


def load(model):
    path = pathlib.Path(model)
    if path.suffix == ".gguf":
        return transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nibble", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", default="data/texts/wiki.test.raw")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    ids = json.loads(subprocess.check_output([options.nibble, "tokenize", options.model, "--file", options.text, "--json",
                                              "--no-special-tokens"]))
    ids = torch.tensor(ids[0][:options.windows * options.context]).view(options.windows, options.context)
    model = load(options.model).eval()
    command = [options.nibble, "eval", options.model, "--text", options.text, "--context", str(options.context),
               "--max-windows", str(options.windows), "--threads", str(options.threads), "--json"]
    ratios, ours, theirs = [], 0.0, 0.0
    for round_number in range(options.rounds):
        start = time.perf_counter()
        ours = json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL))["perplexity"]
        nibble_seconds = time.perf_counter() - start
        start = time.perf_counter()
        means = []
        with torch.no_grad():
            for window in ids:
                logits = model(window[None]).logits[0, :-1]
                means.append(torch.nn.functional.cross_entropy(logits, window[1:]).item())
        transformers_seconds = time.perf_counter() - start
        theirs = math.exp(statistics.fmean(means))
        ratios.append(transformers_seconds / nibble_seconds)
        print(f"round {round_number + 1}: nibble {nibble_seconds:.2f} s, transformers {transformers_seconds:.2f} s")
    print(f"perplexity: nibble {ours:.5f}, transformers {theirs:.5f}")
    print(f"transformers / nibble: {statistics.median(ratios):.2f} (median of {options.rounds} pairs)")


if __name__ == "__main__":
    main()
