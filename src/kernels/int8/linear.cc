// SPDX-License-Identifier: Apache-2.0
// Products of int8 activations: packing, blocks, and the last scaling.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/tensor.h"
#include "kernels/gemm/driver.h"
#include "kernels/int8/table.h"
#include "kernels/level_table.h"
#include "kernels/packed/storage.h"

namespace nibble::kernels {

namespace int8 {
const Kernels& kernels() {
#if defined(__x86_64__)
  static constexpr LevelTable<Kernels> kTables{&kPortable, &kAvx2, &kAvx512, &kAvx512Vnni};
#else
  static constexpr LevelTable<Kernels> kTables{&kPortable, nullptr, nullptr, nullptr};
#endif
  return pick_level(kTables);
}
}  // namespace int8

namespace {

using packed::kChunk;
using packed::kLanes;
using Storage = PackedWeights::Storage;

// A task's activations stay in the L2 cache while it walks over its strips.
constexpr std::int64_t kTaskBytes = 384 * 1024;
constexpr std::int64_t kTaskStrips = 16;
// Columns of which the products of any codes still fit an int32: 255 * 128 * 2^15 < 2^31.
constexpr std::int64_t kMostColumns = std::int64_t{1} << 15;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// Columns with one scale, at most kMostColumns of them.
struct Segment {
  std::int64_t begin, end, group;
};

std::vector<Segment> cut_segments(const Storage& s, std::int64_t cols) {
  std::vector<Segment> out;
  for (std::int64_t g = 0; g < s.groups; ++g) {
    const std::int64_t end = std::min(cols, (g + 1) * s.group_size);
    for (std::int64_t k = g * s.group_size; k < end; k += kMostColumns) {
      out.push_back({k, std::min(k + kMostColumns, end), g});
    }
  }
  return out;
}

struct Job {
  const int8::Kernels& kernel;
  const int8::Format& format;
  const QuantizedTokens& x;
  const PackedWeights& weights;
  const Storage& storage;
  std::vector<Segment> segments;
  gemm::Tiles tiles;
  std::int64_t words;                // packed words of one token
  std::vector<std::int32_t> packed;  // [tile][quad][rows][words of a quad]
  std::vector<std::int32_t> sums;    // [segment][token]
  float* y;
  std::int64_t ldy;
};

std::int64_t words_per_quad(const Job& job) {
  return job.format.wide ? 2 : 1;
}

// Codes of one token in the column order of the weights, padded with zeros to whole chunks.
void load_token(const Job& job, std::int64_t token, std::vector<std::int8_t>& codes) {
  const std::int8_t* row = job.x.codes + token * job.x.ld;
  const std::vector<std::int32_t>& order = job.storage.order;
  for (std::int64_t k = 0; k < job.weights.cols(); ++k) {
    codes[static_cast<std::size_t>(k)] = row[order.empty() ? k : order[static_cast<std::size_t>(k)]];
  }
}

std::int32_t word_of_bytes(const std::int8_t* codes, int step) {
  std::uint32_t word = 0;
  for (int i = 0; i < 4; ++i) word |= std::uint32_t{static_cast<std::uint8_t>(codes[i * step])} << (8 * i);
  return static_cast<std::int32_t>(word);
}

std::int32_t word_of_halves(std::int8_t a, std::int8_t b) {
  const auto low = static_cast<std::uint16_t>(std::int16_t{a}),
             high = static_cast<std::uint16_t>(std::int16_t{b});
  return static_cast<std::int32_t>(std::uint32_t{low} | std::uint32_t{high} << 16);
}

void pack_tile(Job& job, std::int64_t tile) {
  const std::int64_t first = job.tiles.begin(tile), rows = job.tiles.begin(tile + 1) - first;
  const std::int64_t padded = ceil_div(job.weights.cols(), kChunk) * kChunk, per_quad = words_per_quad(job);
  std::int32_t* out = job.packed.data() + first * job.words;
  std::vector<std::int8_t> codes(static_cast<std::size_t>(padded), std::int8_t{0});
  for (std::int64_t r = 0; r < rows; ++r) {
    load_token(job, first + r, codes);
    for (std::size_t s = 0; s < job.segments.size(); ++s) {
      std::int32_t sum = 0;
      for (std::int64_t k = job.segments[s].begin; k < job.segments[s].end; ++k) {
        sum += codes[static_cast<std::size_t>(k)];
      }
      job.sums[s * static_cast<std::size_t>(job.x.tokens) + static_cast<std::size_t>(first + r)] = sum;
    }
    for (std::int64_t q = 0; q < padded / 4; ++q) {
      std::int32_t* to = out + (q * rows + r) * per_quad;
      if (job.storage.bits == 4) {
        *to = word_of_bytes(codes.data() + q / 2 * 8 + q % 2, 2);
      } else if (!job.format.wide) {
        *to = word_of_bytes(codes.data() + q * 4, 1);
      } else {
        const std::int8_t* c = codes.data() + q * 4;
        to[0] = word_of_halves(c[0], c[2]);
        to[1] = word_of_halves(c[1], c[3]);
      }
    }
  }
}

// Scales and stored zeros of strips [strip, strip + count) in one group.
void load_group(const Storage& s, std::int64_t strip, std::int64_t count, std::int64_t group, float* scales,
                std::int32_t* zeros) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t at = ((strip + i) * s.groups + group) * kLanes;
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      scales[i * kLanes + lane] = s.scale(at + lane);
      zeros[i * kLanes + lane] = s.zero(at + lane);
    }
  }
}

