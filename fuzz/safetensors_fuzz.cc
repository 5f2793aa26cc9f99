// SPDX-License-Identifier: Apache-2.0
// Any bytes are a safetensors file or an error; every tensor of an accepted file can be loaded, and the
// writer's plan for the same tensors gives a file that is accepted again.
#include <cstdlib>

#include "checkpoint/hf_checkpoint.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/write_plan.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nibble;
  const fuzz::MemoryFile file(data, size);
  const auto checkpoint = open_safetensors_file(file.path());
  if (!checkpoint.ok()) return 0;
  std::vector<PlannedTensor> tensors;
  for (const TensorInfo& info : (*checkpoint)->tensors()) {
    const auto tensor = (*checkpoint)->load(info.name);
    if (!tensor.ok() || tensor->byte_size() != info.stored_bytes) std::abort();
    tensors.push_back({info.name, info.dtype, info.shape});
  }
  const auto plan = WritePlan::make_single_file(tensors, "x.safetensors", {});
  if (!plan.ok()) std::abort();
  std::string bytes = plan->shards()[0].header;
  bytes.resize(plan->shards()[0].file_bytes);
  const auto again = parse_safetensors_header(std::as_bytes(std::span(bytes.data(), bytes.size())));
  if (!again.ok() || again->entries.size() != tensors.size()) std::abort();
  return 0;
}
