// SPDX-License-Identifier: Apache-2.0
// Lattice points of the IQ types, packed; gguf_grids.cc has the numbers, this file unpacks them.
#pragma once

#include <array>
#include <cstdint>

namespace nibble::gguf {

extern const std::array<std::uint16_t, 256> kIq2XxsGrid;
extern const std::array<std::uint16_t, 512> kIq2XsGrid;
extern const std::array<std::uint16_t, 1024> kIq2SGrid;
extern const std::array<std::uint16_t, 256> kIq3XxsGrid;
extern const std::array<std::uint16_t, 512> kIq3SGrid;
extern const std::array<std::uint16_t, 2048> kIq1SGrid;

// What a packed coordinate stands for.
inline constexpr std::array<float, 4> kIq2Levels{8, 25, 43, 0};
inline constexpr std::array<float, 8> kIq3XxsLevels{4, 12, 20, 28, 36, 44, 52, 62};
inline constexpr std::array<float, 8> kIq3SLevels{1, 3, 5, 7, 9, 11, 13, 15};
inline constexpr std::array<float, 4> kIq1Levels{-1, 0, 1, 0};

// IQ4_NL and IQ4_XS: 16 levels, denser near zero.
inline constexpr std::array<std::int8_t, 16> kIq4Levels{-127, -104, -83, -65, -49, -35, -22, -10,
                                                        1,    13,   25,  38,  53,  69,  89,  113};
// E2M1 doubled, so that all levels are integers; the scale is halved to match.
inline constexpr std::array<std::int8_t, 16> kFp4Levels{0, 1,  2,  3,  4,  6,  8,  12,
                                                        0, -1, -2, -3, -4, -6, -8, -12};

// Unpacked at program start: a block decodes by plain loads.
template <std::size_t Points, std::size_t Width>
using Grid = std::array<std::array<float, Width>, Points>;

template <std::size_t Width, std::size_t Points, std::size_t Levels>
Grid<Points, Width> unpack_grid(const std::array<std::uint16_t, Points>& packed,
                                const std::array<float, Levels>& levels) {
  constexpr unsigned kBits = Levels == 8 ? 3 : 2;
  Grid<Points, Width> grid;
  for (std::size_t p = 0; p < Points; ++p) {
    for (std::size_t i = 0; i < Width; ++i) {
      grid[p][i] = levels[(static_cast<unsigned>(packed[p]) >> (kBits * i)) & (Levels - 1)];
    }
  }
  return grid;
}

}  // namespace nibble::gguf
