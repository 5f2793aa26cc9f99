// SPDX-License-Identifier: Apache-2.0
#include "codec/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

constexpr std::int64_t kQuantizeGrain = 8;

const std::byte* row_start(const Tensor& tensor, std::int64_t row) {
  return tensor.bytes().data() + static_cast<std::size_t>(row * tensor.dim(1)) * dtype_bytes(tensor.dtype());
}

// Columns in the order of their groups, stable. An index of -1 anywhere means the reference never set it.
Result<std::vector<std::int32_t>> group_order(std::span<const std::int32_t> g_idx, const UnitGrid& grid) {
  std::vector<std::int32_t> order;
  if (g_idx.empty() || std::find(g_idx.begin(), g_idx.end(), -1) != g_idx.end()) return order;
  if (static_cast<std::int64_t>(g_idx.size()) != grid.cols) {
    return bad_data(fmt::format("weight_g_idx has {} entries for {} columns", g_idx.size(), grid.cols));
  }
  std::vector<std::int64_t> filled(static_cast<std::size_t>(grid.grid_cols()), 0);
  for (const std::int32_t group : g_idx) {
    if (group < 0 || group >= grid.grid_cols()) {
      return bad_data(fmt::format("weight_g_idx names group {}; there are {}", group, grid.grid_cols()));
    }
    ++filled[static_cast<std::size_t>(group)];
  }
  for (std::int64_t g = 0; g < grid.grid_cols(); ++g) {
    const std::int64_t size = std::min(grid.unit_cols, grid.cols - g * grid.unit_cols);
    if (filled[static_cast<std::size_t>(g)] != size) {
      return bad_data(fmt::format("weight_g_idx gives group {} {} columns; group_size makes it {}", g,
                                  filled[static_cast<std::size_t>(g)], size));
    }
  }
  order.resize(g_idx.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return g_idx[static_cast<std::size_t>(a)] < g_idx[static_cast<std::size_t>(b)];
  });
  return order;
}

template <class T>
void gather(std::span<const std::int32_t> order, const T* in, T* out) {
  for (std::size_t i = 0; i < order.size(); ++i) out[i] = in[order[i]];
}

template <class T>
void scatter(std::span<const std::int32_t> order, const T* in, T* out) {
  for (std::size_t i = 0; i < order.size(); ++i) out[order[i]] = in[i];
}

void gather_row(std::span<const std::int32_t> order, std::size_t width, const void* in, void* out) {
  if (width == 2)
    return gather(order, static_cast<const std::uint16_t*>(in), static_cast<std::uint16_t*>(out));
  gather(order, static_cast<const float*>(in), static_cast<float*>(out));
}

// Ranges of the rows of one row of units.
void observe_unit_row(const Tensor& weight, const UnitGrid& grid, std::span<const std::int32_t> order,
                      std::int64_t unit_row, std::span<float> min, std::span<float> max) {
  const std::size_t width = dtype_bytes(weight.dtype());
  std::vector<float> row_min(min.size());
  std::vector<float> row_max(max.size());
  std::vector<std::byte> gathered(order.empty() ? 0 : static_cast<std::size_t>(grid.cols) * width);
  const std::int64_t first = unit_row * grid.unit_rows;
  const std::int64_t last = std::min(first + grid.unit_rows, grid.rows);
  for (std::int64_t r = first; r < last; ++r) {
    const void* values = row_start(weight, r);
    if (!order.empty()) {
      gather_row(order, width, values, gathered.data());
      values = gathered.data();
    }
    float* low = r == first ? min.data() : row_min.data();
    float* high = r == first ? max.data() : row_max.data();
    kernels::range_row(weight.dtype(), values, grid.cols, grid.unit_cols, low, high);
    if (r == first) continue;
    for (std::size_t u = 0; u < min.size(); ++u) {  // a NaN stays: it fails both comparisons
      if (row_min[u] < min[u] || std::isnan(row_min[u])) min[u] = row_min[u];
      if (row_max[u] > max[u] || std::isnan(row_max[u])) max[u] = row_max[u];
    }
  }
}

// Blocks are padded with zeros.
void include_padding(const UnitGrid& grid, UnitRanges& ranges) {
  const std::int64_t cols = grid.grid_cols();
  for (std::int64_t i = 0; i < grid.grid_rows(); ++i) {
    for (std::int64_t j = 0; j < cols; ++j) {
      if ((i + 1) * grid.unit_rows <= grid.rows && (j + 1) * grid.unit_cols <= grid.cols) continue;
      float& min = ranges.min[static_cast<std::size_t>(i * cols + j)];
      float& max = ranges.max[static_cast<std::size_t>(i * cols + j)];
      min = std::min(min, 0.0f);
      max = std::max(max, 0.0f);
    }
  }
}

