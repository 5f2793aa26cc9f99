// SPDX-License-Identifier: Apache-2.0
#include "model/module_lookup.h"

#include <fmt/format.h>

#include <cctype>
#include <set>

#include "base/suggest.h"

namespace nibble {
std::vector<std::string_view> classes_of(const ModuleInfo& module) {
  if (module.role == ModuleRole::kRouter) return {"Module"};
  std::vector<std::string_view> classes{module.class_name, "Module"};
  if (module.kind == ModuleKind::kEmbedding && module.class_name != "Embedding")
    classes.emplace_back("Embedding");
  return classes;
}

bool matches(const ModuleTarget& target, const ModuleInfo& module) {
  return target.matches_name(module.name) || target.matches_class(classes_of(module));
}

Result<std::vector<const ModuleInfo*>> find_modules(const ModelDescription& model,
                                                    const std::string& pattern) {
  TRY_ASSIGN(const ModuleTarget target, ModuleTarget::parse(pattern));
  std::vector<const ModuleInfo*> found;
  for (const ModuleInfo& module : model.modules) {
    TRY(target.check(module.name));
    if (matches(target, module)) found.push_back(&module);
  }
  if (!found.empty()) return found;
  return usage_error(fmt::format("no module of a {} matches \"{}\"", model.architecture, pattern),
                     nearest_module(pattern, model));
}

bool is_under(std::string_view name, std::string_view path) {
  return path.empty() || name == path ||
         (name.size() > path.size() && name.starts_with(path) && name[path.size()] == '.');
}

Result<std::vector<const ModuleInfo*>> modules_under(const ModelDescription& model, std::string_view path) {
  if (!path.empty()) TRY(module_at(model, path));
  std::vector<const ModuleInfo*> found;
  for (const ModuleInfo& module : model.modules) {
    if (is_under(module.name, path)) found.push_back(&module);
  }
  return found;
}

std::vector<const ModuleInfo*> quantizable_modules(const ModelDescription& model) {
  std::vector<const ModuleInfo*> found;
  for (const ModuleInfo& module : model.modules) {
    const bool is_linear = module.kind == ModuleKind::kLinear && module.role != ModuleRole::kRouter;
    if (is_linear || module.kind == ModuleKind::kEmbedding) found.push_back(&module);
  }
  return found;
}

std::string nearest_module(const std::string& pattern, const ModelDescription& model) {
  std::vector<std::string> names, classes;
  for (const ModuleInfo& module : model.modules) {
    names.push_back(module.name);
    classes.emplace_back(module.class_name);
  }
  return nearest_module(pattern, names, classes);
}

}  // namespace nibble
