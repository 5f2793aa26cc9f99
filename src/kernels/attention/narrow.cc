// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/narrow.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace nibble::kernels::attention {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Query {
 public:
  Query(const Attention& a, std::int64_t head, std::int64_t query)
      : a_(a),
        value_dim_(a.value_dim > 0 ? a.value_dim : a.head_dim),
        kv_head_(head / (a.heads / a.kv_heads)),
        position_(a.query_offset + query),
        q_(a.q + query * a.ldq + head * stride(a.q_head_stride, a.head_dim)),
        out_(a.out + query * a.ldout + head * stride(a.out_head_stride, value_dim_)) {}

  void run() {
    const std::int64_t end = a_.causal ? std::min(a_.keys, position_ + 1) : a_.keys;
    for (std::int64_t key = 0; key < end; ++key) scores_.push_back(score(key));
    const float largest = scores_.empty() ? -kInfinity : *std::max_element(scores_.begin(), scores_.end());
    std::fill_n(out_, value_dim_, 0.0f);
    if (std::isinf(largest)) return;
    float total = 0;
    for (float& s : scores_) total += s = std::exp(s - largest);
    for (std::int64_t key = 0; key < end; ++key)
      add_value(key, rounded(scores_[static_cast<std::size_t>(key)] / total));
  }

 private:
  static std::int64_t stride(std::int64_t given, std::int64_t usual) { return given != 0 ? given : usual; }

  bool is_visible(std::int64_t key) const {
    if (a_.key_mask != nullptr && a_.key_mask[key] == 0) return false;
    return a_.window <= 0 || std::abs(position_ - key) < a_.window;
  }

  float rounded(float value) const {
    return a_.probability_dtype == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value))
                                                : f16_to_f32(f32_to_f16(value));
  }

  float score(std::int64_t key) const {
    if (!is_visible(key)) return -kInfinity;
    const float* k = a_.k + key * a_.ldk + kv_head_ * stride(a_.k_head_stride, a_.head_dim);
    float sum = 0;
    for (std::int64_t i = 0; i < a_.head_dim; ++i) sum += q_[i] * k[i];
    const float score = rounded(rounded(sum) * a_.scale);
    if (a_.soft_cap <= 0) return score;
    return rounded(rounded(std::tanh(rounded(score / a_.soft_cap))) * a_.soft_cap);
  }

  void add_value(std::int64_t key, float weight) {
    const float* v = a_.v + key * a_.ldv + kv_head_ * stride(a_.v_head_stride, value_dim_);
    for (std::int64_t i = 0; i < value_dim_; ++i) out_[i] += weight * v[i];
  }

  const Attention& a_;
  std::int64_t value_dim_, kv_head_, position_;
  const float* q_;
  float* out_;
  std::vector<float> scores_;  // then exponentials
};

}  // namespace

void attend_narrow(ThreadPool& pool, const Attention& attention) {
  pool.parallel_for(attention.heads * attention.queries, 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i)
      Query(attention, i / attention.queries, i % attention.queries).run();
  });
}

}  // namespace nibble::kernels::attention
