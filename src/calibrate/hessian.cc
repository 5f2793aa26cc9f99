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
    if (partial_.empty()) partial_ = Matrix(cols_, cols_);
    const float* x = inputs + first * stride;
    kernels::syrk_tn_upper(pool, cols_, count, x, stride, 1.0f, partial_.data(), cols_);
    pool.parallel_for(cols_, 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = 0; t < count; ++t) {
        for (std::int64_t c = begin; c < end; ++c) sums_[static_cast<std::size_t>(c)] += x[t * stride + c];
      }
    });
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
      float* row = partial_.data() + r * cols_;
      for (std::int64_t c = r; c < cols_; ++c) {
        *total++ += static_cast<double>(row[c]);
        row[c] = 0;
      }
    }
  });
  pending_ = 0;
}

void HessianAccumulator::settle() {
  ThreadPool alone(1);
  flush(alone);
  partial_ = Matrix();
}

void HessianAccumulator::merge(HessianAccumulator& other) {
  CHECK(cols_ == other.cols_, "merged statistics have the same width");
  settle();
  other.settle();
  for (std::size_t i = 0; i < totals_.size(); ++i) totals_[i] += other.totals_[i];
  for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += other.sums_[i];
  tokens_ += other.tokens_;
  sequences_ += other.sequences_;
}

std::span<const double> HessianAccumulator::totals() {
  settle();
  return totals_;
}

Result<HessianAccumulator> HessianAccumulator::restore(std::int64_t cols, std::span<const double> totals,
                                                       std::span<const double> sums, std::int64_t tokens,
                                                       std::int64_t sequences) {
  if (cols < 1 || static_cast<std::int64_t>(sums.size()) != cols ||
      static_cast<std::int64_t>(totals.size()) != cols * (cols + 1) / 2 || tokens < 0 || sequences < 0) {
    return bad_data(
        fmt::format("second moments of {} channels hold {} totals and {} sums, expected {} and {}", cols,
                    totals.size(), sums.size(), cols * (cols + 1) / 2, cols));
  }
  HessianAccumulator result(cols);
  result.totals_.assign(totals.begin(), totals.end());
  result.sums_.assign(sums.begin(), sums.end());
  result.tokens_ = tokens;
  result.sequences_ = sequences;
  return result;
}

Result<Hessian> HessianAccumulator::finish(bool centred) {
  settle();
  if (tokens_ == 0) return no_tokens();
  Hessian result{.values = Matrix(cols_, cols_),
                 .mean = std::vector<double>(static_cast<std::size_t>(cols_)),
                 .tokens = tokens_,
                 .sequences = std::max<std::int64_t>(sequences_, 1),
                 .centred = centred};
  const double scale = 1.0 / static_cast<double>(tokens_);
  for (std::size_t c = 0; c < sums_.size(); ++c) result.mean[c] = sums_[c] * scale;
  const double* total = totals_.data();
  for (std::int64_t r = 0; r < cols_; ++r) {
    if (!std::isfinite(*total)) return not_finite("second moment", r);
    const double shift = centred ? result.mean[static_cast<std::size_t>(r)] : 0.0;
    for (std::int64_t c = r; c < cols_; ++c) {
      const double value = *total++ * scale - shift * result.mean[static_cast<std::size_t>(c)];
      result.values.at(r, c) = static_cast<float>(value);
      result.values.at(c, r) = static_cast<float>(value);
    }
  }
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
    : sum_(cols, cols), deviation_(static_cast<std::size_t>(cols)) {}

void InputShiftAccumulator::add(ThreadPool& pool, const float* inputs, const float* original_inputs,
                                std::int64_t tokens, std::int64_t stride) {
  const std::int64_t cols = sum_.cols();
  Matrix deviation(std::min(tokens, kTokensPerShift), cols);
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
    kernels::gemm_tn(pool, cols, cols, count, deviation.data(), cols, x, stride, sum_.data(), cols, true);
  }
  tokens_ += tokens;
}

void InputShiftAccumulator::merge(const InputShiftAccumulator& other) {
  CHECK(sum_.cols() == other.sum_.cols(), "merged statistics have the same width");
  for (std::int64_t i = 0; i < sum_.rows() * sum_.cols(); ++i) sum_.data()[i] += other.sum_.data()[i];
  for (std::size_t i = 0; i < deviation_.size(); ++i) deviation_[i] += other.deviation_[i];
  tokens_ += other.tokens_;
}

Result<InputShift> InputShiftAccumulator::finish() {
  if (tokens_ == 0) return no_tokens();
  InputShift result{.values = std::move(sum_), .mean = std::move(deviation_), .tokens = tokens_};
  const double scale = 1.0 / static_cast<double>(tokens_);
  for (std::size_t c = 0; c < result.mean.size(); ++c) {
    result.mean[c] *= scale;
    if (!std::isfinite(result.mean[c])) return not_finite("deviation", static_cast<std::int64_t>(c));
  }
  for (float& value : result.values.values()) value *= static_cast<float>(scale);
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
