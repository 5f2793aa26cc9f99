// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/normalizer.h"

#include <utf8proc.h>

#include "text/tokenizer/components.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

using Made = Result<std::unique_ptr<Normalizer>>;

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> steps) : steps_(std::move(steps)) {}
  Status apply(TrackedText& text) const override {
    for (const auto& step : steps_) {
      TRY(step->apply(text));
      TRY(text.check_growth());
    }
    return {};
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

// Rewrites character by character with a function (Rewriter&, char32_t, begin, end).
template <class Rule>
class PerCharacter final : public Normalizer {
 public:
  explicit PerCharacter(Rule rule) : rule_(rule) {}
  Status apply(TrackedText& text) const override {
    Rewriter out(text);
    for (std::size_t i = 0; i < text.bytes.size();) {
      const DecodedChar c = decode_char(text.bytes.data() + i);
      rule_(out, c.code, i, i + c.length);
      i += c.length;
    }
    out.finish();
    return {};
  }

 private:
  Rule rule_;
};

template <class Rule>
Made per_character(Rule rule) {
  return std::unique_ptr<Normalizer>(std::make_unique<PerCharacter<Rule>>(rule));
}

Made make_lowercase(const Json&) {
  return per_character([](Rewriter& out, char32_t code, std::size_t begin, std::size_t end) {
    std::string lower;
    append_lower(lower, code);
    out.put(lower, begin, end);
  });
}

Made make_strip_accents(const Json&) {
  return per_character([](Rewriter& out, char32_t code, std::size_t begin, std::size_t end) {
    if ((char_class(code) & kAccent) == 0) out.keep(begin, end);
  });
}

bool is_nmt_dropped(char32_t c) {
  return (c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
}

bool is_nmt_space(char32_t c) {
  return c == 9 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
}

Made make_nmt(const Json&) {
  return per_character([](Rewriter& out, char32_t code, std::size_t begin, std::size_t end) {
    if (is_nmt_space(code)) {
      out.put(" ", begin, end);
    } else if (!is_nmt_dropped(code)) {
      out.keep(begin, end);
    }
  });
}

Made make_byte_level(const Json&) {
  return per_character(
      [](Rewriter& out, char32_t, std::size_t begin, std::size_t end) { out.put_byte_level(begin, end); });
}

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  Status apply(TrackedText& text) const override {
    std::size_t begin = 0, end = text.bytes.size();
    while (left_ && begin < end) {
      const DecodedChar c = decode_char(text.bytes.data() + begin);
      if (!is_space(c.code)) break;
      begin += c.length;
    }
    while (right_ && end > begin) {
      const DecodedChar c = decode_last_char(std::string_view(text.bytes).substr(begin, end - begin));
      if (!is_space(c.code)) break;
      end -= c.length;
    }
    if (begin == 0 && end == text.bytes.size()) return {};
    Rewriter out(text);
    out.keep(begin, end);
    out.finish();
    return {};
  }

 private:
  bool left_, right_;
};

Made make_strip(const Json& description) {
  TRY_ASSIGN(const bool left, json_bool_or(description, "strip_left", true));
  TRY_ASSIGN(const bool right, json_bool_or(description, "strip_right", true));
  return std::unique_ptr<Normalizer>(std::make_unique<Strip>(left, right));
}

class Replace final : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Status apply(TrackedText& text) const override {
    const std::string* literal = pattern_.literal_text();
    if (literal != nullptr && text.bytes.find(*literal) == std::string::npos) return {};
    Rewriter out(text);
    TRY(pattern_.for_each(text.bytes, [&](std::size_t begin, std::size_t end, bool matched) {
      if (out.size() > text.most_bytes) return;
      if (!matched) {
        out.keep(begin, end);
      } else if (begin == end) {
        out.insert(content_);
      } else {
        out.put(content_, begin, end);
      }
    }));
    out.finish();
    return text.check_growth();
  }

 private:
  Pattern pattern_;
  std::string content_;
};

Made make_replace(const Json& description) {
  TRY_ASSIGN(Pattern pattern, Pattern::from_json(description, "pattern"));
  TRY_ASSIGN(std::string content, json_string(description, "content"));
  return std::unique_ptr<Normalizer>(std::make_unique<Replace>(std::move(pattern), std::move(content)));
}

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  Status apply(TrackedText& text) const override {
    if (text.bytes.empty()) return {};
    Rewriter out(text);
    out.insert(prefix_);
    out.keep(0, text.bytes.size());
    out.finish();
    return {};
  }

 private:
  std::string prefix_;
};

Made make_prepend(const Json& description) {
  TRY_ASSIGN(std::string prefix, json_string(description, "prepend"));
  return std::unique_ptr<Normalizer>(std::make_unique<Prepend>(std::move(prefix)));
}

Made make_normalizer_sequence(const Json& description) {
  TRY_ASSIGN(auto steps, make_sequence<Normalizer>(description, "normalizers", make_normalizer));
  return std::unique_ptr<Normalizer>(std::make_unique<Sequence>(std::move(steps)));
}

constexpr Maker<Normalizer> kMakers[] = {
    {"NFC", make_unicode_normalizer},
    {"NFD", make_unicode_normalizer},
    {"NFKC", make_unicode_normalizer},
    {"NFKD", make_unicode_normalizer},
    {"Lowercase", make_lowercase},
    {"StripAccents", make_strip_accents},
    {"Strip", make_strip},
    {"Replace", make_replace},
    {"Prepend", make_prepend},
    {"BertNormalizer", make_bert_normalizer},
    {"Precompiled", make_precompiled_normalizer},
    {"SentencePiece", make_sentencepiece_normalizer},
    {"Nmt", make_nmt},
    {"ByteLevel", make_byte_level},
    {"Sequence", make_normalizer_sequence},
};

}  // namespace

void append_lower(std::string& out, char32_t code) {
  if (code < 128) {
    out.push_back(static_cast<char>(code >= 'A' && code <= 'Z' ? code + 32 : code));
  } else if (code ==
             0x130) {  // the one character whose full lower case is two characters (SpecialCasing.txt)
    out += "i\xCC\x87";
  } else {
    append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
  }
}

Result<std::unique_ptr<Normalizer>> make_normalizer(const Json& description) {
  return make_part<Normalizer>(description, kMakers, "normalizer");
}

}  // namespace nibble::text
