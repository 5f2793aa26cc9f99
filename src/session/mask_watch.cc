// SPDX-License-Identifier: Apache-2.0
#include "session/mask_watch.h"

#include <bit>

#include "kernels/zero_bits.h"
#include "modify/mask_plan.h"

namespace nibble {
namespace {

bool prunes(const Modifier& modifier, const ModuleInfo& module) {
  const auto* maker = dynamic_cast<const MaskMaker*>(&modifier);
  return maker != nullptr && maker->planned_mask(module).has_value();
}

std::vector<std::uint64_t> zeros_of(const Tensor& weight) {
  std::vector<std::uint64_t> words(static_cast<std::size_t>(kernels::zero_words(weight.size())));
  kernels::zero_bits(weight.dtype(), weight.bytes().data(), weight.size(), words.data());
  return words;
}

std::int64_t count_of(const std::vector<std::uint64_t>& words, std::int64_t elements) {
  std::int64_t count = elements - 64 * static_cast<std::int64_t>(words.size());  // the last word is filled up
  for (const std::uint64_t word : words) count += std::popcount(word);
  return count;
}

}  // namespace

MaskWatch::MaskWatch(const Lifecycle& lifecycle, std::size_t index, const UnitWork& unit) {
  const auto& modifiers = lifecycle.modifiers();
  for (const ModuleWork& work : unit.modules) {
    Watched watched;
    for (std::size_t k = 0; k < index; ++k) {
      if (work.weight.size() == 0 || !prunes(*modifiers[k], *work.module)) continue;
      watched.is_pruned = true;
      watched.zeros = zeros_of(work.weight);
      break;
    }
    watched.is_pruned = watched.is_pruned || prunes(*modifiers[index], *work.module);
    modules_.push_back(std::move(watched));
  }
}

Status MaskWatch::compare(const UnitWork& unit, ThreadPool& pool, std::vector<LayerReport>& reports) const {
  for (LayerReport& report : reports) {
    for (std::size_t i = 0; i < unit.modules.size(); ++i) {
      const ModuleWork& work = unit.modules[i];
      if (work.module->name != report.module || !modules_[i].is_pruned) continue;
      Tensor weight = work.weight;
      if (work.compressed) {
        TRY_ASSIGN(weight, work.compressed->dense(pool));
      }
      const std::vector<std::uint64_t> zeros = zeros_of(weight);
      report.zeros = count_of(zeros, weight.size());
      if (modules_[i].zeros.empty()) continue;
      std::int64_t lost = 0;
      for (std::size_t w = 0; w < zeros.size(); ++w) lost += std::popcount(modules_[i].zeros[w] & ~zeros[w]);
      report.zeros_lost = lost;
    }
  }
  return {};
}

}  // namespace nibble
