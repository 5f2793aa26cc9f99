// SPDX-License-Identifier: Apache-2.0
// Small steps that the parts of a block share.
#pragma once

#include <cstdint>

#include "model/block.h"

namespace nibble {

// y = linear(x) for `rows` tokens, shown to the tap of the pass.
void apply_tapped(const Pass& pass, const Linear& linear, const float* x, std::int64_t rows,
                  const std::uint8_t* mask, float* y);

// A norm over `cols` columns of rows that are `ld` elements apart; y may be x.
void apply_norm_columns(ThreadPool& pool, const ModelConfig& config, const Norm& norm, std::int64_t rows,
                        std::int64_t cols, const float* x, std::int64_t ld, float* y);

}  // namespace nibble
