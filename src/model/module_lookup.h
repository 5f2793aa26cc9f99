// SPDX-License-Identifier: Apache-2.0
// Looking modules up as people name them: a name, a class, an expression, the path of a layer. What recipes,
// reports and `inspect` share; modules.h has find_module() and module_at().
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "checkpoint/module_match.h"
#include "model/modules.h"

namespace nibble {

// The class of a module and those base classes that recipes name. A router is no nn.Linear in the reference,
// although it acts as one; every embedding is an nn.Embedding.
std::vector<std::string_view> classes_of(const ModuleInfo& module);

bool matches(const ModuleTarget& target, const ModuleInfo& module);

// Every module, in module order, that has the name or the class, or whose name matches an `re:` expression
// from its start. The error of a pattern that matches nothing has the nearest names.
Result<std::vector<const ModuleInfo*>> find_modules(const ModelDescription& model,
                                                    const std::string& pattern);
// The module at a dotted path and all below it ("model.layers.3"); the empty path is the whole model.
Result<std::vector<const ModuleInfo*>> modules_under(const ModelDescription& model, std::string_view path);
bool is_under(std::string_view name, std::string_view path);

// What can be quantized: linears that are no routers, and embeddings, with a weight of their own or a tied
// one.
std::vector<const ModuleInfo*> quantizable_modules(const ModelDescription& model);

// "did you mean ...", from the names and classes of the model; for an expression from the parts of names that
// are nearest to the longest word in it.
std::string nearest_module(const std::string& pattern, const ModelDescription& model);

}  // namespace nibble
