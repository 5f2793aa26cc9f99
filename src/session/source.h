// SPDX-License-Identifier: Apache-2.0
// What a run reads, as the options name it: the revision of the model, another config.json, and the folders
// of another tokenizer or processor.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/context.h"
#include "checkpoint/checkpoint.h"
#include "nibble/options.h"

namespace nibble {

struct Source {
  std::unique_ptr<Checkpoint> checkpoint;  // dense: a compressed-tensors source is decompressed
  std::string tokenizer;                   // folder that holds one; empty: the model's own
  std::string processor;  // folder of image, audio or video preparation; empty: the model's own
  std::vector<std::string> warnings;
};

// Every name may be a path or org/name in the local cache. `context` must outlive the checkpoint.
Result<Source> open_source(const Options& options, const Context& context);

}  // namespace nibble
