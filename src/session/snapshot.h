// SPDX-License-Identifier: Apache-2.0
// Calibration streams on the disk, for a run that goes on later.
#pragma once

#include "calibrate/activation_buffer.h"
#include "session/stream_runner.h"

namespace nibble {

// Writes every stream, durably, and gives names and hashes for the ledger.
Result<std::vector<std::pair<std::string, std::string>>> save_streams(StreamRunner& runner, int blocks,
                                                                      const std::filesystem::path& folder);
// False when a file is missing or not what was noted.
Result<bool> load_streams(StreamRunner& runner,
                          const std::vector<std::pair<std::string, std::string>>& streams,
                          const std::filesystem::path& folder);

}  // namespace nibble
