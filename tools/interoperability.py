#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loads what nibble wrote in transformers + compressed-tensors and compares perplexity (and greedy text) with nibble's.

    interoperability.py --nibble build/nibble --model MODEL --work FOLDER                      # the schemes
    interoperability.py --nibble build/nibble --model MODEL --work FOLDER --recipes FOLDER     # every recipe of a folder

One Markdown row a case, written as it ends; a case that fails does not stop the others. Exits 1 when one did not run or
load, its perplexity differs by more than the tolerance, or a greedy text differs. Activations are rounded in the
precision of the model; transformers computes in fp32 here, so recipes (any may round activations) run with
--precision fp32: in fp16, values fall on other sides of a tie, and the texts part. Even in fp32 the order of a sum
decides ties, and thirty layers carry that far: where activations are rounded and the tolerance is missed, transformers is
measured with its other attention implementation too. What its losses, prediction by prediction, differ by from its own
says how far a mean over so many may be off by chance (three standard errors): that is shown and allowed.
"""
import argparse
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import time

import torch
import transformers

SCHEMES = {
    "W4A16 g64 symmetric": ["--scheme", "W4A16", "--group-size", "64"],
    "W4A16 g64 asymmetric": ["--scheme", "W4A16_ASYM", "--group-size", "64"],
    "W8A16 g64": ["--scheme", "W8A16", "--group-size", "64"],
    "W8A16 channel": ["--scheme", "W8A16", "--group-size", "-1"],
    "FP8 weights": ["--recipe", """\
quant_stage:
  quant_modifiers:
    QuantizationModifier:
      ignore: [lm_head]
      config_groups:
        group_0:
          targets: [Linear]
          weights: {num_bits: 8, type: float, strategy: channel, symmetric: true}
"""],
    "W8A8 dynamic": ["--scheme", "W8A8", "--precision", "fp32"],
    "FP8 dynamic": ["--scheme", "FP8_DYNAMIC", "--precision", "fp32"],
}
PROMPT = "The capital of France is"


class CaseError(Exception):
    pass


def run(command):
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise CaseError(next((line for line in lines if line.startswith("error")), lines[-1] if lines else "no message"))
    return done.stdout


def recipe_cases(folder, options):
    cases = {}
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.endswith(".expected.json"):
            cases[file.name] = ["--recipe", file, "--precision", "fp32", "--dataset", options.dataset,
                                "--num-calibration-samples", options.samples,
                                "--max-seq-length", options.max_seq_length]
    return cases


def rounds_activations(folder):
    config = json.loads((folder / "config.json").read_text()).get("quantization_config", {})
    return any(group["input_activations"] for group in config.get("config_groups", {}).values()) or bool(
        config.get("kv_cache_scheme"))


def unsuited_group(folder):
    """A group size that does not divide a width: compressed-tensors has no layout for the shorter last group."""
    config = json.loads((folder / "config.json").read_text())
    for group in config.get("quantization_config", {}).get("config_groups", {}).values():
        for args in (group["weights"], group["input_activations"]):
            size = (args or {}).get("group_size") or 0
            for width in (config["hidden_size"], config["intermediate_size"]):
                if size > 0 and width % size:
                    return f"does not suit: group_size {size} does not divide {width}"
    return ""


def in_fp32(model):
    """Weights are decompressed by the first forward, 4-bit floats to bfloat16 whatever type was asked for."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.tensor([[0]]))
    return torch.nn.Module.float(model)


