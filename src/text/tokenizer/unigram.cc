// SPDX-License-Identifier: Apache-2.0
// Unigram language model segmentation (Kudo 2018): the sequence of pieces with the best sum of scores, by
// Viterbi over byte positions. Cost: text length times the longest key found at a position.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

constexpr double kUnknownPenalty = 10.0;  // below the lowest score, as in SentencePiece

class Unigram final : public Model {
 public:
  explicit Unigram(const ModelSpec& spec)
      : vocabulary_(spec.vocabulary),
        scores_(spec.scores),
        unk_(spec.unk_id),
        single_(spec.single_precision),
        trie_(keys_of(spec)) {
    double lowest = std::numeric_limits<double>::max();
    for (TokenId id = 0; id < vocabulary_.end_id(); ++id) {
      if (vocabulary_.has(id)) lowest = std::min(lowest, scores_[static_cast<std::size_t>(id)]);
    }
    lowest = spec.lowest_score.value_or(lowest);
    unknown_score_ = lowest - kUnknownPenalty;
    for (std::size_t b = 0; b < 256; ++b) {
      byte_id_[b] = spec.byte_fallback ? vocabulary_.find(fmt::format("<0x{:02X}>", b)) : kNoToken;
    }
  }

  void tokenize(std::string_view piece, std::vector<Token>& out) const override {
    single_ ? tokenize_with<float>(piece, out) : tokenize_with<double>(piece, out);
  }

 private:
  template <class Sum>
  void tokenize_with(std::string_view piece, std::vector<Token>& out) const {
    const auto best = viterbi<Sum>(piece);
    std::vector<Token> path;
    for (auto end = static_cast<std::uint32_t>(piece.size()); end > 0; end = best[end].begin) {
      const Token token{best[end].id, {best[end].begin, end}};
      const bool fuses = token.id == unk_ && !path.empty() && path.back().id == unk_;
      fuses ? void(path.back().span.begin = token.span.begin) : path.push_back(token);
    }
    for (auto token = path.rbegin(); token != path.rend(); ++token) {
      if (token->id != unk_ || !put_byte_tokens(piece, token->span, out)) out.push_back(*token);
    }
  }

  template <class Sum>
  struct Step {
    TokenId id = kNoToken;
    std::uint32_t begin = 0;
    Sum score = 0;
  };

  static std::vector<std::pair<std::string_view, TokenId>> keys_of(const ModelSpec& spec) {
    std::vector<std::pair<std::string_view, TokenId>> keys;
    for (TokenId id = 0; id < spec.vocabulary.end_id(); ++id) {
      const bool chosen = !std::binary_search(spec.never_chosen.begin(), spec.never_chosen.end(), id);
      if (chosen && spec.vocabulary.has(id) && spec.vocabulary.find(spec.vocabulary.text(id)) == id) {
        keys.emplace_back(spec.vocabulary.text(id), id);
      }
    }
    return keys;
  }

  // SentencePiece sums in float, Hugging Face in double: near-ties fall differently.
  template <class Sum>
  std::vector<Step<Sum>> viterbi(std::string_view piece) const {
    std::vector<Step<Sum>> best(piece.size() + 1);
    std::size_t frontier = 0;  // the farthest end that was reached
    for (std::size_t begin = 0; begin < piece.size();) {
      const std::size_t length = char_length(piece[begin]);
      if constexpr (std::is_same_v<Sum, float>) keep_sums_small(best, begin, frontier);
      const double here = best[begin].score;
      bool has_character = false;
      const auto reach = [&](std::size_t end, TokenId id, double score) {
        const Sum sum = static_cast<Sum>(score + here);
        Step<Sum>& step = best[end];
        frontier = std::max(frontier, end);
        if (step.id == kNoToken || sum > step.score) {
          step = {id, static_cast<std::uint32_t>(begin), sum};
        }
      };
      trie_.prefixes(piece.substr(begin), [&](std::size_t size, TokenId id) {
        reach(begin + size, id, scores_[static_cast<std::size_t>(id)]);
        has_character = has_character || size == length;
      });
      if (!has_character) reach(begin + length, unk_, unknown_score_);
      begin += length;
    }
    return best;
  }

  // Of a long text the sums in float would lose their last digits: SentencePiece 0.2.3 takes them back to 0.
  static void keep_sums_small(std::vector<Step<float>>& best, std::size_t begin, std::size_t frontier) {
    const double offset = best[begin].score;
    if (std::abs(offset) <= 100000.0) return;
    for (std::size_t i = begin; i <= frontier; ++i) {
      if (i == begin || best[i].id != kNoToken) best[i].score = static_cast<float>(best[i].score - offset);
    }
  }

  bool put_byte_tokens(std::string_view piece, const Span& span, std::vector<Token>& out) const {
    const std::string_view bytes = piece.substr(span.begin, span.end - span.begin);
    const auto id_of = [this](char byte) { return byte_id_[static_cast<unsigned char>(byte)]; };
    if (std::any_of(bytes.begin(), bytes.end(), [&](char b) { return id_of(b) == kNoToken; })) return false;
    for (const char byte : bytes) out.push_back({id_of(byte), span});
    return true;
  }

  const Vocabulary& vocabulary_;
  const std::vector<double>& scores_;
  TokenId unk_;
  bool single_;
  double unknown_score_ = 0;
  std::array<TokenId, 256> byte_id_{};
  ByteTrie trie_;
};

}  // namespace

Result<std::unique_ptr<Model>> make_unigram(const ModelSpec& spec) {
  if (!spec.vocabulary.has(spec.unk_id)) {
    return bad_data(fmt::format("\"unk_id\" of the Unigram model must name one of its {} tokens, found {}",
                                spec.vocabulary.size(), spec.unk_id));
  }
  return std::unique_ptr<Model>(std::make_unique<Unigram>(spec));
}

}  // namespace nibble::text
