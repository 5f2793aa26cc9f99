// SPDX-License-Identifier: Apache-2.0
// Both products run transposed on the GEMM tiles: scores^T [keys][16] = K Q^T and out^T [dim][16] = V^T P^T.
// The scores come out in the very form the second product takes, and the softmax needs no sums across a
// register.
#include "kernels/attention.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "kernels/attention/narrow.h"
#include "kernels/attention/table.h"
#include "kernels/gemm/driver.h"
#include "kernels/level_table.h"

namespace nibble::kernels {

namespace attention {
const Kernels& kernels() {
#if defined(__x86_64__)
  static constexpr LevelTable<Kernels> kTables{&kPortable, &kAvx2, &kAvx512, nullptr};
#else
  static constexpr LevelTable<Kernels> kTables{&kPortable, nullptr, nullptr, nullptr};
#endif
  return pick_level(kTables);
}
}  // namespace attention

namespace {

using attention::kBlockKeys;
using attention::kLanes;

// Rows of a task: queries x the heads that share a key/value head. 128 rows use a packed key 128 times.
constexpr std::int64_t kTaskRows = 128;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

struct Plan {
  const Attention& a;
  const gemm::Kernels& tiles;
  const attention::Kernels& soft;
  std::int64_t group;  // query heads per key/value head
  std::int64_t rows;   // per key/value head: row r is query r / group, head r % group of the group
  std::int64_t value_dim;
  std::int64_t q_head, k_head, v_head, out_head;  // head strides
};

Plan make_plan(const Attention& a) {
  CHECK(a.kv_heads > 0 && a.heads % a.kv_heads == 0, "query heads are a multiple of key/value heads");
  CHECK(a.query_offset >= 0 && a.keys <= std::numeric_limits<std::int32_t>::max(), "positions fit 31 bits");
  const std::int64_t value_dim = a.value_dim > 0 ? a.value_dim : a.head_dim;
  const auto stride = [](std::int64_t given, std::int64_t usual) { return given != 0 ? given : usual; };
  return {a,
          gemm::kernels(),
          attention::kernels(),
          a.heads / a.kv_heads,
          a.queries * (a.heads / a.kv_heads),
          value_dim,
          stride(a.q_head_stride, a.head_dim),
          stride(a.k_head_stride, a.head_dim),
          stride(a.v_head_stride, value_dim),
          stride(a.out_head_stride, value_dim)};
}

// Keys a query may see by position, [begin, end).
struct Range {
  std::int64_t begin, end;
};

Range visible_keys(const Attention& a, std::int64_t query) {
  const std::int64_t position = a.query_offset + query;
  Range range{0, a.keys};
  if (a.causal) range.end = std::min(range.end, position + 1);
  if (a.window > 0) {
    range.begin = std::max<std::int64_t>(0, position - a.window + 1);
    range.end = std::min(range.end, position + a.window);
  }
  range.begin = std::min(range.begin, range.end);
  return range;
}

// Up to 16 rows of a task.
struct Strip {
  int count;
  std::int32_t begin[kLanes], end[kLanes];  // visible keys; idle lanes see none
  std::int32_t first_end, last_begin;       // the keys that all lanes see: [last_begin, first_end)
  std::int32_t first_begin, last_end;       // the keys that some lane sees
  attention::State state;
};

class Task {
 public:
  Task(const Plan& plan, std::int64_t kv_head, std::int64_t row0, std::int64_t row1)
      : plan_(plan),
        kv_head_(kv_head),
        row0_(row0),
        row1_(row1),
        strip_count_(ceil_div(row1 - row0, kLanes)),
        queries_(gemm::allocate_floats(strip_count_ * kLanes * plan.a.head_dim)),
        sums_(gemm::allocate_floats(strip_count_ * kLanes * plan.value_dim)),
        keys_(gemm::allocate_floats(kBlockKeys * plan.a.head_dim)),
        values_(gemm::allocate_floats(kBlockKeys * plan.value_dim)) {
    std::fill_n(sums_.get(), strip_count_ * kLanes * plan.value_dim, 0.0f);
    for (std::int64_t s = 0; s < strip_count_; ++s) prepare(s);
  }

  void run() {
    std::int64_t begin = plan_.a.keys, end = 0;
    for (std::int64_t s = 0; s < strip_count_; ++s) {
      begin = std::min<std::int64_t>(begin, strips_[s].first_begin);
      end = std::max<std::int64_t>(end, strips_[s].last_end);
    }
    // Blocks begin at multiples of 64 whatever the task is: a query's sums do not depend on its neighbours.
    for (std::int64_t key = begin / kBlockKeys * kBlockKeys; key < end; key += kBlockKeys) {
      const std::int64_t keys = std::min<std::int64_t>(kBlockKeys, plan_.a.keys - key);
      pack_block(key, keys);
      for (std::int64_t s = 0; s < strip_count_; ++s) {
        if (strips_[s].first_begin < key + keys && strips_[s].last_end > key) attend_block(s, key, keys);
      }
    }
    write();
  }

 private:
  std::int64_t query_of(std::int64_t row) const { return row / plan_.group; }
  std::int64_t head_of(std::int64_t row) const { return kv_head_ * plan_.group + row % plan_.group; }

