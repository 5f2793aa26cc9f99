// SPDX-License-Identifier: Apache-2.0
// The row kernels, written once over the vector vocabulary; each level's unit includes it after its simd
// header.
#pragma once

#include <cstdint>

#include "kernels/rows/table.h"
#include "kernels/simd/math.h"

namespace nibble::kernels::rows {
namespace {

constexpr std::int64_t kLanes = 16;

// Runs step(i, n) over [0, cols) in vectors: n is 16 but for the last.
template <class Step>
NIBBLE_SIMD void for_vectors(std::int64_t cols, Step step) {
  std::int64_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) step(i, kLanes);
  if (i < cols) step(i, cols - i);
}

NIBBLE_SIMD F load_some(const float* p, std::int64_t n, F fill) {
  return n == kLanes ? load(p) : load(p, n, fill);
}
NIBBLE_SIMD F load_some(const float* p, std::int64_t n) {
  return load_some(p, n, broadcast(0.0f));
}
NIBBLE_SIMD void store_some(float* p, std::int64_t n, F x) {
  if (n == kLanes) {
    store(p, x);
  } else {
    store(p, n, x);
  }
}

void rms_norm(std::int64_t cols, const float* x, const float* weight, float offset, double epsilon,
              float* y) {
  D sum = zero_d();
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    const D v = widen(load_some(x + i, n));
    sum = sum + v * v;
  });
  const F inverse = broadcast(
      static_cast<float>(1.0 / __builtin_sqrt(reduce_add(sum) / static_cast<double>(cols) + epsilon)));
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    F v = load_some(x + i, n) * inverse;
    if (weight != nullptr) v = v * (broadcast(offset) + load_some(weight + i, n));
    store_some(y + i, n, v);
  });
}

void layer_norm(std::int64_t cols, const float* x, const float* weight, const float* bias, double epsilon,
                float* y) {
  D sum = zero_d();
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) { sum = sum + widen(load_some(x + i, n)); });
  const double mean = reduce_add(sum) / static_cast<double>(cols);
  const F fill = broadcast(static_cast<float>(mean));
  D squares = zero_d();
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    const D v = widen(load_some(x + i, n, fill)) - broadcast(mean);
    squares = squares + v * v;
  });
  double total = reduce_add(squares);
  if (cols % kLanes != 0) {  // the filled lanes are not exactly the mean
    const double rest = static_cast<double>(static_cast<float>(mean)) - mean;
    total -= static_cast<double>(kLanes - cols % kLanes) * rest * rest;
  }
  const double inverse = 1.0 / __builtin_sqrt(total / static_cast<double>(cols) + epsilon);
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    F v = narrow((widen(load_some(x + i, n)) - broadcast(mean)) * broadcast(inverse));
    if (weight != nullptr) v = v * load_some(weight + i, n);
    if (bias != nullptr) v = v + load_some(bias + i, n);
    store_some(y + i, n, v);
  });
}

// x * sigmoid(u).
NIBBLE_SIMD F gate_by_sigmoid(F x, F u) {
  return x / (broadcast(1.0f) + exp(broadcast(0.0f) - u));
}

struct Relu {
  NIBBLE_SIMD static F of(F x) { return max(broadcast(0.0f), x); }
};
struct Relu2 {
  NIBBLE_SIMD static F of(F x) {
    const F r = Relu::of(x);
    return r * r;
  }
};
struct Silu {
  NIBBLE_SIMD static F of(F x) { return gate_by_sigmoid(x, x); }
};
// x / 2 * (1 + tanh(v)) = x * sigmoid(2 v), v = sqrt(2 / pi) * (x + 0.044715 x^3).
struct GeluTanh {
  NIBBLE_SIMD static F of(F x) {
    const F cubic = fma(x * x * x, broadcast(0.044715f), x);
    return gate_by_sigmoid(x, cubic * broadcast(1.59576912f));
  }
};
struct GeluErf {
  NIBBLE_SIMD static F of(F x) { return x * normal_cdf(x); }
};
struct QuickGelu {
  NIBBLE_SIMD static F of(F x) { return gate_by_sigmoid(x, x * broadcast(1.702f)); }
};
struct Tanh {
  NIBBLE_SIMD static F of(F x) { return tanh(x); }
};

template <class Function>
void activate(std::int64_t cols, const float* x, float* y) {
  for_vectors(
      cols, [&](std::int64_t i, std::int64_t n) { store_some(y + i, n, Function::of(load_some(x + i, n))); });
}

template <class Function>
void activate_gated(std::int64_t cols, const float* gate, const float* up, float* y) {
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    store_some(y + i, n, Function::of(load_some(gate + i, n)) * load_some(up + i, n));
  });
}

void soft_cap(std::int64_t cols, float cap, float* x) {
  const F high = broadcast(cap);
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    store_some(x + i, n, high * tanh(load_some(x + i, n) / high));
  });
}