// The quotient of a value and a scale has the wider of their dtypes; BF16 and F16 together need F32.
DType wider(DType a, DType b) {
  return a == b ? a : DType::kF32;
}

Status check_finite(const UnitRanges& ranges, const UnitGrid& grid) {
  for (std::size_t u = 0; u < ranges.min.size(); ++u) {
    if (std::isfinite(ranges.min[u]) && std::isfinite(ranges.max[u])) continue;
    const auto unit = static_cast<std::int64_t>(u);
    return bad_data(
        fmt::format("the weight is not finite (row {} and after, column {} and after): smallest value {}, "
                    "largest {}",
                    unit / grid.grid_cols() * grid.unit_rows, unit % grid.grid_cols() * grid.unit_cols,
                    ranges.min[u], ranges.max[u]),
        "the checkpoint holds a NaN or infinity there; no scale can be made from it");
  }
  return {};
}

}  // namespace

Status check_quantizable(const Tensor& weight) {
  const DType dtype = weight.dtype();
  const bool is_number = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
  if (weight.shape().size() == 2 && is_number) return {};
  return bad_data(
      fmt::format("a weight of dtype {} and shape {} cannot be quantized; it must have two dimensions and "
                  "dtype float32, float16 or bfloat16",
                  torch_name(dtype), to_string(weight.shape())));
}

void ValueRange::include(const ValueRange& other) {
  if (other.min < min || std::isnan(other.min)) min = other.min;
  if (other.max > max || std::isnan(other.max)) max = other.max;
}

ValueRange range_of(ThreadPool& pool, const Tensor& weight) {
  const std::int64_t rows = weight.dim(0);
  const std::int64_t cols = weight.dim(1);
  if (rows == 0 || cols == 0) return {};
  std::vector<ValueRange> parts(static_cast<std::size_t>(rows));
  pool.parallel_for(rows, kQuantizeGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      ValueRange& part = parts[static_cast<std::size_t>(r)];
      kernels::range_row(weight.dtype(), row_start(weight, r), cols, cols, &part.min, &part.max);
    }
  });
  ValueRange whole = parts.front();
  for (const ValueRange& part : parts) whole.include(part);
  return whole;
}

UnitRanges observe_ranges(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                          std::span<const std::int32_t> g_idx) {
  const UnitGrid grid = unit_grid(args, weight.dim(0), weight.dim(1));
  if (args.strategy == Strategy::kTensor) {
    const ValueRange whole = range_of(pool, weight);
    return {std::vector(static_cast<std::size_t>(grid.count()), whole.min),
            std::vector(static_cast<std::size_t>(grid.count()), whole.max)};
  }
  auto order = group_order(g_idx, grid);
  CHECK(order.ok(), "g_idx is checked where it is made or read");
  const auto width = static_cast<std::size_t>(grid.grid_cols());
  UnitRanges ranges{std::vector<float>(static_cast<std::size_t>(grid.count())),
                    std::vector<float>(static_cast<std::size_t>(grid.count()))};
  const std::int64_t grain = std::max<std::int64_t>(1, kQuantizeGrain / grid.unit_rows);
  pool.parallel_for(grid.grid_rows(), grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const std::size_t at = static_cast<std::size_t>(i) * width;
      observe_unit_row(weight, grid, *order, i, std::span(ranges.min).subspan(at, width),
                       std::span(ranges.max).subspan(at, width));
    }
  });
  if (args.strategy == Strategy::kBlock) include_padding(grid, ranges);
  return ranges;
}

Result<WeightParams> params_from_ranges(const QuantizationArgs& args, DType dtype, std::int64_t rows,
                                        std::int64_t cols, const UnitRanges& ranges,
                                        std::optional<float> global_scale,
                                        std::span<const std::int32_t> g_idx) {
  const UnitGrid grid = unit_grid(args, rows, cols);
  CHECK(static_cast<std::int64_t>(ranges.min.size()) == grid.count(), "one range a unit");
  TRY(check_finite(ranges, grid));
  WeightParams params;
  if (args.strategy == Strategy::kTensorGroup) {
    params.global_scale = global_scale;
    if (!global_scale && !ranges.min.empty()) {
      params.global_scale = global_scale_of(dtype, *std::min_element(ranges.min.begin(), ranges.min.end()),
                                            *std::max_element(ranges.max.begin(), ranges.max.end()));
    }
  }
  const ScaleRule rule(args, dtype, params.global_scale);
  std::vector<float> scales(ranges.min.size());
  std::vector<std::int8_t> zeros(args.symmetric ? 0 : scales.size());
  for (std::size_t u = 0; u < scales.size(); ++u) {
    const ScaleZero found = rule(ranges.min[u], ranges.max[u]);
    if (!std::isfinite(found.scale)) {
      return bad_data(fmt::format("a scale overflows {}: the weight reaches from {} to {}", torch_name(dtype),
                                  ranges.min[u], ranges.max[u]));
    }
    scales[u] = found.scale;
    if (!args.symmetric) zeros[u] = static_cast<std::int8_t>(found.zero_point);
  }
  const Shape shape = scale_shape(args, rows, cols);
  params.scale = Tensor::from_f32(rule.scale_dtype(), shape, scales);
  if (!args.symmetric) params.zero_point = Tensor::of<std::int8_t>(DType::kI8, shape, zeros);
  params.g_idx.assign(g_idx.begin(), g_idx.end());
  return params;
}

