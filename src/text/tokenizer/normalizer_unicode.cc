// SPDX-License-Identifier: Apache-2.0
// Unicode normalization forms (UAX #15) with utf8proc's tables, and BERT's normalizer, which needs NFD.
#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "text/tokenizer/components.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

struct NormalForm {
  std::string_view name;
  bool compose;
  bool compatible;
};
constexpr NormalForm kForms[] = {
    {"NFC", true, false}, {"NFD", false, false}, {"NFKC", true, true}, {"NFKD", false, true}};

class UnicodeForm final : public Normalizer {
 public:
  explicit UnicodeForm(const NormalForm& form)
      : compose_(form.compose),
        options_(static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                (form.compatible ? UTF8PROC_COMPAT : 0))) {}

  // ASCII runs are kept; the rest is normalized from one safe boundary to the next.
  Status apply(TrackedText& text) const override {
    const std::string& bytes = text.bytes;
    const auto first = std::find_if(bytes.begin(), bytes.end(),
                                    [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
    if (first == bytes.end()) return {};
    Rewriter out(text);
    for (std::size_t i = 0; i < bytes.size();) {
      const std::size_t begin = i;
      i += decode_char(bytes.data() + i).length;
      while (i < bytes.size()) {
        const DecodedChar c = decode_char(bytes.data() + i);
        if (is_boundary(c.code)) break;
        i += c.length;
      }
      normalize(text, begin, i, out);
    }
    out.finish();
    return {};
  }

 private:
  // `change` as in Hugging Face's NormalizedString: 0 stands for the next old character, 1 for none, -n for
  // the next one and n dropped ones after it.
  struct Code {
    utf8proc_int32_t code;
    int change;
  };
  using Codes = std::vector<Code>;

  static int combining_class(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

  void decompose(char32_t code, Codes& out) const {
    std::array<utf8proc_int32_t, 32> buffer{};  // the longest decomposition (U+FDFA) has 18 characters
    int boundary_class = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), buffer.data(),
                                               buffer.size(), options_, &boundary_class);
    CHECK(count >= 0 && count <= static_cast<utf8proc_ssize_t>(buffer.size()),
          "a decomposition fits the buffer");
    for (utf8proc_ssize_t i = 0; i < count; ++i)
      out.push_back({buffer[static_cast<std::size_t>(i)], i == 0 ? 0 : 1});
  }

  // True when no normalization form joins `code` to, or reorders it with, what stands before it: its
  // decomposition begins with a starter that is not the second part of a composition (marks, Hangul vowels
  // and final consonants).
  bool is_boundary(char32_t code) const {
    if (code < 0x300) return true;
    Codes parts;
    decompose(code, parts);
    const auto head = static_cast<char32_t>(parts.front().code);
    return combining_class(parts.front().code) == 0 && (char_class(head) & kMark) == 0 &&
           !(head >= 0x1160 && head <= 0x11FF);
  }

  void normalize(const TrackedText& text, std::size_t begin, std::size_t end, Rewriter& out) const {
    if (end - begin == 1) return out.keep(begin, end);
    Codes codes;
    for (std::size_t i = begin; i < end;) {
      const DecodedChar c = decode_char(text.bytes.data() + i);
      decompose(c.code, codes);
      i += c.length;
    }
    put_in_order(codes);
    if (compose_) compose(codes);
    std::string character;
    for (const Code& code : codes) {
      character.clear();
      append_utf8(character, static_cast<char32_t>(code.code));
      if (!text.tracked) {
        out.put(character, begin, end);
        continue;
      }
      // begin walks over the old characters; an inserted one shares the place of the one before it.
      const Span origin = code.change <= 0 ? text.origin[begin]
                          : begin == 0     ? Span{}
                                           : text.origin[begin - 1];
      out.put_from(character, origin, begin);
      for (int used = code.change; used <= 0 && begin < end; ++used) begin += char_length(text.bytes[begin]);
    }
  }

  // Canonical order: each run of non-starters by class, stable. (utf8proc's own sort is quadratic in the
  // run.)
  static void put_in_order(Codes& codes) {
    const auto is_starter = [](const Code& code) { return combining_class(code.code) == 0; };
    for (auto i = codes.begin(); i != codes.end();) {
      i = std::find_if_not(i, codes.end(), is_starter);
      const auto stop = std::find_if(i, codes.end(), is_starter);
      std::stable_sort(i, stop, [](const Code& a, const Code& b) {
        return combining_class(a.code) < combining_class(b.code);
      });
      i = stop;
    }
  }

  // The primary composite of two characters, 0 if there is none.
  static utf8proc_int32_t composite(utf8proc_int32_t first, utf8proc_int32_t second) {
    std::array<utf8proc_int32_t, 2> pair{first, second};
    const auto count = utf8proc_normalize_utf32(
        pair.data(), 2, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    return count == 1 ? pair[0] : 0;
  }

  // UAX #15, D117: a character joins the last starter unless one of the same or a higher class stands
  // between.
  static void compose(Codes& codes) {
    std::size_t starter = codes.size(), kept = 0;
    int last_class = -1;  // of what stands behind the starter
    for (const Code code : codes) {
      const int own_class = combining_class(code.code);
      const utf8proc_int32_t joined =
          starter < kept && last_class < own_class ? composite(codes[starter].code, code.code) : 0;
      if (joined != 0) {
        codes[starter] = {joined, codes[starter].change + code.change - 1};
        continue;
      }
      if (own_class == 0) starter = kept;
      last_class = own_class == 0 ? -1 : own_class;
      codes[kept++] = code;
    }
    codes.resize(kept);
  }

  bool compose_;
  utf8proc_option_t options_;
};

bool is_chinese_character(char32_t c) {
  constexpr std::array<std::pair<char32_t, char32_t>, 8> kRanges = {{{0x4E00, 0x9FFF},
                                                                     {0x3400, 0x4DBF},
                                                                     {0x20000, 0x2A6DF},
                                                                     {0x2A700, 0x2B73F},
                                                                     {0x2B740, 0x2B81F},
                                                                     {0x2B920, 0x2CEAF},
                                                                     {0xF900, 0xFAFF},
                                                                     {0x2F800, 0x2FA1F}}};
  return std::any_of(kRanges.begin(), kRanges.end(),
                     [c](const auto& r) { return c >= r.first && c <= r.second; });
}

class Bert final : public Normalizer {
 public:
  Bert(bool clean, bool chinese, bool strip_accents, bool lower)
      : clean_(clean),
        chinese_(chinese),
        strip_accents_(strip_accents),
        lower_(lower),
        decompose_(kForms[1]) {}

  Status apply(TrackedText& text) const override {
    if (clean_ || chinese_) clean_and_space(text);
    if (strip_accents_) TRY(decompose_.apply(text));
    if (strip_accents_ || lower_) strip_and_lower(text);
    return {};
  }

 private:
  void clean_and_space(TrackedText& text) const {
    Rewriter out(text);
    for (std::size_t i = 0; i < text.bytes.size();) {
      const DecodedChar c = decode_char(text.bytes.data() + i);
      const std::size_t end = i + c.length;
      const bool line = c.code == '\t' || c.code == '\n' || c.code == '\r';
      if (clean_ &&
          (c.code == 0 || c.code == kReplacement || (!line && (char_class(c.code) & kOther) != 0))) {
        i = end;
        continue;
      }
      if (clean_ && (line || is_space(c.code))) {
        out.put(" ", i, end);
      } else if (chinese_ && is_chinese_character(c.code)) {
        out.put(" ", i, end);
        out.keep(i, end);
        out.put(" ", i, end);
      } else {
        out.keep(i, end);
      }
      i = end;
    }
    out.finish();
  }

  void strip_and_lower(TrackedText& text) const {
    Rewriter out(text);
    std::string lower;
    for (std::size_t i = 0; i < text.bytes.size();) {
      const DecodedChar c = decode_char(text.bytes.data() + i);
      const std::size_t end = i + c.length;
      if (!strip_accents_ || (char_class(c.code) & kNonspacing) == 0) {
        lower.clear();
        if (lower_) append_lower(lower, c.code);
        lower_ ? out.put(lower, i, end) : out.keep(i, end);
      }
      i = end;
    }
    out.finish();
  }

  bool clean_, chinese_, strip_accents_, lower_;
  UnicodeForm decompose_;
};

}  // namespace

Result<std::unique_ptr<Normalizer>> make_unicode_normalizer(const Json& description) {
  TRY_ASSIGN(const std::string type, json_string(description, "type"));
  const auto form =
      std::find_if(std::begin(kForms), std::end(kForms), [&](const NormalForm& f) { return f.name == type; });
  CHECK(form != std::end(kForms), "the table of makers names only these forms");
  return std::unique_ptr<Normalizer>(std::make_unique<UnicodeForm>(*form));
}

Result<std::unique_ptr<Normalizer>> make_bert_normalizer(const Json& description) {
  TRY_ASSIGN(const bool clean, json_bool_or(description, "clean_text", true));
  TRY_ASSIGN(const bool chinese, json_bool_or(description, "handle_chinese_chars", true));
  TRY_ASSIGN(const bool lower, json_bool_or(description, "lowercase", true));
  TRY_ASSIGN(const bool strip, json_bool_or(description, "strip_accents", lower));
  return std::unique_ptr<Normalizer>(std::make_unique<Bert>(clean, chinese, strip, lower));
}

}  // namespace nibble::text
