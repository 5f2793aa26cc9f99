// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/linear_patterns.h"

#include <vector>

#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

using Visit = std::function<void(std::size_t, std::size_t)>;

// Where the characters of a run begin, and, last, where it ends; empty if there is no run.
using Run = std::vector<std::size_t>;

// Calls use(run) for each longest run of characters with a class in `wanted`. `run` keeps its memory.
template <class Use>
void for_each_run(std::string_view text, std::uint16_t wanted, Use use) {
  Run run;
  for (std::size_t i = 0; i < text.size();) {
    run.clear();
    while (i < text.size()) {
      const DecodedChar c = decode_char(text.data() + i);
      if ((char_class(c.code) & wanted) == 0) break;
      run.push_back(i);
      i += c.length;
    }
    if (!run.empty()) {
      run.push_back(i);
      use(run);
    } else {
      i += char_length(text[i]);
    }
  }
}

// Oniguruma's \w outside of classes, see regex_dialect.cc.
bool is_free_word(char32_t c) {
  return (char_class(c) & (kAlphabetic | kMark | kDecimal | kConnector)) != 0 || c == 0xB2 || c == 0xB3 ||
         c == 0xB9 || (c >= 0xBC && c <= 0xBE);
}

void visit_groups(const Run& run, const Visit& visit) {
  const std::size_t digits = run.size() - 1;
  for (std::size_t first = 0, last = (digits - 1) % 3 + 1; first < digits; first = last, last += 3)
    visit(run[first], run[last]);
}

void digit_groups_from_right(std::string_view text, const Visit& visit) {
  for_each_run(text, kDecimal, [&](const Run& run) { visit_groups(run, visit); });
}

// Between digits there is no boundary, so the last group must end at one, and that is at the end of the run.
void digit_groups_to_boundary(std::string_view text, const Visit& visit) {
  for_each_run(text, kDecimal, [&](const Run& run) {
    const std::size_t end = run.back();
    if (end == text.size() || !is_free_word(decode_char(text.data() + end).code)) visit_groups(run, visit);
  });
}

void between_digit_groups(std::string_view text, const Visit& visit) {
  for_each_run(text, kDecimal, [&](const Run& run) {
    const std::size_t digits = run.size() - 1;
    for (std::size_t i = digits % 3; i < digits; i += 3) visit(run[i], run[i]);
  });
}

// Greedy: one match a run, to its last line end that is not its first character.
void space_to_line_end(std::string_view text, const Visit& visit) {
  for_each_run(text, kSpace, [&](const Run& run) {
    if (run.back() == text.size()) return visit(run.front(), run.back());
    for (std::size_t i = run.size() - 2; i > 0; --i) {
      if (text[run[i]] == '\n') return visit(run.front(), run[i]);
    }
  });
}

struct Known {
  std::string_view expression;
  LinearFinder find;
};
constexpr Known kKnown[] = {
    {kDigitGroupsToBoundary, digit_groups_to_boundary},
    {kDigitGroupsFromRight, digit_groups_from_right},
    {kBetweenDigitGroups, between_digit_groups},
    {kSpaceToLineEnd, space_to_line_end},
};

}  // namespace

LinearFinder linear_finder(std::string_view expression) {
  for (const Known& known : kKnown) {
    if (known.expression == expression) return known.find;
  }
  return nullptr;
}

}  // namespace nibble::text
