// SPDX-License-Identifier: Apache-2.0
// Whether a model has the zeros that were asked for: the check of a pruned model in a build.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/verify.h"
#include "codec/mask_statistics.h"

namespace nibble {

struct SparsityExpectation {
  std::optional<double> sparsity;  // of the targets together
  double tolerance = 0.005;
  std::optional<MaskPattern> structure;  // of every target: "2:4"
  std::vector<std::string> targets;      // names, `re:` expressions or "Linear"; empty: linears inside blocks

  bool is_empty() const { return !sparsity && !structure; }
};

// "2:4": at least two zeros in every four columns. The error says what is allowed.
Result<MaskPattern> parse_mask_pattern(const std::string& text);

// One finding a layer that is not as expected. When the sparsity of all together is right, layers may differ.
// `checkpoint` holds decoded weights. Targets that match nothing are an error.
Result<std::vector<VerifyFinding>> check_sparsity(const Checkpoint& checkpoint,
                                                  const SparsityExpectation& expected, Context& context);

}  // namespace nibble
