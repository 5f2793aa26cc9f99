// SPDX-License-Identifier: Apache-2.0
// The element type of what a run writes unquantized, and of the scales: what --precision says, or what the
// source has.
#pragma once

#include <optional>
#include <string>

#include "base/error.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"

namespace nibble {

struct StorageRule {
  DType model_dtype = DType::kF32;  // config.json's dtype of the output
  // Every floating-point tensor is stored in model_dtype; otherwise each keeps its own type.
  bool cast_all = false;
  std::string note;  // why, when a user should know

  // Of a tensor that is carried over: integers and small floats stay as they are.
  DType carried(DType stored) const;
  // Of a weight before it is quantized: one of F32, F16, BF16; nothing for a weight that has no such form.
  std::optional<DType> quantizable(DType stored) const;
};

// `precision` is auto, fp16, bf16, fp32 or a torch name. With auto a Hugging Face model keeps the types of
// its tensors, except under the reference, which loads everything in config.json's type; a GGUF keeps the
// type of its weights, and one of block types becomes F16, which holds their values to 11 bits.
Result<StorageRule> storage_rule(const Checkpoint& checkpoint, const std::string& precision, bool reference);

// The tensor in another float type, rounded half to even. Values that become infinite are an error.
Result<Tensor> cast_tensor(ThreadPool& pool, const Tensor& tensor, DType dtype, std::string_view name);

}  // namespace nibble
