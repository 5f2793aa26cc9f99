#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where nibble and transformers part on a compressed model, layer by layer.

    compare_layers.py --nibble build/nibble --text data/texts/wiki.test.raw MODEL

For the output of each decoder layer: the relative distance |a - b| / |b| of the hidden states of a token, its median and
maximum over the tokens, and the share of tokens below 1e-5, of nibble against transformers (sdpa attention) and of
transformers against itself (eager). A wrong rule shows in the first layer for nearly all tokens; ties that the order of a
sum decides show in few tokens there, and grow alike on both sides.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import safetensors.torch
import torch
import transformers

import interoperability


def nibble_layers(options, ids):
    with tempfile.TemporaryDirectory() as folder:
        given, made = pathlib.Path(folder, "ids.safetensors"), pathlib.Path(folder, "logits.safetensors")
        safetensors.torch.save_file({"input_ids": ids}, given)
        subprocess.run([options.nibble, "logits", options.model, "--ids", given, "--output", made, "--hidden-states",
                        "--quiet"], check=True)
        tensors = safetensors.torch.load_file(made)
    count = sum(name.startswith("hidden_states.") for name in tensors) - 1  # the first are the embeddings
    return [tensors[f"hidden_states.{i + 1}"] for i in range(count)]


def transformers_layers(options, ids, attention):
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32,
                                                              attn_implementation=attention)
    model = interoperability.in_fp32(model).eval()
    layers = []
    for layer in model.model.layers:
        layer.register_forward_hook(
            lambda module, args, output: layers.append(output[0] if isinstance(output, tuple) else output))
    with torch.no_grad():
        model(ids)
    return layers


def distance(a, b):
    a, b = (x.reshape(-1, x.shape[-1]).double() for x in (a, b))
    relative = (a - b).norm(dim=1) / b.norm(dim=1)
    return (f"{relative.median():.1e} | {relative.max():.1e} | {100 * (relative < 1e-5).double().mean():.0f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--nibble", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--tokens", type=int, default=256)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    listed = json.loads(subprocess.run([options.nibble, "tokenize", options.model, "--file", options.text, "--json",
                                        "--no-special-tokens"], check=True, capture_output=True, text=True).stdout)
    listed = listed[0] if isinstance(listed[0], list) else listed
    ids = torch.tensor([listed[:options.tokens]])
    ours = nibble_layers(options, ids)
    sdpa, eager = (transformers_layers(options, ids, attention) for attention in ("sdpa", "eager"))
    print("| layer | nibble: median | maximum | below 1e-5 | eager: median | maximum | below 1e-5 |\n|" + "---|" * 7)
    for i, theirs in enumerate(sdpa):
        print(f"| {i} | {distance(ours[i], theirs)} | {distance(eager[i], theirs)} |")


if __name__ == "__main__":
    main()
