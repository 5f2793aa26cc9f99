// SPDX-License-Identifier: Apache-2.0
// The zeros of a model: of every tensor, of its blocks and of all, and the N:M structure of what can be
// pruned. Tensors are read one after the other in blocks of rows: 4 Mi values are decoded at a time, beside
// what is stored of the tensor. Decoded whole are weights stored transposed (GPT-2), those whose activations
// are rotated at run time, quantized codes in a sparse form (a byte each) and permuted rows of GGUF.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "codec/mask_statistics.h"

namespace nibble {

// How far a tensor follows a pattern. `broken_at` is given where nine in ten groups do, but not all.
struct PatternFit {
  MaskPattern pattern;
  std::int64_t groups = 0, met = 0, exact = 0;
  std::optional<PatternBreak> broken_at{};

  bool holds() const { return groups > 0 && met == groups; }
};

struct TensorSparsity {
  std::string name;         // of the module, for the weight of a prunable layer; else of the tensor
  std::string tensor;       // that holds the values
  bool transposed = false;  // its columns are the rows of the layer
  int block = -1;           // -1 outside
  bool prunable = false;    // the weight of a linear or a convolution
  bool quantized = false;
  MaskStatistics mask;
  std::vector<PatternFit> patterns;  // of prunable tensors with zeros: the usual ones and the nearest
};

struct SparsityTotals {
  std::int64_t params = 0, zeros = 0, prunable_params = 0, prunable_zeros = 0, quantized_params = 0;

  void add(const TensorSparsity& tensor);
  double sparsity() const;           // of all parameters
  double prunable_sparsity() const;  // of the layers that can be pruned
};

struct SparsityReport {
  std::vector<TensorSparsity> tensors;  // in module order; those that no module uses at the end
  std::map<int, SparsityTotals> blocks;
  SparsityTotals total;
};

// `checkpoint` holds decoded weights (decompressed()). Without a known config.json every matrix that is
// called "weight" and is no embedding counts as a linear.
Result<SparsityReport> sparsity_report(const Checkpoint& checkpoint, Context& context);

// The first group of a counted tensor that does not follow the pattern.
Result<std::optional<PatternBreak>> find_break(const Checkpoint& checkpoint, const TensorSparsity& tensor,
                                               const MaskPattern& pattern);

}  // namespace nibble
