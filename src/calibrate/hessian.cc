// SPDX-License-Identifier: Apache-2.0
#include "calibrate/hessian.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/gemm.h"

namespace nibble {
namespace {

// Tokens summed in fp32 before the fp64 totals take over: at 4096 the rounding error of a sum of squares
// stays near 1e-6 relative, and the conversion costs one pass over the triangle per 4096 rank-one updates.
constexpr std::int64_t kTokensPerPartial = 4096;

// Deviations are formed this many tokens at a time, so the copy stays small beside the activations.
constexpr std::int64_t kTokensPerShift = 1024;

Error not_finite(std::string_view statistic, std::int64_t column) {
  return bad_data(
      fmt::format("the {} of input channel {} is not finite", statistic, column),
      "an activation was NaN or infinite: the source weights are damaged or overflow in this model");
}

Error no_tokens() {
  return bad_data("no calibration token reached this module",
                  "check the data set and that the module takes part in the forward pass");
}

// sums += the columns of x, in the order of tokens whatever the chunks are. Four tokens a pass over the
// totals.
void add_columns(ThreadPool& pool, const float* x, std::int64_t tokens, std::int64_t stride,
                 std::span<double> sums) {
  pool.parallel_for(std::ssize(sums), 256, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t t = 0;
    for (; t + 4 <= tokens; t += 4) {
      const float* row = x + t * stride;
      for (std::int64_t c = begin; c < end; ++c) {
        double sum = sums[static_cast<std::size_t>(c)];
        sum += static_cast<double>(row[c]);
        sum += static_cast<double>(row[stride + c]);
        sum += static_cast<double>(row[2 * stride + c]);
        sum += static_cast<double>(row[3 * stride + c]);
        sums[static_cast<std::size_t>(c)] = sum;
      }
    }
    for (; t < tokens; ++t) {
      for (std::int64_t c = begin; c < end; ++c)
        sums[static_cast<std::size_t>(c)] += static_cast<double>(x[t * stride + c]);
    }
  });
}

}  // namespace

HessianAccumulator::HessianAccumulator(std::int64_t cols)
    : cols_(cols),
      totals_(static_cast<std::size_t>(cols * (cols + 1) / 2)),
      sums_(static_cast<std::size_t>(cols)) {}

void HessianAccumulator::add(ThreadPool& pool, const float* inputs, std::int64_t tokens, std::int64_t stride,
                             std::int64_t sequences) {
  sequences_ += sequences;
  for (std::int64_t first = 0; first < tokens;) {
    const std::int64_t count = std::min(tokens - first, kTokensPerPartial - pending_);
    if (partial_.empty()) partial_ = Matrix::for_overwrite(cols_, cols_);
    const float* x = inputs + first * stride;
    kernels::syrk_tn_upper(pool, cols_, count, x, stride, 1.0f, partial_.data(), cols_, pending_ > 0);
    add_columns(pool, x, count, stride, sums_);
    pending_ += count;
    tokens_ += count;
    first += count;
    if (pending_ == kTokensPerPartial) flush(pool);
  }
}

void HessianAccumulator::flush(ThreadPool& pool) {
  if (pending_ == 0) return;
  pool.parallel_for(cols_, 64, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      double* total = totals_.data() + r * cols_ - r * (r - 1) / 2;
      const float* row = partial_.data() + r * cols_;
      for (std::int64_t c = r; c < cols_; ++c) *total++ += static_cast<double>(row[c]);
    }
  });
  pending_ = 0;
}

void HessianAccumulator::settle(ThreadPool& pool) {
  flush(pool);
  partial_ = Matrix();
}

void HessianAccumulator::merge(ThreadPool& pool, HessianAccumulator& other) {
  CHECK(cols_ == other.cols_, "merged statistics have the same width");
  settle(pool);
  other.settle(pool);
  const auto count = static_cast<std::int64_t>(totals_.size());
  pool.parallel_for(count, 1 << 16, [&](std::int64_t first, std::int64_t last) {
    for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i)
      totals_[i] += other.totals_[i];
  });
  for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += other.sums_[i];
  tokens_ += other.tokens_;
  sequences_ += other.sequences_;
}

