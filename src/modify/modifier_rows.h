// SPDX-License-Identifier: Apache-2.0
// The rows of the modifier table by subject, and the fields that classes of several subjects share. The order
// of fields is that of recipe.yaml.
#pragma once

#include <vector>

#include "modify/modifier_config.h"

namespace nibble::modifier_rows {

using Rows = std::vector<FieldRow>;

Rows operator+(Rows a, const Rows& b);
Rows common_rows(bool needs_data);
Rows hessian_rows();
// What error-compensating solvers share beyond the reference.
Rows correction_rows(bool corrects_target);

std::vector<ModifierRow> quantization_modifiers();
std::vector<ModifierRow> transform_modifiers();
std::vector<ModifierRow> pruning_modifiers();
std::vector<ModifierRow> learned_modifiers();

}  // namespace nibble::modifier_rows
