// SPDX-License-Identifier: Apache-2.0
// Hand-written scanners against PCRE2's interpreter, called directly, on random Unicode text; the
// double-array trie against a sorted map.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <gtest/gtest.h>
#include <pcre2.h>

#include <map>

#include "base/json.h"
#include "base/rng.h"
#include "text/tokenizer/building.h"
#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/gguf_pre_tokenizers.h"
#include "text/tokenizer/linear_patterns.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/regex_dialect.h"
#include "text/tokenizer/unicode.h"
#include "text/tokenizer/word_scanner.h"

namespace nibble::text {
namespace {

using Cuts = std::vector<std::pair<std::size_t, std::size_t>>;

class Oracle {
 public:
  explicit Oracle(std::string_view expression) {
    const std::string pattern = oniguruma_to_pcre2(expression).value();
    int reason = 0;
    PCRE2_SIZE offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                          &reason, &offset, nullptr);
    match_ = pcre2_match_data_create_from_pattern(code_, nullptr);
  }
  ~Oracle() {
    pcre2_match_data_free(match_);
    pcre2_code_free(code_);
  }
  Oracle(const Oracle&) = delete;
  Oracle& operator=(const Oracle&) = delete;

  // The pieces of `text`: matches and the gaps between them.
  Cuts cut(std::string_view text) const {
    Cuts cuts;
    std::size_t done = 0;
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match_);
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const auto put = [&](std::size_t begin, std::size_t end) {
      if (begin < end) cuts.emplace_back(begin, end);
    };
    for (std::size_t at = 0; at <= text.size();) {
      if (pcre2_match(code_, subject, text.size(), at, 0, match_, nullptr) < 0) break;
      put(done, bounds[0]);
      put(bounds[0], bounds[1]);
      done = at = bounds[1];
      if (bounds[0] != bounds[1]) continue;
      do ++at;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
    }
    put(done, text.size());
    return cuts;
  }

 private:
  pcre2_code* code_ = nullptr;
  pcre2_match_data* match_ = nullptr;
};

// Characters that the expressions tell apart, in runs; the properties of those in the list are the same in
// all Unicode versions since 9.
std::string random_text(Rng& rng) {
  static const std::vector<std::u32string> kinds = {U"aZkxsdmtrevl",
                                                    U"0123456789",
                                                    U" ",
                                                    U" \n",
                                                    U"\r\n",
                                                    U"\t\u00A0\u2028\u3000\u0085\v",
                                                    U"'\u2019",
                                                    U".,!?-/()[]{}#$%&*+<=>@\\^_`|~\"",
                                                    U"éÀßØñ",
                                                    U"ſKİıΩ",
                                                    U"αБж",
                                                    U"漢字一龥",
                                                    U"ぁあァー",
                                                    U"가ᄀ힣",
                                                    U"\u0301\u0300\u0E31\u093E",
                                                    U"٣१９①²½Ⅷ",
                                                    U"เไทย",
                                                    U"😀👍\U0001F1E6",
                                                    U"«»—…、。",
                                                    U"\u200B\u200D\uFEFF\u00AD",
                                                    U"ǅʰª",
                                                    U"𝔸𐐀𐑏",
                                                    U"\uE000\uFFFD\U0010FFFF"};
  std::string text;
  for (auto runs = rng.below(12); runs > 0; --runs) {
    const std::u32string& kind = kinds[rng.below(kinds.size())];
    for (auto length = 1 + rng.below(rng.below(4) == 0 ? 9 : 3); length > 0; --length)
      append_utf8(text, kind[rng.below(kind.size())]);
  }
  return text;
}

