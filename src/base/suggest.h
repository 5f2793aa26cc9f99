// SPDX-License-Identifier: Apache-2.0
// "Did you mean": the names nearest to a mistyped one.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {

// Up to `most` candidates, nearest first (edit distance without regard to case); none that is too far to be
// meant.
std::vector<std::string> nearest_names(std::string_view word, std::span<const std::string> candidates,
                                       std::size_t most = 3);
// "did you mean a, b or c?", or an empty string where there are no names.
std::string did_you_mean(std::span<const std::string> names);
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);  // the nearest
// "a, b or c"
std::string join_or(std::span<const std::string> names);

}  // namespace nibble
