// SPDX-License-Identifier: Apache-2.0
// One .safetensors file of saved statistics: read entry by entry, and written in durable parts (one for each
// walk over the stages of a block) that are joined at the end, so neither the model's statistics nor a kill
// cost more than a block.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/file.h"
#include "calibrate/saved_statistics.h"
#include "checkpoint/safetensors.h"

namespace nibble {

// Adds up to one part: inputs and outputs of named sets. Their matrices must live until it is written.
class StatisticsPart {
 public:
  // The input is known by the first of its modules.
  void add_input(const std::string& set, const InputRecord& input);
  void add_output(const std::string& set, const std::string& module, const SavedOutput& output);
  bool empty() const { return tensors_.empty(); }

 private:
  friend class StatisticsWriter;
  struct Entry {
    std::string set, name, kind, hash;
    std::vector<std::string> modules;
    bool zero_shift = false;
  };
  void add(Entry entry, std::vector<DeferredTensor> tensors);

  std::vector<Entry> entries_;
  std::vector<DeferredTensor> tensors_;  // under their whole names
};

class StatisticsFile {
 public:
  struct Entry {
    std::vector<std::string> modules;  // of an input: all that read it
    std::string hash;
    bool zero_shift = false;                // gathered, and zero
    std::vector<SafetensorsEntry> tensors;  // names are suffixes here
    std::int64_t cols = 0;                  // of an input; outputs: their number

    bool has(std::string_view suffix) const;
  };
  using Entries = std::map<std::string, std::map<std::string, Entry>>;  // by set and name

  // Refuses what is no statistics file, and every tensor that no entry names.
  static Result<StatisticsFile> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_->path(); }
  const StatisticsOrigin& origin() const { return origin_; }
  const Entries& inputs() const { return inputs_; }
  const Entries& outputs() const { return outputs_; }
  std::string fingerprint() const;  // of everything in the file
  // Null when the set has none for the module.
  const Entry* input_of(const std::string& set, const std::string& module) const;
  const Entry* output_of(const std::string& set, const std::string& module) const;

  // Reads an entry; fails when its bytes are not those that were written.
  Result<SavedInput> load_input(const std::string& set, const std::string& module) const;
  Result<SavedOutput> load_output(const std::string& set, const std::string& module) const;

 private:
  Status read_entries(const Json& json, const char* kind, Entries& into);
  Status take_tensors(const SafetensorsHeader& header);
  Result<NamedTensors> tensors_of(const Entry& entry) const;

  std::shared_ptr<const MappedFile> file_;
  std::uint64_t data_begin_ = 0;
  StatisticsOrigin origin_;
  Entries inputs_, outputs_;
  std::map<std::pair<std::string, std::string>, std::string> first_reader_;  // by set and module
};

class StatisticsWriter {
 public:
  // Parts wait in `path`.parts until the file is whole. `keep_parts`: those of a stopped run.
  static Result<StatisticsWriter> create(std::filesystem::path path, bool keep_parts);

  const std::filesystem::path& folder() const { return folder_; }
  // Durable when this returns. Parts are joined in the order of their names.
  Status write_part(const std::string& name, const StatisticsPart& part) const;
  bool has_part(const std::string& name) const;
  // Drops the part of that name and all behind it.
  Status drop_from(const std::string& name) const;
  // Joins the parts; the file is whole or not there.
  Status finish(const StatisticsOrigin& origin) const;
  void discard_parts() const;

 private:
  explicit StatisticsWriter(std::filesystem::path path);
  std::set<std::filesystem::path> parts() const;

  std::filesystem::path path_, folder_;
};

}  // namespace nibble
