// SPDX-License-Identifier: Apache-2.0
#include "modify/weight_observer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "base/check.h"
#include "base/suggest.h"

namespace nibble {
namespace {

constexpr std::int64_t kRowGrain = 16;

// Weight observers see a weight once, so that running and moving forms are the plain ones.
enum class Family { kMinMax, kSearch, kNeedsData };
struct ObserverRow {
  std::string_view name;
  Family family;
  RangeSearch search;
};
constexpr RangeSearch kExpanded{.maxshrink = 1 - 0.8 / 1.8, .grid = 200, .expand = 1.8, .patience = 1000};
constexpr ObserverRow kObservers[] = {
    {"memoryless_minmax", Family::kMinMax, {}},
    {"static_minmax", Family::kMinMax, {}},
    {"minmax", Family::kMinMax, {}},
    {"memoryless_mse", Family::kSearch, {}},
    {"mse", Family::kSearch, {}},
    {"nvfp4_expanded_mse", Family::kSearch, kExpanded},
    {"fouroversix", Family::kSearch, kExpanded},
    {"imatrix_mse", Family::kNeedsData, {}},
    {"nvfp4_expanded_imatrix", Family::kNeedsData, {}},
};

std::string plain_name(std::string_view name) {
  std::string plain(name);
  for (char& c : plain)
    c = c == '-' || c == ' ' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return plain;
}

std::optional<double> number_of(const ObserverValue& value) {
  if (const auto* v = std::get_if<double>(&value)) return *v;
  if (const auto* v = std::get_if<std::int64_t>(&value)) return static_cast<double>(*v);
  return std::nullopt;
}

Status apply_kwargs(const QuantizationArgs& args, RangeSearch& search) {
  static const std::vector<std::string> names{
      "maxshrink", "grid", "norm", "expand", "patience", "averaging_constant", "triton_error_buffer"};
  for (const auto& [name, value] : args.observer_kwargs) {
    const auto number = number_of(value);
    if (!number) return usage_error(fmt::format("observer_kwargs: {} must be a number", name));
    if (name == "maxshrink") {
      search.maxshrink = *number;
    } else if (name == "grid") {
      search.grid = *number;
    } else if (name == "norm") {
      search.norm = *number;
    } else if (name == "expand") {
      search.expand = *number;
    } else if (name == "patience") {
      search.patience = static_cast<std::int64_t>(*number);
    } else if (std::find(names.begin(), names.end(), name) == names.end()) {
      return usage_error(fmt::format("the observer {} has no argument {}", *args.observer, name),
                         did_you_mean(name, names));
    }
  }
  if (search.expand < 1 || search.maxshrink < 0 || search.maxshrink > 1 || search.grid < 1 ||
      search.norm <= 0) {
    return usage_error(
        "observer_kwargs: expand must be at least 1, maxshrink 0 to 1, grid at least 1, norm positive");
  }
  return {};
}

// The error of every unit, in the arithmetic of the reference: differences, powers and the sum are each
// rounded to the weight's dtype.
class ErrorOfUnits {
 public:
  ErrorOfUnits(ThreadPool& pool, const Tensor& weight, const UnitGrid& units, double norm)
      : pool_(pool),
        weight_(weight),
        units_(units),
        norm_(round_to(weight.dtype(), static_cast<float>(norm))),
        partial_(static_cast<std::size_t>(units.rows * units.grid_cols())) {}

  std::vector<float> operator()(const WeightQuantizer& quantizer) {
    pool_.parallel_for(units_.rows, kRowGrain, [&](std::int64_t first, std::int64_t last) {
      std::vector<float> values(static_cast<std::size_t>(units_.cols));
      std::vector<float> rounded(values.size());
      for (std::int64_t row = first; row < last; ++row) {
        weight_.decode_f32(row * units_.cols, values);
        quantizer.simulate(row, values, rounded);
        add_row(row, values, rounded);
      }
    });
    return sum_units();
  }

 private:
  void add_row(std::int64_t row, const std::vector<float>& values, const std::vector<float>& rounded) {
    const DType dtype = weight_.dtype();
    const std::int64_t grid_cols = units_.grid_cols();
    for (std::int64_t g = 0; g < grid_cols; ++g) {
      double sum = 0;
      const std::int64_t end = std::min((g + 1) * units_.unit_cols, units_.cols);
      for (std::int64_t c = g * units_.unit_cols; c < end; ++c) {
        const auto i = static_cast<std::size_t>(c);
        const float difference = std::fabs(round_to(dtype, round_to(dtype, rounded[i]) - values[i]));
        sum += static_cast<double>(round_to(dtype, std::pow(difference, norm_)));
      }
      partial_[static_cast<std::size_t>(row * grid_cols + g)] = sum;
    }
  }

