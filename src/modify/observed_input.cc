// SPDX-License-Identifier: Apache-2.0
#include "modify/observed_input.h"

#include <fmt/format.h>

#include <algorithm>

#include "modify/module_pattern.h"

namespace nibble {
namespace {

// "model.layers.0" of "model.layers.0.mlp.up_proj" and "model.layers.0.mlp_norm".
std::string common_holder(std::string a, const std::string& b) {
  while (!a.empty() && a != b && !b.starts_with(a + ".")) {
    const std::size_t dot = a.rfind('.');
    a.resize(dot == std::string::npos ? 0 : dot);
  }
  return a;
}

// The stage whose input a module gets; -1: another input (norms, and what begins with one).
int first_stage(const ModelDescription& model, const ModuleInfo& module) {
  if (module.kind == ModuleKind::kLinear) return module.stage;
  if (module.kind == ModuleKind::kNorm || module.kind == ModuleKind::kBlock) return -1;
  int first = -1;
  for (const ModuleInfo& inner : model.modules) {
    if (inner.kind != ModuleKind::kLinear || !inner.name.starts_with(module.name + ".")) continue;
    first = first < 0 ? inner.stage : std::min(first, inner.stage);
  }
  return first;
}

}  // namespace

Status check_observed_input(const ModelDescription& model, const SmoothMapping& mapping,
                            const std::string& path) {
  std::string holder = model.modules[mapping.smooth].name;
  for (const std::size_t m : mapping.balance) holder = common_holder(holder, model.modules[m].name);
  const std::string name = holder.empty() ? path : holder + "." + path;
  const ModuleInfo* observed = model.find(name);
  if (observed == nullptr) {
    return usage_error(fmt::format("activation_hook_target \"{}\" is no module of {}", path, holder),
                       nearest_module(name, model));
  }
  const ModuleInfo& balance = model.modules[mapping.balance[0]];
  if (observed->block == balance.block && first_stage(model, *observed) == balance.stage) return {};
  return usage_error(
      fmt::format("activation_hook_target \"{}\": {} has another input than {}, whose columns are "
                  "scaled",
                  path, name, balance.name),
      "name a module with the same input, or leave it out: the input of the balance layers is "
      "observed");
}

}  // namespace nibble