// Tiles [tile0, tile1) times up to `kernel.strips` strips, all segments in order.
void compute_strips(const Job& job, std::int64_t tile0, std::int64_t tile1, std::int64_t strip,
                    std::int64_t strips) {
  alignas(64) float scales[int8::kMaxStrips * kLanes];
  alignas(64) std::int32_t zeros[int8::kMaxStrips * kLanes];
  const auto cols = static_cast<int>(std::min(job.weights.rows() - strip * kLanes, strips * kLanes));
  const auto* words =
      reinterpret_cast<const std::uint32_t*>(job.storage.strips.get() + strip * job.storage.strip_bytes);
  for (std::size_t s = 0; s < job.segments.size(); ++s) {
    const Segment& segment = job.segments[s];
    load_group(job.storage, strip, strips, segment.group, scales, zeros);
    const std::int64_t quads = ceil_div(segment.end - segment.begin, 8) * 2;
    for (std::int64_t t = tile0; t < tile1; ++t) {
      const std::int64_t row = job.tiles.begin(t), rows = job.tiles.begin(t + 1) - row;
      job.format.run[rows - 1][strips - 1](
          {quads, job.packed.data() + row * job.words + segment.begin / 4 * rows * words_per_quad(job),
           job.sums.data() + s * static_cast<std::size_t>(job.x.tokens) + row,
           words + segment.begin * job.storage.bits / 32 * kLanes, job.storage.strip_bytes / 4, scales, zeros,
           job.y + row * job.ldy + strip * kLanes, job.ldy, cols, s > 0});
    }
  }
}

// y = x_scale * (y - x_zero * row_sum).
void scale_rows(const Job& job, std::int64_t row0, std::int64_t row1, std::int64_t column,
                std::int64_t cols) {
  for (std::int64_t t = row0; t < row1; ++t) {
    float* y = job.y + t * job.ldy + column;
    const float scale = job.x.scales[t];
    if (job.x.zeros != nullptr && job.x.zeros[t] != 0) {
      const auto zero = static_cast<float>(job.x.zeros[t]);
      for (std::int64_t j = 0; j < cols; ++j) {
        y[j] -= zero * job.storage.row_sums[static_cast<std::size_t>(column + j)];
      }
    }
    for (std::int64_t j = 0; j < cols; ++j) y[j] *= scale;
  }
}

void run_tiles(ThreadPool& pool, const Job& job) {
  const std::int64_t strips = ceil_div(job.weights.rows(), kLanes),
                     column_tasks = ceil_div(strips, kTaskStrips);
  const std::int64_t task_rows = std::max<std::int64_t>(kTaskBytes / (job.words * 4), 1);
  const std::int64_t task_tiles = std::max<std::int64_t>(task_rows / job.kernel.mr, 1);
  const std::int64_t row_tasks = ceil_div(job.tiles.count, task_tiles);
  pool.parallel_for(row_tasks * column_tasks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t tile0 = i / column_tasks * task_tiles,
                         tile1 = std::min(tile0 + task_tiles, job.tiles.count);
      const std::int64_t strip0 = i % column_tasks * kTaskStrips,
                         strip1 = std::min(strip0 + kTaskStrips, strips);
      for (std::int64_t s = strip0; s < strip1; s += job.kernel.strips) {
        compute_strips(job, tile0, tile1, s, std::min<std::int64_t>(job.kernel.strips, strip1 - s));
      }
      const std::int64_t column = strip0 * kLanes, end_column = std::min(strip1 * kLanes, job.weights.rows());
      scale_rows(job, job.tiles.begin(tile0), job.tiles.begin(tile1), column, end_column - column);
    }
  });
}

}  // namespace

bool has_int8_path(const PackedWeights& weights) {
  const Storage& s = PackedAccess::storage(weights);
  return s.coded && s.kind == CodeKind::kInteger && (s.bits == 8 || s.bits == 4) &&
         (s.groups <= 1 || s.group_size % 8 == 0);
}

void linear_int8(ThreadPool& pool, const QuantizedTokens& x, const PackedWeights& weights, float* y,
                 std::int64_t ldy) {
  if (x.tokens <= 0 || weights.rows() == 0) return;
  const Storage& storage = PackedAccess::storage(weights);
  CHECK(has_int8_path(weights), "ask has_int8_path() first");
  const int8::Kernels& kernel = int8::kernels();
  const int8::Format& format = storage.bits == 8 ? kernel.bits8 : kernel.bits4;
  const std::int64_t quads = ceil_div(weights.cols(), kChunk) * kChunk / 4,
                     words = quads * (format.wide ? 2 : 1);
  Job job{kernel,
          format,
          x,
          weights,
          storage,
          cut_segments(storage, weights.cols()),
          gemm::Tiles(x.tokens, kernel.mr),
          words,
          {},
          {},
          y,
          ldy};
  job.packed.resize(static_cast<std::size_t>(x.tokens * words));
  job.sums.resize(job.segments.size() * static_cast<std::size_t>(x.tokens));
  pool.parallel_for(job.tiles.count, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t t = first; t < last; ++t) pack_tile(job, t);
  });
  run_tiles(pool, job);
}

}  // namespace nibble::kernels
