// SPDX-License-Identifier: Apache-2.0
// Portable integer tiles: one code at a time into 16 sums.
#include "kernels/int8/table.h"

namespace nibble::kernels::int8 {
namespace {

constexpr int kRows = 2;

std::int32_t byte_of(std::int32_t word, int i) {
  return static_cast<std::int8_t>(static_cast<std::uint32_t>(word) >> (8 * i));
}

std::int32_t code8(const std::uint32_t* words, std::int64_t quad, int lane, int i) {
  return static_cast<std::int32_t>((words[quad * kLanes + lane] >> (8 * i)) & 0xffu);
}

std::int32_t code4(const std::uint32_t* words, std::int64_t quad, int lane, int i) {
  const int shift = 8 * i + 4 * static_cast<int>(quad % 2);
  return static_cast<std::int32_t>((words[quad / 2 * kLanes + lane] >> shift) & 0xfu);
}

template <int rows, std::int32_t (*code)(const std::uint32_t*, std::int64_t, int, int)>
void run(const Tile& tile) {
  std::int32_t sum[rows][kLanes] = {};
  for (std::int64_t q = 0; q < tile.quads; ++q) {
    for (int i = 0; i < 4; ++i) {
      std::int32_t w[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) w[lane] = code(tile.words, q, lane, i);
      for (int r = 0; r < rows; ++r) {
        const std::int32_t x = byte_of(tile.x[q * rows + r], i);
        for (int lane = 0; lane < kLanes; ++lane) sum[r][lane] += x * w[lane];
      }
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < tile.cols; ++j) {
      const std::int32_t dot = sum[r][j] - tile.zeros[j] * tile.x_sum[r];
      const float value = static_cast<float>(dot) * tile.scales[j];
      float& y = tile.y[r * tile.ldy + j];
      y = tile.accumulate ? y + value : value;
    }
  }
}

}  // namespace

const Kernels kPortable{
    kRows, 1, {false, {{run<1, code8>}, {run<2, code8>}}}, {false, {{run<1, code4>}, {run<2, code4>}}}};

}  // namespace nibble::kernels::int8
