// SPDX-License-Identifier: Apache-2.0
#include "model/sparsity_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/suggest.h"
#include "checkpoint/module_match.h"
#include "model/sparsity_report.h"

namespace nibble {
namespace {

constexpr int kMostGroup = 64;

bool is_target(const std::vector<ModuleTarget>& targets, const TensorSparsity& layer) {
  if (!layer.prunable) return false;
  if (targets.empty()) return layer.block >= 0;
  return std::any_of(targets.begin(), targets.end(), [&](const ModuleTarget& target) {
    return target.matches_name(layer.name) || target.matches_class(kLinearClass);
  });
}

Result<std::vector<const TensorSparsity*>> find_targets(const SparsityReport& report,
                                                        const std::vector<std::string>& texts) {
  std::vector<ModuleTarget> targets;
  for (const std::string& text : texts) {
    TRY_ASSIGN(ModuleTarget target, ModuleTarget::parse(text));
    targets.push_back(std::move(target));
  }
  std::vector<const TensorSparsity*> found;
  std::vector<std::string> names;
  for (const TensorSparsity& layer : report.tensors) {
    if (is_target(targets, layer)) found.push_back(&layer);
    if (layer.prunable) names.push_back(layer.name);
  }
  if (!found.empty()) return found;
  if (texts.empty())
    return usage_error("no block of the model has a linear to check", "name layers with --targets");
  return usage_error(fmt::format("no prunable layer matches {}", fmt::join(texts, ", ")),
                     did_you_mean(texts.front(), names));
}

void check_share(const std::vector<const TensorSparsity*>& layers, double wanted, double tolerance,
                 std::vector<VerifyFinding>& findings) {
  SparsityTotals totals;
  for (const TensorSparsity* layer : layers) totals.add(*layer);
  const double found = totals.sparsity();
  if (std::abs(found - wanted) <= tolerance) return;
  findings.push_back({.where = fmt::format("{} layers together", layers.size()),
                      .what = "their sparsity is another",
                      .expected = fmt::format("{:.4f} +- {}", wanted, tolerance),
                      .found = fmt::format("{:.4f}", found)});
  for (const TensorSparsity* layer : layers) {
    const double own = layer->mask.sparsity();
    if (std::abs(own - wanted) <= tolerance) continue;
    findings.push_back({.where = "layer " + layer->name,
                        .what = "its sparsity is another",
                        .expected = fmt::format("{:.4f} +- {}", wanted, tolerance),
                        .found = fmt::format("{:.4f}", own)});
  }
}

}  // namespace

Result<MaskPattern> parse_mask_pattern(const std::string& text) {
  MaskPattern pattern;
  const std::size_t colon = text.find(':');
  const char* end = text.data() + text.size();
  const char* middle = text.data() + std::min(colon, text.size());
  const bool reads = colon != std::string::npos &&
                     std::from_chars(text.data(), middle, pattern.zeros).ptr == middle &&
                     std::from_chars(middle + 1, end, pattern.group).ptr == end;
  if (reads && pattern.zeros > 0 && pattern.zeros <= pattern.group && pattern.group <= kMostGroup)
    return pattern;
  return usage_error(fmt::format("\"{}\" is no structure N:M", text),
                     fmt::format("N of every M columns are zero: 2:4, 4:8 ...; M is at most {}", kMostGroup));
}

Result<std::vector<VerifyFinding>> check_sparsity(const Checkpoint& checkpoint,
                                                  const SparsityExpectation& expected, Context& context) {
  TRY_ASSIGN(const SparsityReport report, sparsity_report(checkpoint, context));
  TRY_ASSIGN(const std::vector<const TensorSparsity*> layers, find_targets(report, expected.targets));
  std::vector<VerifyFinding> findings;
  if (expected.sparsity) check_share(layers, *expected.sparsity, expected.tolerance, findings);
  if (!expected.structure) return findings;
  for (const TensorSparsity* layer : layers) {
    TRY_ASSIGN(const std::optional<PatternBreak> broken, find_break(checkpoint, *layer, *expected.structure));
    if (!broken) continue;
    findings.push_back(
        {.where = fmt::format("layer {}, row {}, column {}", layer->name, broken->row, broken->column),
         .what = fmt::format("it is not {}", to_string(*expected.structure)),
         .expected =
             fmt::format("{} zeros in {} columns", expected.structure->zeros, expected.structure->group),
         .found = fmt::to_string(broken->zeros)});
  }
  return findings;
}

}  // namespace nibble
