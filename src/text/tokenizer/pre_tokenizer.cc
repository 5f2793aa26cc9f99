// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/pre_tokenizer.h"

#include <algorithm>

#include "text/tokenizer/components.h"
#include "text/tokenizer/splitting.h"
#include "text/tokenizer/unicode.h"
#include "text/tokenizer/word_scanner.h"

namespace nibble::text {
namespace {

using Made = Result<std::unique_ptr<PreTokenizer>>;

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> steps) : steps_(std::move(steps)) {}
  Status apply(Pieces& pieces) const override {
    for (const auto& step : steps_) {
      TRY(step->apply(pieces));
      TRY(pieces.text.check_growth());
    }
    return {};
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

// Cuts at characters with a property; Rule is bool(char32_t).
template <class Rule>
class CharacterSplit final : public PreTokenizer {
 public:
  CharacterSplit(Rule rule, SplitBehavior behavior) : rule_(rule), behavior_(behavior) {}
  Status apply(Pieces& pieces) const override {
    split_pieces(pieces, behavior_, false, [this](std::string_view text, Splitter& out) {
      std::size_t gap = 0;
      for (std::size_t i = 0; i < text.size();) {
        const DecodedChar c = decode_char(text.data() + i);
        const std::size_t end = i + c.length;
        if (rule_(c.code)) {
          if (gap < i) out.add(gap, i, false);
          out.add(i, end, true);
          gap = end;
        }
        i = end;
      }
      if (gap < text.size()) out.add(gap, text.size(), false);
    });
    return {};
  }

 private:
  Rule rule_;
  SplitBehavior behavior_;
};

template <class Rule>
std::unique_ptr<PreTokenizer> character_split(Rule rule, SplitBehavior behavior) {
  return std::make_unique<CharacterSplit<Rule>>(rule, behavior);
}

bool is_punctuation(char32_t c) {
  return (char_class(c) & (kPunctuation | kAsciiPunctuation)) != 0;
}

Made make_whitespace_split(const Json&) {
  return character_split(is_space, SplitBehavior::kRemoved);
}

Made make_bert(const Json&) {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  steps.push_back(character_split(is_space, SplitBehavior::kRemoved));
  steps.push_back(character_split(is_punctuation, SplitBehavior::kIsolated));
  return std::unique_ptr<PreTokenizer>(std::make_unique<Sequence>(std::move(steps)));
}

Made make_punctuation(const Json& description) {
  TRY_ASSIGN(const SplitBehavior behavior, split_behavior(description, SplitBehavior::kIsolated));
  return character_split(is_punctuation, behavior);
}

Made make_digits(const Json& description) {
  TRY_ASSIGN(const bool individual, json_bool_or(description, "individual_digits", false));
  return character_split([](char32_t c) { return (char_class(c) & kNumber) != 0; },
                         individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

Made make_delimiter(const Json& description) {
  TRY_ASSIGN(const char32_t delimiter, json_char_or(description, "delimiter", ' '));
  return character_split([delimiter](char32_t c) { return c == delimiter; }, SplitBehavior::kRemoved);
}

// \w+|[^\w\s]+, the rest removed.
class Whitespace final : public PreTokenizer {
 public:
  Status apply(Pieces& pieces) const override {
    split_pieces(pieces, SplitBehavior::kIsolated, false, [](std::string_view text, Splitter& out) {
      int last = 0;  // 0 space, 1 word, 2 other
      std::size_t begin = 0;
      for (std::size_t i = 0; i < text.size();) {
        const DecodedChar c = decode_char(text.data() + i);
        const int kind = is_word(c.code) ? 1 : is_space(c.code) ? 0 : 2;
        if (kind != last) {
          if (last != 0) out.add(begin, i, false);
          begin = i;
          last = kind;
        }
        i += c.length;
      }
      if (last != 0) out.add(begin, text.size(), false);
    });
    return {};
  }
};

Made make_whitespace(const Json&) {
  return std::unique_ptr<PreTokenizer>(std::make_unique<Whitespace>());
}

class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(std::int64_t chars) : chars_(chars) {}
  Status apply(Pieces& pieces) const override {
    split_pieces(pieces, SplitBehavior::kIsolated, false, [this](std::string_view text, Splitter& out) {
      for (std::size_t i = 0; i < text.size();) {
        const std::size_t begin = i;
        for (std::int64_t n = 0; n < chars_ && i < text.size(); ++n) i += char_length(text[i]);
        out.add(begin, i, false);
      }
    });
    return {};
  }

 private:
  std::int64_t chars_;
};

Made make_fixed_length(const Json& description) {
  TRY_ASSIGN(const std::int64_t length, json_int_or(description, "length", 5));
  if (length < 1) return bad_data(fmt::format("\"length\" must be at least 1, found {}", length));
  return std::unique_ptr<PreTokenizer>(std::make_unique<FixedLength>(length));
}

void scan_words(const WordScanner& scanner, std::string_view text, Splitter& out) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t end = scanner.next(text, i);
    out.add(i, end, true);
    i = end;
  }
}

class Split final : public PreTokenizer {
 public:
  Split(Pattern pattern, std::optional<WordScanner> scanner, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), scanner_(scanner), behavior_(behavior), invert_(invert) {}
  Status apply(Pieces& pieces) const override {
    Status status;
    split_pieces(pieces, behavior_, invert_, [&](std::string_view text, Splitter& out) {
      if (scanner_) return scan_words(*scanner_, text, out);
      if (!status.ok()) return;
      status = pattern_.for_each(
          text, [&](std::size_t begin, std::size_t end, bool matched) { out.add(begin, end, matched); });
    });
    return status;
  }

