// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstring>

#include "kernels/rows.h"
#include "model/transformer.h"

namespace nibble {
namespace {

constexpr std::int64_t kGrain = 16;

}  // namespace

// The row of the position table for every token.
Result<std::vector<std::int64_t>> Embedding::position_rows(const Batch& batch, std::int64_t past) const {
  const PositionRule rule = config_->row->positions;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(batch.tokens()));
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    std::int64_t counted = past;
    for (std::int64_t t = 0; t < batch.length; ++t) {
      const auto i = static_cast<std::size_t>(s * batch.length + t);
      const bool attended = batch.mask.empty() || batch.mask[i] != 0;
      const bool text = rule == PositionRule::kLearnedFromIds ? batch.ids[i] != config_->pad_token : attended;
      if (text) ++counted;
      std::int64_t row = past + t;
      if (rule == PositionRule::kLearnedFromMask) row = text ? counted - 1 : -1;
      if (rule == PositionRule::kLearnedFromIds) row = (text ? counted : 0) + config_->pad_token;
      if (!batch.positions.empty()) row = batch.positions[i];
      row += config_->row->position_offset;
      if (row < 0 || row >= positions_.rows()) {
        return bad_data(
            fmt::format("token {} needs row {} of a position table of {} rows", t, row, positions_.rows()),
            fmt::format("the model takes at most {} tokens", config_->max_positions));
      }
      rows[i] = row;
    }
  }
  return rows;
}

void Embedding::add_rows(const Context& context, const Matrix& table, std::span<const std::int64_t> rows,
                         Matrix& x) const {
  context.pool.parallel_for(x.rows(), kGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t t = first; t < last; ++t) {
      const float* from = table.row(rows[static_cast<std::size_t>(t)]).data();
      float* to = x.row(t).data();
      for (std::int64_t j = 0; j < x.cols(); ++j) to[j] += from[j];
    }
  });
}

Matrix Embedding::token_rows(const Context& context, const Batch& batch) const {
  Matrix x = Matrix::for_overwrite(batch.tokens(), config_->embedding_dim);
  const auto scale = static_cast<float>(config_->embedding_scale);
  context.pool.parallel_for(x.rows(), kGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t t = first; t < last; ++t) {
      const TokenId id = batch.ids[static_cast<std::size_t>(t)];
      if (tokens_.empty()) {
        stored_tokens_.decode_f32(id * x.cols(), x.row(t));
      } else {
        std::memcpy(x.row(t).data(), tokens_.row(id).data(), x.row(t).size_bytes());
      }
      for (float& value : x.row(t)) value *= scale;
    }
  });
  return x;
}

Result<Matrix> Embedding::apply(const Context& context, const Batch& batch, std::int64_t past) const {
  Matrix x = token_rows(context, batch);
  if (projection_ != nullptr) {
    Matrix wide(x.rows(), config_->hidden);
    projection_->apply(context.pool, x.data(), x.rows(), wide.data());
    x = std::move(wide);
  }
  if (!positions_.empty()) {
    TRY_ASSIGN(const std::vector<std::int64_t> rows, position_rows(batch, past));
    add_rows(context, positions_, rows, x);
  }
  if (!types_.empty()) {
    std::vector<std::int64_t> rows(batch.token_types.begin(), batch.token_types.end());
    rows.resize(static_cast<std::size_t>(x.rows()), 0);
    add_rows(context, types_, rows, x);
  }
  if (norm_) apply_norm(context.pool, *config_, *norm_, x.rows(), x.data(), x.data());
  return x;
}

}  // namespace nibble
