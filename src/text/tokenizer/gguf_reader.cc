// SPDX-License-Identifier: Apache-2.0
// The tokenizer.ggml.* keys of a GGUF file, read as llama.cpp reads them and written down as a tokenizer.json
// would say it.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/suggest.h"
#include "text/tokenizer/building.h"
#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/gguf_pre_tokenizers.h"
#include "text/tokenizer/loaders.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

constexpr std::string_view kMetaToSpaceDecoder =
    R"({"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"})";
constexpr std::string_view kSpaceToMeta = R"({"type":"Replace","pattern":{"String":" "},"content":"▁"})";

std::int32_t type_of(const GgufVocabulary& gguf, TokenId id) {
  const auto index = static_cast<std::size_t>(id);
  return index < gguf.token_types.size() ? gguf.token_types[index] : static_cast<std::int32_t>(kNormal);
}

// The token with the id of a key, or with llama.cpp's default for the kind of vocabulary; empty when there is
// none.
Result<std::string> token_at(const GgufVocabulary& gguf, std::optional<TokenId> id, TokenId otherwise,
                             const char* key) {
  if (!id && (otherwise < 0 || static_cast<std::size_t>(otherwise) >= gguf.tokens.size()))
    return std::string();
  const TokenId which = id.value_or(otherwise);
  if (which < 0 || static_cast<std::size_t>(which) >= gguf.tokens.size()) {
    return bad_data(fmt::format("tokenizer.ggml.{}_token_id is {}, but there are {} tokens", key, which,
                                gguf.tokens.size()));
  }
  return gguf.tokens[static_cast<std::size_t>(which)];
}

Status check_sizes(const GgufVocabulary& gguf, bool needs_scores) {
  if (gguf.tokens.empty()) return bad_data("tokenizer.ggml.tokens is empty");
  const std::size_t count = gguf.tokens.size();
  if (!gguf.token_types.empty() && gguf.token_types.size() != count) {
    return bad_data(fmt::format("tokenizer.ggml.token_type has {} entries for {} tokens",
                                gguf.token_types.size(), count));
  }
  if ((needs_scores || !gguf.scores.empty()) && gguf.scores.size() != count) {
    return bad_data(
        fmt::format("tokenizer.ggml.scores has {} entries for {} tokens", gguf.scores.size(), count));
  }
  return {};
}

// `rename` gives the text under which a token is known to the model.
template <class Rename>
Status fill_vocabulary(const GgufVocabulary& gguf, TokenizerSpec& spec, Vocabulary::Repeat repeat,
                       Rename rename) {
  for (std::size_t i = 0; i < gguf.tokens.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string text =
        gguf.tokens[i].empty() ? fmt::format("[EMPTY_{}]", i) : rename(gguf.tokens[i], id);
    TRY(spec.model.vocabulary.add(text, id, repeat).at("tokenizer.ggml.tokens"));
    const std::int32_t type = type_of(gguf, id);
    if (type != kControl && type != kUnknown && type != kUserDefined) continue;
    AddedToken token;
    token.content = text;
    token.id = id;
    token.special = type != kUserDefined;
    spec.added_tokens.push_back(std::move(token));
  }
  return {};
}

constexpr auto kSameText = [](const std::string& text, TokenId) { return text; };

struct Roles {
  std::string bos, eos, sep, unk;
};

Result<Roles> read_roles(const GgufVocabulary& gguf, TokenId bos, TokenId eos, TokenId unk) {
  Roles roles;
  TRY_ASSIGN(roles.bos, token_at(gguf, gguf.bos, bos, "bos"));
  TRY_ASSIGN(roles.eos, token_at(gguf, gguf.eos, eos, "eos"));
  TRY_ASSIGN(roles.sep, token_at(gguf, gguf.separator, kNoToken, "seperator"));
  TRY_ASSIGN(roles.unk, token_at(gguf, gguf.unknown, unk, "unknown"));
  return roles;
}

void finish(const GgufVocabulary& gguf, const Roles& roles, bool add_bos, bool add_eos, TokenizerSpec& spec) {
  if (!roles.bos.empty()) spec.bos = spec.model.vocabulary.find(roles.bos);
  if (!roles.eos.empty()) spec.eos = spec.model.vocabulary.find(roles.eos);
  std::vector<std::string> before, after;
  if (gguf.add_bos.value_or(add_bos) && !roles.bos.empty()) before.push_back(roles.bos);
  if (gguf.add_eos.value_or(add_eos) && !roles.eos.empty()) after.push_back(roles.eos);
  if (!before.empty() || !after.empty()) spec.post_processor = template_json(spec, before, after);
  spec.chat_template = gguf.chat_template;
}

