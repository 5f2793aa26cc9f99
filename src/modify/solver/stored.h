// SPDX-License-Identifier: Apache-2.0
// Between what solvers compute with (fp32 matrices) and what the codec stores.
#pragma once

#include <vector>

#include "codec/quantize.h"
#include "modify/solver/grid.h"

namespace nibble {

// Observed parameters for a solver.
QuantParams solver_params(const WeightParams& params, const QuantizationArgs& args, std::int64_t rows,
                          std::int64_t cols);

// Min-max parameters in the reference's arithmetic for a model of `model_dtype`.
Result<QuantParams> min_max_solver_params(ThreadPool& pool, const Matrix& weight,
                                          const QuantizationArgs& args, DType model_dtype,
                                          float global_scale);

// What a solver found, for CompressedWeight::from_codes. `group_index` is weight_g_idx (GptqResult) or empty.
WeightParams stored_params(const QuantParams& params, const QuantizationArgs& args, DType model_dtype,
                           std::int64_t rows, std::int64_t cols, std::vector<std::int32_t> group_index = {});
Tensor stored_codes(const Matrix& codes, const QuantizationArgs& args);

}  // namespace nibble
