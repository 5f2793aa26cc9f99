// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/driver.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace nibble::kernels::gemm {
namespace {

// Rows up to which B is unpacked strip by strip into the L1 cache of the thread that uses it. Beyond, B is
// packed once per pass and shared.
constexpr std::int64_t kFewRows = 168;
// A pass over a super-block packs at most this many rows of A and columns of B (3 MiB each).
constexpr std::int64_t kSuperRows = 3072;
constexpr std::int64_t kSuperColumns = 3072;
// A task: its rows of A (168 x 256 floats) stay in the L2 cache while it walks over its columns.
constexpr std::int64_t kTaskRows = 168;
constexpr std::int64_t kTaskStrips = 16;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

void pack_a(const Kernels& kernel, const Operand& a, std::int64_t row, int rows, std::int64_t first,
            std::int64_t depth, float* out) {
  if (a.k_major) {
    kernel.pack_columns(a.data + first * a.ld + row, a.ld, rows, depth, out, rows);
  } else {
    kernel.pack_rows(a.data + row * a.ld + first, a.ld, rows, depth, out, rows);
  }
}

struct Job {
  const Kernels& kernel;
  std::int64_t m, n, k;
  const Operand& a;
  const StripSource& b;
  const Output& out;
};

void run_tile(const Job& job, std::int64_t row, std::int64_t rows, std::int64_t strip, std::int64_t strips,
              std::int64_t first, std::int64_t depth, const float* a, const float* b,
              std::int64_t strip_stride) {
  const std::int64_t column = strip * kStrip;
  const auto cols = static_cast<int>(std::min(job.n - column, strips * kStrip));
  if (job.out.upper && column + cols <= row) return;
  job.kernel.tile[rows - 1][strips - 1](depth, a, b, strip_stride, job.out.c + row * job.out.ldc + column,
                                        job.out.ldc, cols, job.out.alpha, job.out.accumulate || first > 0);
}

// All of A, pass by pass, tile by tile; as [k][m] if there is one tile.
Floats pack_rows_of_a(ThreadPool& pool, const Job& job, const Tiles& tiles) {
  Floats packed = allocate_floats(job.m * job.k);
  pool.parallel_for(ceil_div(job.k, kDepth), 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin * kDepth; first < std::min(end * kDepth, job.k); first += kDepth) {
      const std::int64_t depth = std::min<std::int64_t>(kDepth, job.k - first);
      for (std::int64_t t = 0; t < tiles.count; ++t) {
        const std::int64_t row = tiles.begin(t);
        pack_a(job.kernel, job.a, row, static_cast<int>(tiles.begin(t + 1) - row), first, depth,
               packed.get() + first * job.m + row * depth);
      }
    }
  });
  return packed;
}

// Groups of strips [begin, end), unpacked into the L1 cache one after the other in every pass.
void multiply_groups(const Job& job, const Tiles& tiles, const float* packed, std::int64_t step,
                     std::int64_t begin, std::int64_t end) {
  alignas(64) float local[2 * kDepth * kStrip];
  const std::int64_t strip_count = ceil_div(job.n, kStrip);
  for (std::int64_t first = 0; first < job.k; first += kDepth) {
    const std::int64_t depth = std::min<std::int64_t>(kDepth, job.k - first);
    for (std::int64_t strip = begin * step; strip < std::min(end * step, strip_count); strip += step) {
      const std::int64_t strips = std::min(step, strip_count - strip);
      const float* b = job.b.ready(strip);
      std::int64_t stride = job.b.strip_stride();
      if (b != nullptr) {
        b += first * kStrip;
      } else {
        stride = depth * kStrip;
        for (std::int64_t s = 0; s < strips; ++s) job.b.fill(strip + s, first, depth, local + s * stride);
        b = local;
      }
      for (std::int64_t t = 0; t < tiles.count; ++t) {
        const std::int64_t row = tiles.begin(t);
        run_tile(job, row, tiles.begin(t + 1) - row, strip, strips, first, depth,
                 packed + first * job.m + row * depth, b, stride);
      }
    }
  }
}

void multiply_few_rows(ThreadPool& pool, const Job& job) {
  const bool fused = job.m <= job.b.fused_rows() && job.out.alpha == 1.0f;
  const Tiles tiles(job.m, job.kernel.mr);
  const Floats packed = pack_rows_of_a(pool, job, tiles);
  const std::int64_t step = fused ? 2 : job.kernel.strips;
  const std::int64_t groups = ceil_div(ceil_div(job.n, kStrip), step);
  const std::int64_t grain = std::clamp<std::int64_t>(groups / (4 * pool.size()), 1, 8);
  pool.parallel_for(groups, grain, [&](std::int64_t begin, std::int64_t end) {
    if (!fused) return multiply_groups(job, tiles, packed.get(), step, begin, end);
    for (std::int64_t g = begin; g < end; ++g) {
      const std::int64_t column = g * 2 * kStrip;
      job.b.dot(g * 2, job.m, packed.get(), job.out.c + column, job.out.ldc,
                static_cast<int>(std::min<std::int64_t>(job.n - column, 2 * kStrip)), job.out.accumulate);
    }
  });
}

