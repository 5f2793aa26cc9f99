#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs llm-compressor's oneshot on a Hugging Face folder with given token ids: one method, one process.

    python tools/reference_oneshot.py MODEL --ids calibration.safetensors --samples 64 --method gptq-w4 --output OUT

Prints one JSON line: method, seconds, cpu_seconds (both of oneshot alone), peak_rss_mb (of the process).
Needs torch 2.14, transformers 5.17, compressed-tensors 0.19.0, llmcompressor 0.14.0.1, datasets, safetensors.
"""
import argparse
import json
import resource
import time

import datasets
import safetensors.torch
import torch
import transformers
from llmcompressor import oneshot
from llmcompressor.modifiers.awq import AWQModifier
from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier


def weights(bits, symmetric=True, group_size=64):
    return {"group_0": {"targets": ["Linear"], "weights": {
        "num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": group_size}}}


IGNORE = ["lm_head"]
METHODS = {
    "rtn-w4": lambda: [QuantizationModifier(config_groups=weights(4), ignore=IGNORE)],
    "rtn-w3": lambda: [QuantizationModifier(config_groups=weights(3), ignore=IGNORE)],
    "gptq-w4": lambda: [GPTQModifier(config_groups=weights(4), ignore=IGNORE)],
    "gptq-w3": lambda: [GPTQModifier(config_groups=weights(3), ignore=IGNORE)],
    "awq-w4": lambda: [AWQModifier(config_groups=weights(4, symmetric=False), ignore=IGNORE)],
    "sparsegpt-24": lambda: [SparseGPTModifier(sparsity=0.5, mask_structure="2:4", targets=["Linear"],
                                               ignore=["re:.*lm_head"])],
    "sparsegpt-50": lambda: [SparseGPTModifier(sparsity=0.5, targets=["Linear"], ignore=["re:.*lm_head"])],
    "wanda-24": lambda: [WandaPruningModifier(sparsity=0.5, mask_structure="2:4", targets=["Linear"],
                                              ignore=["re:.*lm_head"])],
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--ids", required=True)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.Tensor.pin_memory = lambda self, *_: self  # AWQ pins what it keeps, and torch needs a GPU's driver for that
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    ids = safetensors.torch.load_file(options.ids)["input_ids"][:options.samples].tolist()
    data = datasets.Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]})
    cpu, start = time.process_time(), time.perf_counter()
    oneshot(model=model, dataset=data, recipe=METHODS[options.method](), num_calibration_samples=len(ids),
            max_seq_length=len(ids[0]), shuffle_calibration_samples=False)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    model.save_pretrained(options.output, save_compressed=True)
    print(json.dumps({"method": options.method, "seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1),
                      "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


if __name__ == "__main__":
    main()
