// SPDX-License-Identifier: Apache-2.0
#include "modify/layer_target.h"

#include <algorithm>
#include <limits>

#include "modify/solver/loss.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

bool is_zero(const InputShift* shift) {
  return std::ranges::all_of(shift->values.values(), [](float v) { return v == 0; });
}

std::vector<const InputShift*> shifts_of(const ModuleStatistics& seen) {
  std::vector<const InputShift*> shifts;
  for (const InputShift* shift : seen.half_shift) {
    if (shift != nullptr) shifts.push_back(shift);
  }
  return shifts;
}

// The shift is a regression on the columns of the input, from few tokens: what it finds in quiet directions
// is chance. Its ridge, as a share of the mean diagonal, is this often the number of columns a token.
constexpr double kRidgeOfColumns = 4;

double shift_dampening(const Hessian& compared, double dampening_frac) {
  const double columns_a_token = static_cast<double>(compared.cols()) / static_cast<double>(compared.tokens);
  return std::max(dampening_frac, kRidgeOfColumns * columns_a_token);
}

// Of the compared tokens, in the first of the parts.
double first_share(const std::vector<const InputShift*>& shifts) {
  if (shifts.size() < 2) return 1;
  const auto first = static_cast<double>(shifts[0]->tokens);
  return first / (first + static_cast<double>(shifts[1]->tokens));
}

// Moments and shifts of the compared tokens about their means.
struct Centred {
  explicit Centred(const ModuleStatistics& seen) : hessian(centred(*seen.compared_hessian)) {
    for (const InputShift* shift : shifts_of(seen)) shifts.push_back(centred(*shift, hessian.mean));
  }
  Result<ShiftDirections> directions(ThreadPool& pool, const Matrix& weight, double dampening_frac) const {
    std::vector<const InputShift*> pointers;
    for (const InputShift& shift : shifts) pointers.push_back(&shift);
    const double ridge = shift_dampening(hessian, dampening_frac);
    return ShiftSolver(hessian, pointers, ridge).directions(pool, weight);
  }
  Hessian hessian;
  std::vector<InputShift> shifts;
};

// first * share + second * (1 - share)
Matrix mixed(Matrix first, double share, const Matrix& second) {
  const auto f = static_cast<float>(share);
  for (std::int64_t i = 0; i < first.rows() * first.cols(); ++i)
    first.data()[i] = f * first.data()[i] + (1 - f) * second.data()[i];
  return first;
}

// The direction that the deviations of one half of the sequences give is judged on those of the other half,
// both ways; without a second half nothing can be judged.
double judged_strength(const ShiftDirections& directions) {
  if (directions.direction.size() < 2) return 0;
  return (held_out_strength(directions, 0, 1) + held_out_strength(directions, 1, 0)) / 2;
}

std::vector<double> deviation_mean(const ModuleStatistics& seen) {
  const std::vector<const InputShift*> shifts = shifts_of(seen);
  std::vector<double> mean = shifts[0]->mean;
  if (shifts.size() < 2) return mean;
  const double share = first_share(shifts);
  for (std::size_t c = 0; c < mean.size(); ++c) mean[c] = share * mean[c] + (1 - share) * shifts[1]->mean[c];
  return mean;
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
  const std::int64_t sequences = arguments.integer("correction_samples");
  options.sequences = sequences > 0 ? sequences : std::numeric_limits<std::int64_t>::max();
  options.bias = arguments.flag("bias_correction");
  return options;
}

unsigned correction_needs(const CorrectionOptions& options) {
  return options.target ? kHessian | kInputShift : kHessian;
}

UnitShifts::UnitShifts(const UnitWork& unit) {
  for (const ModuleWork& work : unit.modules) {
    if (work.statistics != nullptr) ++readers_left_[work.statistics->compared_hessian];
  }
}

Result<ShiftDirections> UnitShifts::directions(ThreadPool& pool, const ModuleStatistics& seen,
                                               const Matrix& weight, double dampening_frac) {
  const Hessian* const hessian = seen.compared_hessian;
  if (last_ != hessian) {
    solver_.emplace(*hessian, shifts_of(seen), shift_dampening(*hessian, dampening_frac));
  }
  last_ = hessian;
  Result<ShiftDirections> found = solver_->directions(pool, weight);
  if (--readers_left_[hessian] == 0) {
    solver_.reset();
    last_ = nullptr;
  }
  return found;
}

Result<LayerTarget> LayerTarget::make(ThreadPool& pool, const ModuleWork& work,
                                      const CorrectionOptions& options, UnitShifts& shifts) {
  const ModuleStatistics& seen = *work.statistics;
  LayerTarget target;
  target.original_ = weight_matrix(pool, work);
  target.hessian_ = seen.hessian;
  const bool is_centred = options.bias && work.bias.has_value();
  if (is_centred) target.centred_ = centred(*seen.hessian);
  // In the first block nothing deviates yet.
  if (!options.target || std::ranges::all_of(shifts_of(seen), is_zero)) return target;
  target.deviation_mean_ = deviation_mean(seen);
  const Matrix& weight = target.original_;
  TRY_ASSIGN(ShiftDirections found, is_centred
                                        ? Centred(seen).directions(pool, weight, options.dampening_frac)
                                        : shifts.directions(pool, seen, weight, options.dampening_frac));
  target.strength_ = options.strength ? *options.strength : judged_strength(found);
  if (target.strength_ == 0) return target;
  Matrix direction = std::move(found.direction[0]);
  if (found.direction.size() > 1)
    direction = mixed(std::move(direction), first_share(shifts_of(seen)), found.direction[1]);
  target.shifted_ = shifted_target(weight, direction, target.strength_);
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