Result<WeightParams> min_max_params(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                                    std::optional<float> global_scale) {
  return params_from_ranges(args, weight.dtype(), weight.dim(0), weight.dim(1),
                            observe_ranges(pool, weight, args), global_scale);
}

kernels::CodeFormat code_format(const QuantizationArgs& args) {
  if (args.type == NumberType::kInt) return kernels::CodeFormat::kInteger;
  return args.num_bits == 8 ? kernels::CodeFormat::kE4M3 : kernels::CodeFormat::kE2M1;
}

DType code_dtype(const QuantizationArgs& args) {
  if (args.type == NumberType::kInt) return DType::kI8;
  return args.num_bits == 8 ? DType::kF8E4M3 : DType::kU8;
}

Result<WeightQuantizer> WeightQuantizer::create(const QuantizationArgs& args, DType input, std::int64_t rows,
                                                std::int64_t cols, const WeightParams& params) {
  WeightQuantizer q;
  q.grid_ = unit_grid(args, rows, cols);
  if (params.scale.size() != q.grid_.count()) {
    return bad_data(fmt::format("weight_scale has shape {}; a {} x {} weight with strategy {} needs {}",
                                to_string(params.scale.shape()), rows, cols, to_string(*args.strategy),
                                to_string(scale_shape(args, rows, cols))));
  }
  if (!args.symmetric && params.zero_point.size() == 0 && q.grid_.count() != 0) {
    return bad_data("weight_zero_point is missing; symmetric is false");
  }
  if (params.zero_point.size() != 0 && params.zero_point.size() != params.scale.size()) {
    return bad_data(fmt::format("weight_zero_point has shape {}, weight_scale {}",
                                to_string(params.zero_point.shape()), to_string(params.scale.shape())));
  }
  TRY_ASSIGN(q.order_, group_order(params.g_idx, q.grid_));
  if (!q.order_.empty()) q.groups_ = params.g_idx;
  const DType scale_dtype = params.global_scale ? DType::kF32 : params.scale.dtype();
  q.scale_ = params.scale.to_f32();
  if (params.global_scale) {
    for (float& scale : q.scale_) scale /= *params.global_scale;
  }
  // Zero points of symmetric weights are zeros that old files carry along.
  if (!args.symmetric) q.zero_point_ = params.zero_point.to_f32();
  q.quantizer_ = {.input = input,
                  .quotient = wider(input, scale_dtype),
                  .product = scale_dtype,
                  .format = code_format(args),
                  .code_min = static_cast<float>(args.code_min()),
                  .code_max = static_cast<float>(args.code_max())};
  return q;
}

std::int64_t WeightQuantizer::group_of(std::int64_t col) const {
  return groups_.empty() ? col / grid_.unit_cols : groups_[static_cast<std::size_t>(col)];
}

float WeightQuantizer::scale_at(std::int64_t row, std::int64_t col) const {
  return scale_[static_cast<std::size_t>(unit_row(row) + group_of(col))];
}

float WeightQuantizer::zero_point_at(std::int64_t row, std::int64_t col) const {
  return zero_point_.empty() ? 0.0f : zero_point_[static_cast<std::size_t>(unit_row(row) + group_of(col))];
}

void WeightQuantizer::simulate_each(std::span<const float> values, std::span<const float> scales,
                                    std::span<const float> zero_points, std::span<float> out) const {
  CHECK(values.size() == scales.size() && values.size() <= out.size(), "one scale a value");
  CHECK(zero_points.empty() || zero_points.size() == values.size(), "one zero point a value");
  kernels::fake_quantize_row(quantizer_, values.data(), static_cast<std::int64_t>(values.size()), 1,
                             scales.data(), zero_points.empty() ? nullptr : zero_points.data(), out.data());
}

