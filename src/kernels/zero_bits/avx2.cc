// SPDX-License-Identifier: Apache-2.0
#if defined(__AVX2__)
#include <immintrin.h>

#include "kernels/zero_bits/table.h"

namespace nibble::kernels::zero_bits_of {
namespace {

__m256i load(const char* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

std::uint64_t sign_bits(__m256i low, __m256i high) {
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(low)) |
         (std::uint64_t{static_cast<std::uint32_t>(_mm256_movemask_epi8(high))} << 32);
}

void of_1(const void* elements, std::int64_t words, std::uint64_t bits, std::uint64_t* out) {
  const auto* from = static_cast<const char*>(elements);
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(bits)), zero = _mm256_setzero_si256();
  for (std::int64_t w = 0; w < words; ++w, from += 64) {
    out[w] = sign_bits(_mm256_cmpeq_epi8(_mm256_and_si256(load(from), mask), zero),
                       _mm256_cmpeq_epi8(_mm256_and_si256(load(from + 32), mask), zero));
  }
}

// 32 elements: packing works within the halves of a vector, the permutation puts the quarters in order.
__m256i zeros_of_2(const char* from, __m256i mask) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i a = _mm256_cmpeq_epi16(_mm256_and_si256(load(from), mask), zero);
  const __m256i b = _mm256_cmpeq_epi16(_mm256_and_si256(load(from + 32), mask), zero);
  return _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xd8);
}

void of_2(const void* elements, std::int64_t words, std::uint64_t bits, std::uint64_t* out) {
  const auto* from = static_cast<const char*>(elements);
  const __m256i mask = _mm256_set1_epi16(static_cast<short>(bits));
  for (std::int64_t w = 0; w < words; ++w, from += 128)
    out[w] = sign_bits(zeros_of_2(from, mask), zeros_of_2(from + 64, mask));
}

std::uint64_t zeros_of_4(const char* from, __m256i mask) {
  const __m256i equal = _mm256_cmpeq_epi32(_mm256_and_si256(load(from), mask), _mm256_setzero_si256());
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(equal)));
}

void of_4(const void* elements, std::int64_t words, std::uint64_t bits, std::uint64_t* out) {
  const auto* from = static_cast<const char*>(elements);
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(bits));
  for (std::int64_t w = 0; w < words; ++w, from += 256) {
    std::uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word |= zeros_of_4(from + 32 * i, mask) << (8 * i);
    out[w] = word;
  }
}

void of_8(const void* elements, std::int64_t words, std::uint64_t bits, std::uint64_t* out) {
  const auto* from = static_cast<const char*>(elements);
  const __m256i mask = _mm256_set1_epi64x(static_cast<long long>(bits)), zero = _mm256_setzero_si256();
  for (std::int64_t w = 0; w < words; ++w, from += 512) {
    std::uint64_t word = 0;
    for (int i = 0; i < 16; ++i) {
      const __m256i equal = _mm256_cmpeq_epi64(_mm256_and_si256(load(from + 32 * i), mask), zero);
      const int four = _mm256_movemask_pd(_mm256_castsi256_pd(equal));
      word |= std::uint64_t{static_cast<std::uint32_t>(four)} << (4 * i);
    }
    out[w] = word;
  }
}

}  // namespace

const Kernels kAvx2{.of_1 = of_1, .of_2 = of_2, .of_4 = of_4, .of_8 = of_8};

}  // namespace nibble::kernels::zero_bits_of
#endif
