// SPDX-License-Identifier: Apache-2.0
// Weights from a checkpoint's codec into the run-time layout of table.h.
#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/dtype.h"
#include "base/tensor.h"
#include "kernels/convert.h"
#include "kernels/packed/storage.h"

namespace nibble::kernels {
namespace {

using packed::kChunk;
using packed::kLanes;
using packed::ScaleType;
using Storage = PackedWeights::Storage;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::uint32_t stored_code(const CodedWeights& w, std::int64_t row, std::int64_t column) {
  const int code = w.codes[row * w.ld + column];
  const int offset = w.kind == CodeKind::kInteger ? 1 << (w.bits - 1) : 0;
  return static_cast<std::uint32_t>(code + offset) & ((1u << w.bits) - 1u);
}

// Adds a code's planes to the words of its chunk, which start at zero.
void put_code(std::uint32_t* chunk, int bits, int t, int lane, std::uint32_t code) {
  std::uint32_t* plane = chunk;
  for (int left = bits, width = 8; left > 0; width /= 2) {
    if (width > left) continue;
    left -= width;
    const int per_word = 32 / width;
    const std::uint32_t part = (code >> left) & ((1u << width) - 1u);
    plane[t / per_word * kLanes + lane] |= part << (t % per_word * width);
    plane += width * kLanes;
  }
}

// Columns sorted by group, in their old order inside a group; empty if they are sorted already.
std::vector<std::int32_t> column_order(const CodedWeights& w) {
  if (w.group_index == nullptr || std::is_sorted(w.group_index, w.group_index + w.cols)) return {};
  std::vector<std::int32_t> order(static_cast<std::size_t>(w.cols));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return w.group_index[a] < w.group_index[b]; });
  return order;
}

template <class Survives>
bool all_scales(const CodedWeights& w, std::int64_t groups, Survives survives) {
  const std::int64_t rows = w.scale_ld == 0 ? 1 : w.rows;
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = w.scales + r * w.scale_ld;
    if (!std::all_of(row, row + groups, survives)) return false;
  }
  return true;
}

// Two bytes per scale where that loses nothing: checkpoints keep scales in the dtype of the model.
ScaleType narrowest_scale(const CodedWeights& w, std::int64_t groups) {
  const auto same = [](float a, float b) {
    return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
  };
  if (all_scales(w, groups, [&](float s) { return same(bf16_to_f32(f32_to_bf16(s)), s); }))
    return ScaleType::kBf16;
  if (all_scales(w, groups, [&](float s) { return same(f16_to_f32(f32_to_f16(s)), s); }))
    return ScaleType::kF16;
  return ScaleType::kF32;
}

void put_scale(Storage& s, std::int64_t at, float scale) {
  if (s.scale_type == ScaleType::kF32) {
    reinterpret_cast<float*>(s.scales.get())[at] = scale;
  } else {
    const bool bf16 = s.scale_type == ScaleType::kBf16;
    reinterpret_cast<std::uint16_t*>(s.scales.get())[at] = bf16 ? f32_to_bf16(scale) : f32_to_f16(scale);
  }
}

// What an activation's zero point is multiplied by.
float sum_row(const CodedWeights& w, const Storage& s, std::int64_t row) {
  float total = 0.0f;
  for (std::int64_t g = 0, i = 0; g < s.groups; ++g) {
    const std::int64_t at = row * w.scale_ld + g;
    std::int64_t sum = 0;
    for (; i < std::min(w.cols, (g + 1) * s.group_size); ++i) {
      const std::int64_t column = s.order.empty() ? i : s.order[static_cast<std::size_t>(i)];
      sum += w.codes[row * w.ld + column] - (w.zeros == nullptr ? 0 : w.zeros[at]);
    }
    total += static_cast<float>(sum) * w.scales[at];
  }
  return total;
}

void pack_strip(const CodedWeights& w, Storage& s, std::int64_t strip) {
  auto* words = reinterpret_cast<std::uint32_t*>(s.strips.get() + strip * s.strip_bytes);
  const std::int64_t first = strip * kLanes;
  const auto count = static_cast<int>(std::min<std::int64_t>(kLanes, w.rows - first));
  for (int lane = 0; lane < count; ++lane) {
    if (w.kind == CodeKind::kInteger)
      s.row_sums[static_cast<std::size_t>(first + lane)] = sum_row(w, s, first + lane);
    for (std::int64_t i = 0; i < w.cols; ++i) {
      const std::int64_t column = s.order.empty() ? i : s.order[static_cast<std::size_t>(i)];
      put_code(words + i / kChunk * w.bits * kLanes, w.bits, static_cast<int>(i % kChunk), lane,
               stored_code(w, first + lane, column));
    }
    for (std::int64_t g = 0; g < s.groups; ++g) {
      const std::int64_t from = (first + lane) * w.scale_ld + g, to = (strip * s.groups + g) * kLanes + lane;
      put_scale(s, to, w.scales[from]);
      if (s.zeros != nullptr) {
        s.zeros.get()[to] = static_cast<std::byte>(w.zeros[from] + (1 << (w.bits - 1)));
      }
    }
  }
}

