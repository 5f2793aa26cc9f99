// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/added_tokens.h"

#include <algorithm>

#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

std::size_t begin_of_space_before(std::string_view text, std::size_t at) {
  while (at > 0) {
    const DecodedChar c = decode_last_char(text.substr(0, at));
    if (!is_space(c.code)) break;
    at -= c.length;
  }
  return at;
}

std::size_t end_of_space_after(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const DecodedChar c = decode_char(text.data() + at);
    if (!is_space(c.code)) break;
    at += c.length;
  }
  return at;
}

bool is_single_word(std::string_view text, std::size_t begin, std::size_t end) {
  const bool word_before = begin > 0 && is_word(decode_last_char(text.substr(0, begin)).code);
  const bool word_after = end < text.size() && is_word(decode_char(text.data() + end).code);
  return !word_before && !word_after;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens,
                                   const std::vector<std::string>& texts, bool normalized)
    : tokens_(tokens) {
  std::vector<std::pair<std::string_view, TokenId>> keys;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].in_text && tokens[i].normalized == normalized && !texts[i].empty())
      keys.emplace_back(texts[i], static_cast<TokenId>(i));
  }
  empty_ = keys.empty();
  trie_ = ByteTrie(std::move(keys));
}

void AddedTokenFinder::for_each(std::string_view text,
                                const std::function<void(Span, const AddedToken*)>& visit) const {
  const auto span = [](std::size_t begin, std::size_t end) {
    return Span{static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)};
  };
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size() && !empty_;) {
    if (trie_.child(ByteTrie::kRoot, static_cast<unsigned char>(text[at])) == ByteTrie::kNone) {
      ++at;
      continue;
    }
    std::size_t length = 0;
    const AddedToken* token = nullptr;
    trie_.prefixes(text.substr(at), [&](std::size_t size, TokenId index) {
      length = size;
      token = &tokens_[static_cast<std::size_t>(index)];
    });
    if (token == nullptr) {
      ++at;
      continue;
    }
    // As in the reference, the search goes on behind the match whatever becomes of it: inside one that is
    // passed over nothing is found, and in the white space that rstrip took a token may be found again.
    std::size_t begin = at, end = at + length;
    at = end;
    if (token->single_word && !is_single_word(text, begin, end)) continue;
    if (token->lstrip) begin = std::max(begin_of_space_before(text, begin), done);
    if (token->rstrip) end = end_of_space_after(text, end);
    if (done < begin) visit(span(done, begin), nullptr);
    if (begin < end) visit(span(begin, end), token);
    done = end;
  }
  if (done < text.size()) visit(span(done, text.size()), nullptr);
}

}  // namespace nibble::text
