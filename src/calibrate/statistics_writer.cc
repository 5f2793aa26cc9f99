// SPDX-License-Identifier: Apache-2.0
// The parts of a statistics file, and how they are joined.
#include <fmt/format.h>

#include <algorithm>

#include "base/hash.h"
#include "base/json.h"
#include "calibrate/statistics_file.h"
#include "checkpoint/sharded_writer.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEnding = ".safetensors";

using Metadata = std::map<std::string, std::string>;

Metadata metadata_of(const Json& entries, const StatisticsOrigin& origin) {
  return {{"format", "nibble-statistics"},
          {"format_version", "1"},
          {"origin", to_json(origin).dump(-1, ' ', false, Json::error_handler_t::replace)},
          {"entries", entries.dump(-1, ' ', false, Json::error_handler_t::replace)}};
}

Json no_entries() {
  return {{"inputs", Json::object()}, {"outputs", Json::object()}};
}

// Copies a tensor of a part to its place in the whole file.
Status copy(const std::shared_ptr<const MappedFile>& file, const SafetensorsHeader& header,
            const SafetensorsEntry& entry, ShardedWriter& writer) {
  const std::uint64_t begin = header.data_begin + entry.begin;
  TRY(writer.write_part(entry.name, 0, file->bytes().subspan(begin, entry.end - entry.begin)));
  file->drop(begin, entry.end - entry.begin);
  return {};
}

}  // namespace

void StatisticsPart::add(Entry entry, std::vector<DeferredTensor> tensors) {
  std::uint64_t hash = 0;
  for (DeferredTensor& tensor : tensors) {
    hash = hash_with(hash, tensor.name, tensor.make());
    tensor.name = fmt::format("{}/{}/{}/{}", entry.set, entry.name,
                              entry.kind == "inputs" ? "input" : "output", tensor.name);
    tensors_.push_back(std::move(tensor));
  }
  entry.hash = hex(hash);
  entries_.push_back(std::move(entry));
}

void StatisticsPart::add_input(const std::string& set, const InputRecord& input) {
  CHECK(!input.modules.empty(), "an input is known by what reads it");
  add({.set = set,
       .name = input.modules.front(),
       .kind = "inputs",
       .hash = {},
       .modules = input.modules,
       .zero_shift = has_zero_shift(input)},
      tensors_of(input));
}

void StatisticsPart::add_output(const std::string& set, const std::string& module,
                                const SavedOutput& output) {
  add({.set = set, .name = module, .kind = "outputs", .hash = {}, .modules = {module}}, tensors_of(output));
}

StatisticsWriter::StatisticsWriter(fs::path path) : path_(std::move(path)), folder_(path_) {
  folder_ += ".parts";
}

Result<StatisticsWriter> StatisticsWriter::create(fs::path path, bool keep_parts) {
  StatisticsWriter writer(std::move(path));
  if (!keep_parts) writer.discard_parts();
  std::error_code status;
  fs::create_directories(writer.folder_, status);
  if (status) {
    return cannot_create(fmt::format("cannot make {}: {}", writer.folder_.string(), status.message()),
                         "choose another place for the statistics");
  }
  return writer;
}

Status StatisticsWriter::write_part(const std::string& name, const StatisticsPart& part) const {
  Json entries = no_entries();
  for (const StatisticsPart::Entry& entry : part.entries_) {
    Json& json = entries[entry.kind][entry.set][entry.name];
    json = {{"hash", entry.hash}, {"modules", entry.modules}};
    if (entry.zero_shift) json["zero_shift"] = true;
  }
  std::vector<PlannedTensor> planned;
  for (const DeferredTensor& tensor : part.tensors_)
    planned.push_back({tensor.name, tensor.dtype, tensor.shape});
  const std::string file = name + kEnding;
  TRY_ASSIGN(WritePlan plan,
             WritePlan::make_single_file(std::move(planned), file + ".partial", metadata_of(entries, {})));
  TRY_ASSIGN(const auto writer, ShardedWriter::create(std::move(plan), folder_));
  for (const DeferredTensor& tensor : part.tensors_) TRY(writer->write(tensor.name, tensor.make()));
  TRY(writer->finish());
  return rename_durably(folder_ / (file + ".partial"), folder_ / file);
}

bool StatisticsWriter::has_part(const std::string& name) const {
  return fs::exists(folder_ / (name + kEnding));
}

std::set<fs::path> StatisticsWriter::parts() const {
  std::set<fs::path> paths;
  std::error_code status;
  for (fs::directory_iterator it(folder_, status), end; !status && it != end; it.increment(status)) {
    if (it->path().extension() == kEnding) paths.insert(it->path());
  }
  return paths;
}

Status StatisticsWriter::drop_from(const std::string& name) const {
  for (const fs::path& path : parts()) {
    if (path.stem().string() < name) continue;
    std::error_code status;
    fs::remove(path, status);
    if (status) return cannot_create(fmt::format("cannot remove {}: {}", path.string(), status.message()));
  }
  return {};
}

Status StatisticsWriter::finish(const StatisticsOrigin& origin) const {
  struct Part {
    std::shared_ptr<const MappedFile> file;
    SafetensorsHeader header;
  };
  std::vector<Part> all;
  std::vector<PlannedTensor> planned;
  Json entries = no_entries();
  for (const fs::path& path : parts()) {
    Part& part = all.emplace_back();
    TRY_ASSIGN(part.file, MappedFile::open(path));
    TRY_ASSIGN(part.header, parse_safetensors_header(part.file->bytes()).at(path.string()));
    TRY_ASSIGN(const Json own, parse_json(part.header.metadata["entries"]).at(path.string()));
    for (const auto& [kind, sets] : own.items()) {
      for (const auto& [set, names] : sets.items()) {
        for (const auto& [name, entry] : names.items()) entries[kind][set][name] = entry;
      }
    }
    for (const SafetensorsEntry& entry : part.header.entries)
      planned.push_back({entry.name, entry.dtype, entry.shape});
  }
  const std::string temporary = "whole.partial";
  TRY_ASSIGN(WritePlan plan,
             WritePlan::make_single_file(std::move(planned), temporary, metadata_of(entries, origin)));
  TRY_ASSIGN(const auto writer, ShardedWriter::create(std::move(plan), folder_));
  for (const Part& part : all) {
    for (const SafetensorsEntry& entry : part.header.entries)
      TRY(copy(part.file, part.header, entry, *writer));
  }
  TRY(writer->finish());
  return rename_durably(folder_ / temporary, path_);
}

void StatisticsWriter::discard_parts() const {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace nibble