bool has_byte_tokens(const GgufVocabulary& gguf) {
  return std::find(gguf.token_types.begin(), gguf.token_types.end(), kByte) != gguf.token_types.end() ||
         std::find(gguf.tokens.begin(), gguf.tokens.end(), "<0x00>") != gguf.tokens.end();
}

// "left right"; a space may also be the first character of the left part.
Status read_merges(const GgufVocabulary& gguf, ModelSpec& model) {
  for (const std::string& line : gguf.merges) {
    const std::size_t space = line.find(' ', 1);
    if (space == std::string::npos) return bad_data(fmt::format("the merge \"{}\" has no second part", line));
    const std::string_view view = line;
    const TokenId left = model.vocabulary.find(view.substr(0, space)),
                  right = model.vocabulary.find(view.substr(space + 1));
    if (left == kNoToken || right == kNoToken) {
      return bad_data(fmt::format("the merge \"{}\" uses a token that is not in the vocabulary", line));
    }
    model.merges.push_back({left, right, static_cast<std::uint32_t>(model.merges.size())});
  }
  return {};
}

Result<TokenizerSpec> read_bpe(const GgufVocabulary& gguf) {
  TokenizerSpec spec;
  TRY_ASSIGN(const GgufPreTokenizer pre, gguf_pre_tokenizer(gguf.model == "gemma4" ? "gemma4" : gguf.pre));
  TRY(fill_vocabulary(gguf, spec, Vocabulary::Repeat::kRefuse, kSameText));
  if (gguf.merges.empty()) {  // Kimi-K2: tokens are ranked by their ids
    const auto joins = [&](TokenId id) { return type_of(gguf, id) == kNormal; };
    spec.model.merges = merges_of_ranked_tokens(spec.model.vocabulary, joins,
                                                [](TokenId id) { return static_cast<std::uint32_t>(id); });
  } else {
    TRY(read_merges(gguf, spec.model).at("tokenizer.ggml.merges"));
  }
  TRY_ASSIGN(const Roles roles, read_roles(gguf, kNoToken, kNoToken, kNoToken));
  spec.model.ignore_merges = pre.whole_words_first;
  spec.pre_tokenizer = pre_tokenizer_json(pre);
  if (pre.form == GgufPreTokenizer::Form::kLines) {
    spec.model.byte_fallback = has_byte_tokens(gguf);
    spec.model.unk_token = roles.unk;
    spec.model.fuse_unk = true;
    spec.normalizer = kSpaceToMeta;
    spec.decoder = fmt::format(R"({{"type":"Sequence","decoders":[{}]}})", kMetaToSpaceDecoder);
  } else {
    if (pre.nfc) spec.normalizer = R"({"type":"NFC"})";
    spec.decoder = kByteLevelDecoder;
  }
  finish(gguf, roles, pre.add_bos, false, spec);
  if (pre.add_sep && !roles.bos.empty() && !roles.sep.empty()) {
    spec.post_processor = fmt::format(
        R"({{"type":"RobertaProcessing","sep":[{},{}],"cls":[{},{}],"trim_offsets":true,"add_prefix_space":false}})",
        json_text(roles.sep), spec.model.vocabulary.find(roles.sep), json_text(roles.bos), *spec.bos);
  }
  return spec;
}

// SentencePiece BPE: merges by score, a space in front, bytes for unknown characters.
Result<TokenizerSpec> read_spm(const GgufVocabulary& gguf) {
  TokenizerSpec spec;
  TRY(fill_vocabulary(gguf, spec, Vocabulary::Repeat::kRefuse, kSameText));
  TRY_ASSIGN(const Roles roles, read_roles(gguf, 1, 2, 0));
  spec.model.unk_token = roles.unk;
  spec.model.fuse_unk = true;
  spec.model.byte_fallback = has_byte_tokens(gguf);
  const std::vector<std::uint32_t> ranks = ranks_of_scores({gguf.scores.begin(), gguf.scores.end()});
  const auto joins = [&](TokenId id) {
    const std::int32_t type = type_of(gguf, id);
    return type == kNormal || type == kUserDefined || type == kUnused;
  };
  spec.model.merges = merges_of_ranked_tokens(
      spec.model.vocabulary, joins, [&](TokenId id) { return ranks[static_cast<std::size_t>(id)]; });
  const bool prefix = gguf.add_space_prefix.value_or(true);
  spec.normalizer =
      prefix ? fmt::format(R"({{"type":"Sequence","normalizers":[{{"type":"Prepend","prepend":"▁"}},{}]}})",
                           kSpaceToMeta)
             : std::string(kSpaceToMeta);
  spec.decoder = fmt::format(R"({{"type":"Sequence","decoders":[{}{}]}})", kMetaToSpaceDecoder,
                             prefix ? R"(,{"type":"Strip","content":" ","start":1,"stop":0})" : "");
  finish(gguf, roles, true, false, spec);
  return spec;
}

