// SPDX-License-Identifier: Apache-2.0
// The fits with kWidth blocks side by side, a lane each (GCC / Clang vector extensions: every operation is
// the exact IEEE one). Branches of the portable code become selections; a lane that has nothing to fit
// computes rubbish that the last selection replaces. Included by avx2.cc and avx512.cc, which define kWidth
// first; all is internal to them.
#pragma once

#include <cstring>

namespace nibble::kernels::gguf_fit {
namespace {

using Float = float __attribute__((vector_size(4 * kWidth)));
using Int = std::int32_t __attribute__((vector_size(4 * kWidth)));

#define NIBBLE_INLINE [[gnu::always_inline]] inline

NIBBLE_INLINE Float splat(float x) {
  return x - Float{};
}
NIBBLE_INLINE Float absolute(Float v) {
  return reinterpret_cast<Float>(reinterpret_cast<Int>(v) & 0x7fffffff);
}

// Half to even within [low, high]; NaN is `low`.
NIBBLE_INLINE Float code_of(Float v, Float low, Float high) {
  v = v > low ? v : low;
  v = v < high ? v : high;
  return (v + 12582912.0f) - 12582912.0f;
}

NIBBLE_INLINE bool any(Int mask) {
  std::uint64_t words[sizeof(Int) / 8];
  std::memcpy(words, &mask, sizeof mask);
  std::uint64_t all = 0;
  for (const std::uint64_t word : words) all |= word;
  return all != 0;
}

// Value i of `lanes` blocks; missing lanes repeat the first block.
struct Columns {
  Float at[kFitMost] = {};