 private:
  Pattern pattern_;
  std::optional<WordScanner> scanner_;
  SplitBehavior behavior_;
  bool invert_;
};

Made make_split(const Json& description) {
  TRY_ASSIGN(Pattern pattern, Pattern::from_json(description, "pattern"));
  TRY_ASSIGN(const SplitBehavior behavior, split_behavior(description, std::nullopt));
  TRY_ASSIGN(const bool invert, json_bool_or(description, "invert", false));
  std::optional<WordScanner> scanner;
  if (pattern.literal_text() == nullptr) {
    TRY_ASSIGN(const std::string expression, json_string(description["pattern"], "Regex"));
    scanner = WordScanner::for_expression(expression);
  }
  return std::unique_ptr<PreTokenizer>(
      std::make_unique<Split>(std::move(pattern), scanner, behavior, invert));
}

// Puts `prefix` before every span for which wants(span) is true.
template <class Wants>
void prepend_to_spans(Pieces& pieces, std::string_view prefix, Wants wants) {
  if (std::none_of(pieces.spans.begin(), pieces.spans.end(), wants)) return;
  Rewriter out(pieces.text);
  for (Span& span : pieces.spans) {
    const auto begin = static_cast<std::uint32_t>(out.size());
    if (wants(span)) out.put_before(prefix, span.begin);
    out.keep(span.begin, span.end);
    span = {begin, static_cast<std::uint32_t>(out.size())};
  }
  out.finish();
}

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex, bool rewrite)
      : scanner_(*WordScanner::for_expression(kGpt2Words)),
        add_prefix_space_(add_prefix_space),
        use_regex_(use_regex),
        rewrite_(rewrite) {}

  Status apply(Pieces& pieces) const override {
    if (add_prefix_space_) {
      prepend_to_spans(pieces, " ", [&](const Span& span) { return pieces.text.bytes[span.begin] != ' '; });
    }
    if (use_regex_) {
      split_pieces(pieces, SplitBehavior::kIsolated, false,
                   [this](std::string_view text, Splitter& out) { scan_words(scanner_, text, out); });
    }
    if (rewrite_) rewrite(pieces);
    return {};
  }

 private:
  static void rewrite(Pieces& pieces) {
    Rewriter out(pieces.text);
    for (Span& span : pieces.spans) {
      const auto begin = static_cast<std::uint32_t>(out.size());
      for (std::size_t i = span.begin; i < span.end;) {
        const std::size_t length = char_length(pieces.text.bytes[i]);
        out.put_byte_level(i, i + length);
        i += length;
      }
      span = {begin, static_cast<std::uint32_t>(out.size())};
    }
    out.finish();
  }

  WordScanner scanner_;
  bool add_prefix_space_, use_regex_, rewrite_;
};

Made make_byte_level_with(const Json& description, bool rewrite) {
  TRY_ASSIGN(const bool prefix, json_bool_or(description, "add_prefix_space", true));
  TRY_ASSIGN(const bool regex, json_bool_or(description, "use_regex", true));
  return std::unique_ptr<PreTokenizer>(std::make_unique<ByteLevel>(prefix, regex, rewrite));
}
Made make_byte_level(const Json& description) {
  return make_byte_level_with(description, true);
}

class Metaspace final : public PreTokenizer {
 public:
  enum class Prepend { kAlways, kFirst, kNever };
  Metaspace(char32_t replacement, Prepend prepend, bool split) : prepend_(prepend), split_(split) {
    append_utf8(replacement_, replacement);
  }

  Status apply(Pieces& pieces) const override {
    Rewriter out(pieces.text);
    for (Span& span : pieces.spans) {
      const auto begin = static_cast<std::uint32_t>(out.size());
      if (wants_prefix(pieces.text, span)) out.put_before(replacement_, span.begin);
      replace_spaces(pieces.text.bytes, span, out);
      span = {begin, static_cast<std::uint32_t>(out.size())};
    }
    out.finish();
    if (!split_) return {};
    split_pieces(pieces, SplitBehavior::kMergedWithNext, false,
                 [this](std::string_view text, Splitter& sink) {
                   std::size_t gap = 0;
                   for (std::size_t at = text.find(replacement_); at != std::string_view::npos;
                        at = text.find(replacement_, gap)) {
                     if (gap < at) sink.add(gap, at, false);
                     gap = at + replacement_.size();
                     sink.add(at, gap, true);
                   }
                   if (gap < text.size()) sink.add(gap, text.size(), false);
                 });
    return {};
  }

