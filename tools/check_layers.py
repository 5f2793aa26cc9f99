#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the rule of docs/design.md: a folder of src/ includes only itself and the folders it may know."""
import pathlib
import re
import sys

LAYERS = {
    "base": [],
    "kernels": ["base"],
    "codec": ["base", "kernels"],
    "checkpoint": ["base", "codec"],
    "text": ["base"],
    "model": ["base", "kernels", "codec", "checkpoint"],
    "calibrate": ["base", "kernels", "codec", "checkpoint", "text", "model"],
    "modify": ["base", "kernels", "codec", "checkpoint", "text", "model", "calibrate"],
    "evaluate": ["base", "kernels", "codec", "checkpoint", "text", "model"],
    "session": ["base", "kernels", "codec", "checkpoint", "text", "model", "calibrate", "modify", "evaluate"],
}
INCLUDE = re.compile(r'^\s*#include "([a-z_0-9]+)/', re.MULTILINE)
HEADER = re.compile(r'^\s*#include "([a-z_0-9/]+\.h)"', re.MULTILINE)
JSON_IN_HEADER = re.compile(r'#include ("base/json\.h"|<nlohmann/json\.hpp>)')


def heavy_headers(root: pathlib.Path):
    """Headers that include the whole JSON library, all but base/json.h itself: for .cc files only."""
    for path in root.glob("src/*/**/*.h"):
        if path.name != "json.h" and JSON_IN_HEADER.search(path.read_text(encoding="utf-8")):
            yield str(path.relative_to(root / "src"))


def violations(root: pathlib.Path):
    heavy = set(heavy_headers(root))
    for path in sorted(root.glob("src/*/**/*")):
        if path.suffix not in (".cc", ".h"):
            continue
        layer = path.relative_to(root / "src").parts[0]
        if layer not in LAYERS:
            yield f"{path.relative_to(root)}: folder src/{layer} is not in the table of layers"
            continue
        text = path.read_text(encoding="utf-8")
        for name in INCLUDE.findall(text):
            if name != layer and name != "nibble" and name not in LAYERS[layer]:
                yield f"{path.relative_to(root)}: {layer} may not include {name}/"
        # The JSON library is slow to compile: it must not travel from header to header.
        if path.suffix == ".h" and path.name != "json.h":
            for name in set(HEADER.findall(text)) & heavy:
                yield f"{path.relative_to(root)}: brings in the JSON library through {name}; use base/json_fwd.h"
        if not text.startswith("// SPDX-License-Identifier: Apache-2.0"):
            yield f"{path.relative_to(root)}: the first line must be the SPDX line"


def main() -> int:
    found = list(violations(pathlib.Path(__file__).resolve().parent.parent))
    for line in found:
        print(line)
    print(f"layers: {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
