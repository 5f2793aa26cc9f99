// SPDX-License-Identifier: Apache-2.0
// Writes the tensors of a WritePlan to their places, in any order and from any thread. All shards have their
// final size and header from the start; the index comes last. Nothing here renames: see OutputDirectory.
//
//   TRY_ASSIGN(WritePlan plan, WritePlan::make(tensors, options));
//   TRY_ASSIGN(auto writer, ShardedWriter::create(plan, output.partial()));
//   TRY(writer->write("lm_head.weight", tensor));
//   TRY(writer->finish());
//
// Resume: after sync() the caller notes the finished tensors and their stored_hash() in its ledger. A later
// run makes the same plan, calls resume(), compares stored_hash() and mark_finished()s what still holds.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/tensor.h"
#include "checkpoint/write_plan.h"

namespace nibble {

class ShardedWriter {
 public:
  static Result<std::unique_ptr<ShardedWriter>> create(WritePlan plan, const std::filesystem::path& folder);
  // The shards must be there with the plan's headers and sizes; an error names the first that is not.
  static Result<std::unique_ptr<ShardedWriter>> resume(WritePlan plan, const std::filesystem::path& folder);

  const WritePlan& plan() const { return plan_; }
  // The tensor must be in the plan with this type and shape. Thread-safe for different tensors: while another
  // thread writes, a tensor may be left to it; then that thread's call tells of a failure. Nothing waits once
  // all calls have returned.
  Status write(std::string_view name, const Tensor& tensor);
  // A part of a tensor at byte `offset` of its data; parts must not overlap. Thread-safe.
  Status write_part(std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes);
  bool is_finished(std::string_view name) const;
  void mark_finished(std::string_view name);
  Status sync();                                                   // what was written is on the disk
  Result<std::uint64_t> stored_hash(std::string_view name) const;  // xxh64 of the data in the file
  // Every tensor must be finished. Syncs and closes the shards, then writes the index.
  Status finish();

 private:
  ShardedWriter(WritePlan plan, std::filesystem::path folder);
  Result<std::size_t> index_of(std::string_view name) const;
  Status write_bytes(std::size_t tensor, std::uint64_t offset, std::span<const std::byte> bytes);
  enum class Turn : std::uint8_t {
    kMine,    // until next_left() is empty
    kLeft,    // the writing thread takes the tensor
    kBeside,  // enough has been left to it
  };
  Turn take_turn(std::size_t index, const Tensor& tensor);
  std::optional<std::pair<std::size_t, Tensor>> next_left();

  WritePlan plan_;
  std::filesystem::path folder_;
  std::vector<FileWriter> files_;
  std::vector<std::atomic<std::uint64_t>> missing_bytes_;  // of tensor i

  // A file system lets one thread at a time into a file and the others spin.
  std::mutex mutex_;
  bool writing_ = false;
  std::vector<std::pair<std::size_t, Tensor>> left_;  // to the writing thread
  std::size_t left_bytes_ = 0;
};

// One file with these tensors, written durably (a temporary name, fsync, rename).
Status write_safetensors_file(const std::filesystem::path& path,
                              const std::vector<std::pair<std::string, Tensor>>& tensors,
                              const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace nibble
