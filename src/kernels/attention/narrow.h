// SPDX-License-Identifier: Apache-2.0
// Attention as PyTorch's CPU kernel computes it for BF16 and F16 (flash attention, 2.5 and later): what
// reference mode has to meet. Scalar code; only reference mode runs it.
#pragma once

#include "kernels/attention.h"

namespace nibble::kernels::attention {

// Exponentials are approximate, blocks of 512 keys share a largest score, and weights are rounded to
// `probability_dtype` before they meet the values; their sum is that of the unrounded ones. The result is not
// rounded.
void attend_narrow(ThreadPool& pool, const Attention& attention);

}  // namespace nibble::kernels::attention