TEST(WordScannerTest, EqualsPcre2) {
  Rng rng(1);
  for (const std::string_view expression : {kGpt2Words, kQwen2Words, kLlama3Words}) {
    const Oracle oracle(expression);
    const WordScanner scanner = WordScanner::for_expression(expression).value();
    for (int i = 0; i < 4000; ++i) {
      const std::string text = random_text(rng);
      Cuts cuts;
      for (std::size_t at = 0; at < text.size(); at = cuts.back().second)
        cuts.emplace_back(at, scanner.next(text, at));
      ASSERT_EQ(cuts, oracle.cut(text)) << expression << "\non " << json_text(text);
    }
  }
}

Cuts pieces_of(const PreTokenizer& pre_tokenizer, const std::string& text) {
  Pieces pieces;
  pieces.text.bytes = text;
  if (!text.empty()) pieces.spans.push_back({0, static_cast<std::uint32_t>(text.size())});
  EXPECT_TRUE(pre_tokenizer.apply(pieces).ok());
  Cuts cuts;
  for (const Span& span : pieces.spans) cuts.emplace_back(span.begin, span.end);
  return cuts;
}

// The expressions of a pre-tokenizer that is a sequence of isolating steps.
std::vector<std::string> expressions_of(const Json& description) {
  std::vector<std::string> found;
  const bool sequence = description["type"] == "Sequence";
  for (const Json& step : sequence ? description["pretokenizers"] : Json::array({description})) {
    const auto type = step["type"].get<std::string>();
    if (type == "Split") found.push_back(step["pattern"]["Regex"].get<std::string>());
    if (type == "ByteLevel" && step["use_regex"].get<bool>()) found.emplace_back(kGpt2Words);
    if (type == "Digits")
      found.emplace_back(step["individual_digits"].get<bool>() ? R"(\p{N})" : R"(\p{N}+)");
    if (type == "Punctuation") found.emplace_back(R"([\p{P}$+<=>^`|~]+)");
  }
  return found;
}

TEST(GgufPreTokenizerTest, EveryNameCutsAsItsExpressionsDo) {
  Rng rng(2);
  for (const std::string_view name : gguf_pre_tokenizer_names()) {
    if (name == "falcon") continue;  // cuts a text that is rewritten on the way
    const Json description = parse_json(pre_tokenizer_json(gguf_pre_tokenizer(name).value())).value();
    const Result<PreTokenizerPlan> plan = make_pre_tokenizer(description, true);
    ASSERT_TRUE(plan.ok()) << name << ": " << plan.error().message();
    std::vector<std::unique_ptr<Oracle>> oracles;
    for (const std::string& expression : expressions_of(description))
      oracles.push_back(std::make_unique<Oracle>(expression));
    for (int i = 0; i < 300; ++i) {
      const std::string text = random_text(rng);
      Cuts expected;
      if (!text.empty()) expected.emplace_back(0, text.size());
      for (const auto& oracle : oracles) {
        Cuts finer;
        for (const auto& [begin, end] : expected) {
          for (const auto& [from, to] : oracle->cut(std::string_view(text).substr(begin, end - begin)))
            finer.emplace_back(begin + from, begin + to);
        }
        expected = std::move(finer);
      }
      ASSERT_EQ(pieces_of(*plan->pre_tokenizer, text), expected) << name << "\non " << json_text(text);
    }
  }
}

TEST(LinearPatternsTest, EqualPcre2) {
  Rng rng(3);
  for (const std::string_view expression :
       {kDigitGroupsToBoundary, kDigitGroupsFromRight, kBetweenDigitGroups, kSpaceToLineEnd}) {
    const LinearFinder find = linear_finder(expression);
    ASSERT_NE(find, nullptr);
    const Regex regex = compile_oniguruma(expression).value();
    for (int i = 0; i < 3000; ++i) {
      std::string text = random_text(rng);
      for (auto n = rng.below(8); n > 0; --n) text.insert(text.begin(), "0 7\n_4a\t"[rng.below(8)]);
      Cuts found, expected;
      find(text, [&](std::size_t begin, std::size_t end) { found.emplace_back(begin, end); });
      ASSERT_TRUE(
          regex.for_each_match(text, [&](auto begin, auto end) { expected.emplace_back(begin, end); }).ok());
      ASSERT_EQ(found, expected) << expression << "\non " << json_text(text);
    }
  }
}

