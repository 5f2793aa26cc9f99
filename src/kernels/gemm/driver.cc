// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/driver.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace nibble::kernels::gemm {
namespace {

// Rows up to which B is unpacked strip by strip into the L1 cache of the thread that uses it. Beyond, B is
// packed once per pass and shared.
constexpr std::int64_t kFewRows = 168;
// A super-block of C takes its k in panels of two passes; 1536 rows or columns of a panel are 4.5 MiB, so
// that both stay in the L3 cache.
constexpr std::int64_t kSuperRows = 1536;
constexpr std::int64_t kSuperColumns = 1536;
constexpr std::int64_t kPanelDepth = 2 * kDepth;
// A task walks through the passes of a panel itself: its part of C, its rows of A and its strips stay in the
// L2 cache (and their pages in the TLB, which matters more).
constexpr std::int64_t kTaskRows = 168;
constexpr std::int64_t kTaskStrips = 16;
// A packing task: this many tiles or strips. Of a matrix that is stored k by k a few k of all its items come
// before the next k: every line and page is visited once.
constexpr std::int64_t kPackItems = 8;
constexpr std::int64_t kPackDepth = 32;

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

// A super-block of C and the passes that are packed for it at one time: rows [row0, row1), strips [strip0,
// strip1), k in [first, first + depth).
struct Panel {
  std::int64_t row0, row1, strip0, strip1, first, depth;
  float* a;  // rows, pass by pass, tile by tile
  float* b;  // strips, pass by pass; unused if they lie ready

  std::int64_t rows() const { return row1 - row0; }
  std::int64_t strips() const { return strip1 - strip0; }
};

// body(offset of the pass in the panel, its depth)
template <class Body>
void for_passes(const Panel& panel, Body body) {
  for (std::int64_t k = 0; k < panel.depth; k += kDepth)
    body(k, std::min<std::int64_t>(kDepth, panel.depth - k));
}

// Packs depth values of k from `k` on of item i: a strip of B, or behind the strips a tile of A.
void pack_item(const Job& job, const Panel& panel, const Tiles& tiles, std::int64_t strips, std::int64_t i,
               std::int64_t pass, std::int64_t pass_depth, std::int64_t k, std::int64_t depth) {
  if (i < strips) {
    float* out = panel.b + (pass * strips + i * pass_depth + (k - pass)) * kStrip;
    return job.b.fill(panel.strip0 + i, panel.first + k, depth, out);
  }
  const std::int64_t row = tiles.begin(i - strips), rows = tiles.begin(i - strips + 1) - row;
  pack_a(job.kernel, job.a, panel.row0 + row, static_cast<int>(rows), panel.first + k, depth,
         panel.a + pass * panel.rows() + row * pass_depth + (k - pass) * rows);
}

// Items [begin, end), `step` values of k at a time.
void pack_items(const Job& job, const Panel& panel, const Tiles& tiles, std::int64_t strips,
                std::int64_t begin, std::int64_t end, std::int64_t step) {
  for_passes(panel, [&](std::int64_t pass, std::int64_t pass_depth) {
    for (std::int64_t k = pass; k < pass + pass_depth; k += step) {
      const std::int64_t depth = std::min(step, pass + pass_depth - k);
      for (std::int64_t i = begin; i < end; ++i)
        pack_item(job, panel, tiles, strips, i, pass, pass_depth, k, depth);
    }
  });
}

void pack_panel(ThreadPool& pool, const Job& job, const Panel& panel) {
  const Tiles tiles(panel.rows(), job.kernel.mr);
  const std::int64_t strips = job.b.ready(panel.strip0) == nullptr ? panel.strips() : 0;
  pool.parallel_for(tiles.count + strips, kPackItems, [&](std::int64_t begin, std::int64_t end) {
    pack_items(job, panel, tiles, strips, begin, std::min(end, strips),
               job.b.k_major() ? kPackDepth : kDepth);
    pack_items(job, panel, tiles, strips, std::max(begin, strips), end, job.a.k_major ? kPackDepth : kDepth);
  });
}

// Reads ahead what a tile will add to: one line per strip and row.
void prefetch_tile(const Output& out, std::int64_t row, std::int64_t rows, std::int64_t column,
                   std::int64_t strips) {
  for (std::int64_t r = row; r < row + rows; ++r) {
    for (std::int64_t s = 0; s < strips; ++s) __builtin_prefetch(out.c + r * out.ldc + column + s * kStrip);
  }
}

void compute_block(const Job& job, const Panel& panel, const Tiles& tiles, std::int64_t tile0,
                   std::int64_t tile1, std::int64_t strip0, std::int64_t strip1) {
  const std::int64_t step = job.kernel.strips;
  for_passes(panel, [&](std::int64_t k, std::int64_t depth) {
    for (std::int64_t strip = strip0; strip < strip1; strip += step) {
      const std::int64_t strips = std::min(step, strip1 - strip);
      const float* b = job.b.ready(strip);
      std::int64_t stride = job.b.strip_stride();
      if (b != nullptr) {
        b += (panel.first + k) * kStrip;
      } else {
        stride = depth * kStrip;
        b = panel.b + k * panel.strips() * kStrip + (strip - panel.strip0) * stride;
      }
      for (std::int64_t t = tile0; t < tile1; ++t) {
        const std::int64_t row = tiles.begin(t), rows = tiles.begin(t + 1) - row;
        if (k == 0) prefetch_tile(job.out, panel.row0 + row, rows, strip * kStrip, strips);
        run_tile(job, panel.row0 + row, rows, strip, strips, panel.first + k, depth,
                 panel.a + k * panel.rows() + row * depth, b, stride);
      }
    }
  });
}

void compute_panel(ThreadPool& pool, const Job& job, const Panel& panel) {
  const Tiles tiles(panel.rows(), job.kernel.mr);
  const std::int64_t task_tiles = std::max<std::int64_t>(kTaskRows / job.kernel.mr, 1);
  const std::int64_t row_tasks = ceil_div(tiles.count, task_tiles);
  const std::int64_t column_tasks = ceil_div(panel.strips(), kTaskStrips);
  pool.parallel_for(row_tasks * column_tasks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t tile = i / column_tasks * task_tiles;
      const std::int64_t strip = panel.strip0 + i % column_tasks * kTaskStrips;
      compute_block(job, panel, tiles, tile, std::min(tile + task_tiles, tiles.count), strip,
                    std::min(strip + kTaskStrips, panel.strip1));
    }
  });
}