// llama.cpp marks the beginnings of words with U+2581 where BERT marks the other parts with "##".
std::string bert_text(const std::string& text) {
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') return text;
  return text.starts_with(kMeta) ? text.substr(kMeta.size()) : "##" + text;
}

Result<TokenizerSpec> read_bert(const GgufVocabulary& gguf) {
  std::string lines;
  for (std::size_t i = 0; i < gguf.tokens.size(); ++i) {
    lines += bert_text(gguf.tokens[i]);
    lines += '\n';
  }
  TokenizerSettings settings;
  const auto set_role = [&](const char* role, std::optional<TokenId> id, TokenId otherwise) -> Status {
    TRY_ASSIGN(const std::string text, token_at(gguf, id, otherwise, role));
    AddedToken token;
    token.content = bert_text(text);
    token.special = true;
    if (!text.empty()) settings.special_tokens.emplace(fmt::format("{}_token", role), std::move(token));
    return {};
  };
  TRY(set_role("cls", gguf.cls ? gguf.cls : gguf.bos, 101));
  TRY(set_role("sep", gguf.separator, 102));
  TRY(set_role("unk", gguf.unknown, 100));
  TRY(set_role("pad", gguf.padding, 0));
  TRY(set_role("mask", gguf.mask, 103));
  TRY_ASSIGN(TokenizerSpec spec, read_bert_vocabulary(lines, settings));
  spec.chat_template = gguf.chat_template;
  return spec;
}

std::string escaped_list(const GgufVocabulary& gguf, std::int32_t type) {
  std::string list;
  for (std::size_t i = 0; i < gguf.tokens.size(); ++i) {
    if (type_of(gguf, static_cast<TokenId>(i)) == type)
      list += (list.empty() ? "" : ",") + json_text(gguf.tokens[i]);
  }
  return "[" + list + "]";
}

// Unigram (T5): SentencePiece's normalizer around Viterbi.
Result<TokenizerSpec> read_unigram(const GgufVocabulary& gguf) {
  TokenizerSpec spec;
  spec.model.kind = ModelKind::kUnigram;
  TRY(fill_vocabulary(gguf, spec, Vocabulary::Repeat::kRefuse, kSameText));
  TRY_ASSIGN(const Roles roles, read_roles(gguf, kNoToken, 1, 2));
  spec.model.unk_token = roles.unk;
  spec.model.unk_id = spec.model.vocabulary.find(roles.unk);
  for (std::size_t i = 0; i < gguf.tokens.size(); ++i) {
    const std::int32_t type = type_of(gguf, static_cast<TokenId>(i));
    spec.model.scores.push_back(type == kUserDefined ? 0.0 : gguf.scores[i]);
    if (type == kNormal) {
      spec.model.lowest_score =
          std::min<double>(spec.model.lowest_score.value_or(gguf.scores[i]), gguf.scores[i]);
    } else if (type != kUserDefined) {
      spec.model.never_chosen.push_back(static_cast<TokenId>(i));
    }
  }
  const std::string options = fmt::format(
      R"("add_dummy_prefix":{},"remove_extra_whitespaces":{},"escape_whitespaces":true,"treat_whitespace_as_suffix":false)",
      gguf.add_space_prefix.value_or(true), gguf.remove_extra_whitespaces.value_or(false));
  spec.normalizer =
      fmt::format(R"({{"type":"SentencePiece","precompiled_charsmap":"{}","symbols":{},{}}})",
                  encode_base64(gguf.precompiled_charsmap), escaped_list(gguf, kUserDefined), options);
  spec.decoder = fmt::format(R"({{"type":"SentencePiece","control":{},"unk":{},{}}})",
                             escaped_list(gguf, kControl), json_text(roles.unk), options);
  finish(gguf, roles, false, true, spec);
  return spec;
}

struct GgufKind {
  std::string_view name;
  bool needs_scores;
  Result<TokenizerSpec> (*read)(const GgufVocabulary& gguf);
};
constexpr std::array<GgufKind, 5> kKinds = {{{"gpt2", false, read_bpe},
                                             {"llama", true, read_spm},
                                             {"bert", false, read_bert},
                                             {"t5", true, read_unigram},
                                             {"gemma4", false, read_bpe}}};

}  // namespace

Result<TokenizerSpec> read_gguf_vocabulary(const GgufVocabulary& gguf) {
  std::vector<std::string> names;
  for (const GgufKind& kind : kKinds) {
    names.emplace_back(kind.name);
    if (kind.name != gguf.model) continue;
    TRY(check_sizes(gguf, kind.needs_scores));
    return kind.read(gguf);
  }
  return bad_data(
      fmt::format("vocabularies of the kind \"{}\" (tokenizer.ggml.model) are not supported; known are {}",
                  gguf.model, join_or(names)));
}

}  // namespace nibble::text
