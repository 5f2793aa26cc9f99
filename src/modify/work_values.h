// SPDX-License-Identifier: Apache-2.0
// Between the stored tensors of a module in work and what solvers compute with, and its report rows.
#pragma once

#include <string_view>
#include <vector>

#include "modify/modifier.h"

namespace nibble {

Matrix weight_matrix(ThreadPool& pool, const ModuleWork& work);  // norms are one column
std::vector<float> bias_values(const ModuleWork& work);          // empty without a bias
// Rounded to the dtype that the tensor has.
void store_weight(ThreadPool& pool, const Matrix& weight, ModuleWork& work);
void store_bias(std::span<const float> bias, ModuleWork& work);

// A report row with the error |changed - original| / |original| as square root of noise / signal.
LayerReport layer_report(const ModuleWork& work, std::string_view modifier, double signal, double noise);
// What rounding to nearest would have given, on the scale of the row.
double relative_error(double signal, double noise);

// Input and output scales of the module's scheme, scales of keys and values: from the statistics to the
// tensors that are written. A static scheme without statistics is an error, where the reference writes
// uninitialised memory.
Status store_activation_params(ModuleWork& work);

}  // namespace nibble