// One pass of a super-block: rows [row0, row1), strips [strip0, strip1).
struct Pass {
  std::int64_t row0, row1, strip0, strip1, first, depth;
  float* a;  // packed rows
  float* b;  // packed strips; unused if they lie ready
};

void pack_pass(ThreadPool& pool, const Job& job, const Pass& pass) {
  const Tiles tiles(pass.row1 - pass.row0, job.kernel.mr);
  const std::int64_t strips = job.b.ready(pass.strip0) == nullptr ? pass.strip1 - pass.strip0 : 0;
  pool.parallel_for(tiles.count + strips, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (i < strips) {
        job.b.fill(pass.strip0 + i, pass.first, pass.depth, pass.b + i * kStrip * pass.depth);
        continue;
      }
      const std::int64_t row = tiles.begin(i - strips);
      pack_a(job.kernel, job.a, pass.row0 + row, static_cast<int>(tiles.begin(i - strips + 1) - row),
             pass.first, pass.depth, pass.a + row * pass.depth);
    }
  });
}

void compute_block(const Job& job, const Pass& pass, const Tiles& tiles, std::int64_t tile0,
                   std::int64_t tile1, std::int64_t strip0, std::int64_t strip1) {
  const std::int64_t step = job.kernel.strips;
  for (std::int64_t strip = strip0; strip < strip1; strip += step) {
    const std::int64_t strips = std::min(step, strip1 - strip);
    const float* b = job.b.ready(strip);
    std::int64_t stride = job.b.strip_stride();
    if (b != nullptr) {
      b += pass.first * kStrip;
    } else {
      stride = pass.depth * kStrip;
      b = pass.b + (strip - pass.strip0) * stride;
    }
    for (std::int64_t t = tile0; t < tile1; ++t) {
      const std::int64_t row = tiles.begin(t);
      run_tile(job, pass.row0 + row, tiles.begin(t + 1) - row, strip, strips, pass.first, pass.depth,
               pass.a + row * pass.depth, b, stride);
    }
  }
}

void compute_pass(ThreadPool& pool, const Job& job, const Pass& pass) {
  const Tiles tiles(pass.row1 - pass.row0, job.kernel.mr);
  const std::int64_t task_tiles = std::max<std::int64_t>(kTaskRows / job.kernel.mr, 1);
  const std::int64_t row_tasks = ceil_div(tiles.count, task_tiles);
  const std::int64_t column_tasks = ceil_div(pass.strip1 - pass.strip0, kTaskStrips);
  pool.parallel_for(row_tasks * column_tasks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t tile = i / column_tasks * task_tiles;
      const std::int64_t strip = pass.strip0 + i % column_tasks * kTaskStrips;
      compute_block(job, pass, tiles, tile, std::min(tile + task_tiles, tiles.count), strip,
                    std::min(strip + kTaskStrips, pass.strip1));
    }
  });
}

void multiply_many_rows(ThreadPool& pool, const Job& job) {
  constexpr std::int64_t kSuperStrips = kSuperColumns / kStrip;
  const std::int64_t strips = ceil_div(job.n, kStrip);
  const std::int64_t depth = std::min<std::int64_t>(job.k, kDepth);
  const Floats a = allocate_floats(std::min(job.m, kSuperRows) * depth);
  const bool packs_b = job.b.ready(0) == nullptr;
  const Floats b = allocate_floats(packs_b ? std::min(strips, kSuperStrips) * kStrip * depth : 0);
  for (std::int64_t strip = 0; strip < strips; strip += kSuperStrips) {
    for (std::int64_t row = 0; row < job.m; row += kSuperRows) {
      Pass pass{row,     std::min(row + kSuperRows, job.m),
                strip,   std::min(strip + kSuperStrips, strips),
                0,       0,
                a.get(), b.get()};
      if (job.out.upper && pass.strip1 * kStrip <= row) continue;
      for (std::int64_t first = 0; first < job.k; first += kDepth) {
        pass.first = first;
        pass.depth = std::min<std::int64_t>(kDepth, job.k - first);
        pack_pass(pool, job, pass);
        compute_pass(pool, job, pass);
      }
    }
  }
}

}  // namespace

void FreeFloats::operator()(float* p) const {
  std::free(p);
}

Floats allocate_floats(std::int64_t count) {
  const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(float) + 127) / 64 * 64;
  void* memory = std::aligned_alloc(64, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return Floats(static_cast<float*>(memory));
}

void multiply(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, const Operand& a,
              const StripSource& b, const Output& out) {
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {
    if (out.accumulate) return;
    for (std::int64_t r = 0; r < m; ++r) std::fill_n(out.c + r * out.ldc, n, 0.0f);
    return;
  }
  const Job job{kernels(), m, n, k, a, b, out};
  if (m <= kFewRows) {
    multiply_few_rows(pool, job);
  } else {
    multiply_many_rows(pool, job);
  }
}

}  // namespace nibble::kernels::gemm
