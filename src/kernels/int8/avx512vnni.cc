// SPDX-License-Identifier: Apache-2.0
// VNNI integer tiles: vpdpbusd adds four unsigned x signed byte products to an int32 without saturating.
#if defined(__AVX512VNNI__)
#include "kernels/int8/avx512.h"

namespace nibble::kernels::int8 {
namespace {

template <int quads>
struct Step {
  static constexpr bool kWide = false;
  static constexpr int kQuads = quads;
  using Weights = __m512i;
  [[gnu::always_inline]] static Weights prepare(__m512i w, int part) {
    return quads == 1 ? w : nibbles(w, part);
  }
  [[gnu::always_inline]] static __m512i add(__m512i sum, Weights w, const std::int32_t* x) {
    return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(*x));
  }
};

constexpr int kRows = 12;
using Rows = std::make_integer_sequence<int, kRows>;

}  // namespace

constinit const Kernels kAvx512Vnni{kRows, 2, make_format<Step<1>>(Rows{}), make_format<Step<2>>(Rows{})};

}  // namespace nibble::kernels::int8
#endif
