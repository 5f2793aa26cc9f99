// SPDX-License-Identifier: Apache-2.0
// Making a compressed weight and taking it apart. Rows are encoded one by one, so a unit that lies within
// rows is observed, turned into parameters, quantized and packed while the row is in the cache.
#include "codec/compressed_weight.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kernels/quantize_rows.h"

namespace nibble {
namespace {

constexpr std::int64_t kWeightGrain = 16;

bool is_mx(CompressionFormat format) {
  return format == CompressionFormat::kMxfp4Pack || format == CompressionFormat::kMxfp8;
}

std::span<const std::byte> row_bytes(const Tensor& tensor, std::int64_t row) {
  const std::size_t width = static_cast<std::size_t>(tensor.dim(1)) * dtype_bytes(tensor.dtype());
  return tensor.bytes().subspan(static_cast<std::size_t>(row) * width, width);
}

std::span<std::byte> mutable_row(Tensor& tensor, std::int64_t row) {
  const std::size_t width = static_cast<std::size_t>(tensor.dim(1)) * dtype_bytes(tensor.dtype());
  return tensor.mutable_bytes().subspan(static_cast<std::size_t>(row) * width, width);
}

Tensor converted(const Tensor& tensor, DType dtype) {
  return tensor.dtype() == dtype ? tensor : Tensor::from_f32(dtype, tensor.shape(), tensor.to_f32());
}

}  // namespace

Result<CompressedWeight> CompressedWeight::empty(const QuantizationArgs& args, CompressionFormat format,
                                                 std::int64_t rows, std::int64_t cols, DType dtype,
                                                 bool has_g_idx) {
  CompressedWeight out;
  out.args_ = args;
  out.format_ = format;
  out.rows_ = rows;
  out.cols_ = cols;
  out.dtype_ = dtype;
  TRY_ASSIGN(const std::vector<StoredTensor> layout, stored_tensors(args, format, rows, cols, dtype));
  for (const StoredTensor& stored : layout) {
    if (stored.suffix == "weight_g_idx" && !has_g_idx) continue;
    out.tensors_.emplace(stored.suffix, Tensor(stored.dtype, stored.shape));
  }
  if (format == CompressionFormat::kPackQuantized) {
    const auto shape = out.tensors_.at("weight_shape").as_mutable<std::int64_t>();
    shape[0] = rows;
    shape[1] = cols;
  }
  return out;
}

void CompressedWeight::store_codes(std::int64_t row, std::span<std::uint8_t> codes) {
  if (format_ == CompressionFormat::kPackQuantized) {
    const std::span<std::byte> out = mutable_row(tensors_.at("weight_packed"), row);
    pack_row({reinterpret_cast<const std::int8_t*>(codes.data()), codes.size()}, args_.num_bits,
             {reinterpret_cast<std::uint32_t*>(out.data()), out.size() / 4});
  } else if (is_fp4(format_)) {
    const std::span<std::byte> out = mutable_row(tensors_.at("weight_packed"), row);
    pack_nibble_row(codes, {reinterpret_cast<std::uint8_t*>(out.data()), out.size()});
  } else {
    std::memcpy(mutable_row(tensors_.at("weight"), row).data(), codes.data(), codes.size());
  }
}

// Scales lie on the grid of what they are stored as, so nothing is rounded here.
void CompressedWeight::store_scale_row(std::int64_t row, std::span<const float> scales) {
  Tensor& stored = tensors_.at("weight_scale");
  const std::size_t at = static_cast<std::size_t>(row) * scales.size();
  if (format_ == CompressionFormat::kNvfp4Pack) {
    const auto out = stored.as_mutable<std::uint8_t>().subspan(at, scales.size());
    std::transform(scales.begin(), scales.end(), out.begin(), f32_to_f8e4m3);
  } else if (is_mx(format_)) {
    const auto out = stored.as_mutable<std::uint8_t>().subspan(at, scales.size());
    std::transform(scales.begin(), scales.end(), out.begin(), e8m0_from_scale);
  } else {
    kernels::narrow_row(stored.dtype(), scales.data(), static_cast<std::int64_t>(scales.size()),
                        stored.mutable_bytes().data() + at * dtype_bytes(stored.dtype()));
  }
}

void CompressedWeight::store_zero_points(const Tensor& zero_point) {
  Tensor& stored = tensors_.at("weight_zero_point");
  stored = stored.dtype() == DType::kI32 ? pack_codes_dim0(zero_point, args_.num_bits)
                                         : zero_point.reshaped(stored.shape());
}

void CompressedWeight::store_params(const WeightParams& params) {
  store_scale_row(0, params.scale.to_f32());
  if (!args_.symmetric) store_zero_points(params.zero_point);
  if (params.global_scale) {
    tensors_.at("weight_global_scale").as_mutable<float>()[0] = *params.global_scale;
  }
  const auto g_idx = tensors_.find("weight_g_idx");
  if (g_idx != tensors_.end()) {
    g_idx->second = Tensor::of<std::int32_t>(DType::kI32, {cols_}, std::span(params.g_idx));
  }
}

void CompressedWeight::encode_rows(const WeightQuantizer& quantizer, const Tensor& weight, std::int64_t first,
                                   std::int64_t last, RowErrors* errors) {
  const auto width = static_cast<std::size_t>(cols_);
  std::vector<std::uint8_t> codes(width);
  std::vector<float> stored(errors == nullptr ? 0 : width);
  for (std::int64_t r = first; r < last; ++r) {
    const std::byte* values = row_bytes(weight, r).data();
    quantizer.codes(r, values, codes);
    store_codes(r, codes);
    if (errors == nullptr) continue;
    quantizer.decode(r, codes, stored);
    errors[r].add(weight.dtype(), values, stored);
  }
}

Result<CompressedWeight> CompressedWeight::from_weight(ThreadPool& pool, const Tensor& weight,
                                                       const QuantizationArgs& args, CompressionFormat format,
                                                       const WeightParams& params, ErrorStats* stats) {
  TRY(check_quantizable(weight));
  const std::int64_t rows = weight.dim(0);
  const std::int64_t cols = weight.dim(1);
  const bool has_float_scale = format != CompressionFormat::kNvfp4Pack && !is_mx(format);
  const DType dtype = has_float_scale && !params.global_scale ? params.scale.dtype() : weight.dtype();
  TRY_ASSIGN(CompressedWeight out, empty(args, format, rows, cols, dtype, !params.g_idx.empty()));
  TRY_ASSIGN(const WeightQuantizer quantizer,
             WeightQuantizer::create(args, weight.dtype(), rows, cols, params));
  out.store_params(params);
  if (format == CompressionFormat::kDense) {
    out.tensors_["weight"] = converted(weight, dtype);
    return out;
  }
  std::vector<RowErrors> errors(stats == nullptr ? 0 : static_cast<std::size_t>(rows));
  pool.parallel_for(rows, kWeightGrain, [&](std::int64_t first, std::int64_t last) {
    out.encode_rows(quantizer, weight, first, last, stats == nullptr ? nullptr : errors.data());
  });
  for (const RowErrors& row : errors) stats->add(row);
  return out;
}

Result<CompressedWeight> CompressedWeight::from_codes(ThreadPool& pool, const Tensor& codes,
                                                      const QuantizationArgs& args, CompressionFormat format,
                                                      DType dtype, const WeightParams& params) {
  CHECK(format != CompressionFormat::kDense, "the dense format has no codes");
  CHECK(codes.dtype() == code_dtype(args), "codes of another number format");
  const std::int64_t rows = codes.dim(0);
  const std::int64_t cols = codes.dim(1);
  TRY_ASSIGN(CompressedWeight out, empty(args, format, rows, cols, dtype, !params.g_idx.empty()));
  const auto fit = WeightQuantizer::create(args, DType::kF32, rows, cols, params);
  if (!fit.ok()) return fit.error();
  out.store_params(params);
  pool.parallel_for(rows, kWeightGrain, [&](std::int64_t first, std::int64_t last) {
    std::vector<std::uint8_t> row(static_cast<std::size_t>(cols));
    for (std::int64_t r = first; r < last; ++r) {
      std::memcpy(row.data(), row_bytes(codes, r).data(), row.size());
      out.store_codes(r, row);
    }
  });
  return out;
}

Result<WeightParams> CompressedWeight::params() const {
  WeightParams params;
  params.scale = tensors_.at("weight_scale");
  if (is_mx(format_)) {
    std::vector<float> values;
    for (const std::uint8_t exponent : params.scale.as<std::uint8_t>())
      values.push_back(f8e8m0_to_f32(exponent));
    params.scale = Tensor::from_f32(DType::kF32, params.scale.shape(), values);
  } else if (format_ == CompressionFormat::kNvfp4Pack) {
    params.scale = Tensor::from_f32(DType::kF32, params.scale.shape(), params.scale.to_f32());
  }
  if (!args_.symmetric) {
    params.zero_point = tensors_.at("weight_zero_point");
    if (params.zero_point.dtype() == DType::kI32) {
      TRY_ASSIGN(params.zero_point, unpack_codes_dim0(params.zero_point, args_.num_bits, rows_));
    }
  }
  const auto global = tensors_.find("weight_global_scale");
  if (global != tensors_.end()) params.global_scale = global->second.as<float>()[0];
  const auto g_idx = tensors_.find("weight_g_idx");
  if (g_idx != tensors_.end()) {
    const auto values = g_idx->second.as<std::int32_t>();
    params.g_idx.assign(values.begin(), values.end());
  }
  return params;
}

Result<Tensor> CompressedWeight::codes(ThreadPool& pool) const {
  CHECK(format_ != CompressionFormat::kDense, "the dense format has no codes");
  if (format_ == CompressionFormat::kPackQuantized) {
    return unpack_codes(pool, tensors_.at("weight_packed"), args_.num_bits, cols_);
  }
  if (is_fp4(format_)) return unpack_nibbles(pool, tensors_.at("weight_packed"));
  return tensors_.at("weight");
}

void CompressedWeight::load_codes(std::int64_t row, std::span<std::uint8_t> codes) const {
  if (format_ == CompressionFormat::kPackQuantized) {
    const std::span<const std::byte> in = row_bytes(tensors_.at("weight_packed"), row);
    unpack_row({reinterpret_cast<const std::uint32_t*>(in.data()), in.size() / 4}, args_.num_bits,
               {reinterpret_cast<std::int8_t*>(codes.data()), codes.size()});
  } else if (is_fp4(format_)) {
    const std::span<const std::byte> in = row_bytes(tensors_.at("weight_packed"), row);
    unpack_nibble_row({reinterpret_cast<const std::uint8_t*>(in.data()), in.size()}, codes);
  } else {
    std::memcpy(codes.data(), row_bytes(tensors_.at("weight"), row).data(), codes.size());
  }
}

Status CompressedWeight::for_dense_rows(ThreadPool& pool, std::int64_t step, const RowBlockBody& body) const {
  if (format_ == CompressionFormat::kDense) return body(tensors_.at("weight"));
  TRY_ASSIGN(const WeightParams decoded, params());
  TRY_ASSIGN(const WeightQuantizer quantizer, WeightQuantizer::create(args_, dtype_, rows_, cols_, decoded));
  std::int64_t begin = 0;
  do {
    Tensor out(dtype_, {std::min(step, rows_ - begin), cols_});
    pool.parallel_for(out.dim(0), kWeightGrain, [&](std::int64_t first, std::int64_t last) {
      std::vector<std::uint8_t> row_codes(static_cast<std::size_t>(cols_));
      std::vector<float> values(row_codes.size());
      for (std::int64_t r = first; r < last; ++r) {
        load_codes(begin + r, row_codes);
        quantizer.decode(begin + r, row_codes, values);
        kernels::narrow_row(dtype_, values.data(), cols_, mutable_row(out, r).data());
      }
    });
    TRY(body(out));
    begin += step;
  } while (begin < rows_);
  return {};
}

Result<Tensor> CompressedWeight::dense(ThreadPool& pool) const {
  Tensor whole;
  TRY(for_dense_rows(pool, std::max<std::int64_t>(rows_, 1), [&](const Tensor& rows) -> Status {
    whole = rows;
    return {};
  }));
  return whole;
}

}  // namespace nibble
