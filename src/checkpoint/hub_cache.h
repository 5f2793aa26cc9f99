// SPDX-License-Identifier: Apache-2.0
// The local Hugging Face cache: <cache>/models--org--name/{refs/<revision>, snapshots/<commit>/...}. Only
// looked at, never filled.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nibble {

// "org/name" or an old single name such as "gpt2", with an optional "@revision".
bool is_hub_id(std::string_view model);

// The snapshot folder of a model; the error has the command that would fetch it.
Result<std::filesystem::path> find_in_hub_cache(const std::filesystem::path& cache, std::string_view model);

}  // namespace nibble
