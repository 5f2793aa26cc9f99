// SPDX-License-Identifier: Apache-2.0
// How verbs open what people name: models, tokenizers, and texts or token ids.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "model/transformer.h"
#include "program.h"
#include "text/tokenizer.h"

namespace nibble::app {

// A folder, a .gguf or .safetensors file, or org/name in the model cache.
Result<std::unique_ptr<Checkpoint>> open_checkpoint(Program& program, const std::string& model);
// Also of a folder that holds tokenizer files and nothing else.
Result<std::unique_ptr<Tokenizer>> open_tokenizer(Program& program, const std::string& model);

// A model ready to run. It is held whole when its fp32 weights take less than half of the usable memory, else
// each block is read when it is needed.
struct LoadedModel {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Transformer> transformer;
  Residency residency = Residency::kWhole;
};
Result<LoadedModel> load_model(Program& program, const std::string& model);

// Token ids [rows, columns] from the tensor of a .safetensors file.
struct IdTable {
  std::int64_t rows = 0, columns = 0;
  std::vector<TokenId> ids;
};
Result<IdTable> read_id_tensor(const Checkpoint& file, const std::string& tensor);

// The ids of a text given as a file of text, a data set or a .safetensors file with `input_ids`. Texts of a
// data set are joined by an empty line, as WikiText is in the GPTQ convention. `tokenizer` may be null for
// ids.
bool holds_token_ids(const std::string& text);
Result<std::vector<TokenId>> read_text_ids(Program& program, const std::string& text,
                                           const Tokenizer* tokenizer);

}  // namespace nibble::app
