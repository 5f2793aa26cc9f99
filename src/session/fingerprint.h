// SPDX-License-Identifier: Apache-2.0
// What a resumed run is held to.
#pragma once

#include "checkpoint/checkpoint.h"
#include "nibble/options.h"
#include "session/ledger.h"

namespace nibble {

// Of a model: its config, tensors, and samples of its files.
Result<std::string> source_fingerprint(const Checkpoint& source);

// `recipe` as it is written out, `data` the fingerprint of the tokens (empty without), `plan` a digest of the
// files to be written. The source is known by its tensors and by samples of its files, not by times.
Result<Fingerprint> run_fingerprint(const Checkpoint& source, const Options& options,
                                    const std::string& recipe, const std::string& data,
                                    const WritePlan& plan);

}  // namespace nibble
