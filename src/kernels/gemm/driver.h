// SPDX-License-Identifier: Apache-2.0
// The blocking around the tiles: C[m, n] from rows A and columns B that come from anywhere (plain,
// transposed, packed or compressed matrices). Sums run in passes of kDepth from k = 0, so every element of C
// has one fixed order of additions, whatever m, n, the threads and the blocks are.
#pragma once

#include <cstdint>
#include <memory>

#include "base/thread_pool.h"
#include "kernels/gemm/tile.h"

namespace nibble::kernels::gemm {

// Aligned, uninitialised floats.
struct FreeFloats {
  void operator()(float* p) const;
};
using Floats = std::unique_ptr<float[], FreeFloats>;
Floats allocate_floats(std::int64_t count);

// Rows cut into tiles of nearly equal height, none above mr.
struct Tiles {
  std::int64_t rows;
  std::int64_t count;
  Tiles(std::int64_t row_count, int mr) : rows(row_count), count((row_count + mr - 1) / mr) {}
  std::int64_t begin(std::int64_t tile) const { return rows * tile / count; }
};

// Element (i, k) at data[i * ld + k], or at data[k * ld + i] if k_major.
struct Operand {
  const float* data;
  std::int64_t ld;
  bool k_major;
};

// Where strips of B come from. Strips may be asked for by several threads at once.
class StripSource {
 public:
  virtual ~StripSource() = default;
  // Writes strip `strip`, k in [first, first + depth), as [depth][16]; columns beyond n are zero.
  virtual void fill(std::int64_t strip, std::int64_t first, std::int64_t depth, float* out) const = 0;
  // The strip's [k][16] if it lies ready in memory, from k = 0; the strips are then strip_stride() floats
  // apart.
  virtual const float* ready(std::int64_t) const { return nullptr; }
  virtual std::int64_t strip_stride() const { return 0; }
  // Whether columns of B that stand side by side are read from the same lines of memory.
  virtual bool k_major() const { return false; }
  // Up to this many rows the source multiplies two strips itself (dot), with the same sums as fill() and the
  // tiles; a is [k][rows], c the output at the first strip's first column.
  virtual std::int64_t fused_rows() const { return 0; }
  virtual void dot(std::int64_t, std::int64_t, const float*, float*, std::int64_t, int, bool) const {}
};

struct Output {
  float* c;
  std::int64_t ldc;
  float alpha = 1.0f;
  bool accumulate = false;
  bool upper =
      false;  // only tiles that touch or lie above the diagonal are wanted (the others may be left alone)
};

void multiply(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, const Operand& a,
              const StripSource& b, const Output& out);
// b is a plain matrix; its index i is the column of C.
void multiply(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, const Operand& a,
              const Operand& b, const Output& out);

}  // namespace nibble::kernels::gemm
