// SPDX-License-Identifier: Apache-2.0
// Integer products of int8 activations with packed 4- or 8-bit weights (kernels/packed/table.h), exact in
// int32.
//
// Stored weights are unsigned (code + 2^(bits - 1)), so a dot product is raw - zero * sum(x) with the stored
// zero. Activations of a tile are packed as [quad][rows][words]: a quad is 4 columns, in the order in which
// the weights' bits hold them: 8 bits: k .. k + 3; 4 bits: even columns of 8, then odd ones. With `wide` a
// quad is two words of two 16-bit values, (0, 2) and (1, 3); otherwise one word of four int8.
#pragma once

#include <cstdint>

namespace nibble::kernels::int8 {

inline constexpr int kLanes = 16;
inline constexpr int kMaxRows = 14;
inline constexpr int kMaxStrips = 2;

struct Tile {
  std::int64_t quads;          // even for 4-bit weights
  const std::int32_t* x;       // packed activations
  const std::int32_t* x_sum;   // [rows]: sum of the activations of this segment
  const std::uint32_t* words;  // of the first strip, at the segment's first column
  std::int64_t strip_stride;   // words from strip to strip
  const float* scales;         // [strips * 16]
  const std::int32_t* zeros;   // [strips * 16]
  float* y;                    // [rows][ldy]: y (= or +=) float(dot) * scale, multiply and add rounded apart
  std::int64_t ldy;
  int cols;  // at most strips * 16
  bool accumulate;
};

struct Format {
  bool wide;
  void (*run[kMaxRows][kMaxStrips])(const Tile& tile);  // [rows - 1][strips - 1]
};

struct Kernels {
  int mr;
  int strips;
  Format bits8;
  Format bits4;
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kAvx512Vnni;

const Kernels& kernels();  // of the active level

}  // namespace nibble::kernels::int8
