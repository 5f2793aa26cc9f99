// SPDX-License-Identifier: Apache-2.0
#include "model/structure.h"

#include <fmt/format.h>

#include "base/json.h"
#include "checkpoint/online_transforms.h"
#include "checkpoint/quantized_checkpoint.h"
#include "model/module_tree.h"

namespace nibble {
namespace {

// Kinds of models that no row describes are no fault of the file.
std::string unknown_kind(const Json& config) {
  if (config.is_null()) return "there is no config.json";
  const Json* type = find_key(config, "model_type");
  if (type == nullptr || !type->is_string() || find_architecture(type->get<std::string>()) != nullptr)
    return {};
  return fmt::format("model_type \"{}\" is none that nibble knows", type->get<std::string>());
}

// A weight that is not stored dense must be packed, and stand for the shape of its module.
void check_packed(const Checkpoint& checkpoint, const ModelDescription& model, Structure& structure) {
  const auto opened = QuantizedCheckpoint::open(checkpoint);
  const QuantizedCheckpoint* quantized = opened.ok() ? opened->get() : nullptr;
  if (quantized != nullptr) {
    const auto rotations = OnlineTransforms::make(quantized->config(), checkpoint);
    std::erase_if(structure.unused,
                  [&](const std::string& name) { return rotations.ok() && rotations->is_matrix(name); });
  }
  for (const ModuleInfo& module : model.modules) {
    if (module.weight.empty() || checkpoint.find(module.weight) != nullptr) continue;
    const Shape wanted{module.rows, module.cols};
    StructureViolation violation{.module = module.name,
                                 .tensor = module.weight,
                                 .expected = to_string(wanted),
                                 .found = "nothing",
                                 .file = {}};
    const QuantizedModule* packed =
        quantized == nullptr ? nullptr : quantized->find(module.weight.substr(0, module.weight.rfind('.')));
    if (packed == nullptr) {
      // Metadata that does not open is a finding of its own; what it packs cannot be told then.
      if (opened.ok()) structure.violations.push_back(std::move(violation));
      continue;
    }
    const Shape found{packed->rows, packed->cols};
    if (found == wanted) continue;
    violation.kind = StructureViolation::Kind::kShape;
    violation.found = fmt::format("{}, packed as {}", to_string(found), to_string(packed->format));
    if (!packed->tensors.empty()) violation.tensor = packed->tensors.front();
    if (const TensorInfo* info = checkpoint.find(violation.tensor)) violation.file = info->file;
    structure.violations.push_back(std::move(violation));
  }
}

}  // namespace

Result<Structure> check_structure(const Checkpoint& checkpoint) {
  Structure structure;
  structure.unknown = unknown_kind(checkpoint.config());
  if (!structure.unknown.empty()) return structure;
  TRY_ASSIGN(FlawedDescription dense, describe_with_flaws(checkpoint));
  structure.architecture = dense.model.architecture;
  structure.violations = std::move(dense.violations);
  structure.unused = dense.model.unused_tensors;
  check_packed(checkpoint, dense.model, structure);
  return structure;
}

}  // namespace nibble
