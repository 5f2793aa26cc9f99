// SPDX-License-Identifier: Apache-2.0
// Moves a scale per channel from activations into weights and back: what feeds the channels is divided by s,
// the columns that read them are multiplied by s, so the model computes the same. Results are rounded to the
// model's type.
#pragma once

#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble {

// Positive and finite, one per channel.
Status check_smooth_scales(std::span<const float> scales, std::int64_t channels);

// Column c of a layer that reads the channels *= scales[c]; and /=.
void scale_columns(ThreadPool& pool, std::span<const float> scales, DType model_dtype, Matrix& weight);
void divide_columns(ThreadPool& pool, std::span<const float> scales, DType model_dtype, Matrix& weight);

// A norm that multiplies by (offset + weight): offset 0, or 1 for Gemma's. `bias` may be empty.
void divide_norm(std::span<const float> scales, float offset, DType model_dtype, std::span<float> weight,
                 std::span<float> bias);

// A layer whose last scales.size() outputs are the channels (the whole of up_proj or v_proj, the value part
// of a fused one). `bias` may be empty.
void divide_rows(std::span<const float> scales, DType model_dtype, Matrix& weight, std::span<float> bias);

}  // namespace nibble
