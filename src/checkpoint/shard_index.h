// SPDX-License-Identifier: Apache-2.0
// model.safetensors.index.json: which shard holds which tensor. Shard names are plain file names in the same
// folder; anything that could reach outside is refused.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nibble {

inline constexpr std::string_view kSingleFileName = "model.safetensors";
inline constexpr std::string_view kIndexFileName = "model.safetensors.index.json";

struct ShardIndex {
  std::map<std::string, std::string> weight_map;  // tensor -> file name
  std::optional<std::uint64_t> total_size;        // bytes of tensor data, as the file claims

  std::vector<std::string> shards() const;  // sorted, each once
};

Result<ShardIndex> parse_shard_index(std::string_view text);
Result<ShardIndex> read_shard_index(const std::filesystem::path& path);

}  // namespace nibble
