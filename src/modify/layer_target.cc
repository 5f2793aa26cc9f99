// SPDX-License-Identifier: Apache-2.0
#include "modify/layer_target.h"

#include <algorithm>

#include "modify/solver/loss.h"
#include "modify/target_shift.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

bool is_zero(const Matrix& m) {
  return std::ranges::all_of(m.values(), [](float v) { return v == 0; });
}

// The two moments of one part of the calibration tokens, about their means if `is_centred`.
struct Moments {
  std::optional<Hessian> own_hessian;
  std::optional<InputShift> own_shift;
  const Hessian* hessian = nullptr;
  const InputShift* shift = nullptr;

  Moments(const Hessian& h, const InputShift& s, bool is_centred) : hessian(&h), shift(&s) {
    if (!is_centred) return;
    hessian = &own_hessian.emplace(centred(h));
    shift = &own_shift.emplace(centred(s, h.mean));
  }
  Moments(const Moments&) = delete;
  Moments& operator=(const Moments&) = delete;
};

struct Shift {
  Matrix direction;
  double strength = 0;
};

bool has_halves(const ModuleStatistics& seen) {
  return seen.half_hessian[0] && seen.half_hessian[1] && seen.half_shift[0] && seen.half_shift[1];
}

// The direction that the deviations of one half of the sequences give is judged on the other half, both ways.
// All three directions are taken in the metric of all tokens, so they cost one factorisation.
Result<Shift> judged_shift(ThreadPool& pool, const Matrix& weight, const ModuleStatistics& seen,
                           const Moments& all, bool is_centred, double dampening_frac) {
  if (!has_halves(seen)) return Shift{};
  const Moments halves[2] = {{*seen.half_hessian[0], *seen.half_shift[0], is_centred},
                             {*seen.half_hessian[1], *seen.half_shift[1], is_centred}};
  std::vector<const InputShift*> shifts{halves[0].shift, halves[1].shift};
  // Without centring the direction of all tokens is the mean of the two.
  if (is_centred) shifts.push_back(all.shift);
  TRY_ASSIGN(std::vector<Matrix> directions,
             shift_directions(pool, weight, *all.hessian, shifts, dampening_frac));
  Shift shift;
  for (const std::size_t found : {std::size_t{0}, std::size_t{1}}) {
    const Moments& there = halves[1 - found];
    shift.strength += held_out_strength(pool, weight, directions[found], *there.hessian, *there.shift) / 2;
  }
  if (is_centred) {
    shift.direction = std::move(directions[2]);
    return shift;
  }
  const auto first = static_cast<double>(seen.half_shift[0]->tokens);
  const auto share = static_cast<float>(first / (first + static_cast<double>(seen.half_shift[1]->tokens)));
  shift.direction = std::move(directions[0]);
  for (std::int64_t i = 0; i < weight.rows() * weight.cols(); ++i) {
    float& d = shift.direction.data()[i];
    d = share * d + (1 - share) * directions[1].data()[i];
  }
  return shift;
}

}  // namespace

CorrectionOptions correction_options(const Arguments& arguments, bool is_strict) {
  CorrectionOptions options;
  if (!arguments.at("dampening_frac").is_null()) options.dampening_frac = arguments.number("dampening_frac");
  if (is_strict) return options;
  const RecipeValue& target = arguments.at("target_correction");
  if (const bool* wanted = target.if_bool()) {
    options.target = *wanted;
  } else {
    options.strength = arguments.number("target_correction");
    options.target = *options.strength > 0;
  }
  options.bias = arguments.flag("bias_correction");
  return options;
}

unsigned correction_needs(const CorrectionOptions& options) {
  return options.target ? kHessian | kInputShift : kHessian;
}

Result<LayerTarget> LayerTarget::make(ThreadPool& pool, const ModuleWork& work,
                                      const CorrectionOptions& options) {
  const ModuleStatistics& seen = *work.statistics;
  LayerTarget target;
  target.original_ = weight_matrix(work);
  target.hessian_ = seen.hessian;
  const bool is_centred = options.bias && work.bias.has_value();
  if (is_centred) target.centred_ = centred(*seen.hessian);
  if (!options.target || !seen.input_shift) return target;
  // In the first block nothing deviates yet.
  if (is_zero(seen.input_shift->values)) return target;
  target.deviation_mean_ = seen.input_shift->mean;
  const Moments all(*seen.hessian, *seen.input_shift, is_centred);
  Shift shift;
  if (options.strength) {
    shift.strength = *options.strength;
    TRY_ASSIGN(shift.direction,
               shift_direction(pool, target.original_, *all.hessian, *all.shift, options.dampening_frac));
  } else {
    TRY_ASSIGN(shift, judged_shift(pool, target.original_, seen, all, is_centred, options.dampening_frac));
  }
  if (shift.strength == 0) return target;
  target.strength_ = shift.strength;
  target.shifted_ = shifted_target(target.original_, shift.direction, shift.strength);
  return target;
}

double LayerTarget::signal(ThreadPool& pool) const {
  return solver::layer_loss(pool, original_, Matrix(), hessian_->values);
}

// About the means the error splits in two: what varies, and the mean, which a new bias takes to zero.
double LayerTarget::noise(ThreadPool& pool, const Matrix& changed, bool updates_bias) const {
  double noise = solver::layer_loss(pool, changed, weight(), metric().values);
  if (!centred_ || updates_bias) return noise;
  const std::vector<float> zero(static_cast<std::size_t>(original_.rows()));
  for (const float missing : new_bias(zero, changed)) {
    noise += static_cast<double>(missing) * static_cast<double>(missing);
  }
  return noise;
}

std::vector<float> LayerTarget::new_bias(std::span<const float> bias, const Matrix& changed) const {
  return update_bias(bias, original_, changed, hessian_->mean, deviation_mean_);
}

}  // namespace nibble
