// SPDX-License-Identifier: Apache-2.0
#include "modify/layer_target.h"

#include <algorithm>
#include <limits>

#include "modify/solver/loss.h"
#include "modify/target_shift.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

bool is_zero(const InputShift* shift) {
  return shift == nullptr || std::ranges::all_of(shift->values.values(), [](float v) { return v == 0; });
}

// The moments of the sequences that are compared with the original model, about their means if asked.
class Compared {
 public:
  Compared(const ModuleStatistics& seen, bool is_centred) : hessian_(seen.compared_hessian) {
    for (const int half : {0, 1}) shifts_[half] = seen.half_shift[half];
    if (!is_centred) return;
    hessian_ = &own_hessian_.emplace(centred(*seen.compared_hessian));
    for (const int half : {0, 1}) {
      if (shifts_[half] == nullptr) continue;
      shifts_[half] = &own_shifts_[half].emplace(centred(*shifts_[half], own_hessian_->mean));
    }
  }
  Compared(const Compared&) = delete;
  Compared& operator=(const Compared&) = delete;

  const Hessian& hessian() const { return *hessian_; }
  const InputShift* shift(std::size_t half) const { return shifts_[half]; }
  // Of the tokens, in the first half.
  double share() const {
    const auto count = [this](std::size_t h) { return shifts_[h] ? shifts_[h]->tokens : std::int64_t{0}; };
    return static_cast<double>(count(0)) / static_cast<double>(count(0) + count(1));
  }

 private:
  const Hessian* hessian_;
  const InputShift* shifts_[2];
  std::optional<Hessian> own_hessian_;
  std::optional<InputShift> own_shifts_[2];
};

struct Shift {
  Matrix direction;
  double strength = 0;
};

// first * share + second * (1 - share)
Matrix mixed(Matrix first, double share, const Matrix& second) {
  const auto f = static_cast<float>(share);
  for (std::int64_t i = 0; i < first.rows() * first.cols(); ++i)
    first.data()[i] = f * first.data()[i] + (1 - f) * second.data()[i];
  return first;
}

// The direction that the deviations of one half of the sequences give is judged on those of the other half,
// both ways; the direction of all is the mean of the two. Both are taken in the metric of all compared
// tokens: one factorisation, and one matrix instead of three.
Result<Shift> judged_shift(ThreadPool& pool, const Matrix& weight, const Compared& compared,
                           double dampening_frac) {
  const InputShift* const shifts[2] = {compared.shift(0), compared.shift(1)};
  if (shifts[0] == nullptr || shifts[1] == nullptr) return Shift{};
  TRY_ASSIGN(std::vector<Matrix> directions,
             shift_directions(pool, weight, compared.hessian(), shifts, dampening_frac));
  Shift shift;
  for (const std::size_t found : {std::size_t{0}, std::size_t{1}}) {
    shift.strength +=
        held_out_strength(pool, weight, directions[found], compared.hessian(), *shifts[1 - found]) / 2;
  }
  shift.direction = mixed(std::move(directions[0]), compared.share(), directions[1]);
  return shift;
}

Result<Shift> given_shift(ThreadPool& pool, const Matrix& weight, const Compared& compared, double strength,
                          double dampening_frac) {
  const InputShift* const first = compared.shift(0);
  InputShift all = first != nullptr ? *first : *compared.shift(1);
  if (first != nullptr && compared.shift(1) != nullptr)
    all.values = mixed(std::move(all.values), compared.share(), compared.shift(1)->values);
  TRY_ASSIGN(Matrix direction, shift_direction(pool, weight, compared.hessian(), all, dampening_frac));
  return Shift{std::move(direction), strength};
}

std::vector<double> deviation_mean(const ModuleStatistics& seen) {
  const Compared compared(seen, false);
  std::vector<double> mean(static_cast<std::size_t>(seen.compared_hessian->cols()));
  const double share[2] = {compared.share(), 1 - compared.share()};
  for (const std::size_t half : {std::size_t{0}, std::size_t{1}}) {
    if (compared.shift(half) == nullptr) continue;
    for (std::size_t c = 0; c < mean.size(); ++c) mean[c] += share[half] * compared.shift(half)->mean[c];
  }
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

Result<LayerTarget> LayerTarget::make(ThreadPool& pool, const ModuleWork& work,
                                      const CorrectionOptions& options) {
  const ModuleStatistics& seen = *work.statistics;
  LayerTarget target;
  target.original_ = weight_matrix(work);
  target.hessian_ = seen.hessian;
  const bool is_centred = options.bias && work.bias.has_value();
  if (is_centred) target.centred_ = centred(*seen.hessian);
  // In the first block nothing deviates yet.
  if (!options.target || (is_zero(seen.half_shift[0]) && is_zero(seen.half_shift[1]))) return target;
  target.deviation_mean_ = deviation_mean(seen);
  const Compared compared(seen, is_centred);
  TRY_ASSIGN(const Shift shift,
             options.strength
                 ? given_shift(pool, target.original_, compared, *options.strength, options.dampening_frac)
                 : judged_shift(pool, target.original_, compared, options.dampening_frac));
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
