// SPDX-License-Identifier: Apache-2.0
// WordPiece (longest match first; Devlin et al. 2019) and WordLevel (one token a piece).
#include <fmt/format.h>

#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

Result<TokenId> unknown_token(const ModelSpec& spec) {
  const TokenId id = spec.vocabulary.find(spec.unk_token);
  if (id == kNoToken) {
    return bad_data(fmt::format("the unknown token \"{}\" is not in the vocabulary", spec.unk_token));
  }
  return id;
}

class WordPiece final : public Model {
 public:
  WordPiece(const ModelSpec& spec, TokenId unk)
      : unk_(unk),
        max_chars_(spec.max_input_chars_per_word),
        first_(keys_of(spec, "")),
        next_(keys_of(spec, spec.continuing_subword_prefix)) {}

  // A word with a part that is not in the vocabulary, or that is too long, is one unknown token.
  void tokenize(std::string_view piece, std::vector<Token>& out) const override {
    const std::size_t start = out.size();
    const Token unknown{unk_, {0, static_cast<std::uint32_t>(piece.size())}};
    if (static_cast<std::int64_t>(count_chars(piece)) > max_chars_) return out.push_back(unknown);
    for (std::size_t begin = 0; begin < piece.size();) {
      Token longest;
      (begin == 0 ? first_ : next_).prefixes(piece.substr(begin), [&](std::size_t length, TokenId id) {
        longest = {id, {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(begin + length)}};
      });
      if (longest.id == kNoToken) {
        out.resize(start);
        return out.push_back(unknown);
      }
      out.push_back(longest);
      begin = longest.span.end;
    }
  }

 private:
  static std::vector<std::pair<std::string_view, TokenId>> keys_of(const ModelSpec& spec,
                                                                   std::string_view prefix) {
    std::vector<std::pair<std::string_view, TokenId>> keys;
    for (TokenId id = 0; id < spec.vocabulary.end_id(); ++id) {
      const std::string_view text = spec.vocabulary.text(id);
      if (text.starts_with(prefix) && spec.vocabulary.find(text) == id)
        keys.emplace_back(text.substr(prefix.size()), id);
    }
    return keys;
  }

  TokenId unk_;
  std::int64_t max_chars_;
  ByteTrie first_, next_;
};

class WordLevel final : public Model {
 public:
  WordLevel(const ModelSpec& spec, TokenId unk) : vocabulary_(spec.vocabulary), unk_(unk) {}
  void tokenize(std::string_view piece, std::vector<Token>& out) const override {
    const TokenId id = vocabulary_.find(piece);
    out.push_back({id == kNoToken ? unk_ : id, {0, static_cast<std::uint32_t>(piece.size())}});
  }

 private:
  const Vocabulary& vocabulary_;
  TokenId unk_;
};

}  // namespace

Result<std::unique_ptr<Model>> make_word_piece(const ModelSpec& spec) {
  TRY_ASSIGN(const TokenId unk, unknown_token(spec));
  return std::unique_ptr<Model>(std::make_unique<WordPiece>(spec, unk));
}

Result<std::unique_ptr<Model>> make_word_level(const ModelSpec& spec) {
  TRY_ASSIGN(const TokenId unk, unknown_token(spec));
  return std::unique_ptr<Model>(std::make_unique<WordLevel>(spec, unk));
}

Result<std::unique_ptr<Model>> make_model(const ModelSpec& spec, bool raw_bytes) {
  switch (spec.kind) {
    case ModelKind::kBpe:
      return make_bpe(spec, raw_bytes);
    case ModelKind::kUnigram:
      return make_unigram(spec);
    case ModelKind::kWordPiece:
      return make_word_piece(spec);
    case ModelKind::kWordLevel:
      return make_word_level(spec);
  }
  CHECK(false, "every kind of model is handled above");
  return bad_data("unknown kind of model");
}

}  // namespace nibble::text
