// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer/loaders.h"

namespace nibble::text {
namespace {

constexpr std::string_view kRoles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

Result<Json> read_if_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored) ? read_json_file(path)
                                                         : Result<Json>(Json::object());
}

// A token is written as a string or as {"content": ..., "lstrip": ...}.
Result<AddedToken> read_token(const Json& value, bool special) {
  AddedToken token;
  token.special = special;
  if (value.is_string()) {
    token.content = value.get<std::string>();
    return token;
  }
  TRY_ASSIGN(token.content, json_string(value, "content"));
  TRY_ASSIGN(token.lstrip, json_bool_or(value, "lstrip", false));
  TRY_ASSIGN(token.rstrip, json_bool_or(value, "rstrip", false));
  TRY_ASSIGN(token.single_word, json_bool_or(value, "single_word", false));
  TRY_ASSIGN(token.special, json_bool_or(value, "special", special));
  TRY_ASSIGN(token.normalized, json_bool_or(value, "normalized", !token.special));
  return token;
}

Status read_roles(const Json& file, TokenizerSettings& settings) {
  for (const std::string_view role : kRoles) {
    const auto found = file.find(std::string(role));
    if (found == file.end() || found->is_null() || settings.special_tokens.contains(std::string(role)))
      continue;
    TRY_ASSIGN(AddedToken token, read_token(*found, true).at(role));
    token.normalized = false;
    settings.special_tokens.emplace(role, std::move(token));
  }
  return {};
}

Status add_token(AddedToken token, std::int64_t id, TokenizerSettings& settings) {
  if (id < 0 || id > kMaxTokenId) {
    return bad_data(
        fmt::format("the id {} of the added token \"{}\" is outside 0..{}", id, token.content, kMaxTokenId));
  }
  token.id = static_cast<TokenId>(id);
  settings.added_tokens.push_back(std::move(token));
  return {};
}

// "added_tokens_decoder": {"50256": {"content": ...}}
Status read_added_tokens_decoder(const Json& config, TokenizerSettings& settings) {
  const auto table = config.find("added_tokens_decoder");
  if (table == config.end() || !table->is_object()) return {};
  for (const auto& [key, value] : table->items()) {
    const bool number =
        !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
    if (!number)
      return bad_data(fmt::format("the key \"{}\" of added_tokens_decoder is not a token id", key));
    TRY_ASSIGN(AddedToken token, read_token(value, false).at("added_tokens_decoder"));
    TRY(add_token(std::move(token), std::stoll(key), settings));
  }
  return {};
}

// added_tokens.json: {"<|im_start|>": 151644}
Status read_added_tokens_file(const Json& file, TokenizerSettings& settings) {
  if (!file.is_object() || !settings.added_tokens.empty()) return {};
  for (const auto& [content, id] : file.items()) {
    if (!id.is_number_integer()) return bad_data(fmt::format("the id of \"{}\" must be an integer", content));
    AddedToken token;
    token.content = content;
    TRY(add_token(std::move(token), id.get<std::int64_t>(), settings));
  }
  return {};
}

// A string, or a list of named templates of which "default" counts.
Result<std::string> read_chat_template(const std::filesystem::path& folder, const Json& config) {
  const std::filesystem::path file = folder / "chat_template.jinja";
  std::error_code ignored;
  if (std::filesystem::is_regular_file(file, ignored)) return read_text_file(file);
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return std::string();
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    for (const Json& item : *found) {
      TRY_ASSIGN(const std::string name, json_string_or(item, "name", ""));
      if (name == "default") return json_string(item, "template");
    }
  }
  return std::string();
}

Status read_flag(const Json& config, std::string_view key, std::optional<bool>& flag) {
  const auto found = config.find(std::string(key));
  if (found == config.end() || found->is_null()) return {};
  TRY_ASSIGN(flag, json_bool(config, key));
  return {};
}

Status read_config(const Json& config, TokenizerSettings& settings) {
  TRY_ASSIGN(settings.tokenizer_class, json_string_or(config, "tokenizer_class", ""));
  TRY(read_flag(config, "add_bos_token", settings.add_bos_token));
  TRY(read_flag(config, "add_eos_token", settings.add_eos_token));
  TRY(read_flag(config, "add_prefix_space", settings.add_prefix_space));
  TRY(read_flag(config, "do_lower_case", settings.do_lower_case));
  TRY(read_flag(config, "strip_accents", settings.strip_accents));
  TRY(read_flag(config, "tokenize_chinese_chars", settings.tokenize_chinese_chars));
  TRY(read_roles(config, settings));
  return read_added_tokens_decoder(config, settings);
}

}  // namespace

Result<TokenizerSettings> read_tokenizer_settings(const std::filesystem::path& folder) {
  TokenizerSettings settings;
  TRY_ASSIGN(const Json config, read_if_there(folder / "tokenizer_config.json"));
  TRY(read_config(config, settings).at("tokenizer_config.json"));
  TRY_ASSIGN(const Json roles, read_if_there(folder / "special_tokens_map.json"));
  TRY(read_roles(roles, settings).at("special_tokens_map.json"));
  TRY_ASSIGN(const Json added, read_if_there(folder / "added_tokens.json"));
  TRY(read_added_tokens_file(added, settings).at("added_tokens.json"));
  TRY_ASSIGN(const Json model, read_if_there(folder / "config.json"));
  if (model.is_object()) {
    TRY_ASSIGN(settings.model_type, json_string_or(model, "model_type", "").at("config.json"));
    const auto rope = model.find("rope_scaling");
    settings.has_llama3_rope =
        rope != model.end() && rope->is_object() && rope->value("rope_type", "") == "llama3";
  }
  TRY_ASSIGN(settings.chat_template, read_chat_template(folder, config).at("chat_template"));
  return settings;
}

}  // namespace nibble::text
