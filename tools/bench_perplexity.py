#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Perplexity with nibble and with transformers in one run: the same token ids, windows and threads, in turn.

    .venv-interop/bin/python tools/bench_perplexity.py --nibble build/nibble \
        --model models/SmolLM2-135M-Instruct.Q4_1.gguf --windows 10 --rounds 3

Prints seconds a round (model loading not counted for transformers, counted for nibble), the median of the paired
ratios, both perplexities, and nibble's share of the machine's fp32 GEMM rate over its whole run: multiply-adds of the
linears and of the causal half of attention, against 2048^3 products of torch and numpy, the faster, in the same run. A GGUF needs the package gguf in the environment.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import time

import numpy
import torch
import transformers


def load(model):
    path = pathlib.Path(model)
    if path.suffix == ".gguf":
        return transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def gemm_rate():
    """Operations a second of the best of ten fp32 products, large enough to fill the machine."""
    best = 0.0
    for matrix in (torch.randn(2048, 2048), numpy.random.rand(2048, 2048).astype(numpy.float32)):
        for _ in range(10):
            start = time.perf_counter()
            matrix @ matrix
            best = max(best, 2 * 2048**3 / (time.perf_counter() - start))
    return best


def operations(model, context):
    """Of one window: every linear with the head, and attention over the tokens before each."""
    linears = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))
    width = model.config.hidden_size * model.config.num_hidden_layers
    return context * (2 * linears + 2 * context * width)


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
    ratios, shares, ours, theirs = [], [], 0.0, 0.0
    for round_number in range(options.rounds):
        start = time.perf_counter()
        ours = json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL))["perplexity"]
        nibble_seconds = time.perf_counter() - start
        work = operations(model, options.context) * options.windows
        shares.append((work / nibble_seconds, gemm_rate()))
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
    ran, rate = (statistics.median(column) for column in zip(*shares))
    print(f"nibble {ran / 1e9:.0f} GFLOP/s over the whole run, fp32 GEMM {rate / 1e9:.0f}: {100 * ran / rate:.0f} %")
    print(f"perplexity: nibble {ours:.5f}, transformers {theirs:.5f}")
    print(f"transformers / nibble: {statistics.median(ratios):.2f} (median of {options.rounds} pairs)")


if __name__ == "__main__":
    main()