void check(const CodedWeights& w) {
  CHECK(w.rows >= 0 && w.cols >= 0 && w.group_size >= 0, "sizes are not negative");
  CHECK(w.kind != CodeKind::kInteger || (w.bits >= 2 && w.bits <= packed::kMaxBits),
        "integers have 2 to 8 bits");
  CHECK(w.kind != CodeKind::kTable || w.bits == 4, "a table has 16 entries");
  CHECK(w.kind != CodeKind::kFloat8 || w.bits == 8, "a float8 has 8 bits");
  CHECK(w.kind == CodeKind::kInteger || w.zeros == nullptr, "only integers have zero points");
}

}  // namespace

packed::CodeStrip Storage::strip(std::int64_t index) const {
  const std::int64_t at = index * groups * kLanes;
  return {reinterpret_cast<const std::uint32_t*>(strips.get() + index * strip_bytes),
          scales.get() + at * scale_bytes(),
          zeros == nullptr ? nullptr : reinterpret_cast<const std::uint8_t*>(zeros.get() + at),
          table.data(),
          group_size,
          scale_type};
}

float Storage::scale(std::int64_t at) const {
  if (scale_type == ScaleType::kF32) return reinterpret_cast<const float*>(scales.get())[at];
  const std::uint16_t code = reinterpret_cast<const std::uint16_t*>(scales.get())[at];
  return scale_type == ScaleType::kBf16 ? bf16_to_f32(code) : f16_to_f32(code);
}

std::int32_t Storage::zero(std::int64_t at) const {
  return zeros == nullptr ? 1 << (bits - 1) : std::to_integer<std::int32_t>(zeros.get()[at]);
}

PackedWeights PackedAccess::make(std::int64_t rows, std::int64_t cols, std::size_t bytes,
                                 std::shared_ptr<const Storage> storage) {
  PackedWeights out;
  out.rows_ = rows;
  out.cols_ = cols;
  out.bytes_ = bytes;
  out.storage_ = std::move(storage);
  return out;
}

PackedWeights pack_dense(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* w,
                         std::int64_t ld, DType storage) {
  CHECK(storage == DType::kF32 || storage == DType::kBF16 || storage == DType::kF16,
        "dense weights are floats");
  auto s = std::make_shared<Storage>();
  const auto size = static_cast<std::int64_t>(dtype_bytes(storage));
  const std::int64_t strips = ceil_div(rows, kLanes);
  s->dense = storage;
  s->strip_bytes = cols * kLanes * size;
  const auto bytes = static_cast<std::size_t>(strips * s->strip_bytes);
  s->strips = allocate_aligned(bytes);
  pool.parallel_for(strips, 1, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> block(static_cast<std::size_t>(cols * kLanes));
    for (std::int64_t strip = first; strip < last; ++strip) {
      const std::int64_t count = std::min<std::int64_t>(kLanes, rows - strip * kLanes);
      std::fill(block.begin(), block.end(), 0.0f);
      for (std::int64_t lane = 0; lane < count; ++lane) {
        const float* row = w + (strip * kLanes + lane) * ld;
        for (std::int64_t k = 0; k < cols; ++k) block[static_cast<std::size_t>(k * kLanes + lane)] = row[k];
      }
      encode_from_f32(pool, storage, block.data(), cols * kLanes, s->strips.get() + strip * s->strip_bytes);
    }
  });
  return PackedAccess::make(rows, cols, bytes, std::move(s));
}

PackedWeights pack_codes(ThreadPool& pool, const CodedWeights& w) {
  check(w);
  auto s = std::make_shared<Storage>();
  const std::int64_t strips = ceil_div(w.rows, kLanes);
  s->coded = true;
  s->kind = w.kind;
  s->bits = w.bits;
  s->table = w.table;
  s->group_size = w.group_size == 0 ? std::max<std::int64_t>(w.cols, 1) : w.group_size;
  s->groups = ceil_div(w.cols, s->group_size);
  s->order = column_order(w);
  s->scale_type = narrowest_scale(w, s->groups);
  s->strip_bytes = ceil_div(w.cols, kChunk) * w.bits * kLanes * 4;
  const auto code_bytes = static_cast<std::size_t>(strips * s->strip_bytes);
  const auto scale_count = static_cast<std::size_t>(strips * s->groups * kLanes);
  const std::size_t scale_bytes = scale_count * static_cast<std::size_t>(s->scale_bytes());
  s->strips = allocate_aligned(code_bytes);
  s->scales = allocate_aligned(scale_bytes);
  if (w.zeros != nullptr) s->zeros = allocate_aligned(scale_count);
  s->row_sums.resize(static_cast<std::size_t>(w.rows));
  pool.parallel_for(strips, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t strip = first; strip < last; ++strip) pack_strip(w, *s, strip);
  });
  return PackedAccess::make(w.rows, w.cols, code_bytes + scale_bytes + (w.zeros != nullptr ? scale_count : 0),
                            std::move(s));
}

}  // namespace nibble::kernels
