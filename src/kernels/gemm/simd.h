// SPDX-License-Identifier: Apache-2.0
// The tiles of gemm and gemm64 on vectors: one text for both precisions and both vector lengths. Included by
// avx2.cc and avx512.cc of both; all is internal to the including unit, whose `V` has
//   Scalar, Vector, kLanes; load, store, broadcast, multiply, fused_add; kHasMasks,
// and with masks also first_lanes(count), masked loads and stores, and transpose (of kLanes vectors).
// A strip is 64 bytes a row of B at either precision: one vector of AVX-512, two of AVX2.
#pragma once

#include <cstdint>
#include <utility>

namespace nibble::kernels {
namespace {

#define NIBBLE_INLINE [[gnu::always_inline]] inline

template <class V>
inline constexpr int kLanesOfStrip = 64 / static_cast<int>(sizeof(typename V::Scalar));

// One vector of C, whole where it fits: a masked store that misses the L1 cache holds up the ones after it.
template <class V>
NIBBLE_INLINE void put(typename V::Scalar* out, int left, typename V::Vector scale, typename V::Vector sum,
                       bool accumulate) {
  typename V::Vector value = V::multiply(scale, sum);
  if (left >= V::kLanes) {
    if (accumulate) value = V::fused_add(scale, sum, V::load(out));
    V::store(out, value);
  } else if constexpr (V::kHasMasks) {
    if (left <= 0) return;
    const auto mask = V::first_lanes(left);
    if (accumulate) value = V::fused_add(scale, sum, V::load(mask, out));
    V::store(out, mask, value);
  }
}

// Part of a row of C where there are no masks.
template <class T>
void add_partial(const T* block, int rows, int width, T* c, std::int64_t ldc, int cols, T alpha,
                 bool accumulate) {
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < cols; ++j) {
      T* out = c + r * ldc + j;
      const T value = block[r * width + j];
      if constexpr (sizeof(T) == sizeof(float)) {
        *out = accumulate ? __builtin_fmaf(alpha, value, *out) : alpha * value;
      } else {
        *out = accumulate ? __builtin_fma(alpha, value, *out) : alpha * value;
      }
    }
  }
}

template <class V, int rows, int strips>
void tile(std::int64_t depth, const typename V::Scalar* a, const typename V::Scalar* b,
          std::int64_t strip_stride, typename V::Scalar* c, std::int64_t ldc, int cols,
          typename V::Scalar alpha, bool accumulate) {
  constexpr int kStrip = kLanesOfStrip<V>, kParts = kStrip / V::kLanes, kVectors = strips * kParts;
  typename V::Vector sum[rows][kVectors];
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[r][v] = V::broadcast(0);
  }
  for (std::int64_t k = 0; k < depth; ++k, a += rows, b += kStrip) {
    typename V::Vector column[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      column[v] = V::load(b + (v / kParts) * strip_stride + (v % kParts) * V::kLanes);
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
      const typename V::Vector x = V::broadcast(a[r]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] = V::fused_add(x, column[v], sum[r][v]);
    }
  }
  if constexpr (!V::kHasMasks) {
    if (cols < kVectors * V::kLanes) {
      alignas(64) typename V::Scalar block[rows * kVectors * V::kLanes];
#pragma GCC unroll 14
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) V::store(block + (r * kVectors + v) * V::kLanes, sum[r][v]);
      }
      return add_partial(block, rows, kVectors * V::kLanes, c, ldc, cols, alpha, accumulate);
    }
    cols = kVectors * V::kLanes;  // so that put() asks nothing
  }
  const typename V::Vector scale = V::broadcast(alpha);
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      put<V>(c + r * ldc + v * V::kLanes, cols - v * V::kLanes, scale, sum[r][v], accumulate);
  }
}

// Packing with masks: up to kLanes places of a strip or tile, kLanes x kLanes elements turned in registers.
template <class V>
NIBBLE_INLINE void pack_rows_pass(const typename V::Scalar* source, std::int64_t ld, int count,
                                  std::int64_t depth, typename V::Scalar* out, int width, int places) {
  constexpr int kLanes = V::kLanes;
  const auto lanes = V::first_lanes(places);
  for (std::int64_t k = 0; k < depth; k += kLanes) {
    const std::int64_t left = depth - k;
    const auto mask = V::first_lanes(left);
    typename V::Vector v[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) v[i] = i < count ? V::load(mask, source + i * ld + k) : V::broadcast(0);
    V::transpose(v);
    typename V::Scalar* to = out + k * width;
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i < left) V::store(to + i * width, lanes, v[i]);
    }
  }
}

template <class V>
NIBBLE_INLINE void pack_columns_pass(const typename V::Scalar* source, std::int64_t ld, int count,
                                     std::int64_t depth, typename V::Scalar* out, int width, int places) {
  const auto filled = V::first_lanes(count), lanes = V::first_lanes(places);
  for (std::int64_t k = 0; k < depth; ++k) V::store(out + k * width, lanes, V::load(filled, source + k * ld));
}

// `widest`: places of the widest strip or tile; one pass where a vector holds them.
template <class V, int widest>
void pack_rows_masked(const typename V::Scalar* source, std::int64_t ld, int count, std::int64_t depth,
                      typename V::Scalar* out, int width) {
  if constexpr (widest <= V::kLanes) return pack_rows_pass<V>(source, ld, count, depth, out, width, width);
  for (int first = 0; first < width; first += V::kLanes)
    pack_rows_pass<V>(source + first * ld, ld, count - first, depth, out + first, width, width - first);
}

template <class V, int widest>
void pack_columns_masked(const typename V::Scalar* source, std::int64_t ld, int count, std::int64_t depth,
                         typename V::Scalar* out, int width) {
  if constexpr (widest <= V::kLanes) return pack_columns_pass<V>(source, ld, count, depth, out, width, width);
  for (int first = 0; first < width; first += V::kLanes)
    pack_columns_pass<V>(source + first, ld, count - first, depth, out + first, width, width - first);
}

// The table of a level: tiles of 1 to n rows (and 1 to `strips` strips), then its other functions.
template <class Kernels, class V, int strips, int... r, class... Rest>
constexpr Kernels kernels_of(std::integer_sequence<int, r...>, Rest... rest) {
  if constexpr (strips == 1) return {sizeof...(r), strips, {{tile<V, r + 1, 1>}...}, rest...};
  if constexpr (strips == 2)
    return {sizeof...(r), strips, {{tile<V, r + 1, 1>, tile<V, r + 1, 2>}...}, rest...};
}

#undef NIBBLE_INLINE

}  // namespace
}  // namespace nibble::kernels
