// SPDX-License-Identifier: Apache-2.0
#include "base/regex.h"

#include <fmt/format.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

namespace nibble {

struct Regex::Code {
  std::string pattern;
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

namespace {

struct MatchData {
  pcre2_match_data* data;
  explicit MatchData(const pcre2_code* code) : data(pcre2_match_data_create_from_pattern(code, nullptr)) {}
  ~MatchData() { pcre2_match_data_free(data); }
  MatchData(const MatchData&) = delete;
  MatchData& operator=(const MatchData&) = delete;
};

}  // namespace

Result<Regex> Regex::compile(std::string_view pattern) {
  auto code = std::make_shared<Code>();
  code->pattern = pattern;
  int reason = 0;
  PCRE2_SIZE offset = 0;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             PCRE2_UTF | PCRE2_UCP, &reason, &offset, nullptr);
  if (code->code == nullptr) {
    std::array<PCRE2_UCHAR, 256> text{};
    pcre2_get_error_message(reason, text.data(), text.size());
    return usage_error(fmt::format("invalid regular expression \"{}\" at position {}: {}", pattern, offset,
                                   reinterpret_cast<const char*>(text.data())));
  }
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter matches the same
  return Regex(std::move(code));
}

bool Regex::matches_prefix(std::string_view text) const {
  const MatchData match(code_->code);
  return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, PCRE2_ANCHORED,
                     match.data, nullptr) >= 0;
}

std::optional<std::pair<std::size_t, std::size_t>> Regex::search(std::string_view text,
                                                                 std::size_t start) const {
  const MatchData match(code_->code);
  if (pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start, 0, match.data,
                  nullptr) < 0) {
    return std::nullopt;
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.data);
  return std::pair{bounds[0], bounds[1]};
}

const std::string& Regex::pattern() const {
  return code_->pattern;
}

}  // namespace nibble
