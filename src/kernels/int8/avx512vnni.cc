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

template <class Step>
constexpr Format make_format() {
  return {Step::kWide,
          {{run<Step, 1, 1>, run<Step, 1, 2>},
           {run<Step, 2, 1>, run<Step, 2, 2>},
           {run<Step, 3, 1>, run<Step, 3, 2>},
           {run<Step, 4, 1>, run<Step, 4, 2>},
           {run<Step, 5, 1>, run<Step, 5, 2>},
           {run<Step, 6, 1>, run<Step, 6, 2>},
           {run<Step, 7, 1>, run<Step, 7, 2>},
           {run<Step, 8, 1>, run<Step, 8, 2>},
           {run<Step, 9, 1>, run<Step, 9, 2>},
           {run<Step, 10, 1>, run<Step, 10, 2>},
           {run<Step, 11, 1>, run<Step, 11, 2>},
           {run<Step, 12, 1>, run<Step, 12, 2>}}};
}

}  // namespace

const Kernels kAvx512Vnni{kRows, 2, make_format<Step<1>>(), make_format<Step<2>>()};

}  // namespace nibble::kernels::int8
#endif
