// SPDX-License-Identifier: Apache-2.0
#include "session/gguf_vocabulary.h"

#include "base/json.h"

namespace nibble {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

Result<std::optional<TokenId>> token_of(const GgufFile& file, std::string_view key) {
  const std::string full = std::string(kPrefix) + std::string(key);
  if (!file.has(full)) return std::optional<TokenId>();
  TRY_ASSIGN(const std::int64_t id, file.integer(full));
  // "None" of old converters.
  if (id < 0 || id >= std::int64_t{1} << 31) return std::optional<TokenId>();
  return std::optional<TokenId>(static_cast<TokenId>(id));
}

Result<std::optional<bool>> flag_of(const GgufFile& file, std::string_view key) {
  const std::string full = std::string(kPrefix) + std::string(key);
  if (!file.has(full)) return std::optional<bool>();
  TRY_ASSIGN(const bool value, file.boolean(full));
  return std::optional<bool>(value);
}

Status read_arrays(const GgufFile& file, GgufVocabulary& vocabulary) {
  const auto key = [](std::string_view name) { return std::string(kPrefix) + std::string(name); };
  if (file.has(key("tokens"))) {
    TRY_ASSIGN(vocabulary.tokens, file.strings(key("tokens")));
  }
  if (file.has(key("merges"))) {
    TRY_ASSIGN(vocabulary.merges, file.strings(key("merges")));
  }
  if (file.has(key("scores"))) {
    TRY_ASSIGN(vocabulary.scores, file.floats(key("scores")));
  }
  if (file.has(key("token_type"))) {
    TRY_ASSIGN(const std::vector<std::int64_t> types, file.integers(key("token_type")));
    for (const std::int64_t type : types) vocabulary.token_types.push_back(static_cast<std::int32_t>(type));
  }
  if (file.has(key("precompiled_charsmap"))) {
    TRY_ASSIGN(const std::vector<std::int64_t> bytes, file.integers(key("precompiled_charsmap")));
    for (const std::int64_t byte : bytes) vocabulary.precompiled_charsmap.push_back(static_cast<char>(byte));
  }
  return {};
}

Status read_tokens(const GgufFile& file, GgufVocabulary& vocabulary) {
  const std::pair<const char*, std::optional<TokenId>*> fields[] = {
      {"bos_token_id", &vocabulary.bos},         {"eos_token_id", &vocabulary.eos},
      {"unknown_token_id", &vocabulary.unknown}, {"seperator_token_id", &vocabulary.separator},
      {"padding_token_id", &vocabulary.padding}, {"cls_token_id", &vocabulary.cls},
      {"mask_token_id", &vocabulary.mask},
  };
  for (const auto& [key, field] : fields) {
    TRY_ASSIGN(*field, token_of(file, key));
  }
  if (!vocabulary.separator) {
    TRY_ASSIGN(vocabulary.separator, token_of(file, "separator_token_id"));
  }
  return {};
}

// What AutoTokenizer needs beside tokenizer.json.
std::string tokenizer_config(const GgufVocabulary& vocabulary, const Json& config) {
  Json json = Json::object();
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  json["clean_up_tokenization_spaces"] = false;
  const std::pair<const char*, std::optional<TokenId>> tokens[] = {
      {"bos_token", vocabulary.bos},       {"eos_token", vocabulary.eos},
      {"unk_token", vocabulary.unknown},   {"pad_token", vocabulary.padding},
      {"sep_token", vocabulary.separator}, {"cls_token", vocabulary.cls},
      {"mask_token", vocabulary.mask},
  };
  for (const auto& [key, id] : tokens) {
    if (id && static_cast<std::size_t>(*id) < vocabulary.tokens.size()) {
      json[key] = vocabulary.tokens[static_cast<std::size_t>(*id)];
    }
  }
  if (config.is_object() && config.contains("max_position_embeddings")) {
    json["model_max_length"] = config["max_position_embeddings"];
  }
  if (!vocabulary.chat_template.empty()) json["chat_template"] = vocabulary.chat_template;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string generation_config(const GgufVocabulary& vocabulary) {
  Json json = Json::object();
  json["_from_model_config"] = true;
  if (vocabulary.bos) json["bos_token_id"] = *vocabulary.bos;
  if (vocabulary.eos) json["eos_token_id"] = *vocabulary.eos;
  if (vocabulary.padding) json["pad_token_id"] = *vocabulary.padding;
  return json.dump(2) + "\n";
}

}  // namespace

Result<GgufVocabulary> gguf_vocabulary(const GgufFile& file) {
  GgufVocabulary vocabulary;
  TRY_ASSIGN(vocabulary.model, file.string_or(std::string(kPrefix) + "model", ""));
  TRY_ASSIGN(vocabulary.pre, file.string_or(std::string(kPrefix) + "pre", ""));
  TRY_ASSIGN(vocabulary.chat_template, file.string_or("tokenizer.chat_template", ""));
  TRY(read_arrays(file, vocabulary));
  TRY(read_tokens(file, vocabulary));
  TRY_ASSIGN(vocabulary.add_bos, flag_of(file, "add_bos_token"));
  TRY_ASSIGN(vocabulary.add_eos, flag_of(file, "add_eos_token"));
  TRY_ASSIGN(vocabulary.add_space_prefix, flag_of(file, "add_space_prefix"));
  TRY_ASSIGN(vocabulary.remove_extra_whitespaces, flag_of(file, "remove_extra_whitespaces"));
  return vocabulary;
}

Result<std::vector<std::pair<std::string, std::string>>> gguf_companion_files(const GgufFile& file,
                                                                              const Json& config) {
  std::vector<std::pair<std::string, std::string>> files;
  TRY_ASSIGN(const GgufVocabulary vocabulary, gguf_vocabulary(file));
  files.emplace_back("generation_config.json", generation_config(vocabulary));
  if (vocabulary.tokens.empty()) return files;
  TRY_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, Tokenizer::from_gguf(vocabulary));
  TRY_ASSIGN(std::string text, tokenizer->to_tokenizer_json());
  files.emplace_back("tokenizer.json", std::move(text));
  files.emplace_back("tokenizer_config.json", tokenizer_config(vocabulary, config));
  return files;
}

}  // namespace nibble
