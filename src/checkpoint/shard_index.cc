// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/shard_index.h"

#include <fmt/format.h>

#include <set>

#include "base/file.h"
#include "base/json.h"

namespace nibble {
namespace {

constexpr std::uint64_t kMaxIndexBytes = 100'000'000;

Status check_shard_name(std::string_view name) {
  const bool plain = name.find('/') == std::string_view::npos && name.find('\\') == std::string_view::npos &&
                     name.find('\0') == std::string_view::npos && !name.starts_with('.');
  if (plain && name.ends_with(".safetensors")) return {};
  return bad_data(
      fmt::format("the shard \"{}\" must be the plain name of a .safetensors file in the same folder", name),
      plain ? "" : "an index must not reach outside its folder");
}

}  // namespace

std::vector<std::string> ShardIndex::shards() const {
  std::set<std::string> names;
  for (const auto& [tensor, file] : weight_map) names.insert(file);
  return {names.begin(), names.end()};
}

Result<ShardIndex> parse_shard_index(std::string_view text) {
  TRY_ASSIGN(const Json json, parse_json(text, {.max_depth = 16, .allow_duplicate_keys = false}));
  if (!json.is_object())
    return bad_data(fmt::format("the index must be a JSON object, found {}", json.type_name()));
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) {
    return bad_data(fmt::format("\"weight_map\" must be an object of tensor names and shard names, found {}",
                                map == json.end() ? "nothing" : map->type_name()));
  }
  ShardIndex index;
  for (const auto& [tensor, file] : map->items()) {
    const std::string place = fmt::format("weight_map: tensor {}", tensor);
    if (!file.is_string()) {
      return Error(bad_data(fmt::format("the shard must be a string, found {}", file.type_name())))
          .add_context(place);
    }
    const auto& name = file.get_ref<const std::string&>();
    TRY(check_shard_name(name).at(place));
    index.weight_map.emplace(tensor, name);
  }
  if (index.weight_map.empty()) return bad_data("\"weight_map\" names no tensor");
  if (const auto meta = json.find("metadata"); meta != json.end() && meta->is_object()) {
    const auto size = meta->find("total_size");  // some tools write it as a float
    if (size != meta->end() && size->is_number() && size->get<double>() >= 0) {
      index.total_size = size->is_number_unsigned()
                             ? size->get<std::uint64_t>()
                             : static_cast<std::uint64_t>(std::min(size->get<double>(), 0x1p63));
    }
  }
  return index;
}

Result<ShardIndex> read_shard_index(const std::filesystem::path& path) {
  TRY_ASSIGN(const std::string text, read_text_file(path, kMaxIndexBytes));
  return parse_shard_index(text);
}

}  // namespace nibble
