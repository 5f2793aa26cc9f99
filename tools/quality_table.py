#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compresses a model by one method after the other and judges each: the rows of the tables in docs/quality.md.

    python3 tools/quality_table.py --nibble build/nibble --model models/SmolLM2-135M-Instruct.Q4_1.gguf \
        --calibration c4.jsonl --samples 64 --text wikitext=data/texts/wiki.test.raw:20 --text c4=held_out.jsonl:10 \
        --method gptq-w4 --method gptq-w3

Texts and calibration may be .safetensors with input_ids. Prints a Markdown row a method: perplexities over windows of
2048 (--context), KL to the model itself on the last text (with --kl), seconds and peak memory of `nibble oneshot`.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys

GROUP = "{targets: [Linear], weights: {num_bits: %d, type: int, strategy: group, group_size: 64, symmetric: %s}}"


def quantizer(bits, modifier="GPTQModifier", symmetric="true", arguments=""):
    return f"""\
    {modifier}:
      ignore: [lm_head]
      config_groups: {{group_0: {GROUP % (bits, symmetric)}}}
{arguments}"""


def own(*lines):
    return "".join(f"      {line}\n" for line in lines)


def pruner(modifier, structure="0:0", sparsity=0.5, arguments=""):
    return (f"    {modifier}:\n      sparsity: {sparsity}\n      mask_structure: \"{structure}\"\n"
            f"      targets: [Linear]\n      ignore: [lm_head]\n{arguments}")


def magnitude(sparsity, structure):
    structure = "unstructured" if structure == "0:0" else structure
    return (f"    MagnitudePruningModifier:\n      init_sparsity: 0.0\n      final_sparsity: {sparsity}\n"
            f"      mask_structure: \"{structure}\"\n      targets: ['re:.*layers.*proj.weight']\n")


SMOOTH = "    SmoothQuantModifier: {}\n"
W8A8 = "      ignore: [lm_head]\n      scheme: W8A8\n"

# name -> (modifiers of the recipe, flags)
METHODS = {
    "rtn-w4": (quantizer(4, "QuantizationModifier"), []),
    "rtn-w3": (quantizer(3, "QuantizationModifier"), []),
    "rtn-w8a8": ("    QuantizationModifier:\n" + W8A8, []),
    "gptq-w4": (quantizer(4), []),
    "gptq-w4-reference": (quantizer(4), ["--reference"]),
    "gptq-w4-asym": (quantizer(4, symmetric="false"), []),
    "gptq-w3": (quantizer(3), []),
    "gptq-w4-magr": (quantizer(4, arguments=own("magr: 0.001")), []),
    "awq-w4": ("    AWQModifier: {}\n" + quantizer(4, "QuantizationModifier", "false"), []),
    "awq-gptq-w4": ("    AWQModifier: {}\n" + quantizer(4, symmetric="false"), []),
    "smoothquant-w8a8": (SMOOTH + "    QuantizationModifier:\n" + W8A8, []),
    "smoothquant-gptq-w8a8": (SMOOTH + "    GPTQModifier:\n" + W8A8, []),
    "sparsegpt-50-kl": (pruner("SparseGPTModifier", arguments=own("sparsity_profile: kl")), []),
    "sparsegpt-24-permuted": ("    ChannelPermutationModifier: {mask_structure: \"2:4\"}\n"
                              + pruner("SparseGPTModifier", "2:4"), []),
}

# Each part of the solver left out.
for part, argument in {"target": "target_correction: false", "search": "scale_search: false", "refine": "refine_rounds: 0",
                       "order": "column_order: natural"}.items():
    for bits in (4, 3):
        METHODS[f"gptq-w{bits}-no-{part}"] = (quantizer(bits, arguments=own(argument)), [])
NONE = own("target_correction: false", "scale_search: false", "refine_rounds: 0", "column_order: natural")
for bits in (4, 3):
    METHODS[f"gptq-w{bits}-none"] = (quantizer(bits, arguments=NONE), [])

# Pruning: 50, 60 and 70 % without structure, 2:4 and 4:8.
for name, (sparsity, structure) in {"50": (0.5, "0:0"), "60": (0.6, "0:0"), "70": (0.7, "0:0"), "24": (0.5, "2:4"),
                                    "48": (0.5, "4:8")}.items():
    METHODS[f"magnitude-{name}"] = (magnitude(sparsity, structure), [])
    for modifier in ("Wanda", "SparseGPT"):
        recipe = pruner(f"{modifier}PruningModifier" if modifier == "Wanda" else f"{modifier}Modifier", structure, sparsity)
        METHODS[f"{modifier.lower()}-{name}"] = (recipe, [])
        METHODS[f"{modifier.lower()}-{name}-reference"] = (recipe, ["--reference"])


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def judge(options, model, text, against=None):
    path, windows = text.rsplit(":", 1)
    command = [options.nibble, "eval", model, "--text", path, "--context", options.context, "--max-windows", windows, "--json"]
    return json.loads(run(command + (["--against", against] if against else [])))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nibble", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--context", type=int, default=2048, help="tokens of a window")
    parser.add_argument("--text", action="append", required=True, help="name=file:windows")
    parser.add_argument("--method", action="append", choices=METHODS, required=True)
    parser.add_argument("--flag", action="append", default=[], help="more flags for every oneshot")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("quality"))
    parser.add_argument("--kl", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    texts = dict(text.split("=", 1) for text in options.text)
    print(f"| method | {' | '.join(texts)} | KL | seconds | peak MB |\n|{'---|' * (len(texts) + 4)}", flush=True)
    for method in options.method:
        modifiers, flags = METHODS[method]
        recipe, out = options.work / f"{method}.yaml", options.work / method
        recipe.write_text("run_stage:\n  run_modifiers:\n" + modifiers)
        shutil.rmtree(out, ignore_errors=True)
        run([options.nibble, "oneshot", options.model, "--recipe", recipe, "--dataset", options.calibration,
             "--num-calibration-samples", options.samples, "--max-seq-length", options.length,
             "--no-shuffle-calibration-samples", "--output-dir", out, "--quiet", *flags, *options.flag])
        report = json.loads((out / "report.json").read_text())
        cells, divergence = [], "-"
        for name, text in texts.items():
            last = options.kl and name == list(texts)[-1]
            result = judge(options, out, text, options.model if last else None)
            cells.append(f"{result['perplexity']:.3f}")
            if last:
                divergence = f"{result['mean_kl']:.4f}"
        seconds = sum(report["phases"].values())
        memory = report["totals"]["peak_memory_bytes"] / 1e6
        print(f"| {method} | {' | '.join(cells)} | {divergence} | {seconds:.0f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
