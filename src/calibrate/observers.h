// SPDX-License-Identifier: Apache-2.0
// Observers: from values to the ranges that scales are made of (llm-compressor 0.14, observers/). Weights
// are observed once, activations batch by batch.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "codec/activation_quantizer.h"
#include "codec/quantize.h"
#include "codec/scheme.h"

namespace nibble {

// An observer's name and kwargs, resolved.
struct ObserverSettings {
  enum class Statistic {
    kMinMax,
    kGridSearch,  // shrinks the range from expand * (min, max) while the error of quantization falls
    kPercentile,  // our own: leaves out the outermost values of both tails
  };
  enum class Memory {  // of activations over batches; weights have one batch
    kLast,
    kExtremes,
    kMovingAverage,
    kMean,
  };

  Statistic statistic = Statistic::kMinMax;
  Memory memory = Memory::kLast;
  double averaging_constant = 0.01;
  // Grid search: ranges (1 - i / grid) * expand * (min, max), i = 0, 1, ... while 1 - i / grid > 1 -
  // maxshrink.
  double maxshrink = 0.20;
  double grid = 100;
  double norm = 2.4;  // exponent of the error
  double expand = 1;
  int patience = 5;  // steps without improvement of any unit
  bool uses_importance =
      false;            // errors weighted by E[x^2]; steps go to the end of maxshrink, patience 0 is endless
  bool strict = false;  // missing importance is an error, not uniform weights
  double percentile = 99.99;

  int steps() const;
};

const std::vector<std::string>& known_observers();
// `args.observer` with `args.observer_kwargs`: any case, dashes or underscores. Null is min-max of the last
// batch. Unknown names, unknown kwargs and values out of range are errors.
Result<ObserverSettings> observer_settings(const QuantizationArgs& args);

// The ranges of a weight's units. `importance` is E[x^2] for every column; empty when no data was seen.
// Observers with a memory act as the one without, as in the reference.
Result<UnitRanges> observe_weight(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                                  std::span<const float> importance = {},
                                  std::span<const std::int32_t> g_idx = {});

// Observes the input or output of a module, or keys or values (strategy attn_head: one unit every head_dim
// columns).
class ActivationObserver {
 public:
  // `dtype` is the model's: statistics follow its arithmetic, and values are rounded to it first.
  static Result<ActivationObserver> create(const QuantizationArgs& args, DType dtype,
                                           std::int64_t head_dim = 0);

  // One batch, x[rows, cols]. Rows whose mask is 0 are padding; `mask` may be null.
  void observe(ThreadPool& pool, const float* x, std::int64_t rows, std::int64_t cols,
               const std::uint8_t* mask = nullptr);
  bool has_seen_data() const { return batches_ > 0; }

  // Current ranges of the units (one, or one a head or group).
  const UnitRanges& ranges() const { return ranges_; }
  // Scale, zero point and, for tensor_group, the global scale. An error when no data was seen: the reference
  // leaves such scales uninitialised.
  Result<ActivationParams> params() const;

 private:
  ActivationObserver(const QuantizationArgs& args, DType dtype, ObserverSettings settings,
                     std::int64_t head_dim)
      : args_(args), dtype_(dtype), settings_(settings), head_dim_(head_dim) {}
  std::int64_t run(std::int64_t cols) const;
  void remember(const UnitRanges& batch);

  QuantizationArgs args_;
  DType dtype_;
  ObserverSettings settings_;
  std::int64_t head_dim_;
  std::int64_t batches_ = 0;
  UnitRanges ranges_;
};

}  // namespace nibble
