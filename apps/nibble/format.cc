// SPDX-License-Identifier: Apache-2.0
#include "format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace nibble::app {
namespace {

// Columns on a terminal: code points, which is right for everything but wide scripts and combining marks.
std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

bool looks_numeric(const std::string& cell) {
  return !cell.empty() && (cell == "-" || std::isdigit(static_cast<unsigned char>(cell[0])) != 0 ||
                           (cell.size() > 1 && (cell[0] == '-' || cell[0] == '+') &&
                            std::isdigit(static_cast<unsigned char>(cell[1])) != 0));
}

}  // namespace

std::string format_duration(double seconds) {
  if (seconds < 9.95) return fmt::format("{:.1f}s", std::max(seconds, 0.0));
  const auto total = static_cast<std::int64_t>(std::llround(seconds));
  if (total < 60) return fmt::format("{}s", total);
  if (total < 3600) return fmt::format("{}m {}s", total / 60, total % 60);
  return fmt::format("{}h {}m", total / 3600, total % 3600 / 60);
}

std::string format_count(std::int64_t count) {
  std::string digits = fmt::to_string(count);
  const std::size_t sign = count < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > sign + 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string format_number(double value) {
  return std::isnan(value) ? "-" : fmt::format("{:.5g}", value);
}

std::string join_fields(const std::vector<std::pair<std::string, std::string>>& fields) {
  std::string text;
  for (const auto& [name, value] : fields) {
    if (!text.empty()) text += ' ';
    text += name + '=' + value;
  }
  return text;
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  std::vector<bool> numeric(header_.size(), true);
  for (const std::string& name : header_) widths.push_back(display_width(name));
  for (const auto& cells : rows_) {
    for (std::size_t c = 0; c < header_.size(); ++c) {
      widths[c] = std::max(widths[c], display_width(cells.at(c)));
      if (!cells[c].empty() && !looks_numeric(cells[c])) numeric[c] = false;
    }
  }
  std::string out;
  const auto add_line = [&](const std::vector<std::string>& cells) {
    std::string text_line;
    for (std::size_t c = 0; c < header_.size(); ++c) {
      const std::size_t padding = widths[c] - display_width(cells[c]);
      if (numeric[c]) text_line.append(padding, ' ');
      text_line.append(cells[c]);
      text_line.append(numeric[c] ? 2 : padding + 2, ' ');
    }
    text_line.erase(text_line.find_last_not_of(' ') + 1);
    out += text_line + "\n";
  };
  add_line(header_);
  for (const auto& cells : rows_) add_line(cells);
  return out;
}

}  // namespace nibble::app
