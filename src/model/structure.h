// SPDX-License-Identifier: Apache-2.0
// Whether the tensors of a checkpoint are those that its config.json asks for: all that is wrong, not only
// the first. Dense, compressed and GGUF checkpoints are held to the same tree of modules.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "model/modules.h"

namespace nibble {

struct StructureViolation {
  enum class Kind { kMissing, kShape, kNotExpected };
  Kind kind = Kind::kMissing;
  std::string module;    // "model.layers.0.mlp.up_proj"
  std::string tensor;    // "model.layers.0.mlp.up_proj.weight"
  std::string expected;  // "[172, 64]"
  std::string found;     // a shape, or "nothing"
  std::string file;      // empty for what is missing
};

struct Structure {
  std::string architecture;  // empty: the tensors could not be held to anything, `unknown` says why
  std::string unknown;
  std::vector<StructureViolation> violations;
  std::vector<std::string> unused;  // tensors that no module asks for
};

// An error only for a config.json that contradicts itself.
Result<Structure> check_structure(const Checkpoint& checkpoint);

// describe_model() with all that it would refuse; the shapes that packed weights stand for are not looked at.
struct FlawedDescription {
  ModelDescription model;
  std::vector<StructureViolation> violations;
};
Result<FlawedDescription> describe_with_flaws(const Checkpoint& checkpoint);

}  // namespace nibble
