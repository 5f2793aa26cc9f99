// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/online_transforms.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace nibble {
namespace {

// Hadamard matrix of a power of two by Sylvester's construction: the sign is the parity of the common bits.
std::vector<double> sylvester(std::int64_t size) {
  std::vector<double> values(static_cast<std::size_t>(size * size));
  for (std::int64_t r = 0; r < size; ++r) {
    for (std::int64_t c = 0; c < size; ++c) {
      values[static_cast<std::size_t>(r * size + c)] =
          std::popcount(static_cast<std::uint64_t>(r & c)) % 2 == 0 ? 1 : -1;
    }
  }
  return values;
}

std::vector<double> to_f64(const Tensor& tensor) {
  if (tensor.dtype() == DType::kF64) {
    const auto values = tensor.as<double>();
    return {values.begin(), values.end()};
  }
  const std::vector<float> values = tensor.to_f32();
  return {values.begin(), values.end()};
}

std::vector<double> transposed(const std::vector<double>& values, std::int64_t size) {
  std::vector<double> out(values.size());
  for (std::int64_t r = 0; r < size; ++r) {
    for (std::int64_t c = 0; c < size; ++c) {
      out[static_cast<std::size_t>(c * size + r)] = values[static_cast<std::size_t>(r * size + c)];
    }
  }
  return out;
}

// x -> V x, block by block along x, for blocks of `size`.
void multiply_blocks(const std::vector<double>& v, std::int64_t size, std::span<double> x,
                     std::span<double> scratch) {
  for (std::size_t block = 0; block + static_cast<std::size_t>(size) <= x.size();
       block += static_cast<std::size_t>(size)) {
    for (std::int64_t r = 0; r < size; ++r) {
      double sum = 0;
      for (std::int64_t c = 0; c < size; ++c) {
        sum += v[static_cast<std::size_t>(r * size + c)] * x[block + static_cast<std::size_t>(c)];
      }
      scratch[static_cast<std::size_t>(r)] = sum;
    }
    std::copy_n(scratch.begin(), size, x.begin() + static_cast<std::ptrdiff_t>(block));
  }
}

std::int64_t side(const std::vector<double>& square) {
  return static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(square.size()))));
}

// Rows of `values` [rows, cols], each times V^T, that is V applied to the row.
void transform_rows(std::vector<double>& values, std::int64_t rows, std::int64_t cols,
                    const std::vector<double>& v, ThreadPool& pool) {
  const std::int64_t size = side(v);
  pool.parallel_for(rows, 16, [&](std::int64_t first, std::int64_t last) {
    std::vector<double> scratch(static_cast<std::size_t>(size));
    for (std::int64_t r = first; r < last; ++r) {
      const auto row =
          std::span(values).subspan(static_cast<std::size_t>(r * cols), static_cast<std::size_t>(cols));
      multiply_blocks(v, size, row, scratch);
    }
  });
}

// V^T times `values` [rows, cols].
void transform_columns(std::vector<double>& values, std::int64_t rows, std::int64_t cols,
                       const std::vector<double>& v, ThreadPool& pool) {
  const std::int64_t size = side(v);
  const std::vector<double> vt = transposed(v, size);
  pool.parallel_for(cols, 16, [&](std::int64_t first, std::int64_t last) {
    std::vector<double> column(static_cast<std::size_t>(rows)), scratch(static_cast<std::size_t>(size));
    for (std::int64_t c = first; c < last; ++c) {
      for (std::int64_t r = 0; r < rows; ++r)
        column[static_cast<std::size_t>(r)] = values[static_cast<std::size_t>(r * cols + c)];
      multiply_blocks(vt, size, column, scratch);
      for (std::int64_t r = 0; r < rows; ++r)
        values[static_cast<std::size_t>(r * cols + c)] = column[static_cast<std::size_t>(r)];
    }
  });
}

Tensor as_f32(const std::vector<double>& values, const Shape& shape) {
  std::vector<float> narrow(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) narrow[i] = static_cast<float>(values[i]);
  return Tensor::from_f32(DType::kF32, shape, narrow);
}

}  // namespace

bool is_online(const TransformUse& use) {
  return use.location == "input" || use.location == "output";
}

