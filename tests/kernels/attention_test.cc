// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention.h"

#include <cmath>

#include "kernels/levels.h"

namespace nibble::kernels {
namespace {

using testing::at_every_level;
using testing::Random;

struct Data {
  std::vector<float> q, k, v, out;
  std::vector<std::uint8_t> mask;
  Attention a;
};

Data make(std::int64_t queries, std::int64_t keys, std::int64_t heads, std::int64_t kv_heads,
          std::int64_t dim, std::int64_t value_dim = 0) {
  Data d;
  const std::int64_t vd = value_dim > 0 ? value_dim : dim;
  Attention& a = d.a;
  a.queries = queries, a.keys = keys, a.heads = heads, a.kv_heads = kv_heads, a.head_dim = dim;
  a.value_dim = value_dim;
  a.query_offset = keys >= queries ? keys - queries : 0;
  a.scale = 1.0f / std::sqrt(static_cast<float>(dim));
  a.ldq = heads * dim + 3, a.ldk = kv_heads * dim + 1, a.ldv = kv_heads * vd + 5, a.ldout = heads * vd + 2;
  Random random(static_cast<std::uint64_t>(queries * 7 + keys));
  d.q = random.floats(queries * a.ldq, -3, 3);
  d.k = random.floats(keys * a.ldk, -3, 3);
  d.v = random.floats(keys * a.ldv);
  d.out.assign(static_cast<std::size_t>(queries * a.ldout), 7.0f);
  for (std::int64_t j = 0; j < keys; ++j) d.mask.push_back(random.bits() % 3 != 0);
  return d;
}

std::vector<float> run(ThreadPool& pool, const Data& d, const Attention& a) {
  std::vector<float> out = d.out;
  Attention call = a;
  call.q = d.q.data(), call.k = d.k.data(), call.v = d.v.data(), call.out = out.data();
  attend(pool, call);
  return out;
}

bool sees(const Attention& a, std::int64_t query, std::int64_t key) {
  const std::int64_t p = a.query_offset + query;
  if (a.causal && key > p) return false;
  if (a.window > 0 && (key <= p - a.window || key >= p + a.window)) return false;
  return a.key_mask == nullptr || a.key_mask[key] != 0;
}

void expect_matches_double(const Data& d, const Attention& a, const std::vector<float>& out) {
  const std::int64_t vd = a.value_dim > 0 ? a.value_dim : a.head_dim;
  for (std::int64_t i = 0; i < a.queries; ++i) {
    for (std::int64_t h = 0; h < a.heads; ++h) {
      const std::int64_t kv = h / (a.heads / a.kv_heads);
      std::vector<double> score(static_cast<std::size_t>(a.keys), -HUGE_VAL),
          sums(static_cast<std::size_t>(vd));
      double largest = -HUGE_VAL, total = 0;
      for (std::int64_t j = 0; j < a.keys; ++j) {
        if (!sees(a, i, j)) continue;
        double s = 0;
        for (std::int64_t c = 0; c < a.head_dim; ++c) {
          s += static_cast<double>(d.q[static_cast<std::size_t>(i * a.ldq + h * a.head_dim + c)]) *
               static_cast<double>(d.k[static_cast<std::size_t>(j * a.ldk + kv * a.head_dim + c)]);
        }
        s *= static_cast<double>(a.scale);
        const double cap = static_cast<double>(a.soft_cap);
        if (cap > 0) s = cap * std::tanh(s / cap);
        score[static_cast<std::size_t>(j)] = s;
        largest = std::max(largest, s);
      }
      for (std::int64_t j = 0; j < a.keys; ++j) {
        if (!sees(a, i, j)) continue;
        const double e = std::exp(score[static_cast<std::size_t>(j)] - largest);
        total += e;
        for (std::int64_t c = 0; c < vd; ++c) {
          sums[static_cast<std::size_t>(c)] +=
              e * static_cast<double>(d.v[static_cast<std::size_t>(j * a.ldv + kv * vd + c)]);
        }
      }
      for (std::int64_t c = 0; c < vd; ++c) {
        const double exact = total == 0 ? 0.0 : sums[static_cast<std::size_t>(c)] / total;
        ASSERT_NEAR(out[static_cast<std::size_t>(i * a.ldout + h * vd + c)], exact, 4e-6)
            << "query " << i << " head " << h << " of " << a.queries << "x" << a.keys;
      }
    }
    for (std::int64_t c = a.heads * vd; c < a.ldout; ++c) {
      ASSERT_EQ(out[static_cast<std::size_t>(i * a.ldout + c)], 7.0f) << "wrote beyond the row";
    }
  }
}

TEST(AttentionTest, MatchesDoubleForEveryMask) {
  ThreadPool pool(2);
  const Data shapes[] = {make(1, 1, 1, 1, 16),    make(7, 7, 2, 1, 24),    make(65, 65, 4, 2, 64),
                         make(33, 130, 6, 2, 72), make(1, 129, 8, 2, 128), make(5, 70, 1, 1, 256),
                         make(3, 40, 3, 3, 7, 33)};
  at_every_level([&](CpuLevel) {
    for (const Data& d : shapes) {
      for (const bool causal : {false, true}) {
        for (const std::int64_t window : {0, 1, 20}) {
          for (const bool padded : {false, true}) {
            Attention a = d.a;
            a.causal = causal;
            a.window = window;
            a.key_mask = padded ? d.mask.data() : nullptr;
            a.soft_cap = window == 20 ? 2.5f : 0.0f;
            expect_matches_double(d, a, run(pool, d, a));
          }
        }
      }
    }
  });
}

TEST(AttentionTest, QueriesAloneOrTogetherGiveTheSameBits) {
  ThreadPool one(1), four(4);
  const Data d = make(150, 210, 6, 2, 40);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t window : {0, 37}) {
      Attention a = d.a;
      a.window = window;
      const std::vector<float> whole = run(one, d, a);
      EXPECT_EQ(whole, run(four, d, a));
      for (const std::int64_t first : {0, 13, 64, 149}) {
        Data part = d;
        part.q.erase(part.q.begin(), part.q.begin() + first * a.ldq);
        Attention step = a;
        step.queries = first == 13 ? 20 : 1;
        step.query_offset = a.query_offset + first;
        step.keys = step.query_offset + step.queries;  // a cache that ends here
        part.out.resize(static_cast<std::size_t>(step.queries * a.ldout));
        const std::vector<float> out = run(four, part, step);
        EXPECT_TRUE(std::equal(out.begin(), out.end(), whole.begin() + first * a.ldout)) << first;
      }
    }
  });
}

