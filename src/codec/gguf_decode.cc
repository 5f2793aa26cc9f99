// SPDX-License-Identifier: Apache-2.0
// Q4_0 to Q8_1 and the K types (layouts: gguf_blocks.h). In the K types the sub-block scale is multiplied out
// before it meets the codes, as ggml does.
#include "codec/gguf_decode.h"

#include "codec/gguf_blocks.h"

namespace nibble::gguf {
namespace {

// Element j of the first half is a low nibble, of the second half a high one.
void q4_0(const BlockQ4_0& b, float* out) {
  const float d = load_half(b.d);
  for (int j = 0; j < 16; ++j) {
    out[j] = as_float((b.qs[j] & 15) - 8) * d;
    out[j + 16] = as_float((b.qs[j] >> 4) - 8) * d;
  }
}

void q4_1(const BlockQ4_1& b, float* out) {
  const float d = load_half(b.d);
  const float m = load_half(b.m);
  for (int j = 0; j < 16; ++j) {
    out[j] = as_float(b.qs[j] & 15) * d + m;
    out[j + 16] = as_float(b.qs[j] >> 4) * d + m;
  }
}

// The fifth bit of element j is bit j of qh.
int fifth_bit(std::uint32_t qh, int j) {
  return static_cast<int>((qh >> j) & 1u) << 4;
}

void q5_0(const BlockQ5_0& b, float* out) {
  const float d = load_half(b.d);
  const std::uint32_t qh = load_u32(b.qh);
  for (int j = 0; j < 16; ++j) {
    out[j] = as_float(((b.qs[j] & 15) | fifth_bit(qh, j)) - 16) * d;
    out[j + 16] = as_float(((b.qs[j] >> 4) | fifth_bit(qh, j + 16)) - 16) * d;
  }
}

void q5_1(const BlockQ5_1& b, float* out) {
  const float d = load_half(b.d);
  const float m = load_half(b.m);
  const std::uint32_t qh = load_u32(b.qh);
  for (int j = 0; j < 16; ++j) {
    out[j] = as_float((b.qs[j] & 15) | fifth_bit(qh, j)) * d + m;
    out[j + 16] = as_float((b.qs[j] >> 4) | fifth_bit(qh, j + 16)) * d + m;
  }
}

void q8_0(const BlockQ8_0& b, float* out) {
  const float d = load_half(b.d);
  for (int j = 0; j < 32; ++j) out[j] = as_float(b.qs[j]) * d;
}

void q8_1(const BlockQ8_1& b, float* out) {
  const float d = load_half(b.d);
  for (int j = 0; j < 32; ++j) out[j] = as_float(b.qs[j]) * d;
}

// 128 elements share 32 bytes: bits 2k and 2k + 1 belong to element 32 k + byte. A scale byte serves 16
// elements: scale in the low nibble, min in the high one.
void q2_k(const BlockQ2K& b, float* out) {
  const float d = load_half(b.d);
  const float dmin = load_half(b.dmin);
  for (int sub = 0; sub < 16; ++sub) {
    const float scale = d * as_float(b.scales[sub] & 15);
    const float min = dmin * as_float(b.scales[sub] >> 4);
    const std::uint8_t* qs = b.qs + 32 * (sub / 8) + 16 * (sub % 2);
    const int shift = 2 * ((sub / 2) % 4);
    for (int j = 0; j < 16; ++j) out[16 * sub + j] = scale * as_float((qs[j] >> shift) & 3) - min;
  }
}

// As Q2_K; a third bit lies in hmask (bit k of byte j: element 32 k + j), and when it is 0 the code is 4
// less.
void q3_k(const BlockQ3K& b, float* out) {
  const float d = load_half(b.d);
  for (int sub = 0; sub < 16; ++sub) {
    const float scale = d * as_float(unpack_q3_scale(b.scales, sub));
    const std::uint8_t* qs = b.qs + 32 * (sub / 8) + 16 * (sub % 2);
    const std::uint8_t* mask = b.hmask + 16 * (sub % 2);
    const int shift = 2 * ((sub / 2) % 4);
    const int bit = sub / 2;
    for (int j = 0; j < 16; ++j) {
      out[16 * sub + j] = scale * as_float(((qs[j] >> shift) & 3) + 4 * ((mask[j] >> bit) & 1) - 4);
    }
  }
}

// 64 elements share 32 bytes: low nibbles first, then high ones; a scale and a min every 32 elements.
// `high_bits(sub, j)` stand above the nibble of element j of sub-block `sub`.
template <class Block, class HighBits>
void decode_scale_min(const Block& b, float* out, const HighBits& high_bits) {
  const float d = load_half(b.d);
  const float dmin = load_half(b.dmin);
  for (int sub = 0; sub < 8; ++sub) {
    const ScaleMin sm = unpack_scale_min(b.scales, sub);
    const float scale = d * as_float(sm.scale);
    const float min = dmin * as_float(sm.min);
    const std::uint8_t* qs = b.qs + 32 * (sub / 2);
    const int shift = 4 * (sub % 2);
    for (int j = 0; j < 32; ++j)
      out[32 * sub + j] = scale * as_float(((qs[j] >> shift) & 15) | high_bits(sub, j)) - min;
  }
}

void q4_k(const BlockQ4K& b, float* out) {
  decode_scale_min(b, out, [](int, int) { return 0; });
}

// The fifth bit of element 32 k + j is bit k of qh[j].
void q5_k(const BlockQ5K& b, float* out) {
  decode_scale_min(b, out, [&](int sub, int j) { return ((b.qh[j] >> sub) & 1) << 4; });
}

// Each half of 128 elements is four runs of 32: their low nibbles are ql[0..31] low, ql[32..63] low, the same
// high; their high pairs are bits 0-1, 2-3, 4-5, 6-7 of qh. A scale serves 16 elements.
void q6_k(const BlockQ6K& b, float* out) {
  const float d = load_half(b.d);
  for (int sub = 0; sub < 16; ++sub) {
    const float scale = d * as_float(b.scales[sub]);
    const int half = sub / 8;
    const int run = (sub / 2) % 4;
    const int offset = 16 * (sub % 2);
    const std::uint8_t* ql = b.ql + 64 * half + 32 * (run % 2) + offset;
    const std::uint8_t* qh = b.qh + 32 * half + offset;
    const int low_shift = 4 * (run / 2);
    const int high_shift = 2 * run;
    for (int j = 0; j < 16; ++j) {
      const int code = (((ql[j] >> low_shift) & 15) | (((qh[j] >> high_shift) & 3) << 4)) - 32;
      out[16 * sub + j] = scale * as_float(code);
    }
  }
}

void q8_k(const BlockQ8K& b, float* out) {
  const float d = std::bit_cast<float>(load_u32(b.d));
  for (int j = 0; j < kSuper; ++j) out[j] = d * as_float(b.qs[j]);
}

}  // namespace

#define NIBBLE_GGUF_DECODER(name, Block, size)                                  \
  void decode_##name(const std::byte* blocks, std::int64_t count, float* out) { \
    decode_blocks<Block, size, name>(blocks, count, out);                       \
  }
NIBBLE_GGUF_DECODER(q4_0, BlockQ4_0, 32)
NIBBLE_GGUF_DECODER(q4_1, BlockQ4_1, 32)
NIBBLE_GGUF_DECODER(q5_0, BlockQ5_0, 32)
NIBBLE_GGUF_DECODER(q5_1, BlockQ5_1, 32)
NIBBLE_GGUF_DECODER(q8_0, BlockQ8_0, 32)
NIBBLE_GGUF_DECODER(q8_1, BlockQ8_1, 32)
NIBBLE_GGUF_DECODER(q2_k, BlockQ2K, kSuper)
NIBBLE_GGUF_DECODER(q3_k, BlockQ3K, kSuper)
NIBBLE_GGUF_DECODER(q4_k, BlockQ4K, kSuper)
NIBBLE_GGUF_DECODER(q5_k, BlockQ5K, kSuper)
NIBBLE_GGUF_DECODER(q6_k, BlockQ6K, kSuper)
NIBBLE_GGUF_DECODER(q8_k, BlockQ8K, kSuper)
#undef NIBBLE_GGUF_DECODER

}  // namespace nibble::gguf
