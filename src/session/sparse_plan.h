// SPDX-License-Identifier: Apache-2.0
// How the weights of pruned modules are stored under --sparsity-format: which of them have a sparse form, and
// how many values it holds, before any is pruned.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "codec/sparse_format.h"
#include "session/lifecycle.h"

namespace nibble {

using SparseLayouts = std::map<std::string, SparseLayout, std::less<>>;  // by module name

// "dense" (nobody) or a name of SparseFormat; the error lists them.
Result<std::optional<SparseFormat>> parse_sparsity_format(const std::string& name);

// The modules that the modifiers prune. Errors where a module's zeros do not fit the format, or are not known
// before the run. Where the zeros are those of the source its weights are read.
Result<SparseLayouts> plan_sparse_layouts(SparseFormat format, const Lifecycle& lifecycle,
                                          const ModelState& state, const Checkpoint& checkpoint,
                                          ThreadPool& pool);

}  // namespace nibble