TEST(AttentionTest, ReadsACacheWithHeadsApart) {
  ThreadPool pool(2);
  const Data d = make(9, 50, 4, 2, 16);
  at_every_level([&](CpuLevel) {
    const std::vector<float> expected = run(pool, d, d.a);
    Data cache = d;  // [kv_head][position][dim]
    for (std::int64_t h = 0; h < 2; ++h) {
      for (std::int64_t j = 0; j < 50; ++j) {
        for (std::int64_t c = 0; c < 16; ++c) {
          cache.k[static_cast<std::size_t>((h * 50 + j) * 16 + c)] =
              d.k[static_cast<std::size_t>(j * d.a.ldk + h * 16 + c)];
          cache.v[static_cast<std::size_t>((h * 50 + j) * 16 + c)] =
              d.v[static_cast<std::size_t>(j * d.a.ldv + h * 16 + c)];
        }
      }
    }
    Attention a = d.a;
    a.ldk = a.ldv = 16;
    a.k_head_stride = a.v_head_stride = 50 * 16;
    EXPECT_EQ(run(pool, cache, a), expected);
  });
}

TEST(AttentionTest, EmptyAndBlindQueriesGiveNothingOrZero) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    const Data d = make(3, 20, 2, 1, 8);
    Attention a = d.a;
    const std::vector<std::uint8_t> hidden(20, 0);
    a.key_mask = hidden.data();
    const std::vector<float> out = run(pool, d, a);
    for (std::int64_t c = 0; c < 16; ++c) EXPECT_EQ(out[static_cast<std::size_t>(c)], 0.0f);
    a.queries = 0;
    EXPECT_EQ(run(pool, d, a), d.out);
    a.queries = 3;
    a.keys = 0;
    EXPECT_EQ(run(pool, d, a), out);
  });
}

}  // namespace
}  // namespace nibble::kernels
