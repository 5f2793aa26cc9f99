// SPDX-License-Identifier: Apache-2.0
// Encoders of the GGUF block types; reach them through encode_gguf_row in gguf_types.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nibble::gguf {

// One row of `count` values (whole blocks). `importance` has a weight for every column, or is null; types
// that do not use it ignore it. Byte for byte what ggml writes.
using Encode = void(const float* row, std::int64_t count, const float* importance, std::byte* blocks);

Encode encode_q4_0, encode_q4_1, encode_q5_0, encode_q5_1, encode_q8_0;
Encode encode_q2_k, encode_q3_k, encode_q4_k, encode_q5_k, encode_q6_k;
Encode encode_iq4_nl, encode_iq4_xs, encode_mxfp4, encode_nvfp4, encode_tq1_0, encode_tq2_0;

}  // namespace nibble::gguf
