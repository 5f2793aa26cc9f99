// SPDX-License-Identifier: Apache-2.0
#include "session/sparse_plan.h"

#include <fmt/format.h>

#include <cmath>

#include "base/suggest.h"
#include "codec/mask_statistics.h"
#include "modify/mask_plan.h"

namespace nibble {
namespace {

const std::vector<std::string>& known_names() {
  static const std::vector<std::string> names{"dense", "sparse-bitmask", "sparse-24-bitmask", "nibble-24"};
  return names;
}

bool is_two_four(SparseFormat format) {
  return format != SparseFormat::kBitmask;
}

// Whether every four columns have two zeros at least.
bool gives_two_four(const PrunePattern& pattern) {
  return (pattern.group == 4 && pattern.zeros >= 2) || (pattern.group == 2 && pattern.zeros >= 1);
}

// The most values that can be left: some methods count zeros by rows, others over the whole matrix.
std::int64_t most_values(const PrunePattern& pattern, const ModuleInfo& module) {
  if (pattern.is_structured())
    return module.rows * (module.cols / pattern.group * (pattern.group - pattern.zeros));
  const auto zeros =
      static_cast<std::int64_t>(std::floor(static_cast<double>(module.cols) * pattern.sparsity));
  return module.rows * (module.cols - zeros);
}

class SparsePlanner {
 public:
  SparsePlanner(SparseFormat format, const Checkpoint& checkpoint, ThreadPool& pool)
      : format_(format), checkpoint_(checkpoint), pool_(pool) {}

  Result<SparseLayout> layout(const ModuleInfo& module, const PlannedMask& mask) const {
    if (is_two_four(format_) && module.transposed) {
      return usage_error(
          fmt::format("it is stored [in, out]; {} needs the inputs in rows", to_string(format_)),
          "use sparsity_format sparse-bitmask or dense");
    }
    if (format_ == SparseFormat::kBitmask24 && module.cols % 4 != 0) {
      return usage_error(fmt::format("its {} columns are not whole groups of four", module.cols),
                         "use sparsity_format nibble-24 or sparse-bitmask");
    }
    if (mask.origin == MaskOrigin::kSource) return of_source(module);
    if (is_two_four(format_)) {
      if (gives_two_four(mask.pattern)) return SparseLayout{.format = format_};
      return usage_error(
          fmt::format("its mask_structure does not leave at most two of every four columns, which {} "
                      "holds",
                      to_string(format_)),
          "prune with mask_structure 2:4, or use sparsity_format sparse-bitmask or dense");
    }
    if (mask.origin == MaskOrigin::kData) return after_the_run();
    return SparseLayout{.format = format_, .stored_values = most_values(mask.pattern, module)};
  }

 private:
  static Error after_the_run() {
    return usage_error(
        "how many of its weights are zero is known only after the run, and the size of sparse-bitmask "
        "with it",
        "save dense, then give the output to a run with ConstantPruningModifier and sparsity_format "
        "sparse-bitmask");
  }

  Result<SparseLayout> of_source(const ModuleInfo& module) const {
    TRY_ASSIGN(const Tensor weight, checkpoint_.load(module.weight));
    const MaskStatistics mask = mask_statistics(weight, pool_);
    if (!is_two_four(format_))
      return SparseLayout{.format = format_, .stored_values = mask.count() - mask.zeros};
    const auto broken = first_break(weight, {2, 4});
    checkpoint_.release(module.weight);
    if (!broken) return SparseLayout{.format = format_};
    return usage_error(fmt::format("it is not 2:4: row {}, columns {} to {} have {} zeros", broken->row,
                                   broken->column, broken->column + 3, broken->zeros),
                       "use sparsity_format sparse-bitmask or dense");
  }

  SparseFormat format_;
  const Checkpoint& checkpoint_;
  ThreadPool& pool_;
};

}  // namespace

Result<std::optional<SparseFormat>> parse_sparsity_format(const std::string& name) {
  if (name == "dense") return std::optional<SparseFormat>();
  if (const auto format = sparse_format_from_string(name)) return std::optional<SparseFormat>(format);
  return usage_error(
      fmt::format("sparsity_format \"{}\" is unknown; allowed are {}", name, join_or(known_names())),
      did_you_mean(name, known_names()));
}

Result<SparseLayouts> plan_sparse_layouts(SparseFormat format, const Lifecycle& lifecycle,
                                          const ModelState& state, const Checkpoint& checkpoint,
                                          ThreadPool& pool) {
  const SparsePlanner planner(format, checkpoint, pool);
  std::map<std::string, PlannedMask> masks;  // the last modifier that prunes a module decides
  for (const auto& modifier : lifecycle.modifiers()) {
    const auto* maker = dynamic_cast<const MaskMaker*>(modifier.get());
    if (maker == nullptr) continue;
    for (const ModuleInfo& module : state.model.modules) {
      const std::optional<PlannedMask> mask = maker->planned_mask(module);
      if (!mask) continue;
      // A later ConstantPruningModifier keeps what an earlier modifier of the recipe makes.
      if (mask->origin == MaskOrigin::kSource && masks.contains(module.name)) continue;
      masks[module.name] = *mask;
    }
  }
  if (masks.empty()) {
    return usage_error(
        fmt::format("sparsity_format is {}, but no modifier of the recipe prunes", to_string(format)),
        "add a pruning modifier; ConstantPruningModifier keeps the zeros of the source");
  }
  SparseLayouts layouts;
  for (const ModuleInfo& module : state.model.modules) {
    const auto mask = masks.find(module.name);
    if (mask == masks.end() || module.weight.empty()) continue;
    TRY_ASSIGN(const SparseLayout layout,
               planner.layout(module, mask->second).at(fmt::format("module {}", module.name)));
    layouts.emplace(module.name, layout);
  }
  return layouts;
}

}  // namespace nibble