void WeightQuantizer::codes(std::int64_t row, const void* values, std::span<std::uint8_t> out) const {
  const float* scale = scale_.data() + unit_row(row);
  const float* zero = zero_point_.empty() ? nullptr : zero_point_.data() + unit_row(row);
  if (order_.empty()) {
    return kernels::quantize_row(quantizer_, values, grid_.cols, grid_.unit_cols, scale, zero, out.data());
  }
  const std::size_t width = dtype_bytes(quantizer_.input);
  std::vector<std::byte> gathered(order_.size() * width);
  std::vector<std::uint8_t> ordered(order_.size());
  gather_row(order_, width, values, gathered.data());
  kernels::quantize_row(quantizer_, gathered.data(), grid_.cols, grid_.unit_cols, scale, zero,
                        ordered.data());
  scatter(order_, ordered.data(), out.data());
}

void WeightQuantizer::decode(std::int64_t row, std::span<const std::uint8_t> codes,
                             std::span<float> out) const {
  const float* scale = scale_.data() + unit_row(row);
  const float* zero = zero_point_.empty() ? nullptr : zero_point_.data() + unit_row(row);
  const kernels::CodeFormat format = quantizer_.format;
  if (order_.empty()) {
    return kernels::dequantize_row(format, product(), codes.data(), grid_.cols, grid_.unit_cols, scale, zero,
                                   out.data());
  }
  std::vector<std::uint8_t> gathered(order_.size());
  std::vector<float> ordered(order_.size());
  gather(order_, codes.data(), gathered.data());
  kernels::dequantize_row(format, product(), gathered.data(), grid_.cols, grid_.unit_cols, scale, zero,
                          ordered.data());
  scatter(order_, ordered.data(), out.data());
}

void WeightQuantizer::simulate(std::int64_t row, std::span<const float> values, std::span<float> out) const {
  const float* scale = scale_.data() + unit_row(row);
  const float* zero = zero_point_.empty() ? nullptr : zero_point_.data() + unit_row(row);
  if (order_.empty()) {
    return kernels::fake_quantize_row(quantizer_, values.data(), grid_.cols, grid_.unit_cols, scale, zero,
                                      out.data());
  }
  std::vector<float> ordered(order_.size());
  gather(order_, values.data(), ordered.data());
  kernels::fake_quantize_row(quantizer_, ordered.data(), grid_.cols, grid_.unit_cols, scale, zero,
                             ordered.data());
  scatter(order_, ordered.data(), out.data());
}

Result<Tensor> quantize_weight(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                               const WeightParams& params) {
  const std::int64_t rows = weight.dim(0);
  const std::int64_t cols = weight.dim(1);
  TRY_ASSIGN(const WeightQuantizer quantizer,
             WeightQuantizer::create(args, weight.dtype(), rows, cols, params));
  Tensor codes(code_dtype(args), {rows, cols});
  const auto out = codes.as_mutable<std::uint8_t>();
  pool.parallel_for(rows, kQuantizeGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      quantizer.codes(r, row_start(weight, r),
                      out.subspan(static_cast<std::size_t>(r * cols), static_cast<std::size_t>(cols)));
    }
  });
  return codes;
}

Result<Tensor> dequantize_weight(ThreadPool& pool, const Tensor& codes, const QuantizationArgs& args,
                                 const WeightParams& params, DType output) {
  const std::int64_t rows = codes.dim(0);
  const std::int64_t cols = codes.dim(1);
  const auto width = static_cast<std::size_t>(cols);
  TRY_ASSIGN(const WeightQuantizer quantizer, WeightQuantizer::create(args, output, rows, cols, params));
  Tensor weight(output, {rows, cols});
  const auto in = codes.as<std::uint8_t>();
  std::byte* out = weight.mutable_bytes().data();
  pool.parallel_for(rows, kQuantizeGrain, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(width);
    for (std::int64_t r = first; r < last; ++r) {
      const auto at = static_cast<std::size_t>(r) * width;
      quantizer.decode(r, in.subspan(at, width), values);
      kernels::narrow_row(output, values.data(), cols, out + at * dtype_bytes(output));
    }
  });
  return weight;
}

Result<Tensor> simulate_weight(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                               const WeightParams& params) {
  const std::int64_t rows = weight.dim(0);
  const std::int64_t cols = weight.dim(1);
  TRY_ASSIGN(const WeightQuantizer quantizer,
             WeightQuantizer::create(args, weight.dtype(), rows, cols, params));
  Tensor out(weight.dtype(), {rows, cols});
  std::byte* bytes = out.mutable_bytes().data();
  pool.parallel_for(rows, kQuantizeGrain, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(static_cast<std::size_t>(cols));
    for (std::int64_t r = first; r < last; ++r) {
      kernels::widen_row(weight.dtype(), row_start(weight, r), cols, values.data());
      quantizer.simulate(r, values, values);
      kernels::narrow_row(weight.dtype(), values.data(), cols,
                          bytes + static_cast<std::size_t>(r * cols) * dtype_bytes(weight.dtype()));
    }
  });
  return out;
}

}  // namespace nibble
