// SPDX-License-Identifier: Apache-2.0
// What differs between two checkpoints: tensors, types, shapes, values, configuration. Compare compressed
// models through decompressed() to see the error of their weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/error.h"
#include "checkpoint/checkpoint.h"

namespace nibble {

enum class DifferenceKind { kEqual, kOnlyLeft, kOnlyRight, kShape, kDtype, kValues };

struct TensorDifference {
  std::string name;
  DifferenceKind kind = DifferenceKind::kEqual;
  std::string left, right;          // "BF16 [576, 192]"; empty where the tensor is missing
  std::int64_t differing = 0;       // values that are not equal; NaN equals NaN
  std::int64_t not_comparable = 0;  // of these: one side is not finite
  double max_error = 0;             // largest |left - right| of the others
  double relative_error = 0;        // |left - right| / |left|, Frobenius norms; infinite for a zero left side
};

struct DiffReport {
  std::vector<TensorDifference> tensors;  // in the order of the left checkpoint, then those only on the right
  std::vector<std::string> config_keys;   // paths of differing entries of config.json: "rope_scaling/factor"
  std::int64_t equal = 0;
  std::uint64_t left_bytes = 0, right_bytes = 0;

  bool is_same() const { return equal == static_cast<std::int64_t>(tensors.size()) && config_keys.empty(); }
};

Result<DiffReport> diff_checkpoints(const Context& context, const Checkpoint& left, const Checkpoint& right);

std::string_view to_string(DifferenceKind kind);  // "only left"

}  // namespace nibble
