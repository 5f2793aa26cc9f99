// SPDX-License-Identifier: Apache-2.0
#include "base/byte_size.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

namespace nibble {
namespace {

struct Unit {
  std::string_view name;
  double bytes;
};

constexpr std::array<Unit, 14> kUnits{{{"", 1.0},
                                       {"b", 1.0},
                                       {"k", 1e3},
                                       {"kb", 1e3},
                                       {"m", 1e6},
                                       {"mb", 1e6},
                                       {"g", 1e9},
                                       {"gb", 1e9},
                                       {"t", 1e12},
                                       {"tb", 1e12},
                                       {"kib", 0x1p10},
                                       {"mib", 0x1p20},
                                       {"gib", 0x1p30},
                                       {"tib", 0x1p40}}};

}  // namespace

Result<std::uint64_t> parse_byte_size(std::string_view text) {
  const auto wrong = [&] {
    return usage_error(fmt::format("\"{}\" is no size", text), "write a number and a unit: 5GB, 500MB, 4GiB");
  };
  double number = 0;
  const auto parsed =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (parsed.ec != std::errc() || !std::isfinite(number) || number < 0) return wrong();
  std::string unit;
  for (const char* c = parsed.ptr; c != text.data() + text.size(); ++c) {
    if (*c != ' ') unit += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  }
  for (const Unit& row : kUnits) {
    if (row.name != unit) continue;
    const double bytes = std::floor(number * row.bytes);
    if (bytes >= 0x1p63) return wrong();
    return static_cast<std::uint64_t>(bytes);
  }
  return wrong();
}

std::string format_byte_size(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 4> kNames{"KB", "MB", "GB", "TB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1e3;
  std::size_t unit = 0;
  while (value >= 999.995 && unit + 1 < kNames.size()) {
    value /= 1e3;
    ++unit;
  }
  return fmt::format("{:.2f} {}", value, kNames[unit]);
}

}  // namespace nibble
