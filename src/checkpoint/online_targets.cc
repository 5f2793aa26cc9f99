// SPDX-License-Identifier: Apache-2.0
// Whether the patterns of rotations of activations mean modules that the checkpoint has.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "checkpoint/online_transforms.h"
#include "codec/compressed_weight.h"

namespace nibble {
namespace {

// Modules that may be linears: whatever has a matrix or a packed weight. Fused experts are tensors without a
// module of their own, so their names count too.
std::vector<std::string> linears_of(const Checkpoint& checkpoint) {
  const std::vector<std::string>& suffixes = weight_suffixes();
  std::set<std::string> found;
  for (const TensorInfo& info : checkpoint.tensors()) {
    const auto dot = info.name.rfind('.');
    if (dot == std::string::npos) continue;
    const bool is_weight =
        std::find(suffixes.begin(), suffixes.end(), info.name.substr(dot + 1)) != suffixes.end();
    if (info.shape.size() < 2 && (!is_weight || info.name.ends_with(".weight"))) continue;
    found.insert(is_weight ? info.name.substr(0, dot) : info.name);
  }
  std::erase_if(found, [](const std::string& name) { return looks_like_embedding(name); });
  return {found.begin(), found.end()};
}

struct Use {
  const TransformScheme& scheme;
  const TransformUse& use;
  ModuleTargets targets, ignore;

  std::string place() const {
    return fmt::format("transform_config: {}: apply at \"{}\"", scheme.name, use.location);
  }
};

bool matches_any(const ModuleTarget& target, const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return target.matches_name(name) || target.matches_class(kLinearClass);
  });
}

// Entries without a match. Lists for several models ignore what only some of them have, so an ignore entry
// counts where it looks like a slip.
std::vector<std::string> entries_without_match(const Use& use, const std::vector<std::string>& names) {
  const std::vector<std::string> classes{"Linear"};
  std::vector<std::string> found;
  for (const bool is_ignore : {false, true}) {
    for (const ModuleTarget& target : (is_ignore ? use.ignore : use.targets).targets()) {
      if (matches_any(target, names)) continue;
      const std::string nearest = nearest_module(target.text(), names, classes);
      if (is_ignore && nearest.empty()) continue;
      found.push_back(fmt::format("{}: {} \"{}\" matches no linear{}{}", use.place(),
                                  is_ignore ? "ignore entry" : "target", target.text(),
                                  nearest.empty() ? "" : "; ", nearest));
    }
  }
  return found;
}

Error applies_to_nothing(const Use& use, const std::vector<std::string>& names) {
  std::string targets, nearest;
  bool all_ignored = false;
  for (const ModuleTarget& target : use.targets.targets()) {
    targets += fmt::format("{}\"{}\"", targets.empty() ? "" : ", ", target.text());
    all_ignored = all_ignored || matches_any(target, names);
    const std::vector<std::string> classes{"Linear"};
    if (nearest.empty()) nearest = nearest_module(target.text(), names, classes);
  }
  const std::string what = targets.empty() ? "there are no targets"
                           : all_ignored ? fmt::format("all that its targets ({}) match is ignored", targets)
                                         : fmt::format("no linear matches its targets ({})", targets);
  return Error(bad_data(what + ", so the rotation of the weights would not be undone",
                        nearest.empty() || all_ignored ? "`nibble inspect MODEL --tree` lists the names"
                                                       : nearest))
      .add_context(use.place());
}

}  // namespace

Status check_online_targets(const QuantizationConfig& config, const Checkpoint& checkpoint,
                            std::vector<std::string>* unmatched) {
  std::vector<std::string> names;
  for (const TransformScheme& scheme : config.transforms) {
    for (const TransformUse& transform : scheme.uses) {
      if (!is_online(transform)) continue;
      if (names.empty()) names = linears_of(checkpoint);
      Use use{scheme, transform, {}, {}};
      TRY_ASSIGN(use.targets, ModuleTargets::parse(transform.targets).at(use.place()));
      TRY_ASSIGN(use.ignore, ModuleTargets::parse(transform.ignore).at(use.place()));
      bool applies = false;
      for (const std::string& name : names) {
        TRY(use.targets.check(name).at(use.place()));
        TRY(use.ignore.check(name).at(use.place()));
        applies =
            applies || (use.targets.matches(name, kLinearClass) && !use.ignore.matches(name, kLinearClass));
      }
      if (!applies) return applies_to_nothing(use, names);
      if (unmatched == nullptr) continue;
      const std::vector<std::string> entries = entries_without_match(use, names);
      unmatched->insert(unmatched->end(), entries.begin(), entries.end());
    }
  }
  return {};
}

}  // namespace nibble
