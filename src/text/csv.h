// SPDX-License-Identifier: Apache-2.0
// Comma- or tab-separated values as RFC 4180 writes them: quoted fields may hold separators, line ends and
// "".
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/byte_source.h"

namespace nibble {

class CsvReader {
 public:
  CsvReader(LineReader lines, char separator) : lines_(std::move(lines)), separator_(separator) {}

  // nullopt at the end; empty lines are skipped.
  Result<std::optional<std::vector<std::string>>> next();
  std::int64_t line_number() const { return lines_.line_number(); }

 private:
  LineReader lines_;
  char separator_;
};

}  // namespace nibble
