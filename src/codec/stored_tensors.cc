// SPDX-License-Identifier: Apache-2.0
// What each format stores (compressed-tensors compressors/, one folder each).
#include <fmt/format.h>

#include "base/file.h"
#include "codec/compressed_weight.h"

namespace nibble {
namespace {

DType stored_scale_dtype(CompressionFormat format, DType dtype) {
  switch (format) {
    case CompressionFormat::kNvfp4Pack:
      return DType::kF8E4M3;
    case CompressionFormat::kMxfp4Pack:
    case CompressionFormat::kMxfp8:
      return DType::kU8;
    default:
      return dtype;
  }
}

// Zero points are packed along the rows, but not those of a whole tensor or of blocks.
bool packs_zero_points(const QuantizationArgs& args, CompressionFormat format) {
  return format == CompressionFormat::kPackQuantized &&
         (args.strategy == Strategy::kGroup || args.strategy == Strategy::kChannel);
}

StoredTensor codes_of(const QuantizationArgs& args, CompressionFormat format, std::int64_t rows,
                      std::int64_t cols, DType dtype) {
  if (format == CompressionFormat::kDense) return {"weight", dtype, {rows, cols}};
  if (format == CompressionFormat::kPackQuantized) {
    return {"weight_packed", DType::kI32, {rows, packed_words(cols, args.num_bits)}};
  }
  if (is_fp4(format)) return {"weight_packed", DType::kU8, {rows, cols / 2}};
  return {"weight", code_dtype(args), {rows, cols}};
}

}  // namespace

Result<std::vector<StoredTensor>> stored_tensors(const QuantizationArgs& args, CompressionFormat format,
                                                 std::int64_t rows, std::int64_t cols, DType dtype) {
  if (is_fp4(format) && cols % 2 != 0) {
    return usage_error(
        fmt::format("{} columns cannot be stored as {}: two values share a byte, so the number must be "
                    "even",
                    cols, to_string(format)),
        "put the module on the ignore list");
  }
  const Shape scale = scale_shape(args, rows, cols);
  std::vector<StoredTensor> out{codes_of(args, format, rows, cols, dtype),
                                {"weight_scale", stored_scale_dtype(format, dtype), scale}};
  if (format == CompressionFormat::kPackQuantized) out.push_back({"weight_shape", DType::kI64, {2}});
  if (!args.symmetric) {
    StoredTensor zero{"weight_zero_point", DType::kI8, scale};
    if (packs_zero_points(args, format)) {
      zero = {"weight_zero_point", DType::kI32, {packed_words(rows, args.num_bits), scale[1]}};
    }
    out.push_back(zero);
  } else if (format == CompressionFormat::kDense) {
    // The reference's dense format keeps the zeros of symmetric weights.
    const DType zero = args.is_mx()                    ? DType::kU8
                       : args.type == NumberType::kInt ? DType::kI8
                                                       : DType::kF8E4M3;
    out.push_back({"weight_zero_point", zero, scale});
  }
  if (args.strategy == Strategy::kTensorGroup) out.push_back({"weight_global_scale", DType::kF32, {1}});
  if (args.actorder == ActOrder::kGroup) out.push_back({"weight_g_idx", DType::kI32, {cols}});
  return out;
}

Result<std::uint64_t> stored_bytes(const QuantizationArgs& args, CompressionFormat format, std::int64_t rows,
                                   std::int64_t cols, DType dtype) {
  TRY_ASSIGN(const std::vector<StoredTensor> tensors, stored_tensors(args, format, rows, cols, dtype));
  std::uint64_t total = 0;
  for (const StoredTensor& tensor : tensors) total += tensor.bytes();
  return total;
}

const std::vector<std::string>& weight_suffixes() {
  static const std::vector<std::string> suffixes{"weight",       "weight_packed",     "weight_scale",
                                                 "weight_shape", "weight_zero_point", "weight_global_scale",
                                                 "weight_g_idx"};
  return suffixes;
}

}  // namespace nibble