Result<OnlineTransforms> OnlineTransforms::make(const QuantizationConfig& config,
                                                const Checkpoint& checkpoint) {
  TRY(check_online_targets(config, checkpoint));
  OnlineTransforms online;
  for (const TransformScheme& scheme : config.transforms) {
    for (const TransformUse& use : scheme.uses) {
      const std::string suffix = fmt::format("{}_{}.weight", scheme.name, use.location);
      for (const TensorInfo& info : checkpoint.tensors()) {
        if (!info.name.ends_with("." + suffix)) continue;
        TRY_ASSIGN(Tensor matrix, checkpoint.load(info.name));
        if (matrix.shape().size() != 2 || matrix.dim(0) != matrix.dim(1)) {
          return Error(
                     bad_data(fmt::format("a rotation must be square, found {}", to_string(matrix.shape()))))
              .add_context(fmt::format("tensor {}", info.name));
        }
        online.matrices_.emplace(info.name, std::move(matrix));
      }
      if (!is_online(use)) continue;
      Row row{scheme, use, {}, {}, suffix};
      TRY_ASSIGN(row.targets, ModuleTargets::parse(use.targets).at("transform_config"));
      TRY_ASSIGN(row.ignore, ModuleTargets::parse(use.ignore).at("transform_config"));
      online.rows_.push_back(std::move(row));
    }
  }
  return online;
}

bool OnlineTransforms::applies(const Row& row, std::string_view module) const {
  return !looks_like_embedding(module) && row.targets.matches(module, kLinearClass) &&
         !row.ignore.matches(module, kLinearClass);
}

bool OnlineTransforms::touches(std::string_view module) const {
  return std::any_of(rows_.begin(), rows_.end(), [&](const Row& row) { return applies(row, module); });
}

Result<std::vector<double>> OnlineTransforms::matrix(const Row& row, std::string_view module,
                                                     std::int64_t width) const {
  const std::int64_t size = row.scheme.head_dim.value_or(width);
  const std::string place = fmt::format("module {}: transform {}", module, row.scheme.name);
  if (size <= 0 || width % size != 0) {
    return Error(bad_data(fmt::format("blocks of {} do not divide {}", size, width))).add_context(place);
  }
  if (row.scheme.type == "random-matrix") {
    return Error(bad_data("random matrices without orthogonality cannot be folded")).add_context(place);
  }
  // Shared matrices are stored once, under whichever module came first.
  const Tensor* stored = nullptr;
  if (const auto own = matrices_.find(fmt::format("{}.{}", module, row.suffix)); own != matrices_.end()) {
    stored = &own->second;
  }
  for (auto it = matrices_.begin(); stored == nullptr && it != matrices_.end(); ++it) {
    if (it->first.ends_with("." + row.suffix) && it->second.dim(0) == size) stored = &it->second;
  }
  const bool can_construct =
      row.scheme.type == "hadamard" && std::has_single_bit(static_cast<std::uint64_t>(size));
  if (stored == nullptr && !can_construct) {
    return Error(bad_data(fmt::format("there is no stored matrix of size {}", size))).add_context(place);
  }
  std::vector<double> values = stored != nullptr ? to_f64(*stored) : sylvester(size);
  const double scale = 1.0 / std::sqrt(static_cast<double>(size));
  for (double& value : values) value *= scale;
  return row.use.inverse ? transposed(values, size) : values;
}

Result<Tensor> OnlineTransforms::fold_weight(std::string_view module, const Tensor& weight,
                                             ThreadPool& pool) const {
  if (weight.shape().size() != 2)
    return bad_data(fmt::format("module {}: a linear has two dimensions", module));
  std::vector<double> values = to_f64(weight);
  for (const Row& row : rows_) {
    if (!applies(row, module)) continue;
    const bool is_input = row.use.location == "input";
    TRY_ASSIGN(const std::vector<double> v, matrix(row, module, weight.dim(is_input ? 1 : 0)));
    is_input ? transform_rows(values, weight.dim(0), weight.dim(1), v, pool)
             : transform_columns(values, weight.dim(0), weight.dim(1), v, pool);
  }
  return as_f32(values, weight.shape());
}

Result<Tensor> OnlineTransforms::fold_bias(std::string_view module, const Tensor& bias) const {
  std::vector<double> values = to_f64(bias);
  ThreadPool alone(1);
  for (const Row& row : rows_) {
    if (!applies(row, module) || row.use.location != "output") continue;
    TRY_ASSIGN(const std::vector<double> v, matrix(row, module, bias.size()));
    transform_columns(values, bias.size(), 1, v, alone);
  }
  return as_f32(values, bias.shape());
}

}  // namespace nibble
