#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loads what nibble wrote in transformers + compressed-tensors and compares greedy text and perplexity with nibble's.

Prints one Markdown row a scheme; exits 1 when a perplexity differs by more than 0.1 % or a text differs.
"""
import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys

import torch
import transformers

SCHEMES = [
    ("W4A16 g64 symmetric", ["--scheme", "W4A16", "--group-size", "64"]),
    ("W4A16 g64 asymmetric", ["--scheme", "W4A16_ASYM", "--group-size", "64"]),
    ("W8A16 g64", ["--scheme", "W8A16", "--group-size", "64"]),
    ("FP8 weights", ["--recipe", "FP8_WEIGHTS"]),
    # Activations are rounded in the precision of the model. transformers runs in fp32 here, so these say fp32 too: in
    # fp16 codes of activations fall on other sides of a tie, and the texts part.
    ("W8A8 dynamic", ["--scheme", "W8A8", "--precision", "fp32"]),
    ("FP8 dynamic", ["--scheme", "FP8_DYNAMIC", "--precision", "fp32"]),
]
FP8_WEIGHTS = """\
quant_stage:
  quant_modifiers:
    QuantizationModifier:
      ignore: [lm_head]
      config_groups:
        group_0:
          targets: [Linear]
          weights: {num_bits: 8, type: float, strategy: channel, symmetric: true}
"""
PROMPT = "The capital of France is"
CONTEXT = 2048


def run(command):
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def window_perplexity(model, ids, windows):
    """The GPTQ convention: windows without overlap, mean of window means over CONTEXT - 1 predictions."""
    means = []
    for w in range(windows):
        window = torch.tensor([ids[w * CONTEXT:(w + 1) * CONTEXT]])
        with torch.no_grad():
            logits = model(window).logits[0, :-1].float()
        means.append(torch.nn.functional.cross_entropy(logits, window[0, 1:]).item())
    return math.exp(sum(means) / len(means))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nibble", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--text", default="data/texts/wiki.test.raw")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=40)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    recipe = options.work / "fp8_weights.yaml"
    recipe.write_text(FP8_WEIGHTS)
    ids = json.loads(run([options.nibble, "tokenize", options.model, "--file", options.text, "--json",
                          "--no-special-tokens"]))
    ids = ids[0] if isinstance(ids[0], list) else ids

    print(f"transformers {transformers.__version__}, torch {torch.__version__}, "
          f"{options.windows} windows of {CONTEXT}, greedy text of {options.new_tokens} tokens\n")
    print("| scheme | perplexity nibble | perplexity transformers | difference | greedy text |")
    print("|---|---|---|---|---|")
    failures = 0
    for name, flags in SCHEMES:
        out = options.work / name.replace(" ", "_")
        shutil.rmtree(out, ignore_errors=True)
        flags = [str(recipe) if flag == "FP8_WEIGHTS" else flag for flag in flags]
        run([options.nibble, "oneshot", options.model, *flags, "--output-dir", out, "--quiet"])
        ours = json.loads(run([options.nibble, "eval", out, "--text", options.text, "--context", str(CONTEXT),
                               "--max-windows", str(options.windows), "--json"]))
        text = json.loads(run([options.nibble, "generate", out, "--prompt", PROMPT, "--max-new-tokens",
                               str(options.new_tokens), "--json"]))
        model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
        theirs = window_perplexity(model, ids, options.windows)
        prompt = tokenizer(PROMPT, return_tensors="pt").input_ids
        generated = model.generate(prompt, max_new_tokens=options.new_tokens, do_sample=False)[0, prompt.shape[1]:]
        generated = [token for token in generated.tolist() if token != model.generation_config.eos_token_id]
        same_text = generated == text["ids"]
        difference = theirs / ours["perplexity"] - 1
        failures += abs(difference) > 1e-3 or not same_text
        print(f"| {name} | {ours['perplexity']:.4f} | {theirs:.4f} | {100 * difference:+.4f} % | "
              f"{'same' if same_text else 'DIFFERENT'} |", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
