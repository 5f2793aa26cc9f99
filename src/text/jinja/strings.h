// SPDX-License-Identifier: Apache-2.0
// Python's string operations on UTF-8.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nibble::jinja {

enum class Side { kLeft, kRight, kBoth };

// str.strip: without `set` the whitespace of Unicode, else any of its characters.
std::string strip(std::string_view text, std::optional<std::string_view> set, Side side);
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);        // str.title: every run of letters
std::string title_words(std::string_view text);  // the filter: every word

// str.split and str.rsplit; an absent separator splits at runs of whitespace. `most` < 0: no limit.
std::vector<std::string> split(std::string_view text, std::optional<std::string_view> separator,
                               std::int64_t most);
std::vector<std::string> split_right(std::string_view text, std::optional<std::string_view> separator,
                                     std::int64_t most);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
std::string replace(std::string_view text, std::string_view from, std::string_view to, std::int64_t most);

enum class CharClass { kDigit, kAlpha, kAlnum, kSpace, kUpper, kLower };
// str.isdigit and its kin: true when there is a character and all are of the class.
bool all_of_class(std::string_view text, CharClass wanted);

// The body of a string literal with its escapes resolved; nullopt when one is damaged.
std::optional<std::string> unescape(std::string_view body);
void append_utf8(std::string& out, std::uint32_t code_point);

}  // namespace nibble::jinja
