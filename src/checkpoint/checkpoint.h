// SPDX-License-Identifier: Apache-2.0
// A checkpoint as everything downstream sees it: Hugging Face tensor names, Hugging Face layouts and a
// Hugging Face config, whether the bytes are a safetensors folder or a GGUF file. Opening maps files and
// checks every header; no tensor is read before load().
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "base/tensor.h"

namespace nibble {

struct TensorInfo {
  std::string name;       // Hugging Face name: "model.layers.0.self_attn.q_proj.weight"
  DType dtype;            // of the tensor that load() gives; GGUF block types decode to F32
  Shape shape;            // Hugging Face shape: [out, in]
  std::string stored_as;  // "BF16", "Q4_K"
  std::uint64_t stored_bytes = 0;
  std::string file;  // file name inside the checkpoint
};

class GgufFile;  // checkpoint/gguf.h

class Checkpoint {
 public:
  // `model` is a folder, a .gguf or .safetensors file, or org/name in the local Hugging Face cache
  // (`hub_cache`, found by the program from HF_HUB_CACHE / HF_HOME). Nothing is ever downloaded; the error
  // has the command that would.
  struct OpenOptions {
    std::filesystem::path hub_cache;
  };
  static Result<std::unique_ptr<Checkpoint>> open(const std::string& model, const OpenOptions& options = {});

  virtual ~Checkpoint() = default;
  virtual const std::filesystem::path& path() const = 0;
  // config.json; for GGUF one made from its metadata. Null for a lone safetensors file.
  virtual const Json& config() const = 0;
  virtual const std::vector<TensorInfo>& tensors() const = 0;  // sorted by file, then offset
  virtual const TensorInfo* find(std::string_view name) const = 0;
  // The whole tensor; a view of the mapped file where the layout allows it.
  virtual Result<Tensor> load(std::string_view name) const = 0;
  // The tensor in order, in blocks of whole rows (of its first dimension): one block where loading costs no
  // memory, else blocks of about `elements` values where the format can be decoded by rows.
  using RowBlockBody = std::function<Status(const Tensor& rows)>;
  virtual Status for_row_blocks(std::string_view name, std::int64_t elements, const RowBlockBody& body) const;
  // Hint: the pages of this tensor are not needed any more.
  virtual void release(std::string_view name) const = 0;
  // Small files that travel with the model (tokenizer, generation config, licence ...), absolute paths.
  virtual std::vector<std::filesystem::path> companion_files() const = 0;
  // The GGUF behind it, for its tokenizer and metadata; null for safetensors.
  virtual const GgufFile* gguf() const { return nullptr; }
};

}  // namespace nibble
