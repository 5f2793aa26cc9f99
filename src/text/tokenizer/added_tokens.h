// SPDX-License-Identifier: Apache-2.0
// Added tokens: found in the text before the model sees it, leftmost first and longest first.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/spec.h"
#include "text/tokenizer/tracked_text.h"

namespace nibble::text {

class AddedTokenFinder {
 public:
  // texts[i] is what is searched for in place of tokens[i].content. `tokens` must outlive this.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, const std::vector<std::string>& texts,
                   bool normalized);

  bool empty() const { return empty_; }
  // Calls visit(span, token) for the tokens in `text` and visit(span, nullptr) for what lies between, in
  // order.
  void for_each(std::string_view text, const std::function<void(Span, const AddedToken*)>& visit) const;

 private:
  const std::vector<AddedToken>& tokens_;
  ByteTrie trie_;  // values are indices into tokens_
  bool empty_ = true;
};

}  // namespace nibble::text