// Each takes hours when a run is looked through once a character.
TEST(GgufPreTokenizerTest, LongRunsAreCutInLinearTime) {
  for (const std::string_view name : gguf_pre_tokenizer_names()) {
    const Json description = parse_json(pre_tokenizer_json(gguf_pre_tokenizer(name).value())).value();
    const Result<PreTokenizerPlan> plan = make_pre_tokenizer(description, true);
    ASSERT_TRUE(plan.ok()) << name << ": " << plan.error().message();
    for (const std::string_view unit : {"7", "a", "A", " ", "\n", "'", "漢", "\xCC\x81", "ab1"}) {
      std::string text;
      while (text.size() < 100'000) text += unit;
      Pieces pieces;
      pieces.spans.push_back({0, static_cast<std::uint32_t>(text.size() + 1)});
      pieces.text.bytes = text + "x";
      ASSERT_TRUE(plan->pre_tokenizer->apply(pieces).ok()) << name << " on " << unit;
    }
  }
}

TEST(PatternTest, EndlessBacktrackingIsAnErrorAndLongMatchesAreNot) {
  const Json endless =
      parse_json(R"({"type":"Split","pattern":{"Regex":"(a+)+[bc]"},"behavior":"Isolated"})").value();
  const PreTokenizerPlan plan = make_pre_tokenizer(endless, false).value();
  Pieces pieces;
  pieces.text.bytes.assign(64, 'a');
  pieces.spans.push_back({0, 64});
  const Status status = plan.pre_tokenizer->apply(pieces);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message().find("(a+)+[bc]"), std::string::npos);

  const Json long_match =
      parse_json(R"({"type":"Split","pattern":{"Regex":"(?:a|b)+c"},"behavior":"Isolated"})").value();
  std::string text;
  while (text.size() < 1 << 20) text += "abba";
  EXPECT_EQ(pieces_of(*make_pre_tokenizer(long_match, false).value().pre_tokenizer, "-" + text + "c"),
            (Cuts{{0, 1}, {1, text.size() + 2}}));
}

TEST(ByteTrieTest, EqualsSortedMap) {
  Rng rng(4);
  for (const std::uint64_t size : {0, 1, 10, 300, 20'000}) {
    for (const std::uint64_t letters : {2, 26, 256}) {
      std::map<std::string, TokenId> map;
      std::vector<std::string> keys;
      std::vector<std::pair<std::string_view, TokenId>> pairs;
      for (std::uint64_t i = 0; i < size; ++i) {
        std::string key;
        for (auto length = rng.below(9); length > 0; --length) key += static_cast<char>(rng.below(letters));
        keys.push_back(std::move(key));
      }
      for (std::size_t i = 0; i < keys.size(); ++i) {
        pairs.emplace_back(keys[i], static_cast<TokenId>(i));
        if (!keys[i].empty()) map[keys[i]] = static_cast<TokenId>(i);
      }
      const ByteTrie trie(std::move(pairs));
      for (int i = 0; i < 300; ++i) {
        std::string text = keys.empty() ? "" : keys[rng.below(keys.size())];
        for (auto length = rng.below(5); length > 0; --length) text += static_cast<char>(rng.below(letters));
        std::vector<std::pair<std::size_t, TokenId>> found, expected;
        trie.prefixes(text, [&](std::size_t length, TokenId id) { found.emplace_back(length, id); });
        for (std::size_t length = 1; length <= text.size(); ++length) {
          if (const auto entry = map.find(text.substr(0, length)); entry != map.end())
            expected.emplace_back(length, entry->second);
        }
        ASSERT_EQ(found, expected);
      }
    }
  }
}

}  // namespace
}  // namespace nibble::text
