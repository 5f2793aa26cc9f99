// SPDX-License-Identifier: Apache-2.0
#include "text/csv.h"

#include <fmt/format.h>

namespace nibble {

Result<std::optional<std::vector<std::string>>> CsvReader::next() {
  std::optional<std::string> line;
  do {
    TRY_ASSIGN(line, lines_.next());
    if (!line) return std::optional<std::vector<std::string>>();
  } while (line->empty());
  const std::int64_t first_line = lines_.line_number();
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (std::size_t i = 0;; ++i) {
    if (i == line->size()) {
      if (!quoted) return std::optional(std::move(fields));
      fields.back() += '\n';  // a quoted field goes on in the next line
      TRY_ASSIGN(line, lines_.next());
      if (!line)
        return bad_data("a quoted field is not closed").add_context(fmt::format("line {}", first_line));
      i = SIZE_MAX;
      continue;
    }
    const char c = (*line)[i];
    if (quoted && c == '"' && i + 1 < line->size() && (*line)[i + 1] == '"') {
      fields.back() += '"';
      ++i;
    } else if (c == '"' && (quoted || fields.back().empty())) {
      quoted = !quoted;
    } else if (c == separator_ && !quoted) {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
}

}  // namespace nibble