 private:
  bool wants_prefix(const TrackedText& text, const Span& span) const {
    const std::string_view rest = std::string_view(text.bytes).substr(span.begin);
    if (prepend_ == Prepend::kNever || rest.starts_with(' ') || rest.starts_with(replacement_)) return false;
    return prepend_ == Prepend::kAlways || (text.starts_text && span.begin == 0);
  }

  void replace_spaces(const std::string& bytes, const Span& span, Rewriter& out) const {
    std::size_t done = span.begin;
    for (std::size_t at = bytes.find(' ', done); at < span.end; at = bytes.find(' ', done)) {
      out.keep(done, at);
      out.put(replacement_, at, at + 1);
      done = at + 1;
    }
    out.keep(done, span.end);
  }

  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

Made make_metaspace(const Json& description) {
  TRY_ASSIGN(const char32_t replacement, json_char_or(description, "replacement", 0x2581));
  TRY_ASSIGN(const bool add_prefix, json_bool_or(description, "add_prefix_space", true));
  TRY_ASSIGN(const std::string scheme,
             json_string_or(description, "prepend_scheme", add_prefix ? "always" : "never"));
  TRY_ASSIGN(const bool split, json_bool_or(description, "split", true));
  Metaspace::Prepend prepend = Metaspace::Prepend::kNever;
  if (scheme == "always") {
    prepend = Metaspace::Prepend::kAlways;
  } else if (scheme == "first") {
    prepend = Metaspace::Prepend::kFirst;
  } else if (scheme != "never") {
    return bad_data(fmt::format("\"prepend_scheme\" must be always, first or never, found \"{}\"", scheme));
  }
  if (!add_prefix && scheme != "never") {
    return bad_data(
        fmt::format("\"add_prefix_space\": false contradicts \"prepend_scheme\": \"{}\"", scheme));
  }
  return std::unique_ptr<PreTokenizer>(std::make_unique<Metaspace>(replacement, prepend, split));
}

Made make_any(const Json& description);

Made make_pre_tokenizer_sequence(const Json& description) {
  TRY_ASSIGN(auto steps, make_sequence<PreTokenizer>(description, "pretokenizers", make_any));
  return std::unique_ptr<PreTokenizer>(std::make_unique<Sequence>(std::move(steps)));
}

constexpr Maker<PreTokenizer> kMakers[] = {
    {"ByteLevel", make_byte_level},
    {"Whitespace", make_whitespace},
    {"WhitespaceSplit", make_whitespace_split},
    {"BertPreTokenizer", make_bert},
    {"Metaspace", make_metaspace},
    {"Split", make_split},
    {"Digits", make_digits},
    {"Punctuation", make_punctuation},
    {"CharDelimiterSplit", make_delimiter},
    {"FixedLength", make_fixed_length},
    {"Sequence", make_pre_tokenizer_sequence},
};

Made make_any(const Json& description) {
  return make_part<PreTokenizer>(description, kMakers, "pre-tokenizer");
}

bool has_type(const Json& description, std::string_view type) {
  const Result<std::string> found = json_string_or(description, "type", "");
  return found.ok() && *found == type;
}

}  // namespace

Result<PreTokenizerPlan> make_pre_tokenizer(const Json& description, bool allow_raw_bytes) {
  if (description.is_null()) return PreTokenizerPlan{};
  if (allow_raw_bytes && has_type(description, "ByteLevel")) {
    TRY_ASSIGN(auto only, make_byte_level_with(description, false).at("pre-tokenizer ByteLevel"));
    return PreTokenizerPlan{std::move(only), true};
  }
  const auto list = has_type(description, "Sequence") ? description.find("pretokenizers") : description.end();
  const bool ends_in_bytes = allow_raw_bytes && list != description.end() && list->is_array() &&
                             !list->empty() && has_type(list->back(), "ByteLevel");
  const auto is_byte_level = [](const Json& step) {
    return has_type(step, "ByteLevel") || has_type(step, "Sequence");
  };
  if (ends_in_bytes && std::none_of(list->begin(), list->end() - 1, is_byte_level)) {
    std::vector<std::unique_ptr<PreTokenizer>> steps;
    for (std::size_t i = 0; i + 1 < list->size(); ++i) {
      TRY_ASSIGN(auto step, make_any((*list)[i]));
      steps.push_back(std::move(step));
    }
    TRY_ASSIGN(auto last, make_byte_level_with(list->back(), false).at("pre-tokenizer ByteLevel"));
    steps.push_back(std::move(last));
    return PreTokenizerPlan{std::make_unique<Sequence>(std::move(steps)), true};
  }
  TRY_ASSIGN(auto made, make_any(description));
  return PreTokenizerPlan{std::move(made), false};
}

}  // namespace nibble::text
