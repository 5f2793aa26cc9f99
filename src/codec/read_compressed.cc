// SPDX-License-Identifier: Apache-2.0
// From the tensors of a file to a CompressedWeight: every dtype and shape is checked before anything is
// decoded. Old and third-party files may lack weight_shape or hold int8 zero points.
#include <fmt/format.h>

#include <cmath>

#include "codec/compressed_weight.h"

namespace nibble {
namespace {

bool is_float_number(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

Error missing(std::string_view suffix, CompressionFormat format) {
  return bad_data(fmt::format("{} is missing; format {} needs it", suffix, to_string(format)),
                  "a shard may be missing, or config.json names another format");
}

Error wrong_shape(std::string_view suffix, const Tensor& tensor, const StoredTensor& expected) {
  return bad_data(fmt::format("{} has shape {}; the weight needs {}", suffix, to_string(tensor.shape()),
                              to_string(expected.shape)));
}

Status check_two_dims(const std::map<std::string, Tensor>& tensors, const std::string& suffix,
                      CompressionFormat format) {
  const auto found = tensors.find(suffix);
  if (found == tensors.end()) return missing(suffix, format);
  if (found->second.shape().size() == 2) return {};
  return bad_data(
      fmt::format("{} has shape {}; a weight has two dimensions", suffix, to_string(found->second.shape())));
}

// Dtypes that a stored tensor may have besides the expected one.
bool is_compatible(const StoredTensor& expected, DType found) {
  if (found == expected.dtype) return true;
  if (expected.suffix == "weight_scale") {
    return is_float_number(expected.dtype) ? is_float_number(found)
                                           : expected.dtype == DType::kU8 && found == DType::kF8E8M0;
  }
  if (expected.suffix == "weight_global_scale" || expected.suffix == "weight") {
    return is_float_number(expected.dtype) && is_float_number(found);
  }
  return expected.suffix == "weight_zero_point" && expected.dtype == DType::kI32 && found == DType::kI8;
}

// The same bytes under another dtype of the same width.
Tensor reinterpreted(const Tensor& tensor, DType dtype) {
  Tensor out(dtype, tensor.shape());
  std::copy(tensor.bytes().begin(), tensor.bytes().end(), out.mutable_bytes().begin());
  return out;
}

}  // namespace

Status CompressedWeight::infer_shape() {
  const bool is_packed = format_ == CompressionFormat::kPackQuantized ||
                         format_ == CompressionFormat::kNvfp4Pack || format_ == CompressionFormat::kMxfp4Pack;
  const std::string codes = is_packed ? "weight_packed" : "weight";
  TRY(check_two_dims(tensors_, codes, format_));
  const Tensor& stored = tensors_.at(codes);
  rows_ = stored.dim(0);
  cols_ = stored.dim(1);
  if (!is_packed) return {};
  if (format_ != CompressionFormat::kPackQuantized) {
    cols_ *= 2;
    return {};
  }
  const auto shape = tensors_.find("weight_shape");
  if (shape == tensors_.end()) {  // some third-party writers leave it out: whole words, then
    cols_ = cols_ * 32 / args_.num_bits;
    return {};
  }
  if (shape->second.dtype() != DType::kI64 || shape->second.size() != 2) {
    return bad_data(fmt::format("weight_shape has dtype {} and shape {}; it must be two int64",
                                torch_name(shape->second.dtype()), to_string(shape->second.shape())));
  }
  const auto dims = shape->second.as<std::int64_t>();
  if (dims[0] != rows_ || dims[1] < 0 || dims[1] > 32 * cols_) {
    return bad_data(fmt::format("weight_shape says {} x {}; weight_packed has shape {}", dims[0], dims[1],
                                to_string(stored.shape())));
  }
  cols_ = dims[1];
  return {};
}

Status CompressedWeight::adopt(const StoredTensor& expected, PackLayout layout_hint) {
  const auto found = tensors_.find(expected.suffix);
  if (found == tensors_.end()) {
    const bool is_optional = expected.suffix == "weight_shape" || expected.suffix == "weight_g_idx" ||
                             (format_ == CompressionFormat::kDense && expected.suffix != "weight");
    return is_optional ? Status() : missing(expected.suffix, format_);
  }
  Tensor& tensor = found->second;
  if (!is_compatible(expected, tensor.dtype())) {
    return bad_data(fmt::format("{} has dtype {}; format {} with these arguments needs {}", expected.suffix,
                                torch_name(tensor.dtype()), to_string(format_), torch_name(expected.dtype)));
  }
  if (expected.suffix == "weight_packed" && format_ == CompressionFormat::kPackQuantized)
    return modernise_packing(layout_hint);
  if (expected.suffix == "weight_zero_point" && expected.dtype == DType::kI32) {
    if (tensor.dtype() == DType::kI8) {
      tensor = pack_codes_dim0(tensor.reshaped(scale_shape(args_, rows_, cols_)), args_.num_bits);
      return {};
    }
    if (tensor.shape().size() != 2 || tensor.dim(1) != expected.shape[1]) {
      return wrong_shape(expected.suffix, tensor, expected);
    }
    TRY_ASSIGN(const Tensor zeros, unpack_codes_dim0(tensor, args_.num_bits, rows_, layout_hint));
    tensor = pack_codes_dim0(zeros, args_.num_bits);
    return {};
  }
  // [1] and [], [rows] and [rows, 1] are the same thing.
  if (tensor.size() != element_count(expected.shape)) return wrong_shape(expected.suffix, tensor, expected);
  tensor = tensor.dtype() == DType::kF8E8M0 ? reinterpreted(tensor, DType::kU8) : tensor;
  tensor = tensor.reshaped(expected.shape);
  return {};
}

// Files from before 0.17 are repacked, so that everything downstream knows one layout.
Status CompressedWeight::modernise_packing(PackLayout layout_hint) {
  Tensor& packed = tensors_.at("weight_packed");
  TRY_ASSIGN(const PackLayout layout, pack_layout(packed.dim(1), cols_, args_.num_bits, layout_hint));
  if (layout == PackLayout::kDense) return {};
  ThreadPool alone(1);
  TRY_ASSIGN(const Tensor unpacked, unpack_codes(alone, packed, args_.num_bits, cols_, layout));
  packed = pack_codes(alone, unpacked, args_.num_bits);
  return {};
}

Result<CompressedWeight> CompressedWeight::from_tensors(const QuantizationArgs& args,
                                                        CompressionFormat format, DType dtype,
                                                        std::map<std::string, Tensor> tensors,
                                                        PackLayout layout_hint) {
  CompressedWeight out;
  out.args_ = args;
  out.format_ = format;
  out.dtype_ = dtype;
  out.tensors_ = std::move(tensors);
  TRY(out.infer_shape());
  TRY_ASSIGN(std::vector<StoredTensor> layout, stored_tensors(args, format, out.rows_, out.cols_, dtype));
  if (out.tensors_.contains("weight_g_idx") && args.actorder != ActOrder::kGroup &&
      unit_grid(args, 1, 1).unit_rows == 1 && args.group_size.value_or(0) > 0) {
    layout.push_back(
        {"weight_g_idx", DType::kI32, {out.cols_}});  // older files do not say so in the arguments
  }
  std::map<std::string, Tensor> kept;
  for (const StoredTensor& expected : layout) {
    TRY(out.adopt(expected, layout_hint));
    const auto found = out.tensors_.find(expected.suffix);
    if (found != out.tensors_.end()) kept.emplace(expected.suffix, found->second);
  }
  out.tensors_ = std::move(kept);
  if (format == CompressionFormat::kPackQuantized && !out.tensors_.contains("weight_shape")) {
    const std::int64_t dims[2] = {out.rows_, out.cols_};
    out.tensors_.emplace("weight_shape",
                         Tensor::of<std::int64_t>(DType::kI64, {2}, std::span<const std::int64_t>(dims)));
  }
  const auto global = out.tensors_.find("weight_global_scale");
  if (global != out.tensors_.end()) {
    const float value = global->second.to_f32()[0];
    if (!std::isfinite(value) || value == 0) {
      return bad_data(
          fmt::format("weight_global_scale is {}; it divides, so it must be finite and not 0", value));
    }
    global->second = Tensor::from_f32(DType::kF32, {1}, std::span(&value, 1));
  }
  // Act-order indices that do not fill their groups are found here, before anything is decoded.
  if (format != CompressionFormat::kDense) {
    TRY_ASSIGN(const WeightParams params, out.params());
    const auto fit = WeightQuantizer::create(args, dtype, out.rows_, out.cols_, params);
    if (!fit.ok()) return fit.error();
  }
  return out;
}

}  // namespace nibble
