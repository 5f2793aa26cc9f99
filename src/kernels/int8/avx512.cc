// SPDX-License-Identifier: Apache-2.0
// AVX-512 integer tiles without VNNI: 16-bit products for 8-bit codes, vpmaddubsw for 4-bit codes (it cannot
// saturate there: 15 * 128 * 2 < 2^15).
#if defined(__AVX512F__)
#include "kernels/int8/avx512.h"

namespace nibble::kernels::int8 {
namespace {

struct Step8 {
  static constexpr bool kWide = true;
  static constexpr int kQuads = 1;
  struct Weights {
    __m512i even, odd;
  };
  [[gnu::always_inline]] static Weights prepare(__m512i w, int) {
    return {_mm512_and_si512(w, _mm512_set1_epi32(0x00ff00ff)), _mm512_srli_epi16(w, 8)};
  }
  [[gnu::always_inline]] static __m512i add(__m512i sum, const Weights& w, const std::int32_t* x) {
    const __m512i a = _mm512_madd_epi16(w.even, _mm512_set1_epi32(x[0]));
    const __m512i b = _mm512_madd_epi16(w.odd, _mm512_set1_epi32(x[1]));
    return _mm512_add_epi32(sum, _mm512_add_epi32(a, b));
  }
};

struct Step4 {
  static constexpr bool kWide = false;
  static constexpr int kQuads = 2;
  using Weights = __m512i;
  [[gnu::always_inline]] static Weights prepare(__m512i w, int part) { return nibbles(w, part); }
  [[gnu::always_inline]] static __m512i add(__m512i sum, Weights w, const std::int32_t* x) {
    const __m512i pairs = _mm512_maddubs_epi16(w, _mm512_set1_epi32(*x));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
};

constexpr int kRows = 8;
using Rows = std::make_integer_sequence<int, kRows>;

}  // namespace

constinit const Kernels kAvx512{kRows, 2, make_format<Step8>(Rows{}), make_format<Step4>(Rows{})};

}  // namespace nibble::kernels::int8
#endif
