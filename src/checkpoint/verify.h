// SPDX-License-Identifier: Apache-2.0
// Reads a whole checkpoint again and says what is wrong with it: structure, hashes, values that are not
// finite, quantized modules that do not fit together, metadata that clients would take another way.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/error.h"
#include "checkpoint/checkpoint.h"

namespace nibble {

struct VerifyFinding {
  bool is_error = true;  // else a warning
  std::string where;     // "tensor model.norm.weight"
  std::string what;
  std::string expected{}, found{};  // where there is such a pair
};

struct VerifyReport {
  std::vector<VerifyFinding> findings;
  std::map<std::string, std::string> sha256;  // of each weight file
  std::int64_t tensors = 0;
  std::int64_t quantized_modules = 0;
  std::uint64_t bytes = 0;

  bool ok() const;  // no errors
};

struct VerifyOptions {
  bool hashes = true;
  bool values = true;
  std::map<std::string, std::string> expected_sha256;  // by file name, as an earlier report gave them
};

// An error only where nothing can be said at all (the checkpoint does not open, or the run was stopped).
Result<VerifyReport> verify_checkpoint(const Context& context, const Checkpoint& checkpoint,
                                       const VerifyOptions& options);

}  // namespace nibble
