// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/narrow.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace nibble::kernels::attention {
namespace {

constexpr std::int64_t kSharedMaximum = 512;  // keys

// e^x for x <= 0: the bits of 2^x are linear in x but for a cubic correction of the fraction (Malossi et al.,
// "Fast Exponential Computation on SIMD Architectures", 2015). About 2^-16 accurate.
float approximate_exp(float x) {
  constexpr float kSmallest = -87.33654f;  // ln of the smallest normal float
  if (!(x >= kSmallest)) return 0.0f;
  constexpr float kLog2E = 1.44269502f;
  const float power = x * kLog2E;
  const float fraction = power - std::floor(power);
  float correction = std::fma(fraction, -0.079204240219773236f, -0.22433836478672356f);
  correction = std::fma(fraction, correction, 0.30354260500649682f);
  correction = std::fma(fraction, correction, 0.00010703434948458272f);
  constexpr float kMantissa = 8388608.0f;  // 2^23
  const float bits = std::fma(kMantissa, power - correction, kMantissa * 127.0f);
  return std::bit_cast<float>(static_cast<std::int32_t>(bits));
}

float rounded(DType dtype, float value) {
  return dtype == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value)) : f16_to_f32(f32_to_f16(value));
}

class Query {
 public:
  Query(const Attention& a, std::int64_t head, std::int64_t query)
      : a_(a),
        value_dim_(a.value_dim > 0 ? a.value_dim : a.head_dim),
        kv_head_(head / (a.heads / a.kv_heads)),
        position_(a.query_offset + query),
        q_(a.q + query * a.ldq + head * stride(a.q_head_stride, a.head_dim)),
        out_(a.out + query * a.ldout + head * stride(a.out_head_stride, value_dim_)),
        sums_(static_cast<std::size_t>(value_dim_)) {}

  void run() {
    const std::int64_t end = a_.causal ? std::min(a_.keys, position_ + 1) : a_.keys;
    for (std::int64_t key = 0; key < end; key += kSharedMaximum)
      add_block(key, std::min(end, key + kSharedMaximum));
    for (std::size_t i = 0; i < sums_.size(); ++i) out_[i] = total_ > 0 ? sums_[i] / total_ : 0.0f;
  }

 private:
  static std::int64_t stride(std::int64_t given, std::int64_t usual) { return given != 0 ? given : usual; }

  bool is_visible(std::int64_t key) const {
    if (a_.key_mask != nullptr && a_.key_mask[key] == 0) return false;
    return a_.window <= 0 || std::abs(position_ - key) < a_.window;
  }

  float score(std::int64_t key) const {
    if (!is_visible(key)) return -std::numeric_limits<float>::infinity();
    const float* k = a_.k + key * a_.ldk + kv_head_ * stride(a_.k_head_stride, a_.head_dim);
    float sum = 0;
    for (std::int64_t i = 0; i < a_.head_dim; ++i) sum += q_[i] * k[i];
    sum *= a_.scale;
    return a_.soft_cap > 0 ? a_.soft_cap * std::tanh(sum / a_.soft_cap) : sum;
  }

  void add_block(std::int64_t first, std::int64_t last) {
    scores_.clear();
    for (std::int64_t key = first; key < last; ++key) scores_.push_back(score(key));
    const float largest = std::max(largest_, *std::max_element(scores_.begin(), scores_.end()));
    if (std::isinf(largest)) return;
    const float factor = std::exp(largest_ - largest);
    largest_ = largest;
    for (float& sum : sums_) sum *= factor;
    float total = 0;
    for (std::int64_t key = first; key < last; ++key) {
      const float weight = approximate_exp(scores_[static_cast<std::size_t>(key - first)] - largest);
      total += weight;
      add_value(key, rounded(a_.probability_dtype, weight));
    }
    total_ = total_ * factor + total;
  }

  void add_value(std::int64_t key, float weight) {
    const float* v = a_.v + key * a_.ldv + kv_head_ * stride(a_.v_head_stride, value_dim_);
    for (std::int64_t i = 0; i < value_dim_; ++i) sums_[static_cast<std::size_t>(i)] += weight * v[i];
  }

  const Attention& a_;
  std::int64_t value_dim_, kv_head_, position_;
  const float* q_;
  float* out_;
  std::vector<float> sums_, scores_;
  float largest_ = -std::numeric_limits<float>::infinity();
  float total_ = 0;
};

}  // namespace

void attend_narrow(ThreadPool& pool, const Attention& attention) {
  pool.parallel_for(attention.heads * attention.queries, 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i)
      Query(attention, i / attention.queries, i % attention.queries).run();
  });
}

}  // namespace nibble::kernels::attention
