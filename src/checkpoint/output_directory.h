// SPDX-License-Identifier: Apache-2.0
// An output folder that appears at once and complete: everything is written to `<name>.partial`, synced, and
// renamed at the end. A kill at any moment leaves only the partial folder, and what stood at the final place
// is untouched.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"

namespace nibble {

class OutputDirectory {
 public:
  struct Options {
    bool overwrite = false;  // replace an earlier output (only a model folder is ever replaced)
    bool resume = false;     // go on in the partial folder of a stopped run
    std::vector<std::filesystem::path> not_touched;  // sources: the output may not be, hold or lie in one
  };

  // What create() would refuse, without writing anything.
  static Status check(const std::filesystem::path& final_path, const Options& options);
  // Makes the partial folder, in place of the left-over one of a killed run, and locks it against a second
  // run.
  static Result<OutputDirectory> create(const std::filesystem::path& final_path, const Options& options);
  OutputDirectory(OutputDirectory&& other) noexcept;
  OutputDirectory& operator=(OutputDirectory&& other) noexcept;
  ~OutputDirectory();  // an uncommitted partial folder stays, for --resume

  const std::filesystem::path& final_path() const { return final_; }
  const std::filesystem::path& partial() const { return partial_; }

  Status write_file(std::string_view name, std::string_view content);
  // The file `source` under its name, or as `name`; synced.
  Status copy_file(const std::filesystem::path& source, std::string_view name = {});
  // companion_files() of the source but for those named in `except`; gives the names copied.
  Result<std::vector<std::string>> copy_companions(const Checkpoint& source,
                                                   const std::vector<std::string>& except);
  // Removes a file that only a resumed run needs (the ledger).
  Status remove_file(std::string_view name);
  // Removes the partial folder of a run that failed and left nothing to resume, and the folders above it that
  // create() made, unless something else lies in them by now.
  void discard();
  // All files must be synced already. The folder is at final_path() when this returns.
  Status commit();

 private:
  OutputDirectory(std::filesystem::path final_path, std::filesystem::path partial);
  Status lock();

  std::filesystem::path final_;
  std::filesystem::path partial_;
  std::vector<std::filesystem::path> made_parents_;  // innermost first
  int lock_ = -1;
};

}  // namespace nibble
