// SPDX-License-Identifier: Apache-2.0
// tokenizer.json patterns are written for Oniguruma (Ruby syntax, as Hugging Face tokenizers use it). Where
// PCRE2 reads the same text differently it is rewritten; what cannot be rewritten is refused.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/regex.h"

namespace nibble::text {

// The same expression in PCRE2's syntax.
Result<std::string> oniguruma_to_pcre2(std::string_view expression);
Result<Regex> compile_oniguruma(std::string_view expression);

}  // namespace nibble::text
