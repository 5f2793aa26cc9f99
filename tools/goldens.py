#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""goldens.py [--list] TESTS.xml ...

The tables of goldens passed, from the JUnit files that `ctest --output-junit` writes (make test: build/tests.xml).
A golden counts as passed when every test of it passed. --list names each; without it, only those that failed.
"""
import re, sys, xml.etree.ElementTree as xml

# Table, what its rows are, and the tests: the group is the row.
TABLES = [
    ("Architectures", "model with the reference's logits", r"model\.Goldens/ForwardTest\.\w+/(.+)"),
    ("Architectures from GGUF", "model converted by llama.cpp", r"checkpoint\.Converted/GgufModelTest\.\w+/(.+)"),
    ("Tokenizers", "tokenizer with ids and texts of its reference", r"text\.TokenizerGoldens\.EqualReference/(.+)"),
    ("Schemes written", "recipe without data, tensors and metadata to the bit", r"session\.DataFree/OneshotGolden\.\w+/(.+)"),
    ("Recipes with data", "calibrated recipe, tensors of the layers", r"session\.Recipes/CalibratedGolden\.\w+/(.+)"),
    ("Pruning with data", "pruning recipe, masks of every layer", r"session\.Recipes/PruningGolden\.\w+/(.+)"),
    ("Schemes read", "compressed model of the reference",
     r"(?:checkpoint\.Schemes/QuantizedFolderTest|model\.Goldens/CompressedTest)\.\w+/(.+)"),
    ("Solvers", "one-layer result of the reference", r"modify\.AllCases/(\w+Golden\.\w+/.+)"),
    ("Recipes", "valid recipe in the reference's canonical form", r"session\.Golden/ValidRecipe\.\w+/(.+)"),
    ("Recipes refused", "invalid recipe, with a reason", r"session\.Golden/InvalidRecipe\.\w+/(.+)"),
    ("Malformed files", "damaged file, refused with file and reason",
     r"(?:checkpoint\.\w+/MalformedTest|text\.MalformedTokenizer(?:File)?)\.\w+/(.+)"),
]


def results(paths):
    for path in paths:
        for case in xml.parse(path).iter("testcase"):
            yield case.get("name").split("  # GetParam")[0], case.get("status") == "run" and case.find("failure") is None


def main():
    listed = "--list" in sys.argv[1:]
    tests = list(results(a for a in sys.argv[1:] if a != "--list"))
    print("| goldens | passed | of | a row is |\n|---|--:|--:|---|")
    details, failed = [], 0
    for title, what, pattern in TABLES:
        rows = {}
        for name, passed in tests:
            match = re.fullmatch(pattern, name)
            if match:
                row = match[1].strip('"')
                rows[row] = rows.get(row, True) and passed
        bad = sorted(r for r, passed in rows.items() if not passed)
        failed += len(bad)
        print(f"| {title} | {len(rows) - len(bad)} | {len(rows)} | {what} |")
        if listed and rows:
            details.append(f"\n{title}: " + ", ".join(f"`{r}`" for r in sorted(rows) if rows[r]) + ".")
        details += [f"\nFAILED {title}: {row}" for row in bad]
    print("\n".join(details))
    return 1 if failed else 0


sys.exit(main())
