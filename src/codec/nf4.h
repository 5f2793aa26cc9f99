// SPDX-License-Identifier: Apache-2.0
// NormalFloat of 4 bits (Dettmers et al., "QLoRA", 2305.14314): the 16 levels are quantiles of N(0, 1) scaled
// to
// [-1, 1], with an exact zero; each block of consecutive values is scaled by its largest magnitude. Double
// quantization stores these scales as 8-bit numbers per 256 blocks, after taking off their mean.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace nibble {

// The levels of bitsandbytes, rising; code 7 is zero.
const std::array<float, 16>& nf4_levels();

// The nearest level of x in [-1, 1]; a tie goes to the lower level.
std::uint8_t nf4_code(float x);

struct Nf4Blocks {
  std::int64_t block_size = 64;
  std::vector<std::uint8_t> codes;  // one a value
  std::vector<float> scales;        // one a block: the largest magnitude
};
Nf4Blocks nf4_quantize(std::span<const float> values, std::int64_t block_size = 64);
std::vector<float> nf4_dequantize(const Nf4Blocks& blocks);

// Scales as int8 codes under one fp32 scale per 256, and their common mean.
struct Nf4Scales {
  float mean = 0;
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
};
Nf4Scales nf4_quantize_scales(std::span<const float> scales);
std::vector<float> nf4_dequantize_scales(const Nf4Scales& scales);

// Bits a weight: 4 for the codes, and the scales plain (fp32) or doubly quantized (4.127 at block size 64).
double nf4_bits_per_weight(std::int64_t block_size, bool double_quantization);

}  // namespace nibble
