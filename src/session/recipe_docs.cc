// SPDX-License-Identifier: Apache-2.0
#include "session/recipe_docs.h"

#include <fmt/format.h>

#include "modify/modifier_config.h"
#include "session/recipe_shortcuts.h"

namespace nibble {
namespace {

constexpr std::string_view kHead =
    R"(<!-- Written by src/session/recipe_docs.cc; a test holds this file to it. -->
# Recipes

A recipe says what happens to a model: an ordered list of modifiers. The grammar is that of llm-compressor, so its
recipes run unchanged.

```yaml
quant_stage:                     # keys that end in _stage hold groups
  quant_modifiers:               # keys that end in _modifiers hold modifiers, by class name
    QuantizationModifier:
      ignore: [lm_head]
      scheme: W4A16
```

A recipe is a YAML or JSON file, a Markdown file with the recipe as its front matter, or the text itself. All stages
run in the order of the file; `--stage NAME` keeps those whose key starts with NAME. What stands outside this shape has
no effect and is named in a warning. `nibble recipes check FILE` tells what a recipe means before anything runs.

`targets` and `ignore` hold exact module names, class names (`Linear`), or `re:` and a Python regular expression that
must match from the start of the name (not to its end: `re:.*gate` also takes `gate_proj`). When several groups match a
module, exact names win over patterns and patterns over classes; among equals the alphabetically first does. What
matches no module is refused with the nearest names; a pattern in `ignore` is only warned of (lists for several models name
what one of them lacks), before the run, at its end and in report.json.

## Pruning, then quantizing

In one stage GPTQ rounds what SparseGPT has left and keeps every zero; `report.json` counts them (`zeros`, `zeros_lost`).

```yaml
sparse_stage:
  sparse_modifiers:
    SparseGPTModifier:
      sparsity: 0.5
      mask_structure: '2:4'        # two of every four inputs are zero
      targets: [Linear]
      ignore: [lm_head]
    GPTQModifier:
      ignore: [lm_head]
      config_groups:
        group_0:
          targets: [Linear]
          weights: {num_bits: 4, type: int, symmetric: true, strategy: group, group_size: 64}
```

`nibble oneshot MODEL --recipe FILE --dataset TEXTS --sparsity-format nibble-24 -o OUT` stores each weight in about three
bits (docs/formats.md); without `--sparsity-format` the output is the usual W4A16 checkpoint, zeros included.

## What is read beyond the reference

Under `--reference` these are refused, as llm-compressor 0.14 refuses them:

- `$name` in place of a value stands for `args: {name: value}` of the recipe; `--set name=value` replaces it.
- A modifier without a body (`SmoothQuantModifier:`) has its defaults.
- `AWQModifier` with a scheme (the older form) becomes an AWQModifier and a QuantizationModifier behind it.
- Python tags (`!!python/tuple`, enums, numpy scalars), which dumps of the reference hold, are read as plain values.
- Arguments of older releases, marked below, are accepted and have no effect.
- Arguments marked "nibble only" choose what the reference does not have.

Always: `mask_structure: 2:4` needs no quotes; a key that stands twice is an error.

## Quantization arguments

`config_groups` maps a name to `{targets, weights, input_activations, output_activations, format}`. The three argument
sets and `kv_cache_scheme` take:

)";

std::string cell(const RecipeValue& value) {
  return fmt::format("`{}`", value.if_text() && value.if_text()->empty() ? "\"\"" : value.to_text());
}

void add_rows(std::string& out, const std::vector<FieldRow>& rows) {
  out += "| argument | value | default | meaning |\n|---|---|---|---|\n";
  for (const FieldRow& row : rows) {
    if (row.use == FieldUse::kAlias) {
      out += fmt::format("| `{}` | | | older name of `{}` |\n", row.name, row.alias_of);
    } else if (row.use == FieldUse::kLeftover) {
      out += fmt::format("| `{}` | | | of older releases; no effect: {} |\n", row.name, row.help);
    } else {
      std::string kinds = describe_kinds(row);
      if (row.least || row.most) {
        kinds += !row.most ? fmt::format(", at least {}", *row.least)
                           : fmt::format(", {} to {}", *row.least, *row.most);
      }
      out += fmt::format("| `{}` | {} | {} | {} |\n", row.name, kinds,
                         row.required ? "required" : cell(row.initial),
                         row.use == FieldUse::kOwn ? row.help + " (nibble only)" : row.help);
    }
  }
  out += "\n";
}

}  // namespace

std::string recipes_markdown() {
  std::string out(kHead);
  add_rows(out, quantization_args_rows());
  out += "Observers: ";
  for (const std::string& name : observer_names())
    out += fmt::format("{}`{}`", name == observer_names()[0] ? "" : ", ", name);
  out += ".\n\nPreset schemes: ";
  for (const std::string& name : preset_names())
    out += fmt::format("{}`{}`", name == preset_names()[0] ? "" : ", ", name);
  out +=
      ".\n\n## Shortcuts\n\n`--scheme PRESET --method METHOD` stands for a recipe:\n\n| method | modifiers | "
      "|\n|---|---|---|\n";
  for (const MethodRow& row : method_table()) {
    std::string modifiers;
    for (const std::string& name : row.modifiers) modifiers += (modifiers.empty() ? "" : ", ") + name;
    out += fmt::format("| `{}` | {} | {} |\n", row.name, modifiers, row.summary);
  }
  out += "\n## Modifiers\n\n";
  for (const ModifierRow& row : modifier_table()) {
    out += fmt::format("### {}\n\n{}{}.\n\n", row.class_name, static_cast<char>(std::toupper(row.summary[0])),
                       row.summary.substr(1));
    add_rows(out, row.fields);
  }
  out.pop_back();
  return out;
}

}  // namespace nibble
