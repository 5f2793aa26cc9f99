// SPDX-License-Identifier: Apache-2.0
// A weight as compressed-tensors stores it: a few tensors that differ by suffix ("weight_packed",
// "weight_scale", ...; its compressors/). Writers make one from a weight and its parameters, readers
// from the tensors of a file; plans ask for names, dtypes and shapes without data.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "codec/error_stats.h"
#include "codec/pack.h"
#include "codec/quantize.h"
#include "codec/scheme.h"

namespace nibble {

// Takes a matrix as blocks of whole rows, in order.
using RowBlockBody = std::function<Status(const Tensor& rows)>;

struct StoredTensor {
  std::string suffix;  // "weight_packed"
  DType dtype = DType::kF32;
  Shape shape;

  std::uint64_t bytes() const {
    return static_cast<std::uint64_t>(element_count(shape)) * dtype_bytes(dtype);
  }
};

// What `format` stores for a [rows, cols] weight whose model has dtype `dtype` (F32, F16 or BF16). An error
// when it cannot hold that shape (FP4 needs an even number of columns).
Result<std::vector<StoredTensor>> stored_tensors(const QuantizationArgs& args, CompressionFormat format,
                                                 std::int64_t rows, std::int64_t cols, DType dtype);
// The sum of their bytes.
Result<std::uint64_t> stored_bytes(const QuantizationArgs& args, CompressionFormat format, std::int64_t rows,
                                   std::int64_t cols, DType dtype);

// Suffixes that belong to a weight, whatever the format: what a reader collects.
const std::vector<std::string>& weight_suffixes();

class CompressedWeight {
 public:
  // From what a file holds. Tensors that the format does not need (zero points of a symmetric weight, input
  // scales) are dropped. `dtype` is the model's; `version_before_017` decides a packing that could be either.
  // Every shape and dtype is checked; errors name the suffix.
  static Result<CompressedWeight> from_tensors(const QuantizationArgs& args, CompressionFormat format,
                                               DType dtype, std::map<std::string, Tensor> tensors,
                                               PackLayout layout_hint = PackLayout::kDense);

  // Quantizes `weight` (F32, F16, BF16) with `params`. `stats`, when given, receives the error of what was
  // stored.
  static Result<CompressedWeight> from_weight(ThreadPool& pool, const Tensor& weight,
                                              const QuantizationArgs& args, CompressionFormat format,
                                              const WeightParams& params, ErrorStats* stats = nullptr);
  // Round to nearest with min-max parameters, in one pass over the weight where units lie within rows.
  static Result<CompressedWeight> round_to_nearest(ThreadPool& pool, const Tensor& weight,
                                                   const QuantizationArgs& args, CompressionFormat format,
                                                   std::optional<float> global_scale = std::nullopt,
                                                   ErrorStats* stats = nullptr);
  // Codes that a solver chose, as quantize_weight gives them (not for the dense format).
  static Result<CompressedWeight> from_codes(ThreadPool& pool, const Tensor& codes,
                                             const QuantizationArgs& args, CompressionFormat format,
                                             DType dtype, const WeightParams& params);

  const QuantizationArgs& args() const { return args_; }
  CompressionFormat format() const { return format_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  DType dtype() const { return dtype_; }
  // By suffix; what a writer writes.
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  const Tensor& tensor(const std::string& suffix) const { return tensors_.at(suffix); }

  // Scale (as values), zero point, global scale and group index.
  Result<WeightParams> params() const;
  // One code a byte: I8, F8_E4M3 or U8 nibbles. Not for the dense format.
  Result<Tensor> codes(ThreadPool& pool) const;
  // The weight a runtime computes with, in dtype(); also in order as blocks of `step` rows (the dense format:
  // as one), of which only one is in memory.
  Result<Tensor> dense(ThreadPool& pool) const;
  Status for_dense_rows(ThreadPool& pool, std::int64_t step, const RowBlockBody& body) const;

 private:
  CompressedWeight() = default;
  static Result<CompressedWeight> empty(const QuantizationArgs& args, CompressionFormat format,
                                        std::int64_t rows, std::int64_t cols, DType dtype, bool has_g_idx);
  void store_codes(std::int64_t row, std::span<std::uint8_t> codes);
  void load_codes(std::int64_t row, std::span<std::uint8_t> codes) const;
  void store_scale_row(std::int64_t row, std::span<const float> scales);
  void store_zero_points(const Tensor& zero_point);
  void store_params(const WeightParams& params);
  void encode_rows(const WeightQuantizer& quantizer, const Tensor& weight, std::int64_t first,
                   std::int64_t last, RowErrors* errors);
  Status infer_shape();
  Status adopt(const StoredTensor& expected, PackLayout layout_hint);
  Status modernise_packing(PackLayout layout_hint);

  QuantizationArgs args_;
  CompressionFormat format_ = CompressionFormat::kDense;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  DType dtype_ = DType::kF32;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace nibble
