// SPDX-License-Identifier: Apache-2.0
// Which classes of the table can run, and how to make them.
#include <fmt/format.h>

#include "modify/awq_modifier.h"
#include "modify/gptq_modifier.h"
#include "modify/magnitude_modifier.h"
#include "modify/modifier.h"
#include "modify/permutation_modifier.h"
#include "modify/quantization.h"
#include "modify/smoothquant_modifier.h"
#include "modify/sparsegpt_modifier.h"

namespace nibble {
namespace {

struct RegistryRow {
  std::string_view class_name;
  Result<std::unique_ptr<Modifier>> (*make)(const ModifierConfig& config);
};

constexpr RegistryRow kRegistry[] = {
    {"QuantizationModifier", QuantizationModifier::make},
    {"GPTQModifier", GptqModifier::make},
    {"AWQModifier", AwqModifier::make},
    {"SmoothQuantModifier", SmoothQuantModifier::make},
    {"LogarithmicEqualizationModifier", SmoothQuantModifier::make},
    {"SparseGPTModifier", SparseGptModifier::make},
    {"WandaPruningModifier", WandaPruningModifier::make},
    {"MagnitudePruningModifier", MagnitudePruningModifier::make},
    {"ConstantPruningModifier", ConstantPruningModifier::make},
    {"ChannelPermutationModifier", ChannelPermutationModifier::make},
};

}  // namespace

Result<std::unique_ptr<Modifier>> make_modifier(const ModifierConfig& config) {
  for (const RegistryRow& row : kRegistry) {
    if (row.class_name == config.class_name()) return row.make(config);
  }
  return usage_error(
      fmt::format("{} is read and checked, but this version of nibble cannot run it", config.class_name()));
}

}  // namespace nibble
