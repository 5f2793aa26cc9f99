// SPDX-License-Identifier: Apache-2.0
// Attention in BF16 or F16 operation by operation, as transformers' eager code runs it: what llm-compressor's
// traced models calibrate with, whatever attention they are configured for. Scalar code; only reference mode
// runs it.
#pragma once

#include "kernels/attention.h"

namespace nibble::kernels::attention {

// Products, scaled scores and probabilities are each rounded to `probability_dtype`; the result is not.
void attend_narrow(ThreadPool& pool, const Attention& attention);

}  // namespace nibble::kernels::attention
