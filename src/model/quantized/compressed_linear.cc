// SPDX-License-Identifier: Apache-2.0
#include "model/quantized/compressed_linear.h"

#include <algorithm>
#include <cstring>

#include "kernels/gemm.h"
#include "kernels/quantize.h"
#include "kernels/rows.h"

namespace nibble {
namespace {

struct TokenCodes {
  std::vector<std::int8_t> codes;   // [rows, cols]
  std::vector<float> scales;        // [rows]
  std::vector<std::int32_t> zeros;  // [rows]
};

TokenCodes quantize_tokens(ThreadPool& pool, const ActivationQuantizer& quantizer, const float* x,
                           std::int64_t rows, std::int64_t cols) {
  TokenCodes out;
  out.codes.resize(static_cast<std::size_t>(rows * cols));
  const std::vector<ScaleZero> params = quantizer.params(pool, x, rows, cols);
  for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
    const ScaleZero& one = params[params.size() == 1 ? 0 : r];
    out.scales.push_back(one.scale);
    out.zeros.push_back(static_cast<std::int32_t>(one.zero_point));
  }
  kernels::quantize_rows(pool, rows, cols, x, cols, out.scales.data(), out.zeros.data(), -128, 127,
                         out.codes.data(), cols);
  return out;
}

}  // namespace

void OnlineTransform::apply(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* x,
                            float* out) const {
  const std::int64_t n = v.rows();
  for (std::int64_t c = 0; c < cols; c += n) {
    kernels::gemm_nn(pool, rows, n, n, x + c, cols, v.data(), n, out + c, cols);
  }
}

void CompressedLinear::multiply(ThreadPool& pool, const float* x, std::int64_t tokens, std::int64_t first,
                                std::int64_t count, float* y, std::int64_t ldy) const {
  const std::int64_t cols = info().cols;
  const bool integers = input && input_is_int8 && kernels::has_int8_path(pieces.front());
  TokenCodes codes;
  Matrix rounded;
  if (integers) {
    codes = quantize_tokens(pool, *input, x, tokens, cols);
  } else if (input) {
    rounded = Matrix(tokens, cols);
    std::memcpy(rounded.data(), x, rounded.values().size_bytes());
    input->apply(pool, rounded.data(), tokens, cols);
    x = rounded.data();
  }
  const kernels::QuantizedTokens quantized{tokens, codes.codes.data(), cols, codes.scales.data(),
                                           codes.zeros.data()};
  const auto product = [&](const kernels::PackedWeights& piece, float* out, std::int64_t ld) {
    if (integers) {
      kernels::linear_int8(pool, quantized, piece, out, ld);
    } else {
      kernels::linear(pool, tokens, x, cols, piece, out, ld);
    }
  };
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::int64_t begin = static_cast<std::int64_t>(i) * kPieceRows;
    const std::int64_t end = begin + pieces[i].rows();
    const std::int64_t low = std::max(begin, first);
    const std::int64_t high = std::min(end, first + count);
    if (low >= high) continue;
    if (low == begin && high == end) {
      product(pieces[i], y + (begin - first), ldy);
      continue;
    }
    Matrix whole(tokens, pieces[i].rows());
    product(pieces[i], whole.data(), whole.cols());
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::memcpy(y + t * ldy + (low - first), whole.row(t).data() + (low - begin),
                  static_cast<std::size_t>(high - low) * sizeof(float));
    }
  }
}

void CompressedLinear::apply_rows(ThreadPool& pool, const float* x, std::int64_t tokens, std::int64_t first,
                                  std::int64_t count, float* y, std::int64_t ldy) const {
  // What follows the product may need whole rows.
  const bool has_output_step = output || !output_transforms.empty();
  if (has_output_step && (count != info().rows || ldy != count)) {
    Matrix whole(tokens, info().rows);
    apply_rows(pool, x, tokens, 0, info().rows, whole.data(), info().rows);
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::memcpy(y + t * ldy, whole.row(t).data() + first, static_cast<std::size_t>(count) * sizeof(float));
    }
    return;
  }
  Matrix turned;
  for (const OnlineTransform& transform : input_transforms) {
    Matrix next(tokens, info().cols);
    transform.apply(pool, tokens, info().cols, x, next.data());
    turned = std::move(next);
    x = turned.data();
  }
  multiply(pool, x, tokens, first, count, y, ldy);
  if (!bias_.empty()) kernels::add_bias(pool, tokens, count, bias_.data() + first, y, ldy);
  if (output) output->apply(pool, y, tokens, info().rows);
  for (const OnlineTransform& transform : output_transforms) {
    Matrix next(tokens, count);
    transform.apply(pool, tokens, count, y, next.data());
    std::memcpy(y, next.data(), next.values().size_bytes());
  }
}

Matrix CompressedLinear::weight() const {
  Matrix out(info().rows, info().cols);
  ThreadPool alone(1);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    pieces[i].unpack(alone, out.data() + static_cast<std::int64_t>(i) * kPieceRows * out.cols(), out.cols());
  }
  return out;
}

}  // namespace nibble
