// SPDX-License-Identifier: Apache-2.0
// config.json for a model that came as GGUF, made from its metadata and tensor shapes. Keys are those that
// every transformers version reads (rope_theta, rope_scaling, torch_dtype); what the file does not say stays
// absent.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_architectures.h"

namespace nibble {

// Finds a tensor in whichever file of a split model holds it; null when there is none.
struct GgufTensorSource {
  std::function<const GgufTensor*(std::string_view name)> find;
  std::function<std::vector<float>(const GgufTensor& tensor)> values;
};

Result<Json> make_gguf_config(const GgufFile& file, const GgufArchitecture& architecture,
                              const GgufTensorSource& tensors);

// llama.cpp stores Llama 3's frequency scaling as one factor a frequency (rope_freqs.weight). Finds the
// parameters of the "llama3" rule that give these factors; an object of an unknown rope_type when none do.
// Null: all factors are 1.
Json llama3_rope_scaling(std::span<const float> factors, double rope_theta);

}  // namespace nibble
