// SPDX-License-Identifier: Apache-2.0
// The attention half of a block: projections in their layouts, norms of q and k, rotation, cache, attention.
#include <cstring>

#include "kernels/attention.h"
#include "kernels/rows.h"
#include "model/apply.h"
#include "model/block.h"
#include "model/quantized/compressed_linear.h"
#include "model/stored_precision.h"

namespace nibble {

using enum ModuleRole;

namespace {

constexpr std::int64_t kRowGrain = 64;

// to[t, :] = from[t, offset : offset + width]
void copy_columns(ThreadPool& pool, const Matrix& from, std::int64_t offset, Matrix& to) {
  pool.parallel_for(from.rows(), kRowGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t t = first; t < last; ++t) {
      std::memcpy(to.row(t).data(), from.row(t).data() + offset, to.row(t).size_bytes());
    }
  });
}

// Rows [head][q, k, v]: part 0, 1 or 2 of every head.
void copy_part_of_heads(ThreadPool& pool, const Matrix& from, std::int64_t part, std::int64_t head_dim,
                        Matrix& to) {
  const std::int64_t heads = to.cols() / head_dim;
  pool.parallel_for(from.rows(), kRowGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t t = first; t < last; ++t) {
      for (std::int64_t h = 0; h < heads; ++h) {
        std::memcpy(to.row(t).data() + h * head_dim, from.row(t).data() + (3 * h + part) * head_dim,
                    static_cast<std::size_t>(head_dim) * sizeof(float));
      }
    }
  });
}

}  // namespace

Block::Projected Block::split_fused(const Pass& pass, const Matrix& fused) const {
  const ModelConfig& c = *config_;
  const std::int64_t tokens = fused.rows();
  Projected out{pass.take(tokens, c.query_width()), pass.take(tokens, c.kv_width()),
                pass.take(tokens, c.kv_width())};
  if (c.row->qkv == QkvLayout::kPerHead) {
    copy_part_of_heads(pass.pool(), fused, 0, c.head_dim, out.q);
    copy_part_of_heads(pass.pool(), fused, 1, c.head_dim, out.k);
    copy_part_of_heads(pass.pool(), fused, 2, c.head_dim, out.v);
  } else {
    copy_columns(pass.pool(), fused, 0, out.q);
    copy_columns(pass.pool(), fused, c.query_width(), out.k);
    copy_columns(pass.pool(), fused, c.query_width() + c.kv_width(), out.v);
  }
  return out;
}

void Block::norm_heads(const Pass& pass, ModuleRole role, std::int64_t heads, Matrix& x) const {
  const ModelConfig& c = *config_;
  switch (c.row->qk_norm) {
    case QkNormKind::kNone:
      break;
    case QkNormKind::kPerHead:
      settled_norm(pass, c, *norm(role), x.rows() * heads, c.head_dim, x.data(), c.head_dim, x.data());
      break;
    case QkNormKind::kPerHeadOwn:
      for (std::int64_t h = 0; h < heads; ++h) {
        float* column = x.data() + h * c.head_dim;
        settled_norm(pass, c, *norm(role, static_cast<int>(h)), x.rows(), c.head_dim, column, x.cols(),
                     column);
      }
      break;
    case QkNormKind::kWhole:
      settled_norm(pass, c, *norm(role), x.rows(), x.cols(), x.data(), x.cols(), x.data());
      break;
  }
}

Block::Projected Block::project(const Pass& pass, const Matrix& input) const {
  const ModelConfig& c = *config_;
  const std::int64_t tokens = input.rows();
  Projected out;
  if (const Linear* fused = linear(kQkv); fused != nullptr) {
    Matrix all = pass.take(tokens, fused->info().rows);
    apply_tapped(pass, *fused, input.data(), tokens, pass.mask, all.data());
    out = split_fused(pass, all);
    pass.give(std::move(all));
  } else {
    out = {pass.take(tokens, c.query_width()), pass.take(tokens, c.kv_width()),
           pass.take(tokens, c.kv_width())};
    apply_tapped(pass, *linear(kQuery), input.data(), tokens, pass.mask, out.q.data());
    apply_tapped(pass, *linear(kKey), input.data(), tokens, pass.mask, out.k.data());
    apply_tapped(pass, *linear(kValue), input.data(), tokens, pass.mask, out.v.data());
  }
  if (c.qk_norm) {
    norm_heads(pass, kQueryNorm, c.heads, out.q);
    norm_heads(pass, kKeyNorm, c.kv_heads, out.k);
  }
  if (!pass.ropes.empty()) {
    const RopeTable& table = pass.ropes[c.rope_of_layer[static_cast<std::size_t>(index_)]];
    kernels::Rope rope{.head_dim = c.head_dim,
                       .dims = table.dims,
                       .cos = table.cos.data(),
                       .sin = table.sin.data(),
                       .positions = pass.rope_rows.data()};
    settled_rope(pass, rope, tokens, c.heads, out.q.data(), c.query_width());
    settled_rope(pass, rope, tokens, c.kv_heads, out.k.data(), c.kv_width());
  }
  return out;
}

