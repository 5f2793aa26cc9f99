// SPDX-License-Identifier: Apache-2.0
#include "session/load_tokenizer.h"

#include <fmt/format.h>

#include "checkpoint/gguf.h"

namespace nibble {
namespace {

Status read_id(const GgufFile& file, std::string_view key, std::optional<TokenId>& id) {
  const std::string name = fmt::format("tokenizer.ggml.{}", key);
  if (!file.has(name)) return {};
  TRY_ASSIGN(const std::int64_t value, file.integer(name));
  if (value < 0 || value > INT32_MAX) return bad_data(fmt::format("{} is {}, no token id", name, value));
  id = static_cast<TokenId>(value);
  return {};
}

Status read_flag(const GgufFile& file, std::string_view key, std::optional<bool>& flag) {
  const std::string name = fmt::format("tokenizer.ggml.{}", key);
  if (!file.has(name)) return {};
  TRY_ASSIGN(flag, file.boolean(name));
  return {};
}

Status read_lists(const GgufFile& file, GgufVocabulary& v) {
  TRY_ASSIGN(v.tokens, file.strings("tokenizer.ggml.tokens"));
  if (file.has("tokenizer.ggml.scores")) {
    TRY_ASSIGN(v.scores, file.floats("tokenizer.ggml.scores"));
  }
  if (file.has("tokenizer.ggml.token_type")) {
    TRY_ASSIGN(const std::vector<std::int64_t> types, file.integers("tokenizer.ggml.token_type"));
    v.token_types.assign(types.begin(), types.end());
  }
  if (file.has("tokenizer.ggml.merges")) {
    TRY_ASSIGN(v.merges, file.strings("tokenizer.ggml.merges"));
  }
  return {};
}

Result<GgufVocabulary> read_vocabulary(const GgufFile& file) {
  GgufVocabulary v;
  if (!file.has("tokenizer.ggml.model")) {
    return bad_data("the GGUF file holds no vocabulary (tokenizer.ggml.model is missing)",
                    "name a folder with the tokenizer's files instead");
  }
  TRY_ASSIGN(v.model, file.string("tokenizer.ggml.model"));
  TRY_ASSIGN(v.pre, file.string_or("tokenizer.ggml.pre", ""));
  TRY(read_lists(file, v));
  TRY(read_id(file, "bos_token_id", v.bos));
  TRY(read_id(file, "eos_token_id", v.eos));
  TRY(read_id(file, "unknown_token_id", v.unknown));
  TRY(read_id(file, "seperator_token_id", v.separator));  // spelled so in the format
  TRY(read_id(file, "padding_token_id", v.padding));
  TRY(read_id(file, "cls_token_id", v.cls));
  TRY(read_id(file, "mask_token_id", v.mask));
  TRY(read_flag(file, "add_bos_token", v.add_bos));
  TRY(read_flag(file, "add_eos_token", v.add_eos));
  TRY(read_flag(file, "add_space_prefix", v.add_space_prefix));
  TRY(read_flag(file, "remove_extra_whitespaces", v.remove_extra_whitespaces));
  if (const GgufValue* map = file.find("tokenizer.ggml.precompiled_charsmap"); map != nullptr) {
    v.precompiled_charsmap.assign(reinterpret_cast<const char*>(map->bytes.data()), map->bytes.size());
  }
  TRY_ASSIGN(v.chat_template, file.string_or("tokenizer.chat_template", ""));
  return v;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const Checkpoint& checkpoint) {
  const std::filesystem::path& path = checkpoint.path();
  const std::string place = fmt::format("tokenizer of {}", path.string());
  if (checkpoint.gguf() != nullptr) {
    TRY_ASSIGN(const GgufVocabulary vocabulary, read_vocabulary(*checkpoint.gguf()).at(place));
    return Tokenizer::from_gguf(vocabulary).at(place);
  }
  return Tokenizer::from_folder(std::filesystem::is_directory(path) ? path : path.parent_path()).at(place);
}

}  // namespace nibble
