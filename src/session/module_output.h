// SPDX-License-Identifier: Apache-2.0
// A module between source and output: its tensors are read as the module sees them, and written from the work
// state under the names, types and layouts of the plan.
#pragma once

#include <unordered_map>

#include "checkpoint/checkpoint.h"
#include "checkpoint/sharded_writer.h"
#include "modify/modifier.h"
#include "session/output_plan.h"

namespace nibble {

class ModuleOutput {
 public:
  ModuleOutput(const Checkpoint& checkpoint, const OutputPlan& plan, const ModelState& state);

  // Weight and bias in the type in which the module will be stored; F64 is worked on as F32. A module without
  // tensors of its own has none.
  Result<ModuleWork> load(const ModuleInfo& module, ThreadPool& pool) const;
  // Whether writing this module takes anything but plain copies.
  bool is_written(const ModuleInfo& module) const { return entries_.contains(&module); }
  Status write(const ModuleWork& work, ShardedWriter& writer, ThreadPool& pool) const;
  // The names of the tensors that write() writes.
  std::vector<std::string> tensor_names(const ModuleInfo& module) const;
  // The pages of the source are not needed any more.
  void release(const ModuleInfo& module) const;

 private:
  struct Entry {
    const PlannedModule* quantized = nullptr;
    const CarriedTensor* weight = nullptr;
    const CarriedTensor* bias = nullptr;
    const PlannedActivations* activations = nullptr;
  };
  Result<Tensor> load_as_work(const CarriedTensor& carried, ThreadPool& pool) const;
  Status write_carried(const CarriedTensor& carried, const Tensor& value, bool transposed,
                       ShardedWriter& writer, ThreadPool& pool) const;

  const Checkpoint& checkpoint_;
  const ModelState& state_;
  std::unordered_map<const ModuleInfo*, Entry> entries_;
};

// Copies a tensor that nothing changes, in parts, so that a large one never becomes resident as a whole.
Status copy_carried(const Checkpoint& checkpoint, const CarriedTensor& tensor, ShardedWriter& writer,
                    ThreadPool& pool);

}  // namespace nibble
