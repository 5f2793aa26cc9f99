// SPDX-License-Identifier: Apache-2.0
// Linear layers on packed weights: y = x * W^T with W [rows, cols] = [out, in] held in a run-time layout that
// every kernel level reads. Floating-point activations give the bits of gemm_nt() on the unpacked weights, at
// every number of tokens; int8 activations give exact integer sums.
//
//   const PackedWeights w = pack_codes(pool, {.rows = 4096, .cols = 4096, .bits = 4, .codes = codes, .ld =
//   4096,
//                                             .scales = scales, .scale_ld = 32, .group_size = 128});
//   linear(pool, tokens, x, 4096, w, y, 4096);
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/dtype.h"
#include "base/thread_pool.h"

namespace nibble::kernels {

enum class CodeKind {
  kInteger,  // (code - zero) * scale, `bits` from 2 to 8
  kTable,    // table[code] * scale, 4 bits: fp4, nf4
  kFloat8,   // E4M3 * scale, 8 bits
};

// Weights as a checkpoint's codec gives them, one byte per code.
struct CodedWeights {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  CodeKind kind = CodeKind::kInteger;
  int bits = 8;
  // Integers: signed, -2^(bits - 1) <= code < 2^(bits - 1). Tables: 0 to 15. Float8: the byte.
  const std::int8_t* codes = nullptr;
  std::int64_t ld = 0;
  // One scale per row and group of group_size columns (the last group may be ragged; group_size 0: one
  // group). scale_ld 0: all rows share one row of scales. zeros: like scales, in the range of the codes;
  // null: 0.
  const float* scales = nullptr;
  const std::int8_t* zeros = nullptr;
  std::int64_t scale_ld = 0;
  std::int64_t group_size = 0;
  // Act-order: the group of every column; null: column / group_size.
  const std::int32_t* group_index = nullptr;
  std::array<float, 16> table{};
};

class PackedWeights {
 public:
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  std::size_t bytes() const { return bytes_; }  // what a single-token product reads
  // The weights as fp32 [rows, cols], in their original column order.
  void unpack(ThreadPool& pool, float* w, std::int64_t ld) const;

  struct Storage;

 private:
  friend struct PackedAccess;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::size_t bytes_ = 0;
  std::shared_ptr<const Storage> storage_;
};

// `storage` F32, BF16 or F16; the weights are rounded to it.
PackedWeights pack_dense(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* w,
                         std::int64_t ld, DType storage = DType::kF32);
PackedWeights pack_codes(ThreadPool& pool, const CodedWeights& weights);

// y [tokens, rows] = (or +=) x [tokens, cols] * W^T.
void linear(ThreadPool& pool, std::int64_t tokens, const float* x, std::int64_t ldx,
            const PackedWeights& weights, float* y, std::int64_t ldy, bool accumulate = false);

// int8 activations, quantized per token: value = (code - zero) * scale.
struct QuantizedTokens {
  std::int64_t tokens = 0;
  const std::int8_t* codes = nullptr;  // [tokens, cols]
  std::int64_t ld = 0;
  const float* scales = nullptr;        // [tokens]
  const std::int32_t* zeros = nullptr;  // [tokens]; null: 0
};

// Whether linear_int8() takes these weights: integers of 4 or 8 bits, group_size a multiple of 8.
bool has_int8_path(const PackedWeights& weights);

// y [tokens, rows] = x * W^T. Every sum of products inside a group is exact in int32; then, in this order and
// without fused steps, y = x_scale * (sum over groups of float(dot) * w_scale - x_zero * row sum of W): equal
// bits at all levels and for any number of threads. A group of more than 2^15 columns is cut there.
void linear_int8(ThreadPool& pool, const QuantizedTokens& x, const PackedWeights& weights, float* y,
                 std::int64_t ldy);

}  // namespace nibble::kernels
