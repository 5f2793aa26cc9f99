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
JSON_IN_HEADER = re.compile(r'#include ("base/json\.h"|<nlohmann/json\.hpp>)')


def violations(root: pathlib.Path):
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
        if path.suffix == ".h" and path.name != "json.h" and JSON_IN_HEADER.search(text):
            yield f"{path.relative_to(root)}: headers include base/json_fwd.h, not the whole JSON library"
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
