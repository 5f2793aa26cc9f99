// SPDX-License-Identifier: Apache-2.0
#include "base/regex.h"

#include <fmt/format.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <optional>

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

// For a match that needs more than the defaults (32 KB of stack, 10 million steps), as `(a|b)+` does on a
// long page. The steps are bounded by what one pass over the text can take, the memory by two GB: what needs
// more backtracks without end.
struct LongMatchContext {
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, 256 << 20, nullptr);
  explicit LongMatchContext(std::size_t text_size) {
    constexpr std::size_t kSteps = 10'000'000, kStepsAByte = 64, kMost = 0xFFFFFFFF;
    const auto steps = static_cast<std::uint32_t>(std::min(kSteps + kStepsAByte * text_size, kMost));
    pcre2_set_match_limit(context, steps);
    pcre2_set_depth_limit(context, steps);
    pcre2_set_heap_limit(context, 2 << 20);  // in KB
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~LongMatchContext() {
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  LongMatchContext(const LongMatchContext&) = delete;
  LongMatchContext& operator=(const LongMatchContext&) = delete;
};

Error too_much(std::string_view pattern, std::string_view text, std::size_t start) {
  return bad_data(
      fmt::format("the regular expression \"{}\" backtracks without end at byte {} of {}", pattern, start,
                  text.size()),
      "repetitions inside repetitions, as in (a+)+, must not match the same text in several ways");
}

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

Result<bool> Regex::matches_prefix(std::string_view text) const {
  const MatchData match(code_->code);
  const auto match_with = [&](pcre2_match_context* context, std::uint32_t options) {
    return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                       options | PCRE2_ANCHORED, match.data, context);
  };
  int found = match_with(nullptr, 0);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found >= 0) return true;
  const LongMatchContext longer(text.size());
  found = match_with(longer.context, 0);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match_with(longer.context, PCRE2_NO_JIT);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found >= 0) return true;
  if (found <= PCRE2_ERROR_UTF8_ERR1 && found >= PCRE2_ERROR_UTF8_ERR21)
    return bad_data(fmt::format("a text of {} bytes is not UTF-8", text.size()));
  return too_much(code_->pattern, text, 0);
}

Status Regex::for_each_match(std::string_view text,
                             const std::function<void(std::size_t, std::size_t)>& visit) const {
  const MatchData match(code_->code);
  std::optional<LongMatchContext> long_match;  // made when a match needs it: it costs a mapping
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.data);
  const auto search_at = [&](std::size_t at, std::uint32_t options) {
    return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                       options | PCRE2_NO_UTF_CHECK, match.data, long_match ? long_match->context : nullptr);
  };
  std::size_t start = 0;
  std::optional<std::size_t> last_end;
  while (start <= text.size()) {
    int found = search_at(start, 0);
    if (found < PCRE2_ERROR_PARTIAL && !long_match) {
      long_match.emplace(text.size());
      found = search_at(start, 0);
    }
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = search_at(start, PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) return {};
    if (found < 0) return too_much(code_->pattern, text, start);
    if (bounds[0] == bounds[1] && last_end == bounds[1]) {
      do ++start;
      while (start < text.size() && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80);
      continue;
    }
    visit(bounds[0], bounds[1]);
    last_end = start = bounds[1];
  }
  return {};
}

const std::string& Regex::pattern() const {
  return code_->pattern;
}

}  // namespace nibble
