// SPDX-License-Identifier: Apache-2.0
// The exact layout of safetensors output before any data exist: names, types and shapes give every header,
// every offset and the total size to the byte. So dry runs tell the truth, blocks can be written in any order
// by any thread, and a resumed run finds each tensor where an undisturbed run would put it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"

namespace nibble {

struct PlannedTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

class WritePlan {
 public:
  struct Options {
    std::uint64_t max_shard_bytes = 5'000'000'000;  // of tensor data; a larger tensor gets a shard of its own
    std::map<std::string, std::string> metadata{{"format", "pt"}};
  };
  struct Slot {
    std::size_t shard = 0;
    std::uint64_t offset = 0;  // absolute in the shard's file
    std::uint64_t bytes = 0;
  };
  struct Shard {
    std::string file;    // "model-00001-of-00003.safetensors", or "model.safetensors" when there is one
    std::string header;  // length field and padded JSON: the first bytes of the file
    std::uint64_t file_bytes = 0;
  };

  // Shards are filled in the given order. Inside a shard wider types stand first (then the given order),
  // which aligns every tensor for its type although the format allows no padding between them.
  static Result<WritePlan> make(std::vector<PlannedTensor> tensors, const Options& options);
  // The same for one file of any name.
  static Result<WritePlan> make_single_file(std::vector<PlannedTensor> tensors, std::string file_name,
                                            const std::map<std::string, std::string>& metadata);

  const std::vector<PlannedTensor>& tensors() const { return tensors_; }
  const std::vector<Slot>& slots() const { return slots_; }  // of tensors()[i]
  const std::vector<Shard>& shards() const { return shards_; }
  std::size_t index_of(std::string_view name) const;  // tensors().size() when there is no such tensor
  const std::string& index_json() const { return index_json_; }  // empty for a single file
  std::uint64_t exact_bytes() const;                             // of all shards and the index

 private:
  Status check_tensors();
  Status lay_out_shard(std::size_t shard, std::vector<std::size_t> members,
                       const std::map<std::string, std::string>& metadata);
  void make_index();

  std::vector<PlannedTensor> tensors_;
  std::vector<Slot> slots_;
  std::vector<Shard> shards_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::string index_json_;
};

}  // namespace nibble
