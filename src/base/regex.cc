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
                             PCRE2_UTF | PCRE2_UCP | PCRE2_USE_OFFSET_LIMIT, &reason, &offset, nullptr);
  if (code->code == nullptr) {
    std::array<PCRE2_UCHAR, 256> text{};
    pcre2_get_error_message(reason, text.data(), text.size());
    return usage_error(fmt::format("invalid regular expression \"{}\" at position {}: {}", pattern, offset,
                                   reinterpret_cast<const char*>(text.data())));
  }
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE |
                                    PCRE2_JIT_PARTIAL_HARD);  // without JIT the interpreter matches the same
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

namespace {

// The first match at or behind a place, without the quadratic time that an expression such as `a*b` takes on
// a long run of "a", where every place looks to the end. A window of the text is searched; only a place whose
// answer lies beyond it gets larger windows, for itself alone, and what that adds up to is bounded.
class WindowSearch {
 public:
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  WindowSearch(const pcre2_code* code, std::string_view text)
      : code_(code), text_(text), match_(code), context_(pcre2_match_context_create(nullptr)) {}
  ~WindowSearch() { pcre2_match_context_free(context_); }
  WindowSearch(const WindowSearch&) = delete;
  WindowSearch& operator=(const WindowSearch&) = delete;

  // Nothing when there is none; `failed()` when that is not known.
  std::optional<Match> next(std::size_t start) {
    while (start <= text_.size() && !failed_) {
      const std::size_t end = boundary(start + kWindow);
      const int found = search(start, end, text_.size());
      if (is_settled(found, end)) return match();
      if (found == PCRE2_ERROR_NOMATCH) {
        if (end == text_.size()) return std::nullopt;
        start = end;
        continue;
      }
      start = found >= 0 ? pcre2_get_startchar(match_.data) : bounds()[0];
      if (failed_ || match_at(start)) break;
      start = boundary(start + 1);
    }
    return failed_ || start > text_.size() ? std::nullopt : std::optional(match());
  }
  bool failed() const { return failed_; }

 private:
  static constexpr std::size_t kWindow = 4096;
  // Bytes looked at beyond the windows: some seconds, and for a long text what a few hundred passes take.
  static constexpr std::size_t kLeastWork = std::size_t{1} << 32;
  static constexpr std::size_t kWorkAByte = 1024;

  const PCRE2_SIZE* bounds() { return pcre2_get_ovector_pointer(match_.data); }
  Match match() { return {bounds()[0], bounds()[1]}; }

  // A match that ends with the window might go on.
  bool is_settled(int found, std::size_t end) {
    return found >= 0 && (bounds()[1] < end || end == text_.size());
  }

  // The first place at or behind `at` where a character begins.
  std::size_t boundary(std::size_t at) const {
    while (at < text_.size() && (static_cast<unsigned char>(text_[at]) & 0xC0) == 0x80) ++at;
    return std::min(at, text_.size());
  }

  // Whether a match begins at `start`, in windows that double.
  bool match_at(std::size_t start) {
    for (std::size_t window = 2 * kWindow; !failed_; window *= 2) {
      const std::size_t end = boundary(start + window);
      work_ += end - start;
      failed_ = work_ > kLeastWork + kWorkAByte * text_.size();
      const int found = search(start, end, start);
      if (is_settled(found, end)) return true;
      if (found == PCRE2_ERROR_NOMATCH) return false;
    }
    return false;
  }

  // PCRE2's answer for matches that begin in [start, last_start], as far as text before `end` tells.
  int search(std::size_t start, std::size_t end, std::size_t last_start) {
    const std::uint32_t partial = end < text_.size() ? PCRE2_PARTIAL_HARD : 0;
    const auto run = [&](pcre2_match_context* context, std::uint32_t options) {
      pcre2_set_offset_limit(context, last_start);
      return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text_.data()), end, start,
                         options | partial | PCRE2_NO_UTF_CHECK, match_.data, context);
    };
    int found = long_match_ ? run(long_match_->context, 0) : run(context_, 0);
    if (found < PCRE2_ERROR_PARTIAL && !long_match_) {
      long_match_ = std::make_unique<LongMatchContext>(text_.size());
      found = run(long_match_->context, 0);
    }
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = run(long_match_->context, PCRE2_NO_JIT);
    failed_ = failed_ || found < PCRE2_ERROR_PARTIAL;
    return found;
  }

  const pcre2_code* code_;
  std::string_view text_;
  MatchData match_;
  pcre2_match_context* context_;
  std::unique_ptr<LongMatchContext> long_match_;  // made when a match needs it: it costs a mapping
  std::size_t work_ = 0;
  bool failed_ = false;
};

}  // namespace

Status Regex::for_each_match(std::string_view text,
                             const std::function<void(std::size_t, std::size_t)>& visit) const {
  WindowSearch search(code_->code, text);
  std::size_t start = 0;
  std::optional<std::size_t> last_end;
  while (start <= text.size()) {
    const auto found = search.next(start);
    if (search.failed()) return too_much(code_->pattern, text, start);
    if (!found) return {};
    if (found->begin == found->end && last_end == found->end) {
      do ++start;
      while (start < text.size() && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80);
      continue;
    }
    visit(found->begin, found->end);
    last_end = start = found->end;
  }
  return {};
}

const std::string& Regex::pattern() const {
  return code_->pattern;
}

}  // namespace nibble