// Memory that grows and stays.
class Workspace {
 public:
  float* reserve(std::int64_t count) {
    if (count > size_) {
      memory_.reset();
      memory_ = allocate_floats(count);
      size_ = count;
    }
    return memory_.get();
  }

 private:
  Floats memory_;
  std::int64_t size_ = 0;
};

void multiply_many_rows(ThreadPool& pool, const Job& job) {
  constexpr std::int64_t kSuperStrips = kSuperColumns / kStrip;
  const std::int64_t strips = ceil_div(job.n, kStrip);
  const std::int64_t depth = std::min<std::int64_t>(job.k, kPanelDepth);
  // Kept by the calling thread (at most 12 MiB): fresh pages would cost more than packing does.
  thread_local Workspace workspace_a, workspace_b;
  float* a = workspace_a.reserve(std::min(job.m, kSuperRows) * depth);
  const bool packs_b = job.b.ready(0) == nullptr;
  float* b = workspace_b.reserve(packs_b ? std::min(strips, kSuperStrips) * kStrip * depth : 0);
  for (std::int64_t strip = 0; strip < strips; strip += kSuperStrips) {
    for (std::int64_t row = 0; row < job.m; row += kSuperRows) {
      Panel panel{
          row, std::min(row + kSuperRows, job.m), strip, std::min(strip + kSuperStrips, strips), 0, 0, a, b};
      if (job.out.upper && panel.strip1 * kStrip <= row) continue;
      for (panel.first = 0; panel.first < job.k; panel.first += kPanelDepth) {
        panel.depth = std::min<std::int64_t>(kPanelDepth, job.k - panel.first);
        pack_panel(pool, job, panel);
        compute_panel(pool, job, panel);
      }
    }
  }
}

}  // namespace

void FreeFloats::operator()(float* p) const {
  std::free(p);
}

Floats allocate_floats(std::int64_t count) {
  constexpr std::size_t kHugePage = std::size_t{1} << 21;
  const std::size_t wanted = static_cast<std::size_t>(count) * sizeof(float) + 64;
  const std::size_t alignment = wanted >= kHugePage ? kHugePage : 64;
  const std::size_t bytes = (wanted + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, bytes);
  if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  if (alignment == kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);  // advice: failing it changes nothing
#endif
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