  void load(const float* x, int n, std::int64_t lanes) {
    for (int i = 0; i < n; ++i) {
      float values[kWidth];
      for (std::int64_t lane = 0; lane < kWidth; ++lane) values[lane] = x[(lane < lanes ? lane : 0) * n + i];
      std::memcpy(&at[i], values, sizeof values);
    }
  }
};

template <class Code>
NIBBLE_INLINE void store_codes(Float value, int i, int n, std::int64_t lanes, Code* codes) {
  float values[kWidth];
  std::memcpy(values, &value, sizeof values);
  for (std::int64_t lane = 0; lane < lanes; ++lane) codes[lane * n + i] = static_cast<Code>(values[lane]);
}

NIBBLE_INLINE void store_lanes(Float value, std::int64_t lanes, float* out) {
  std::memcpy(out, &value, 4 * static_cast<std::size_t>(lanes));
}

struct Line {
  Float scale, min;
};

template <bool is_absolute>
NIBBLE_INLINE Float line_error(const Columns& x, const Columns& w, const Float* l, int n, const Line& line) {
  Float sum{};
  for (int i = 0; i < n; ++i) {
    const Float difference = line.scale * l[i] + line.min - x.at[i];
    sum += w.at[i] * (is_absolute ? absolute(difference) : difference * difference);
  }
  return sum;
}

template <bool is_absolute>
void fit_lines(const MinSearch& search, int n, const Columns& x, const Columns& w, std::int64_t lanes,
               std::uint8_t* codes, float* scale_out, float* min_out) {
  const Float top = splat(static_cast<float>(search.top));
  Float min = x.at[0];
  Float max = x.at[0];
  Float sum_w = w.at[0];
  Float sum_x = w.at[0] * x.at[0];
  for (int i = 1; i < n; ++i) {
    min = x.at[i] < min ? x.at[i] : min;
    max = max < x.at[i] ? x.at[i] : max;
    sum_w += w.at[i];
    sum_x += w.at[i] * x.at[i];
  }
  min = 0.0f < min ? Float{} : min;
  const Int is_flat = max <= min;
  const Float lowest = min;
  Float l[kFitMost];
  Float chosen = top / (max - min);  // the codes are those of `chosen` and `chosen_min`
  Float chosen_min = min;
  for (int i = 0; i < n; ++i) l[i] = code_of(chosen * (x.at[i] - min), Float{}, top);
  Line best_line{1.0f / chosen, min};
  Float best = line_error<is_absolute>(x, w, l, n, best_line);
  for (int step = 0; step <= search.steps; ++step) {
    const float numerator =
        search.first + search.step * static_cast<float>(step) + static_cast<float>(search.top);
    const Float candidate = numerator / (max - best_line.min);
    Float sum_l{};
    Float sum_ll{};
    Float sum_xl{};
    for (int i = 0; i < n; ++i) {
      l[i] = code_of(candidate * (x.at[i] - best_line.min), Float{}, top);
      const Float wl = w.at[i] * l[i];
      sum_l += wl;
      sum_ll += wl * l[i];
      sum_xl += wl * x.at[i];
    }
    const Float determinant = sum_w * sum_ll - sum_l * sum_l;
    Line line{(sum_w * sum_xl - sum_x * sum_l) / determinant,
              (sum_ll * sum_x - sum_l * sum_xl) / determinant};
    const Int is_positive = line.min > 0.0f;
    line.scale = is_positive ? sum_xl / sum_ll : line.scale;
    line.min = is_positive ? Float{} : line.min;
    const Float error = line_error<is_absolute>(x, w, l, n, line);
    const Int is_better = (determinant > 0.0f) & (error < best);
    chosen = is_better ? candidate : chosen;
    chosen_min = is_better ? best_line.min : chosen_min;
    best = is_better ? error : best;
    best_line.scale = is_better ? line.scale : best_line.scale;
    best_line.min = is_better ? line.min : best_line.min;
  }
  for (int i = 0; i < n; ++i) {
    const Float code = code_of(chosen * (x.at[i] - chosen_min), Float{}, top);
    store_codes(is_flat ? Float{} : code, i, n, lanes, codes);
  }
  store_lanes(is_flat ? Float{} : best_line.scale, lanes, scale_out);
  store_lanes(-(is_flat ? lowest : best_line.min), lanes, min_out);
}

void scale_min(const MinSearch& search, int n, std::int64_t count, const float* x, const float* weights,
               std::uint8_t* codes, float* scale, float* min) {
  for (std::int64_t b = 0; b < count; b += kWidth) {
    const std::int64_t lanes = count - b < kWidth ? count - b : kWidth;
    Columns columns;
    Columns column_weights;
    columns.load(x + b * n, n, lanes);
    column_weights.load(weights + b * n, n, lanes);
    if (search.absolute) {
      fit_lines<true>(search, n, columns, column_weights, lanes, codes + b * n, scale + b, min + b);
    } else {
      fit_lines<false>(search, n, columns, column_weights, lanes, codes + b * n, scale + b, min + b);
    }
  }
}

NIBBLE_INLINE Float extreme(const Columns& x, int n) {
  Float best{};
  for (int i = 0; i < n; ++i) best = absolute(x.at[i]) > absolute(best) ? x.at[i] : best;
  return best;
}

struct Moments {
  Float xl, ll;
};

// Keeps the better of two scales: what `sum` gives, if (sum w x l)^2 / sum w l^2 grew.
NIBBLE_INLINE Int improve(const Moments& sum, Float& scale, Float& best) {
  const Int is_better = (sum.ll > 0.0f) & (sum.xl * sum.xl > best * sum.ll);
  const Float next = sum.xl / sum.ll;
  scale = is_better ? next : scale;
  best = is_better ? next * sum.xl : best;
  return is_better;
}

NIBBLE_INLINE Moments symmetric_moments(const Columns& x, const Columns& w, int n, Float half,
                                        Float inverse) {
  Moments sum{};
  for (int i = 0; i < n; ++i) {
    const Float l = code_of(inverse * x.at[i], -half, half - 1.0f);
    sum.xl += w.at[i] * x.at[i] * l;
    sum.ll += w.at[i] * l * l;
  }
  return sum;
}

void symmetric(int half_width, int n, std::int64_t count, const float* x, const float* weights,
               std::int8_t* codes, float* scale_out) {
  const Float half = splat(static_cast<float>(half_width));
  for (std::int64_t b = 0; b < count; b += kWidth) {
    const std::int64_t lanes = count - b < kWidth ? count - b : kWidth;
    Columns columns;
    Columns w;
    columns.load(x + b * n, n, lanes);
    if (weights != nullptr) {
      w.load(weights + b * n, n, lanes);
    } else {
      for (int i = 0; i < n; ++i) w.at[i] = columns.at[i] * columns.at[i];
    }
    const Float max = extreme(columns, n);
    const Int is_zero = absolute(max) < kTiny;
    Float chosen = -half / max;
    Moments sum = symmetric_moments(columns, w, n, half, chosen);
    Float scale = sum.ll != 0.0f ? sum.xl / sum.ll : Float{};
    Float best = scale * sum.xl;
    for (int step = -9; step <= 9; ++step) {
      if (step == 0) continue;
      const Float inverse = -(half + 0.1f * static_cast<float>(step)) / max;
      sum = symmetric_moments(columns, w, n, half, inverse);
      chosen = improve(sum, scale, best) ? inverse : chosen;
    }
    for (int i = 0; i < n; ++i) {
      const Float code = half + code_of(chosen * columns.at[i], -half, half - 1.0f);
      store_codes(is_zero ? Float{} : code, i, n, lanes, codes + b * n);
    }
    store_lanes(is_zero ? Float{} : scale, lanes, scale_out + b);
  }
}

// The levels and twice the borders between them, as floats.
struct Levels {
  explicit Levels(const std::int8_t* levels) {
    for (int i = 0; i < 16; ++i) level[i] = static_cast<float>(levels[i]);
    for (int i = 0; i < 15; ++i) border[i] = static_cast<float>(levels[i] + levels[i + 1]);
  }
  float level[16];
  float border[15];
};

NIBBLE_INLINE Moments level_moments(const Levels& levels, const Columns& x, const Columns& w, Float inverse) {
  Moments sum{};
  for (int i = 0; i < 32; ++i) {
    const Float v = inverse * x.at[i];
    const Float twice = v + v;
    Float q = splat(levels.level[0]);
    for (int k = 0; k < 15; ++k) q = twice >= levels.border[k] ? splat(levels.level[k + 1]) : q;
    sum.xl += w.at[i] * q * x.at[i];
    sum.ll += w.at[i] * q * q;
  }
  return sum;
}

void level_fits(const std::int8_t* table, std::int64_t count, const float* x, const float* weights,
                float* scale_out) {
  const Levels levels(table);
  for (std::int64_t b = 0; b < count; b += kWidth) {
    const std::int64_t lanes = count - b < kWidth ? count - b : kWidth;
    Columns columns;
    Columns w;
    columns.load(x + 32 * b, 32, lanes);
    w.load(weights + 32 * b, 32, lanes);
    const Float max = extreme(columns, 32);
    Moments sum = level_moments(levels, columns, w, 1.0f / (-max / levels.level[0]));
    Float scale = sum.ll > 0.0f ? sum.xl / sum.ll : Float{};
    Float best = scale * sum.xl;
    for (int step = -kLevelTries; step <= kLevelTries; ++step) {
      sum = level_moments(levels, columns, w, (static_cast<float>(step) + levels.level[0]) / max);
      improve(sum, scale, best);
    }
    store_lanes(absolute(max) < kTiny ? Float{} : scale, lanes, scale_out + b);
  }
}

#undef NIBBLE_INLINE

}  // namespace
}  // namespace nibble::kernels::gguf_fit