Result<Hessian> HessianAccumulator::finish(ThreadPool& pool, bool centred) {
  settle(pool);
  if (tokens_ == 0) return no_tokens();
  const auto diagonal = [this](std::int64_t r) { return totals_.data() + r * cols_ - r * (r - 1) / 2; };
  for (std::int64_t r = 0; r < cols_; ++r) {
    if (!std::isfinite(*diagonal(r))) return not_finite("second moment", r);
  }
  Hessian result{.values = Matrix::for_overwrite(cols_, cols_),
                 .mean = std::vector<double>(static_cast<std::size_t>(cols_)),
                 .tokens = tokens_,
                 .sequences = std::max<std::int64_t>(sequences_, 1),
                 .centred = centred};
  const double scale = 1.0 / static_cast<double>(tokens_);
  for (std::size_t c = 0; c < sums_.size(); ++c) result.mean[c] = sums_[c] * scale;
  constexpr std::int64_t kRows = 16;  // a line of the cache in the mirrored columns
  pool.parallel_for(cols_, kRows, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const double* total = diagonal(r) - r;
      const double shift = centred ? result.mean[static_cast<std::size_t>(r)] : 0.0;
      for (std::int64_t c = r; c < cols_; ++c) {
        const double value = total[c] * scale - shift * result.mean[static_cast<std::size_t>(c)];
        result.values.at(r, c) = static_cast<float>(value);
      }
    }
    for (std::int64_t c = first; c < cols_; ++c) {
      for (std::int64_t r = first; r < std::min(c, last); ++r)
        result.values.at(c, r) = result.values.at(r, c);
    }
  });
  return result;
}

Hessian centred(Hessian hessian) {
  if (hessian.centred) return hessian;
  for (std::int64_t r = 0; r < hessian.cols(); ++r) {
    const double mean = hessian.mean[static_cast<std::size_t>(r)];
    for (std::int64_t c = 0; c < hessian.cols(); ++c) {
      hessian.values.at(r, c) = static_cast<float>(static_cast<double>(hessian.values.at(r, c)) -
                                                   mean * hessian.mean[static_cast<std::size_t>(c)]);
    }
  }
  hessian.centred = true;
  return hessian;
}

InputShiftAccumulator::InputShiftAccumulator(std::int64_t cols)
    : sum_(Matrix::for_overwrite(cols, cols)), deviation_(static_cast<std::size_t>(cols)) {}

void InputShiftAccumulator::add(ThreadPool& pool, const float* inputs, const float* original_inputs,
                                std::int64_t tokens, std::int64_t stride) {
  const std::int64_t cols = sum_.cols();
  Matrix deviation = Matrix::for_overwrite(std::min(tokens, kTokensPerShift), cols);
  for (std::int64_t first = 0; first < tokens; first += kTokensPerShift) {
    const std::int64_t count = std::min(tokens - first, kTokensPerShift);
    const float* x = inputs + first * stride;
    const float* original = original_inputs + first * stride;
    pool.parallel_for(cols, 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = 0; t < count; ++t) {
        for (std::int64_t c = begin; c < end; ++c) {
          const float d = original[t * stride + c] - x[t * stride + c];
          deviation.at(t, c) = d;
          deviation_[static_cast<std::size_t>(c)] += static_cast<double>(d);
        }
      }
    });
    kernels::gemm_tn(pool, cols, cols, count, deviation.data(), cols, x, stride, sum_.data(), cols,
                     tokens_ > 0);
    tokens_ += count;
  }
}

Result<InputShift> InputShiftAccumulator::finish(ThreadPool& pool) {
  if (tokens_ == 0) return no_tokens();
  InputShift result{.values = std::move(sum_), .mean = std::move(deviation_), .tokens = tokens_};
  const double scale = 1.0 / static_cast<double>(tokens_);
  for (std::size_t c = 0; c < result.mean.size(); ++c) {
    result.mean[c] *= scale;
    if (!std::isfinite(result.mean[c])) return not_finite("deviation", static_cast<std::int64_t>(c));
  }
  pool.parallel_for(result.values.rows(), 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      for (float& value : result.values.row(r)) value *= static_cast<float>(scale);
    }
  });
  return result;
}

InputShift centred(InputShift shift, std::span<const double> input_mean) {
  for (std::int64_t r = 0; r < shift.values.rows(); ++r) {
    const double deviation = shift.mean[static_cast<std::size_t>(r)];
    for (std::int64_t c = 0; c < shift.values.cols(); ++c) {
      shift.values.at(r, c) -= static_cast<float>(deviation * input_mean[static_cast<std::size_t>(c)]);
    }
  }
  return shift;
}

}  // namespace nibble