  void prepare(std::int64_t s) {
    const Attention& a = plan_.a;
    Strip& strip = strips_[s];
    const std::int64_t first = row0_ + s * kLanes;
    strip.count = static_cast<int>(std::min<std::int64_t>(kLanes, row1_ - first));
    strip.first_begin = strip.first_end = std::numeric_limits<std::int32_t>::max();
    strip.last_begin = strip.last_end = 0;
    float* packed = queries_.get() + s * kLanes * a.head_dim;
    for (int lane = 0; lane < kLanes; ++lane) {
      strip.begin[lane] = strip.end[lane] = 0;
      strip.state.largest[lane] = -std::numeric_limits<float>::infinity();
      strip.state.sum[lane] = 0.0;
      if (lane >= strip.count) {
        for (std::int64_t i = 0; i < a.head_dim; ++i) packed[i * kLanes + lane] = 0.0f;
        continue;
      }
      const std::int64_t row = first + lane;
      const float* from = a.q + query_of(row) * a.ldq + head_of(row) * plan_.q_head;
      for (std::int64_t i = 0; i < a.head_dim; ++i) packed[i * kLanes + lane] = from[i];
      const Range range = visible_keys(a, query_of(row));
      strip.begin[lane] = static_cast<std::int32_t>(range.begin);
      strip.end[lane] = static_cast<std::int32_t>(range.end);
      strip.first_begin = std::min(strip.first_begin, strip.begin[lane]);
      strip.last_begin = std::max(strip.last_begin, strip.begin[lane]);
      strip.first_end = std::min(strip.first_end, strip.end[lane]);
      strip.last_end = std::max(strip.last_end, strip.end[lane]);
    }
  }

  // Tiles of keys [head_dim][rows] and tiles of values [keys][rows], one after the other.
  void pack_block(std::int64_t key, std::int64_t keys) {
    const Attention& a = plan_.a;
    const gemm::Tiles key_tiles(keys, plan_.tiles.mr), value_tiles(plan_.value_dim, plan_.tiles.mr);
    const float* k = a.k + key * a.ldk + kv_head_ * plan_.k_head;
    const float* v = a.v + key * a.ldv + kv_head_ * plan_.v_head;
    for (std::int64_t t = 0; t < key_tiles.count; ++t) {
      const std::int64_t row = key_tiles.begin(t);
      const auto rows = static_cast<int>(key_tiles.begin(t + 1) - row);
      plan_.tiles.pack_rows(k + row * a.ldk, a.ldk, rows, a.head_dim, keys_.get() + row * a.head_dim, rows);
    }
    for (std::int64_t t = 0; t < value_tiles.count; ++t) {
      const std::int64_t row = value_tiles.begin(t);
      const auto rows = static_cast<int>(value_tiles.begin(t + 1) - row);
      plan_.tiles.pack_columns(v + row, a.ldv, rows, keys, values_.get() + row * keys, rows);
    }
  }

  // c[rows][16] (= or +=) alpha * tiles * strip.
  void product(std::int64_t rows, std::int64_t depth, const float* packed, const float* strip, float* c,
               float alpha, bool accumulate) const {
    const gemm::Tiles tiles(rows, plan_.tiles.mr);
    for (std::int64_t t = 0; t < tiles.count; ++t) {
      const std::int64_t row = tiles.begin(t), count = tiles.begin(t + 1) - row;
      plan_.tiles.tile[count - 1][0](depth, packed + row * depth, strip, 0, c + row * kLanes, kLanes, kLanes,
                                     alpha, accumulate);
    }
  }

  void attend_block(std::int64_t s, std::int64_t key, std::int64_t keys) {
    const Attention& a = plan_.a;
    Strip& strip = strips_[s];
    alignas(64) float scores[kBlockKeys * kLanes];
    alignas(64) float factor[kLanes];
    alignas(64) std::int32_t begin[kLanes], end[kLanes];
    product(keys, a.head_dim, keys_.get(), queries_.get() + s * kLanes * a.head_dim, scores, a.scale, false);
    for (int lane = 0; lane < kLanes; ++lane) {
      begin[lane] = strip.begin[lane] - static_cast<std::int32_t>(key);
      end[lane] = strip.end[lane] - static_cast<std::int32_t>(key);
    }
    const bool partial = strip.count < kLanes || strip.last_begin > key || strip.first_end < key + keys;
    const attention::Block block{static_cast<std::int32_t>(keys),
                                 partial || a.key_mask != nullptr,
                                 begin,
                                 end,
                                 a.key_mask == nullptr ? nullptr : a.key_mask + key,
                                 a.soft_cap};
    float* sums = sums_.get() + s * kLanes * plan_.value_dim;
    if (plan_.soft.softmax_block(block, scores, strip.state, factor))
      plan_.soft.rescale(plan_.value_dim, factor, sums);
    product(plan_.value_dim, keys, values_.get(), scores, sums, 1.0f, true);
  }

  void write() const {
    for (std::int64_t s = 0; s < strip_count_; ++s) {
      float* out[kLanes] = {};
      for (int lane = 0; lane < strips_[s].count; ++lane) {
        const std::int64_t row = row0_ + s * kLanes + lane;
        out[lane] = plan_.a.out + query_of(row) * plan_.a.ldout + head_of(row) * plan_.out_head;
      }
      plan_.soft.finish(plan_.value_dim, sums_.get() + s * kLanes * plan_.value_dim, strips_[s].state,
                        strips_[s].count, out);
    }
  }

  const Plan& plan_;
  std::int64_t kv_head_, row0_, row1_, strip_count_;
  gemm::Floats queries_, sums_, keys_, values_;
  Strip strips_[kTaskRows / kLanes];
};

}  // namespace

void attend(ThreadPool& pool, const Attention& a) {
  if (a.queries <= 0 || a.heads <= 0) return;
  if (a.probability_dtype != DType::kF32) {
    attention::attend_narrow(pool, a);
    return;
  }
  const Plan plan = make_plan(a);
  const std::int64_t tasks = ceil_div(plan.rows, kTaskRows);
  pool.parallel_for(tasks * a.kv_heads, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t row = i % tasks * kTaskRows;
      Task(plan, i / tasks, row, std::min(row + kTaskRows, plan.rows)).run();
    }
  });
}

}  // namespace nibble::kernels
