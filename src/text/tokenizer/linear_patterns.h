// SPDX-License-Identifier: Apache-2.0
// Expressions of known tokenizers that a backtracking matcher needs quadratic time for, because each match
// looks to the end of a run (of digits, of white space), written out by hand in one pass over the run. PCRE2
// is the oracle of their tests.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

namespace nibble::text {

// Calls visit(begin, end) for what Regex::for_each_match finds in a valid UTF-8 text.
using LinearFinder = void (*)(std::string_view text,
                              const std::function<void(std::size_t, std::size_t)>& visit);

// Null for expressions that are not known (compared to the letter).
LinearFinder linear_finder(std::string_view expression);

// Groups of three digits, counted from the right: before a word boundary (Command A, Aya), or whatever
// follows (AFM); the places between such groups (SuperBPE).
inline constexpr std::string_view kDigitGroupsToBoundary = R"(\d{1,3}(?=(?:\d{3})*\b))";
inline constexpr std::string_view kDigitGroupsFromRight = R"(\p{Nd}{1,3}(?=(?:\p{Nd}{3})*(?!\p{Nd})))";
inline constexpr std::string_view kBetweenDigitGroups = R"((?=(\d{3})+(?!\d)))";
// White space up to the last line end, or the end of the text (DeepSeek LLM).
inline constexpr std::string_view kSpaceToLineEnd = R"(\s+$)";

}  // namespace nibble::text
