// SPDX-License-Identifier: Apache-2.0
// Elementary functions on F, written once over the vocabulary of avx512.h / avx2.h / portable.h; include one
// of those first. Coefficients are our own minimax fits. Errors are measured by tests/kernels/rows_test.cc.
#pragma once

#include <cstdint>

namespace nibble::kernels {
namespace {

// e^x, within 1.5 ulp (2 at the portable level). Below -87.33654 (results under 2^-126) it is 0, so that no
// subnormal slows the sums down; above 88.72 it is infinity; NaN stays NaN.
NIBBLE_SIMD F exp(F x) {
  constexpr float kLowest = -87.33654f;
  const F y = min(broadcast(89.0f), max(broadcast(kLowest), x));
  // y = n ln 2 + r; the high part of ln 2 has 10 bits, so n * high is exact.
  const F n = round_even(y * broadcast(1.44269504f));
  const F r = fma(n, broadcast(2.12194440e-4f), fma(n, broadcast(-0.693359375f), y));
  F p = broadcast(1.3814475e-3f);
  p = fma(p, r, broadcast(8.3687763e-3f));
  p = fma(p, r, broadcast(4.1668393e-2f));
  p = fma(p, r, broadcast(1.66665202e-1f));
  p = fma(p, r, broadcast(4.99999934e-1f));
  p = fma(p, r * r, r) + broadcast(1.0f);
  return select(x < broadcast(kLowest), broadcast(0.0f), scale_by_power(p, n));
}

// tanh x, relative error below 3e-7.
NIBBLE_SIMD F tanh(F x) {
  const F sign = from_bits(bits(x) & broadcast(static_cast<std::int32_t>(0x80000000u)));
  const F a = from_bits(bits(x) & broadcast(0x7fffffff));
  const F u = x * x;
  F p = broadcast(-5.66078933e-3f);
  p = fma(p, u, broadcast(2.06020080e-2f));
  p = fma(p, u, broadcast(-5.37292301e-2f));
  p = fma(p, u, broadcast(1.33313290e-1f));
  p = fma(p, u, broadcast(-3.33332783e-1f));
  const F small = fma(p * u, x, x);
  const F large = broadcast(1.0f) - broadcast(2.0f) / (exp(a + a) + broadcast(1.0f));
  return select(a < broadcast(0.625f), small, from_bits(bits(large) | bits(sign)));
}

// The normal distribution's integral up to x: erfc(-x / sqrt 2) / 2. With z = |x| / sqrt 2 and t = 1 / (1 + z
// / 2), erfc z = e^(-z^2) Q(t).
NIBBLE_SIMD F normal_cdf(F x) {
  const F z = from_bits(bits(x) & broadcast(0x7fffffff)) * broadcast(0.707106781f);
  const F t = broadcast(1.0f) / fma(z, broadcast(0.5f), broadcast(1.0f));
  F q = broadcast(-5.50513047e-2f);
  q = fma(q, t, broadcast(2.63903149e-1f));
  q = fma(q, t, broadcast(-4.41477665e-1f));
  q = fma(q, t, broadcast(2.21191107e-1f));
  q = fma(q, t, broadcast(1.70775768e-2f));
  q = fma(q, t, broadcast(1.81249914e-1f));
  q = fma(q, t, broadcast(2.49793495e-1f));
  q = fma(q, t, broadcast(2.81098430e-1f));
  q = fma(q, t, broadcast(2.82221377e-1f));
  q = fma(q, t, broadcast(-6.01131448e-6f));
  const F tail = q * exp(broadcast(0.0f) - z * z) * broadcast(0.5f);
  return select(x < broadcast(0.0f), tail, broadcast(1.0f) - tail);
}

}  // namespace
}  // namespace nibble::kernels