NIBBLE_SIMD float largest_of(std::int64_t cols, const float* x) {
  const F lowest = broadcast(-__builtin_inff());
  F top = lowest;
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) { top = max(top, load_some(x + i, n, lowest)); });
  return reduce_max(top);
}

double sum_exp(std::int64_t cols, const float* x, float* largest) {
  *largest = largest_of(cols, x);
  if (*largest == -__builtin_inff()) return 0.0;
  const F shift = broadcast(*largest), lowest = broadcast(-__builtin_inff());
  D sum = zero_d();
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    sum = sum + widen(exp(load_some(x + i, n, lowest) - shift));
  });
  return reduce_add(sum);
}

void softmax(std::int64_t cols, const float* x, float* y) {
  const float largest = largest_of(cols, x);
  if (largest == -__builtin_inff()) {
    for (std::int64_t i = 0; i < cols; ++i) y[i] = 0.0f;
    return;
  }
  const F shift = broadcast(largest), lowest = broadcast(-__builtin_inff());
  D sum = zero_d();
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    const F e = exp(load_some(x + i, n, lowest) - shift);
    sum = sum + widen(e);
    store_some(y + i, n, e);
  });
  const F inverse = broadcast(static_cast<float>(1.0 / reduce_add(sum)));
  for_vectors(cols,
              [&](std::int64_t i, std::int64_t n) { store_some(y + i, n, load_some(y + i, n) * inverse); });
}

void add_scaled(std::int64_t cols, float alpha, const float* x, float* y) {
  const F scale = broadcast(alpha);
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    store_some(y + i, n, load_some(y + i, n) + scale * load_some(x + i, n));
  });
}

void rope(std::int64_t pairs, const float* cos, const float* sin, float sign, float* a, float* b,
          std::int64_t step) {
  if (step != 1) {
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float x = a[i * step], y = b[i * step], s = sign * sin[i];
      a[i * step] = x * cos[i] - y * s;
      b[i * step] = y * cos[i] + x * s;
    }
    return;
  }
  for_vectors(pairs, [&](std::int64_t i, std::int64_t n) {
    const F x = load_some(a + i, n), y = load_some(b + i, n);
    const F c = load_some(cos + i, n), s = broadcast(sign) * load_some(sin + i, n);
    store_some(a + i, n, x * c - y * s);
    store_some(b + i, n, y * c + x * s);
  });
}

void range(std::int64_t cols, const float* x, float* lowest, float* highest) {
  const F first = broadcast(x[0]);
  F low = first, high = first, broken = broadcast(0.0f);
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    const F v = load_some(x + i, n, first);
    low = min(low, v);
    high = max(high, v);
    broken = broken + v * broadcast(0.0f);  // NaN once a NaN or an infinity came by
  });
  alignas(64) float lanes_low[kLanes], lanes_high[kLanes], lanes_broken[kLanes];
  store(lanes_low, low);
  store(lanes_high, high);
  store(lanes_broken, broken);
  float l = lanes_low[0], h = lanes_high[0];
  bool rare = false;
  for (int i = 0; i < kLanes; ++i) {
    l = lanes_low[i] < l ? lanes_low[i] : l;
    h = lanes_high[i] > h ? lanes_high[i] : h;
    rare = rare || lanes_broken[i] != 0.0f;
  }
  for (std::int64_t i = 0; rare && i < cols; ++i) {
    if (x[i] != x[i]) l = h = x[i];
    if (l != l) break;
  }
  *lowest = l;
  *highest = h;
}

void quantize(std::int64_t cols, const float* x, float scale, float zero, float low, float high,
              std::uint8_t* codes) {
  const F divisor = broadcast(scale), shift = broadcast(zero), bottom = broadcast(low), top = broadcast(high);
  // Adding 1.5 * 2^23 rounds half to even and leaves the integer in the low bits.
  const F magic = broadcast(12582912.0f);
  for_vectors(cols, [&](std::int64_t i, std::int64_t n) {
    const F y = load_some(x + i, n) / divisor + shift;
    const I code = bits(min(top, max(y, bottom)) + magic) & broadcast(0xff);
    if (n == kLanes) {
      store_u8(codes + i, code);
    } else {
      std::uint8_t rest[kLanes];
      store_u8(rest, code);
      for (std::int64_t j = 0; j < n; ++j) codes[i + j] = rest[j];
    }
  });
}

constexpr Kernels make_kernels() {
  return {rms_norm,
          layer_norm,
          {activate<Relu>, activate<Relu2>, activate<Silu>, activate<GeluTanh>, activate<GeluErf>,
           activate<QuickGelu>, activate<Tanh>},
          {activate_gated<Relu>, activate_gated<Relu2>, activate_gated<Silu>, activate_gated<GeluTanh>,
           activate_gated<GeluErf>, activate_gated<QuickGelu>, activate_gated<Tanh>},
          soft_cap,
          softmax,
          sum_exp,
          add_scaled,
          rope,
          range,
          quantize};
}

}  // namespace
}  // namespace nibble::kernels::rows
