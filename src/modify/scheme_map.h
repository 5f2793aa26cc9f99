// SPDX-License-Identifier: Apache-2.0
// Which module gets which quantization scheme: the targets and ignore lists of quantizing modifiers against
// the module tree (compressed-tensors utils/match.py). Later modifiers replace what earlier ones attached.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "modify/modifier_config.h"
#include "modify/module_pattern.h"

namespace nibble {

class SchemeMap {
 public:
  explicit SchemeMap(const ModelDescription& model) : of_module_(model.modules.size()) {}

  // Null for a module that stays as it is. Modules of one group share the scheme.
  const QuantizationScheme* find(const ModelDescription& model, const ModuleInfo& module) const;
  void attach(std::size_t module, std::shared_ptr<const QuantizationScheme> scheme);
  const QuantizationScheme* at(std::size_t module) const { return of_module_[module].get(); }
  std::int64_t size() const;  // modules with a scheme

  std::optional<QuantizationArgs> kv_cache_scheme;

 private:
  std::vector<std::shared_ptr<const QuantizationScheme>> of_module_;  // parallel to ModelDescription::modules
};

struct MatchReport {
  std::vector<PatternCount> counts;
  std::vector<std::string> warnings;
};

// Notes how much the patterns of a modifier match. A target that matches nothing is an error, under strict
// rules (as in the reference) a warning; so is a name to ignore that looks misspelt, while an expression, or
// a name like no other, is a warning.
Status report_counts(const std::vector<PatternCount>& counts, const ModelDescription& model,
                     const RecipeRules& rules, MatchReport& report);

// Attaches the schemes of a modifier, its patterns counted.
Status attach_schemes(const ResolvedQuantization& quantization, const ModelDescription& model,
                      const RecipeRules& rules, SchemeMap& schemes, MatchReport& report);

// A linear or embedding whose columns are not full groups.
struct RaggedModule {
  const ModuleInfo* module = nullptr;
  std::int64_t group_size = 0;
};
std::vector<RaggedModule> ragged_modules(const ModelDescription& model, const SchemeMap& schemes);
// The refusal of the reference: every such module with its columns and group size.
Error ragged_error(const std::vector<RaggedModule>& modules);

}  // namespace nibble
