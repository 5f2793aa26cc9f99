// SPDX-License-Identifier: Apache-2.0
// Ranges of the units of a weight, from which its scales follow: plain minimum and maximum, or the search of
// the reference's mse observers for the shrunken range with the smallest rounding error
// (llm-compressor observers/mse.py).
#pragma once

#include <string_view>

#include "base/error.h"
#include "codec/quantize.h"

namespace nibble {

// Parameters of the range search; observer_kwargs may change them.
struct RangeSearch {
  double maxshrink = 0.20;    // the narrowest range is 1 - maxshrink of the widest
  double grid = 100;          // steps between 0 and the full range
  double norm = 2.4;          // exponent of the rounding error
  double expand = 1.0;        // the widest range, as a multiple of the observed one
  std::int64_t patience = 5;  // steps without any improvement after which the search ends
};

// The observer of validated weight arguments. Errors name an observer that needs calibration data or an
// unknown argument of one.
Result<UnitRanges> observe_weight(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args);

UnitRanges search_ranges(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                         const RangeSearch& search);

}  // namespace nibble
