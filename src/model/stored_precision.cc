// SPDX-License-Identifier: Apache-2.0
#include "model/stored_precision.h"

#include <vector>

#include "kernels/convert.h"
#include "kernels/rows.h"

namespace nibble {
namespace {

constexpr std::int64_t kStoredGrain = 16;

template <class Body>
void for_rows(const Pass& pass, std::int64_t rows, Body body) {
  pass.pool().parallel_for(rows, kStoredGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) body(r);
  });
}

float rounded(DType dtype, float value) {
  return dtype == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value)) : f16_to_f32(f32_to_f16(value));
}

}  // namespace

void settle(const Pass& pass, std::int64_t count, float* x) {
  if (is_narrow(pass)) kernels::round_through(pass.pool(), pass.dtype, x, count);
}

void settle(const Pass& pass, Matrix& x) {
  settle(pass, x.rows() * x.cols(), x.data());
}

void settled_norm(const Pass& pass, const ModelConfig& config, const Norm& norm, std::int64_t rows,
                  std::int64_t cols, const float* x, std::int64_t ld, float* y) {
  const bool rounds_first =
      is_narrow(pass) && config.row->norm == NormKind::kRms && !config.row->norm_rounds_once;
  const Norm bare{norm.name, norm.role, {}, {}};
  apply_norm_columns(pass.pool(), config, rounds_first ? bare : norm, rows, cols, x, ld, y);
  if (!is_narrow(pass)) return;
  for_rows(pass, rows, [&](std::int64_t r) {
    for (std::int64_t j = 0; j < cols; ++j) {
      float& value = y[r * ld + j];
      value = rounded(pass.dtype, value);
      if (rounds_first && !norm.weight.empty())
        value = rounded(pass.dtype, value * norm.weight[static_cast<std::size_t>(j)]);
    }
  });
}

void settled_gate(const Pass& pass, kernels::Activation f, std::int64_t rows, std::int64_t cols, float* inner,
                  std::int64_t ldinner, const float* other, std::int64_t ldother, float* out,
                  std::int64_t ldout) {
  if (!is_narrow(pass)) {
    kernels::activate_gated(pass.pool(), f, rows, cols, inner, ldinner, other, ldother, out, ldout);
    return;
  }
  kernels::activate(pass.pool(), f, rows, cols, inner, ldinner, out, ldout);
  for_rows(pass, rows, [&](std::int64_t r) {
    for (std::int64_t j = 0; j < cols; ++j) {
      float& value = out[r * ldout + j];
      value = rounded(pass.dtype, rounded(pass.dtype, value) * other[r * ldother + j]);
    }
  });
}

void settled_rope(const Pass& pass, const kernels::Rope& rope, std::int64_t tokens, std::int64_t heads,
                  float* x, std::int64_t ld) {
  if (!is_narrow(pass)) {
    kernels::apply_rope(pass.pool(), rope, tokens, heads, x, ld);
    return;
  }
  const std::int64_t half = rope.dims / 2;
  const auto round = [&](float value) { return rounded(pass.dtype, value); };
  for_rows(pass, tokens, [&](std::int64_t t) {
    const std::int64_t row = rope.positions == nullptr ? t : rope.positions[t];
    for (std::int64_t h = 0; h < heads; ++h) {
      float* head = x + t * ld + h * rope.head_dim;
      for (std::int64_t i = 0; i < half; ++i) {
        const float cos = round(rope.cos[row * half + i]), sin = round(rope.sin[row * half + i]);
        const float a = head[i], b = head[half + i];
        head[i] = round(round(a * cos) - round(b * sin));
        head[half + i] = round(round(b * cos) + round(a * sin));
      }
    }
  });
}

}  // namespace nibble
