// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "text/tokenizer/pipeline.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

std::string json_quoted(std::string_view text) {
  return Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}
std::string quoted_or_null(std::string_view text) {
  return text.empty() ? "null" : json_quoted(text);
}
std::string or_null(const std::string& component) {
  return component.empty() ? "null" : component;
}

std::string sequence_json(std::string_view key, const std::vector<std::string>& steps) {
  return fmt::format(R"({{"type":"Sequence","{}":[{}]}})", key, fmt::join(steps, ","));
}

std::string replace_json(std::string_view kind, std::string_view pattern, std::string_view content) {
  return fmt::format(R"({{"type":"Replace","pattern":{{"{}":{}}},"content":{}}})", kind, json_quoted(pattern),
                     json_quoted(content));
}

bool is_sentencepiece(const Json& part) {
  return part.is_object() && part.value("type", "") == "SentencePiece";
}

// SentencePiece's normalizer as standard steps. User-defined symbols become added tokens of the raw text.
Result<std::string> portable_normalizer(const std::string& component) {
  if (component.empty()) return std::string("null");
  TRY_ASSIGN(const Json part, parse_json(component));
  if (!is_sentencepiece(part)) return component;
  if (part.value("treat_whitespace_as_suffix", false)) {
    return failed("a SentencePiece model that puts spaces behind words cannot be written as tokenizer.json");
  }
  std::vector<std::string> steps;
  if (const std::string map = part.value("precompiled_charsmap", ""); !map.empty()) {
    steps.push_back(fmt::format(R"({{"type":"Precompiled","precompiled_charsmap":"{}"}})", map));
  }
  if (part.value("remove_extra_whitespaces", true)) {
    steps.push_back(replace_json("Regex", R"(\A +| +\z)", ""));
    steps.push_back(replace_json("Regex", " {2,}", " "));
  }
  const bool escapes = part.value("escape_whitespaces", true);
  if (part.value("add_dummy_prefix", true)) {
    steps.push_back(fmt::format(R"({{"type":"Prepend","prepend":"{}"}})", escapes ? kMeta : " "));
  }
  if (escapes) steps.push_back(replace_json("String", " ", kMeta));
  return sequence_json("normalizers", steps);
}

Result<std::string> portable_decoder(const std::string& component) {
  if (component.empty()) return std::string("null");
  TRY_ASSIGN(const Json part, parse_json(component));
  if (!is_sentencepiece(part)) return component;
  std::vector<std::string> steps{replace_json("String", kMeta, " "), R"({"type":"ByteFallback"})",
                                 R"({"type":"Fuse"})"};
  if (part.value("add_dummy_prefix", true))
    steps.emplace_back(R"({"type":"Strip","content":" ","start":1,"stop":0})");
  return sequence_json("decoders", steps);
}

std::string added_token_json(const AddedToken& token) {
  return fmt::format(
      R"({{"id":{},"content":{},"single_word":{},"lstrip":{},"rstrip":{},"normalized":{},"special":{}}})",
      token.id, json_quoted(token.content), token.single_word, token.lstrip, token.rstrip, token.normalized,
      token.special);
}

std::string vocabulary_json(const Vocabulary& vocabulary) {
  std::string out;
  for (TokenId id = 0; id < vocabulary.end_id(); ++id) {
    // Of a text with two ids only the one that is found can be written.
    if (!vocabulary.has(id) || vocabulary.find(vocabulary.text(id)) != id) continue;
    out += fmt::format("{}\n      {}:{}", out.empty() ? "" : ",", json_quoted(vocabulary.text(id)), id);
  }
  return "{" + out + "\n    }";
}

std::string scores_json(const ModelSpec& model) {
  std::string out;
  for (TokenId id = 0; id < model.vocabulary.end_id(); ++id) {
    out += fmt::format("{}\n      [{},{}]", out.empty() ? "" : ",", json_quoted(model.vocabulary.text(id)),
                       model.scores[static_cast<std::size_t>(id)]);
  }
  return "[" + out + "\n    ]";
}

std::string merges_json(const ModelSpec& model) {
  std::string out;
  for (const Merge& merge : model.merges) {
    out += fmt::format("{}\n      [{},{}]", out.empty() ? "" : ",",
                       json_quoted(model.vocabulary.text(merge.left)),
                       json_quoted(model.vocabulary.text(merge.right)));
  }
  return "[" + out + "\n    ]";
}

std::string model_json(const ModelSpec& model) {
  switch (model.kind) {
    case ModelKind::kBpe:
      return fmt::format(
          R"({{"type":"BPE","dropout":null,"unk_token":{},"continuing_subword_prefix":{},"end_of_word_suffix":{},)"
          R"("fuse_unk":{},"byte_fallback":{},"ignore_merges":{},"vocab":{},"merges":{}}})",
          quoted_or_null(model.unk_token), quoted_or_null(model.continuing_subword_prefix),
          quoted_or_null(model.end_of_word_suffix), model.fuse_unk, model.byte_fallback, model.ignore_merges,
          vocabulary_json(model.vocabulary), merges_json(model));
    case ModelKind::kUnigram:
      return fmt::format(R"({{"type":"Unigram","unk_id":{},"vocab":{},"byte_fallback":{}}})", model.unk_id,
                         scores_json(model), model.byte_fallback);
    case ModelKind::kWordPiece:
      return fmt::format(
          R"({{"type":"WordPiece","unk_token":{},"continuing_subword_prefix":{},"max_input_chars_per_word":{},"vocab":{}}})",
          json_quoted(model.unk_token), json_quoted(model.continuing_subword_prefix),
          model.max_input_chars_per_word, vocabulary_json(model.vocabulary));
    case ModelKind::kWordLevel:
      return fmt::format(R"({{"type":"WordLevel","vocab":{},"unk_token":{}}})",
                         vocabulary_json(model.vocabulary), json_quoted(model.unk_token));
  }
  CHECK(false, "every kind of model is handled above");
  return {};
}

}  // namespace

Result<std::string> write_tokenizer_json(const TokenizerSpec& spec) {
  TRY_ASSIGN(const std::string normalizer, portable_normalizer(spec.normalizer));
  TRY_ASSIGN(const std::string decoder, portable_decoder(spec.decoder));
  std::vector<AddedToken> tokens = spec.added_tokens;
  std::sort(tokens.begin(), tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  if (spec.match_added_tokens_verbatim) {
    for (AddedToken& token : tokens) token.normalized = false;
  }
  std::string added;
  for (const AddedToken& token : tokens)
    added += (added.empty() ? "\n    " : ",\n    ") + added_token_json(token);
  return fmt::format(
      "{{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": "
      "[{}],\n"
      "  \"normalizer\": {},\n  \"pre_tokenizer\": {},\n  \"post_processor\": {},\n  \"decoder\": {},\n  "
      "\"model\": {}\n}}\n",
      added, normalizer, or_null(spec.pre_tokenizer), or_null(spec.post_processor), decoder,
      model_json(spec.model));
}

}  // namespace nibble::text
