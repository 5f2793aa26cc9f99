// SPDX-License-Identifier: Apache-2.0
// Any bytes are a GGUF file or an error; the metadata of an accepted file can be shown, its tensors decode.
#include <cstdlib>

#include "checkpoint/gguf.h"
#include "checkpoint/gguf_checkpoint.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nibble;
  const fuzz::MemoryFile file(data, size);
  const auto checkpoint = open_gguf(file.path());
  if (!checkpoint.ok()) return 0;
  const GgufFile& gguf = *(*checkpoint)->gguf();
  for (const auto& [key, value] : gguf.metadata()) {
    static_cast<void>(GgufFile::shown(value));
    static_cast<void>(gguf.strings(key).ok());
    static_cast<void>(gguf.integers(key).ok());
    static_cast<void>(gguf.floats(key).ok());
  }
  for (const TensorInfo& info : (*checkpoint)->tensors()) {
    const auto tensor = (*checkpoint)->load(info.name);
    if (tensor.ok() && (tensor->shape() != info.shape || tensor->dtype() != info.dtype)) std::abort();
  }
  return 0;
}
