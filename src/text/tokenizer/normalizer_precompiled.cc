// SPDX-License-Identifier: Apache-2.0
// The character map of a SentencePiece model: a Darts double array from byte strings to offsets of NUL-ended
// replacements. Layout: u32 size of the array in bytes, the array, the replacements.
#include <utf8proc.h>

#include <cstring>

#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/components.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

// Hugging Face's reading of the map (the crate spm_precompiled): by grapheme clusters shorter than six bytes,
// else by characters; of several keys that start there the shortest counts, even if it is shorter than the
// cluster.
class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(Charsmap map) : map_(std::move(map)) {}

  Status apply(TrackedText& text) const override {
    Rewriter out(text);
    const std::string& bytes = text.bytes;
    for (std::size_t begin = 0; begin < bytes.size();) {
      const std::size_t end = grapheme_end(bytes, begin);
      const auto whole =
          end - begin < 6 ? map_.shortest(std::string_view(bytes).substr(begin, end - begin)) : std::nullopt;
      if (whole) {
        out.put_aligned(*whole, begin, end);
      } else {
        by_characters(bytes, begin, end, out);
      }
      begin = end;
    }
    out.finish();
    return {};
  }

 private:
  void by_characters(const std::string& bytes, std::size_t begin, std::size_t end, Rewriter& out) const {
    for (std::size_t i = begin; i < end;) {
      const std::size_t length = char_length(bytes[i]);
      const auto mapped = map_.shortest(std::string_view(bytes).substr(i, length));
      mapped ? out.put_aligned(*mapped, i, i + length) : out.keep(i, i + length);
      i += length;
    }
  }

  static std::size_t grapheme_end(const std::string& bytes, std::size_t begin) {
    DecodedChar c = decode_char(bytes.data() + begin);
    std::size_t end = begin + c.length;
    utf8proc_int32_t state = 0;
    while (end < bytes.size()) {
      const DecodedChar next = decode_char(bytes.data() + end);
      if (c.code >= 0x20 && c.code < 0x7F && next.code >= 0x20 && next.code < 0x7F) break;
      if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(c.code),
                                           static_cast<utf8proc_int32_t>(next.code), &state)) {
        break;
      }
      end += next.length;
      c = next;
    }
    return end;
  }

  Charsmap map_;
};

}  // namespace

Result<std::unique_ptr<Normalizer>> make_precompiled_normalizer(const Json& description) {
  TRY_ASSIGN(const std::string text, json_string_or(description, "precompiled_charsmap", ""));
  TRY_ASSIGN(const std::string blob, decode_base64(text).at("precompiled_charsmap"));
  TRY_ASSIGN(Charsmap map, Charsmap::parse(blob));
  return std::unique_ptr<Normalizer>(std::make_unique<Precompiled>(std::move(map)));
}

}  // namespace nibble::text
