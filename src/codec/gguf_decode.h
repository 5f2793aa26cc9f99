// SPDX-License-Identifier: Apache-2.0
// Decoders of the GGUF block types; reach them through the table in gguf_types.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nibble::gguf {

// Each decodes `count` blocks; the order of operations is ggml's, so that the last bit agrees.
using Decode = void(const std::byte* blocks, std::int64_t count, float* out);

Decode decode_q4_0, decode_q4_1, decode_q5_0, decode_q5_1, decode_q8_0, decode_q8_1;
Decode decode_q2_k, decode_q3_k, decode_q4_k, decode_q5_k, decode_q6_k, decode_q8_k;
Decode decode_iq4_nl, decode_iq4_xs, decode_mxfp4, decode_nvfp4, decode_tq1_0, decode_tq2_0;
Decode decode_iq3_xxs, decode_iq3_s, decode_iq2_xxs, decode_iq2_xs, decode_iq2_s, decode_iq1_s, decode_iq1_m;

// Runs One on every block.
template <class Block, int Size, void (*One)(const Block&, float*)>
void decode_blocks(const std::byte* blocks, std::int64_t count, float* out) {
  const auto* block = reinterpret_cast<const Block*>(blocks);
  for (std::int64_t i = 0; i < count; ++i) One(block[i], out + i * Size);
}

}  // namespace nibble::gguf
