// SPDX-License-Identifier: Apache-2.0
#include "calibrate/statistics_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/hash.h"
#include "base/json.h"

namespace nibble {
namespace {

constexpr const char* kFormat = "nibble-statistics";
constexpr const char* kVersion = "1";
constexpr const char* kAgain = "take the statistics again with --save-statistics";

Result<std::string> metadata_of(const SafetensorsHeader& header, const char* key) {
  const auto found = header.metadata.find(key);
  if (found == header.metadata.end())
    return bad_data(fmt::format("its metadata holds no \"{}\"", key), kAgain);
  return found->second;
}

Status check_format(const SafetensorsHeader& header) {
  const auto format = header.metadata.find("format");
  if (format == header.metadata.end() || format->second != kFormat)
    return bad_data("it holds no statistics",
                    "give a file that --save-statistics or `nibble statistics merge` wrote");
  TRY_ASSIGN(const std::string version, metadata_of(header, "format_version"));
  if (version == kVersion) return {};
  return bad_data(fmt::format("format_version is {}, expected {}", version, kVersion), kAgain);
}

}  // namespace

bool StatisticsFile::Entry::has(std::string_view suffix) const {
  return std::ranges::any_of(tensors, [&](const SafetensorsEntry& tensor) { return tensor.name == suffix; });
}

Result<StatisticsFile> StatisticsFile::open(const std::filesystem::path& path) {
  const std::string where = fmt::format("file {}", path.string());
  StatisticsFile result;
  TRY_ASSIGN(result.file_, MappedFile::open(path));
  TRY_ASSIGN(const SafetensorsHeader header, parse_safetensors_header(result.file_->bytes()).at(where));
  TRY(check_format(header).at(where));
  TRY_ASSIGN(const std::string origin, metadata_of(header, "origin").at(where));
  TRY_ASSIGN(const Json origin_json, parse_json(origin).at(where));
  TRY_ASSIGN(result.origin_, statistics_origin(origin_json).at(where));
  TRY_ASSIGN(const std::string entries, metadata_of(header, "entries").at(where));
  TRY_ASSIGN(const Json json, parse_json(entries).at(where));
  TRY(result.read_entries(json, "inputs", result.inputs_).at(where));
  TRY(result.read_entries(json, "outputs", result.outputs_).at(where));
  TRY(result.take_tensors(header).at(where));
  result.data_begin_ = header.data_begin;
  return result;
}

Status StatisticsFile::read_entries(const Json& json, const char* kind, Entries& into) {
  try {
    for (const auto& [set, names] : json.at(kind).items()) {
      for (const auto& [name, value] : names.items()) {
        Entry entry;
        entry.hash = value.at("hash").get<std::string>();
        entry.zero_shift = value.value("zero_shift", false);
        entry.modules = value.at("modules").get<std::vector<std::string>>();
        if (&into == &inputs_) {
          for (const std::string& module : entry.modules) first_reader_[{set, module}] = name;
        }
        into[set][name] = std::move(entry);
      }
    }
  } catch (const Json::exception& e) {
    return bad_data(fmt::format("the list of {} is damaged: {}", kind, e.what()), kAgain);
  }
  return {};
}

// "0/model.layers.3.mlp.up_proj/input/abs_mean": set, name, kind and suffix. Module names have no slash.
Status StatisticsFile::take_tensors(const SafetensorsHeader& header) {
  for (const SafetensorsEntry& tensor : header.entries) {
    const std::size_t a = tensor.name.find('/');
    const std::size_t c = tensor.name.rfind('/');
    const std::size_t b =
        c == std::string::npos || c == 0 ? std::string::npos : tensor.name.rfind('/', c - 1);
    Entry* entry = nullptr;
    if (b != std::string::npos && a < b) {
      Entries& entries = tensor.name.substr(b + 1, c - b - 1) == "input" ? inputs_ : outputs_;
      const auto set = entries.find(tensor.name.substr(0, a));
      if (set != entries.end()) {
        const auto found = set->second.find(tensor.name.substr(a + 1, b - a - 1));
        if (found != set->second.end()) entry = &found->second;
      }
    }
    if (entry == nullptr) return bad_data(fmt::format("tensor {} belongs to no entry", tensor.name), kAgain);
    entry->tensors.push_back(tensor);
    entry->tensors.back().name = tensor.name.substr(c + 1);
    if (entry->tensors.back().name == "abs_mean" || entry->tensors.back().name == "mean" ||
        entry->tensors.back().name == "min")
      entry->cols = element_count(tensor.shape);
  }
  return {};
}

std::string StatisticsFile::fingerprint() const {
  // The header holds the hash of every entry.
  return hex(xxh64(file_->bytes().first(static_cast<std::size_t>(data_begin_))));
}

const StatisticsFile::Entry* StatisticsFile::input_of(const std::string& set,
                                                      const std::string& module) const {
  const auto reader = first_reader_.find({set, module});
  return reader != first_reader_.end() ? &inputs_.at(set).at(reader->second) : nullptr;
}

const StatisticsFile::Entry* StatisticsFile::output_of(const std::string& set,
                                                       const std::string& module) const {
  const auto names = outputs_.find(set);
  if (names == outputs_.end()) return nullptr;
  const auto entry = names->second.find(module);
  return entry != names->second.end() ? &entry->second : nullptr;
}

Result<NamedTensors> StatisticsFile::tensors_of(const Entry& entry) const {
  NamedTensors tensors;
  for (const SafetensorsEntry& tensor : entry.tensors) {
    tensors.emplace_back(tensor.name,
                         tensor_from_file(file_, data_begin_ + tensor.begin, tensor.dtype, tensor.shape));
  }
  std::ranges::sort(tensors, {}, [](const auto& named) { return named.first; });
  std::uint64_t hash = 0;
  for (const auto& [name, tensor] : tensors) hash = hash_with(hash, name, tensor);
  if (hex(hash) != entry.hash) return bad_data("its bytes are not those that were written", kAgain);
  return tensors;
}

Result<SavedInput> StatisticsFile::load_input(const std::string& set, const std::string& module) const {
  const Entry* entry = input_of(set, module);
  CHECK(entry != nullptr, "callers look for the input first");
  const std::string where = fmt::format("file {}: input of {}", path().string(), module);
  TRY_ASSIGN(const NamedTensors tensors, tensors_of(*entry).at(where));
  TRY_ASSIGN(SavedInput input, nibble::input_of(tensors).at(where));
  input.record.modules = entry->modules;
  for (const SafetensorsEntry& tensor : entry->tensors)
    file_->drop(data_begin_ + tensor.begin, tensor.end - tensor.begin);
  return input;
}

Result<SavedOutput> StatisticsFile::load_output(const std::string& set, const std::string& module) const {
  const Entry* entry = output_of(set, module);
  CHECK(entry != nullptr, "callers look for the output first");
  const std::string where = fmt::format("file {}: output of {}", path().string(), module);
  TRY_ASSIGN(const NamedTensors tensors, tensors_of(*entry).at(where));
  return nibble::output_of(tensors).at(where);
}

}  // namespace nibble
