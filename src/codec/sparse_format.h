// SPDX-License-Identifier: Apache-2.0
// The sparse formats that compressed-tensors removed in 0.15, so that old checkpoints can be recovered (its
// compressors/sparse_compressors/ before that release): sparse-bitmask (any zeros) and sparse-24-bitmask (at
// most two of every four columns). A matrix [rows, cols] of any element type becomes
//   shape        I64 [2] (bitmask) or [2, 1] (2:4)
//   compressed   the non-zeros, row by row: [count], or [rows, cols / 2] with zeros where a quad has fewer
//                than two
//   bitmask      U8 [rows, ceil(cols / 8)], bit i of byte j is column 8 j + i
//   row_offsets  I64 [rows], non-zeros before each row (bitmask only)
// stored as `module.shape`, `module.compressed`, ... instead of `module.weight`. nibble's own 2:4 form is the
// third (sparse_quads.h).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "codec/compressed_weight.h"

namespace nibble {

enum class SparseFormat { kBitmask, kBitmask24, kQuads };

std::string_view to_string(SparseFormat format);  // "sparse-bitmask", "sparse-24-bitmask", "nibble-24"
std::optional<SparseFormat> sparse_format_from_string(std::string_view name);
// Suffixes of the format's tensors.
const std::vector<std::string>& sparse_suffixes(SparseFormat format);

// How one weight is stored.
struct SparseLayout {
  SparseFormat format = SparseFormat::kBitmask;
  int code_bits = 0;  // 4: I8 codes become half bytes (nibble-24 only)
  // Bitmask: values that are stored, so that a plan can know the size before the zeros exist. Where a matrix
  // has fewer non-zeros, its first zeros are stored too, which every reader takes as they are.
  std::optional<std::int64_t> stored_values{};
};

// What it takes, without data; the bitmask needs `stored_values`.
std::vector<StoredTensor> sparse_stored(const SparseLayout& layout, std::int64_t rows, std::int64_t cols,
                                        DType dtype);

// -0 counts as zero and comes back as +0. The 2:4 forms are an error where a quad has more than two
// non-zeros, the bitmask where there are more than `stored_values`.
Result<std::map<std::string, Tensor>> sparse_compress(const Tensor& dense, const SparseLayout& layout);
inline Result<std::map<std::string, Tensor>> sparse_compress(const Tensor& dense, SparseFormat format) {
  return sparse_compress(dense, SparseLayout{.format = format});
}
// Every size is checked against the shape and the bits of the mask.
Result<Tensor> sparse_decompress(const std::map<std::string, Tensor>& tensors, SparseFormat format);
// The same in order as blocks of `step` rows, of which only one is in memory. All is checked before the
// first, but for the order of positions (nibble-24), which is checked block by block.
Status sparse_decompress_rows(const std::map<std::string, Tensor>& tensors, SparseFormat format,
                              std::int64_t step, const RowBlockBody& body);

}  // namespace nibble
