// SPDX-License-Identifier: Apache-2.0
// The table of observers and their kwargs.
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "base/suggest.h"
#include "calibrate/observers.h"

namespace nibble {
namespace {

using Statistic = ObserverSettings::Statistic;
using Memory = ObserverSettings::Memory;

constexpr double kNvfp4Shrink = 1 - 0.8 / 1.8;

struct ObserverRow {
  std::string_view name;
  ObserverSettings settings;
};

constexpr ObserverSettings grid_search(Memory memory) {
  ObserverSettings out;
  out.statistic = Statistic::kGridSearch;
  out.memory = memory;
  return out;
}

constexpr ObserverSettings imatrix() {
  ObserverSettings out = grid_search(Memory::kLast);
  out.uses_importance = true;
  out.maxshrink = 0.95;
  out.grid = 20;
  out.norm = 3;
  return out;
}

// Ranges from 1.8 down to 0.8 times the observed one.
constexpr ObserverSettings expanded(ObserverSettings out) {
  out.expand = 1.8;
  out.maxshrink = kNvfp4Shrink;
  out.grid = 200;
  out.norm = 2.4;
  out.patience = 1000;
  return out;
}

constexpr ObserverSettings plain(Statistic statistic, Memory memory) {
  ObserverSettings out;
  out.statistic = statistic;
  out.memory = memory;
  return out;
}

constexpr std::array kRows{
    ObserverRow{"memoryless_minmax", plain(Statistic::kMinMax, Memory::kLast)},
    ObserverRow{"static_minmax", plain(Statistic::kMinMax, Memory::kExtremes)},
    ObserverRow{"minmax", plain(Statistic::kMinMax, Memory::kMovingAverage)},
    ObserverRow{"memoryless_mse", grid_search(Memory::kLast)},
    ObserverRow{"mse", grid_search(Memory::kMovingAverage)},
    ObserverRow{"nvfp4_expanded_mse", expanded(grid_search(Memory::kLast))},
    ObserverRow{"fouroversix", expanded(grid_search(Memory::kLast))},
    ObserverRow{"imatrix_mse", imatrix()},
    ObserverRow{"nvfp4_expanded_imatrix", expanded(imatrix())},
    ObserverRow{"percentile", plain(Statistic::kPercentile, Memory::kMean)},
    ObserverRow{"memoryless", plain(Statistic::kMinMax, Memory::kLast)},  // the name of older recipes
};

struct NumberField {
  std::string_view key;
  double ObserverSettings::*field;
  double min;
  double max;
  Statistic statistic;  // kMinMax: of every observer that averages
};

constexpr double kHuge = 1e6;
constexpr std::array kNumbers{
    NumberField{"averaging_constant", &ObserverSettings::averaging_constant, 0, 1, Statistic::kMinMax},
    NumberField{"maxshrink", &ObserverSettings::maxshrink, 0, 1, Statistic::kGridSearch},
    NumberField{"grid", &ObserverSettings::grid, 1, 10000, Statistic::kGridSearch},
    NumberField{"norm", &ObserverSettings::norm, 1e-3, 100, Statistic::kGridSearch},
    NumberField{"expand", &ObserverSettings::expand, 1, kHuge, Statistic::kGridSearch},
    NumberField{"percentile", &ObserverSettings::percentile, 50, 100, Statistic::kPercentile},
};

// Knobs of other back ends, without effect on results.
constexpr std::array<std::string_view, 2> kIgnored{"chunk_size", "triton_error_buffer"};

const ObserverRow* find_row(std::string_view name) {
  std::string wanted(name);
  for (char& c : wanted) {
    if (c == '-' || c == ' ') c = '_';
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  for (const ObserverRow& row : kRows) {
    if (row.name == wanted) return &row;
  }
  return nullptr;
}

std::optional<double> number_of(const ObserverValue& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* real = std::get_if<double>(&value)) return *real;
  return std::nullopt;
}

Status set_number(ObserverSettings& settings, const NumberField& field, const ObserverValue& value) {
  const std::optional<double> number = number_of(value);
  if (!number || !(*number >= field.min && *number <= field.max)) {
    return usage_error(
        number ? fmt::format("{} is {}; allowed is {} to {}", field.key, *number, field.min, field.max)
               : fmt::format("{} must be a number from {} to {}", field.key, field.min, field.max));
  }
  settings.*field.field = *number;
  return {};
}

Status set_one(ObserverSettings& settings, const std::string& key, const ObserverValue& value) {
  for (const NumberField& field : kNumbers) {
    if (field.key == key) return set_number(settings, field, value);
  }
  if (key == "patience") {
    const auto* integer = std::get_if<std::int64_t>(&value);
    if (integer == nullptr || *integer < 0 || *integer > static_cast<std::int64_t>(kHuge)) {
      return usage_error("patience must be a whole number of steps, 0 or more");
    }
    settings.patience = static_cast<int>(*integer);
    return {};
  }
  if (key == "strict") {
    const auto* flag = std::get_if<bool>(&value);
    if (flag == nullptr) return usage_error("strict must be true or false");
    settings.strict = *flag;
    return {};
  }
  for (const std::string_view ignored : kIgnored) {
    if (ignored == key) return {};
  }
  std::vector<std::string> known{"patience", "strict"};
  for (const NumberField& field : kNumbers) known.emplace_back(field.key);
  return usage_error(fmt::format("observer_kwargs has no key \"{}\"; allowed are {}", key, join_or(known)),
                     did_you_mean(key, known));
}

}  // namespace

const std::vector<std::string>& known_observers() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const ObserverRow& row : kRows) out.emplace_back(row.name);
    return out;
  }();
  return names;
}

Result<ObserverSettings> observer_settings(const QuantizationArgs& args) {
  const std::string name = args.observer.value_or("memoryless_minmax");
  const ObserverRow* row = find_row(name);
  if (row == nullptr) {
    return usage_error(
        fmt::format("observer \"{}\" is unknown; allowed are {}", name, join_or(known_observers())),
        did_you_mean(name, known_observers()));
  }
  ObserverSettings settings = row->settings;
  for (const auto& [key, value] : args.observer_kwargs) {
    TRY(set_one(settings, key, value).at(fmt::format("observer {}", row->name)));
  }
  return settings;
}

}  // namespace nibble
