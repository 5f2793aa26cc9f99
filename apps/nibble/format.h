// SPDX-License-Identifier: Apache-2.0
// Numbers and tables as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nibble::app {

std::string format_duration(double seconds);   // "12m 3s"
std::string format_count(std::int64_t count);  // "1,234,567"
std::string format_number(double value);       // five significant digits, "-" for NaN
std::string join_fields(
    const std::vector<std::pair<std::string, std::string>>& fields);  // "bits=4 error=0.1"

// Columns as wide as their widest cell; columns whose cells are numbers are right-aligned.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  std::string text() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace nibble::app
