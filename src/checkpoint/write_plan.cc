// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/write_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/json.h"
#include "checkpoint/safetensors.h"

namespace nibble {
namespace {

std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string with_length_field(std::string json) {
  json.append((8 - json.size() % 8) % 8, ' ');
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>((std::uint64_t{json.size()} >> (8 * i)) & 0xff);
  return bytes + json;
}

}  // namespace

Result<WritePlan> WritePlan::make(std::vector<PlannedTensor> tensors, const Options& options) {
  WritePlan plan;
  plan.tensors_ = std::move(tensors);
  TRY(plan.check_tensors());
  std::vector<std::vector<std::size_t>> members(1);
  std::uint64_t filled = 0;
  for (std::size_t i = 0; i < plan.tensors_.size(); ++i) {
    const std::uint64_t bytes = plan.slots_[i].bytes;
    if (!members.back().empty() && filled + bytes > options.max_shard_bytes) {
      members.emplace_back();
      filled = 0;
    }
    members.back().push_back(i);
    filled += bytes;
  }
  for (std::size_t s = 0; s < members.size(); ++s) {
    plan.shards_.push_back({members.size() == 1
                                ? "model.safetensors"
                                : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, members.size()),
                            {},
                            0});
    TRY(plan.lay_out_shard(s, std::move(members[s]), options.metadata));
  }
  if (plan.shards_.size() > 1) plan.make_index();
  return plan;
}

Result<WritePlan> WritePlan::make_single_file(std::vector<PlannedTensor> tensors, std::string file_name,
                                              const std::map<std::string, std::string>& metadata) {
  TRY_ASSIGN(WritePlan plan, make(std::move(tensors), {std::numeric_limits<std::uint64_t>::max(), metadata}));
  plan.shards_.front().file = std::move(file_name);
  return plan;
}

Status WritePlan::check_tensors() {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const PlannedTensor& tensor = tensors_[i];
    std::uint64_t bytes = dtype_bytes(tensor.dtype);
    bool fits = true;
    for (const std::int64_t extent : tensor.shape) {
      CHECK(extent >= 0, "a planned tensor has a negative extent");
      fits = fits && !__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes);
    }
    if (!fits || __builtin_add_overflow(total, bytes, &total) || total > (std::uint64_t{1} << 62)) {
      return bad_data(fmt::format("tensor {} of shape {} makes the output larger than 2^62 bytes",
                                  tensor.name, to_string(tensor.shape)));
    }
    if (tensor.name == "__metadata__" || !by_name_.emplace(tensor.name, i).second) {
      return bad_data(fmt::format("the output would hold two tensors called {}", tensor.name));
    }
    slots_.push_back({0, 0, bytes});
  }
  return {};
}

Status WritePlan::lay_out_shard(std::size_t shard, std::vector<std::size_t> members,
                                const std::map<std::string, std::string>& metadata) {
  std::stable_sort(members.begin(), members.end(), [&](std::size_t a, std::size_t b) {
    return dtype_bytes(tensors_[a].dtype) > dtype_bytes(tensors_[b].dtype);
  });
  std::string json =
      "{\"__metadata__\":" + Json(metadata).dump(-1, ' ', false, Json::error_handler_t::replace);
  std::uint64_t offset = 0;
  for (const std::size_t i : members) {
    const PlannedTensor& tensor = tensors_[i];
    slots_[i].shard = shard;
    slots_[i].offset = offset;
    json += fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                        quoted(tensor.name), safetensors_name(tensor.dtype), fmt::join(tensor.shape, ","),
                        offset, offset + slots_[i].bytes);
    offset += slots_[i].bytes;
  }
  Shard& target = shards_[shard];
  target.header = with_length_field(json + "}");
  if (target.header.size() - 8 > kMaxSafetensorsHeader) {
    return bad_data(fmt::format("the header of {} would have {} bytes, at most {} are allowed", target.file,
                                target.header.size() - 8, kMaxSafetensorsHeader),
                    "use smaller shards (max_shard_size)");
  }
  for (const std::size_t i : members) slots_[i].offset += target.header.size();
  target.file_bytes = target.header.size() + offset;
  return {};
}

void WritePlan::make_index() {
  std::map<std::string, std::string> weight_map;
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    weight_map.emplace(tensors_[i].name, shards_[slots_[i].shard].file);
    total += slots_[i].bytes;
  }
  Json index;
  index["metadata"]["total_size"] = total;
  index["weight_map"] = weight_map;
  index_json_ = index.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::size_t WritePlan::index_of(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? tensors_.size() : found->second;
}

std::uint64_t WritePlan::exact_bytes() const {
  std::uint64_t bytes = index_json_.size();
  for (const Shard& shard : shards_) bytes += shard.file_bytes;
  return bytes;
}

}  // namespace nibble
