// SPDX-License-Identifier: Apache-2.0
// Sizes as people write them: "5GB" is 5,000,000,000 bytes as in the Hugging Face tools, "4GiB" is 2^32.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nibble {

// A number (a fraction is allowed) and B, KB, MB, GB, TB or KiB ... TiB, without regard to case; the B may be
// left out.
Result<std::uint64_t> parse_byte_size(std::string_view text);
std::string format_byte_size(std::uint64_t bytes);  // "1.50 GB"

}  // namespace nibble
