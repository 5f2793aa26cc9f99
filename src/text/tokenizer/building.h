// SPDX-License-Identifier: Apache-2.0
// Pieces that the readers of formats other than tokenizer.json put their specs together from.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/tokenizer/spec.h"

namespace nibble::text {

// The types of sentencepiece_model.proto's pieces, which tokenizer.ggml.token_type has taken over.
enum PieceType : std::int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

inline constexpr std::string_view kByteLevelDecoder =
    R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true})";

// Adds the token to spec.added_tokens with the id of its text in the vocabulary; a text that is not there
// gets token.id, or the next free id when that is kNoToken.
Status add_token(TokenizerSpec& spec, AddedToken token);

// The TemplateProcessing that puts `before` and `after` around each text; names are texts of the vocabulary.
std::string template_json(const TokenizerSpec& spec, const std::vector<std::string>& before,
                          const std::vector<std::string>& after);
// [CLS] A [SEP], and [CLS] A [SEP] B [SEP] with type ids 0 and 1.
std::string bert_template_json(const TokenizerSpec& spec, const std::string& cls, const std::string& sep);

// A ByteLevel pre-tokenizer after `expression` (or with GPT-2's own when that is empty).
std::string byte_level_json(std::string_view expression, bool add_prefix_space);
std::string json_text(std::string_view text);  // quoted and escaped

// The merges of a vocabulary that says only how good its tokens are: every cut of a token into two others, in
// the order of rank(id) (then id, then the ids of the parts). Tokens for which joins(id) is false are left
// out.
std::vector<Merge> merges_of_ranked_tokens(const Vocabulary& vocabulary,
                                           const std::function<bool(TokenId)>& joins,
                                           const std::function<std::uint32_t(TokenId)>& rank);

// 0 for the largest score; equal scores have equal ranks.
std::vector<std::uint32_t> ranks_of_scores(const std::vector<double>& scores);

// visit(number, line) of each line, numbered from 0; the line ending, \n or \r\n, is not part of it. An error
// says which line it is about, counted from 1.
template <class Visit>
Status for_each_line(std::string_view text, Visit visit) {
  for (std::size_t number = 0; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    TRY(visit(number, line).at(fmt::format("line {}", number + 1)));
  }
  return {};
}

}  // namespace nibble::text