  std::vector<float> sum_units() const {
    const std::int64_t grid_cols = units_.grid_cols();
    std::vector<double> sums(static_cast<std::size_t>(units_.count()));
    for (std::int64_t row = 0; row < units_.rows; ++row) {
      for (std::int64_t g = 0; g < grid_cols; ++g) {
        sums[static_cast<std::size_t>(row / units_.unit_rows * grid_cols + g)] +=
            partial_[static_cast<std::size_t>(row * grid_cols + g)];
      }
    }
    std::vector<float> errors(sums.size());
    for (std::size_t i = 0; i < sums.size(); ++i)
      errors[i] = round_to(weight_.dtype(), static_cast<float>(sums[i]));
    return errors;
  }

  ThreadPool& pool_;
  const Tensor& weight_;
  UnitGrid units_;
  float norm_;
  std::vector<double> partial_;  // [rows, grid columns]
};

UnitRanges scaled(const UnitRanges& ranges, DType dtype, double factor) {
  UnitRanges out = ranges;
  const auto f = static_cast<float>(factor);
  for (float& v : out.min) v = round_to(dtype, v * f);
  for (float& v : out.max) v = round_to(dtype, v * f);
  return out;
}

// Units that improve take the range; false when none does.
bool keep_better(const std::vector<float>& errors, const UnitRanges& candidate,
                 std::vector<float>& best_errors, UnitRanges& best) {
  bool improved = false;
  for (std::size_t i = 0; i < errors.size(); ++i) {
    if (!(errors[i] < best_errors[i])) continue;
    best_errors[i] = errors[i];
    best.min[i] = candidate.min[i];
    best.max[i] = candidate.max[i];
    improved = true;
  }
  return improved;
}

float largest(DType dtype) {
  if (dtype == DType::kF16) return 65504.0F;
  if (dtype == DType::kBF16) return bf16_to_f32(0x7f7f);
  return std::numeric_limits<float>::max();
}

}  // namespace

UnitRanges search_ranges(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                         const RangeSearch& search) {
  const std::int64_t rows = weight.dim(0);
  const std::int64_t cols = weight.dim(1);
  const DType dtype = weight.dtype();
  // The search ignores the global scale and the rounding of scales under it.
  QuantizationArgs plain = args;
  if (plain.strategy == Strategy::kTensorGroup) {
    plain.strategy = Strategy::kGroup;
    plain.scale_dtype.reset();
  }
  const UnitRanges widest = scaled(observe_ranges(pool, weight, args), dtype, search.expand);
  UnitRanges best = widest;
  ErrorOfUnits error_of(pool, weight, unit_grid(plain, rows, cols), search.norm);
  std::vector<float> best_errors(best.min.size(), largest(dtype));
  std::int64_t without = 0;
  const auto steps = static_cast<std::int64_t>(search.maxshrink * search.grid);
  for (std::int64_t i = 0; i < steps && without < search.patience; ++i) {
    const UnitRanges candidate = scaled(widest, dtype, 1 - static_cast<double>(i) / search.grid);
    const auto params = params_from_ranges(plain, dtype, rows, cols, candidate);
    if (!params.ok()) break;  // a range that is not finite: the caller's own check names it
    const auto quantizer = WeightQuantizer::create(plain, dtype, rows, cols, *params);
    CHECK(quantizer.ok(), "parameters that do not fit their weight");
    without = keep_better(error_of(*quantizer), candidate, best_errors, best) ? 0 : without + 1;
  }
  return best;
}

Result<UnitRanges> observe_weight(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args) {
  const std::string name = plain_name(args.observer.value_or("memoryless_minmax"));
  for (const ObserverRow& row : kObservers) {
    if (row.name != name) continue;
    if (row.family == Family::kMinMax) return observe_ranges(pool, weight, args);
    if (row.family == Family::kNeedsData) {
      return failed(fmt::format("the observer {} needs calibration data", name));
    }
    RangeSearch search = row.search;
    TRY(apply_kwargs(args, search));
    return search_ranges(pool, weight, args, search);
  }
  return usage_error(fmt::format("observer \"{}\" is unknown", name));
}

}  // namespace nibble
