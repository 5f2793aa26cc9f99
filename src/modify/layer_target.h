// SPDX-License-Identifier: Apache-2.0
// What an error-compensating solver is to reproduce on one linear, and in which metric: the module's weight
// or one shifted towards the original model's outputs (target_shift.h), the Hessian as it is or, where a bias
// takes up the mean, about its mean.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "modify/modifier.h"
#include "modify/target_shift.h"

namespace nibble {

struct CorrectionOptions {
  bool target = false;             // shift the target; needs kInputShift
  std::optional<double> strength;  // of the shift; nullopt: judged on held-out sequences
  std::int64_t sequences = 0;      // that are compared with the original model
  bool bias = false;               // centred metric and a new bias, where the module has one
  double dampening_frac = 0.01;
};

// `target_correction`, `correction_samples`, `bias_correction` and `dampening_frac` of a modifier; all off
// under strict rules.
CorrectionOptions correction_options(const Arguments& arguments, bool is_strict);
unsigned correction_needs(const CorrectionOptions& options);

// The shifts of the inputs of a unit's linears. Linears that read the same one ask one after the other; only
// the last is kept, since experts have inputs of their own, and only until its last reader has asked: at
// 11,000 columns it is half a gigabyte.
class UnitShifts {
 public:
  explicit UnitShifts(const UnitWork& unit);
  Result<ShiftDirections> directions(ThreadPool& pool, const ModuleStatistics& seen, const Matrix& weight,
                                     double dampening_frac);

 private:
  std::map<const Hessian*, int> readers_left_;
  const Hessian* last_ = nullptr;
  std::optional<ShiftSolver> solver_;
};

class LayerTarget {
 public:
  // The module has a Hessian; `shifts` is that of its unit.
  static Result<LayerTarget> make(ThreadPool& pool, const ModuleWork& work, const CorrectionOptions& options,
                                  UnitShifts& shifts);

  const Matrix& original() const { return original_; }
  const Matrix& weight() const { return shifted_.empty() ? original_ : shifted_; }
  const Hessian& metric() const { return centred_ ? *centred_ : *hessian_; }
  double strength() const { return strength_; }

  // E ||W x||^2, and E ||Q x - W x_original||^2 less what no Q can change. `updates_bias`: after new_bias().
  double signal(ThreadPool& pool) const;
  double noise(ThreadPool& pool, const Matrix& changed, bool updates_bias) const;
  bool updates_bias() const { return centred_.has_value(); }
  std::vector<float> new_bias(std::span<const float> bias, const Matrix& changed) const;

 private:
  Matrix original_;
  Matrix shifted_;  // empty: no shift
  const Hessian* hessian_ = nullptr;
  std::optional<Hessian> centred_;
  std::vector<double> deviation_mean_;
  double strength_ = 0;
};

}  // namespace nibble