// Keys and values of the pass go behind those of earlier tokens.
void Block::append_to_cache(const Pass& pass, const Projected& projected) const {
  KvCache& cache = *pass.cache;
  const std::int64_t count = pass.length * config_->kv_width();
  const std::int64_t past = cache.length() * config_->kv_width();
  for (std::int64_t s = 0; s < pass.sequences; ++s) {
    const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
    std::memcpy(cache.keys(index_, s) + past, projected.k.data() + s * count, bytes);
    std::memcpy(cache.values(index_, s) + past, projected.v.data() + s * count, bytes);
  }
}

Matrix Block::attend_all(const Pass& pass, const Projected& projected) const {
  const ModelConfig& c = *config_;
  const auto layer = static_cast<std::size_t>(index_);
  if (pass.cache != nullptr) append_to_cache(pass, projected);
  const std::int64_t past = pass.cache != nullptr ? pass.cache->length() : 0;
  Matrix out = pass.take(pass.tokens(), c.query_width());

  kernels::Attention common;
  common.queries = pass.length;
  common.keys = past + pass.length;
  common.query_offset = past;
  common.heads = c.heads;
  common.kv_heads = c.kv_heads;
  common.head_dim = c.head_dim;
  common.causal = c.causal;
  common.window = c.window[layer];
  common.scale = static_cast<float>(c.attention_scale[layer]);
  common.probability_dtype = pass.dtype;
  common.soft_cap = static_cast<float>(c.attention_softcap);
  common.ldq = common.ldout = c.query_width();
  common.ldk = common.ldv = c.kv_width();
  const auto attend_sequence = [&](std::int64_t s) {
    kernels::Attention one = common;
    const std::int64_t kv_start = s * pass.length * c.kv_width();
    one.q = projected.q.data() + s * pass.length * c.query_width();
    one.k = pass.cache != nullptr ? pass.cache->keys(index_, s) : projected.k.data() + kv_start;
    one.v = pass.cache != nullptr ? pass.cache->values(index_, s) : projected.v.data() + kv_start;
    one.out = out.data() + s * pass.length * c.query_width();
    if (pass.mask != nullptr) one.key_mask = pass.mask + s * pass.length;
    kernels::attend(pass.pool(), one);
  };
  // Many short sequences keep the threads busier one by one; the bits are the same.
  const auto attend_range = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t s = first; s < last; ++s) attend_sequence(s);
  };
  if (pass.sequences >= 4 * pass.pool().size()) {
    pass.pool().parallel_for(pass.sequences, 1, attend_range);
  } else {
    attend_range(0, pass.sequences);
  }
  settle(pass, out);
  return out;
}

void Block::round_states(const Pass& pass, Projected& projected) const {
  if (attention_quantizers == nullptr) return;
  const auto round = [&pass](const std::optional<ActivationQuantizer>& quantizer, Matrix& x) {
    if (quantizer) quantizer->apply(pass.pool(), x.data(), x.rows(), x.cols());
  };
  round(attention_quantizers->query, projected.q);
  round(attention_quantizers->key, projected.k);
  round(attention_quantizers->value, projected.v);
}

void Block::run_attention(const Pass& pass, BlockState& state) const {
  Projected projected = project(pass, state.input);
  if (pass.tap != nullptr) {
    const std::int64_t width = config_->kv_width();
    pass.tap->on_key_value(attention_name, config_->head_dim,
                           {projected.k.data(), pass.tokens(), width, pass.mask},
                           {projected.v.data(), pass.tokens(), width, pass.mask});
  }
  round_states(pass, projected);
  Matrix context = attend_all(pass, projected);
  for (Matrix* used : {&projected.q, &projected.k, &projected.v, &state.input}) pass.give(std::move(*used));
  state.input = std::move(context);
}

}  // namespace nibble
