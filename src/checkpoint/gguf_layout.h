// SPDX-License-Identifier: Apache-2.0
// Undoes what llama.cpp's converters do to the order and values of tensors (see GgufLayout).
#pragma once

#include <cstdint>

#include "base/error.h"
#include "base/tensor.h"
#include "checkpoint/gguf_architectures.h"

namespace nibble {

// The Hugging Face form of a tensor of `layout` that is held in `stored` (already one expert's part, if it
// was one of many). `heads` belongs to the rotary and fused layouts. kPlain and the expert layouts give
// `stored` back.
Result<Tensor> undo_gguf_layout(const Tensor& stored, GgufLayout layout, std::int64_t heads);

// Shape and type of the result, without the data.
Result<Shape> shape_after_layout(const Shape& stored, GgufLayout layout, std::int64_t heads);
DType dtype_after_layout(DType stored, GgufLayout layout);

}  // namespace nibble
