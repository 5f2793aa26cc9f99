// SPDX-License-Identifier: Apache-2.0
// What a stopped run has finished, in the partial output folder: a line of JSON a group of blocks, appended
// after its tensors and the streams behind it are on the disk. A line that a kill cut off does not count.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/sharded_writer.h"
#include "modify/modifier.h"

namespace nibble {

// Everything that decides the bytes of a run, by field: equal values mean equal output.
using Fingerprint = std::vector<std::pair<std::string, std::string>>;

struct LedgerEntry {
  int blocks = 0;                                            // finished so far
  std::vector<std::pair<std::string, std::string>> tensors;  // of the group: name and stored hash
  std::vector<std::pair<std::string, std::string>> streams;  // behind the last block: file and hash
  std::vector<LayerReport> changes;
  std::vector<std::string> warnings;
};

class Ledger {
 public:
  static Result<Ledger> start(const std::filesystem::path& folder, const Fingerprint& fingerprint);
  // Empty when the folder holds no ledger, so that there is nothing to go on from. A run with another
  // fingerprint is an error that names the field.
  static Result<std::optional<Ledger>> reopen(const std::filesystem::path& folder,
                                              const Fingerprint& fingerprint);

  const std::vector<LedgerEntry>& entries() const { return entries_; }
  // Durable when this returns. Files of earlier streams are removed then.
  Status append(LedgerEntry entry);
  // Names of all files in the folder that only a resumed run needs.
  std::vector<std::string> file_names() const;

 private:
  Ledger(std::filesystem::path folder, FileWriter file, std::uint64_t end)
      : folder_(std::move(folder)), file_(std::move(file)), end_(end) {}
  Status write_line(const std::string& line);

  std::filesystem::path folder_;
  FileWriter file_;
  std::uint64_t end_;
  std::vector<LedgerEntry> entries_;
};

// Whether the tensors of all entries lie in the files as they were noted; marks them as finished.
Result<bool> restore_tensors(const Ledger& ledger, ShardedWriter& writer);

}  // namespace nibble
