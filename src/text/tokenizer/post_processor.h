// SPDX-License-Identifier: Apache-2.0
// Post-processors of tokenizer.json: which special tokens stand around one text or a pair of texts, and how
// the offsets of byte-level tokens are trimmed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "text/tokenizer.h"

namespace nibble::text {

struct TemplatePiece {
  std::vector<TokenId> special;  // empty: the text number `sequence`
  std::uint8_t sequence = 0;     // 0 or 1
  std::int32_t type_id = 0;
};

struct PostProcessor {
  // What a tokenizer without a post-processor does.
  std::vector<TemplatePiece> single{{{}, 0, 0}};
  std::vector<TemplatePiece> pair{{{}, 0, 0}, {{}, 1, 1}};
  bool trim_offsets = false;
  bool add_prefix_space = false;  // of the trimming step: a space that was put before the first word stays
};

Result<PostProcessor> make_post_processor(const Json& description);

// Leaves the white space at both ends of a token's text out of its offsets; `is_first`: first token of the
// text.
TokenOffset trim_offset(TokenOffset offset, std::string_view token, bool is_first, bool add_prefix_space);

}  // namespace nibble::text