class Judge:
    def __init__(self, options):
        self.options = options
        ids = json.loads(run([options.nibble, "tokenize", options.model, "--file", options.text, "--json",
                              "--no-special-tokens"]))
        self.ids = ids[0] if isinstance(ids[0], list) else ids

    def losses(self, model):
        """Of every prediction, in nats. The GPTQ convention: windows without overlap, context - 1 predictions each."""
        losses = []
        for w in range(self.options.windows):
            first = w * self.options.context
            window = torch.tensor([self.ids[first:first + self.options.context]])
            with torch.no_grad():
                logits = model(window).logits[0, :-1].float()
            losses.append(torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="none"))
        return torch.cat(losses).double()

    def load(self, folder, attention="sdpa"):
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, attn_implementation=attention)
        wrong = {kind: sorted(map(str, keys))[:3] for kind, keys in info.items() if keys}
        if wrong:
            raise CaseError(f"loaded with {wrong}")
        return in_fp32(model).eval()

    def greedy_text_is_same(self, model, folder):
        ours = json.loads(run([self.options.nibble, "generate", folder, "--prompt", PROMPT, "--max-new-tokens",
                               self.options.new_tokens, "--json"]))["ids"]
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        prompt = tokenizer(PROMPT, return_tensors="pt").input_ids
        theirs = model.generate(prompt, max_new_tokens=self.options.new_tokens, do_sample=False)[0, prompt.shape[1]:]
        return [token for token in theirs.tolist() if token != model.generation_config.eos_token_id] == ours

    def case(self, flags, folder, with_text):
        """The cells of one row, and whether all is well."""
        cells = ["no", "-", "-", "-", "-"] + ["-"] * with_text
        try:
            shutil.rmtree(folder, ignore_errors=True)
            run([self.options.nibble, "oneshot", self.options.model, *flags, "--output-dir", folder, "--quiet"])
            cells[0] = "yes"
            ours = json.loads(run([self.options.nibble, "eval", folder, "--text", self.options.text, "--context",
                                   self.options.context, "--max-windows", self.options.windows,
                                   "--json"]))["perplexity"]
            cells[2] = f"{ours:.4f}"
            if unsuited_group(folder):
                cells[-1] = unsuited_group(folder)
                return cells, True
            cells[1] = "no"
            model = self.load(folder)
            cells[1] = "yes"
            losses = self.losses(model)
            theirs = math.exp(losses.mean())
            cells[3] = f"{theirs:.4f}"
            difference = theirs / ours - 1
            cells[4] = f"{100 * difference:+.4f} %"
            well = abs(difference) <= self.options.tolerance
            if not well and rounds_activations(folder):
                by_itself = self.losses(self.load(folder, "eager")) - losses
                chance = 3 * (by_itself.std() / math.sqrt(len(losses))).item()
                cells[4] += (f" (transformers, eager instead of sdpa: {100 * math.expm1(by_itself.mean()):+.4f} %; "
                             f"by chance up to {100 * chance:.2f} %)")
                well = abs(difference) <= chance
            if with_text:
                same = self.greedy_text_is_same(model, folder)
                cells[5] = "same" if same else "DIFFERENT"
                well = well and same
            return cells, well
        except CaseError as error:
            cells[-1] = str(error).replace("|", "\\|")
        except Exception as error:  # whatever a library raises belongs to this case alone
            cells[-1] = f"{type(error).__name__}: {error}".splitlines()[0].replace("|", "\\|")[:200]
        finally:
            if not self.options.keep:
                shutil.rmtree(folder, ignore_errors=True)
        return cells, False


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nibble", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--text", default="data/texts/wiki.test.raw")
    parser.add_argument("--recipes", type=pathlib.Path, help="run every recipe of this folder instead of the schemes")
    parser.add_argument("--only", default="", help="cases whose name has this regular expression")
    parser.add_argument("--dataset", default="data/texts/c4_sample.jsonl", help="calibration data of recipes")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--max-seq-length", type=int, default=128)
    parser.add_argument("--context", type=int, help="default: 2048 for schemes, 512 for recipes")
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=30)
    parser.add_argument("--tolerance", type=float, help="relative; default: 0.001 for schemes, 0.002 for recipes")
    parser.add_argument("--keep", action="store_true", help="keep the compressed models")
    options = parser.parse_args()
    options.context = options.context or (512 if options.recipes else 2048)
    options.tolerance = options.tolerance or (2e-3 if options.recipes else 1e-3)
    return options


def main():
    options = parse_arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    transformers.utils.logging.set_verbosity_error()
    with_text = options.recipes is None
    cases = SCHEMES if with_text else recipe_cases(options.recipes, options)
    judge = Judge(options)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, {options.windows} windows of "
          f"{options.context}" + (f", greedy text of {options.new_tokens} tokens" if with_text else
                                  f", {options.samples} calibration samples of {options.max_seq_length}") + "\n")
    columns = ["scheme" if with_text else "recipe", "ran", "loaded", "perplexity nibble", "perplexity transformers",
               "difference"] + ["greedy text"] * with_text + ["seconds"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    failed = []
    for name, flags in cases.items():
        if not re.search(options.only, name):
            continue
        start = time.monotonic()
        cells, well = judge.case(flags, options.work / re.sub(r"\W+", "_", name), with_text)
        print("| " + " | ".join([name, *cells, f"{time.monotonic() - start:.0f}"]) + " |", flush=True)
        if not well:
            failed.append(name)
    print(f"\nnot as they should be: {', '.join(failed)}" if failed else "\nall as they should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
