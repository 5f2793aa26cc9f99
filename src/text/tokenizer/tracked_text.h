// SPDX-License-Identifier: Apache-2.0
// A text on its way through normalizers and pre-tokenizers. When offsets are wanted, every byte carries the
// range of original bytes it came from; otherwise `origin` stays empty and costs nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nibble::text {

struct Span {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  bool operator==(const Span&) const = default;
};

struct TrackedText {
  std::string bytes;
  std::vector<Span> origin;  // one a byte, when tracked
  bool tracked = false;
  std::size_t most_bytes = SIZE_MAX;  // to which steps may grow it
  bool starts_text = true;  // the first byte came from, or was put before, the first byte of the user's text

  // Whether the last step kept within most_bytes. Sequences ask after each step: twenty steps that double the
  // text are a small file and a big bill.
  Status check_growth() const;
  // The original range of [span.begin, span.end); empty spans map to an empty range.
  Span original(Span span) const;
};

// Writes a new text from an old one, keeping track of origins. Call finish() once to swap the result in.
class Rewriter {
 public:
  explicit Rewriter(TrackedText& text);

  // Copies bytes [begin, end) of the old text.
  void keep(std::size_t begin, std::size_t end);
  // Writes `piece`, which stands for the bytes [begin, end) of the old text.
  void put(std::string_view piece, std::size_t begin, std::size_t end);
  // The same, character by character: the n-th of `piece` stands for the n-th of the old text, more of them
  // for its last; old characters without a partner belong to nothing (as in HF tokenizers).
  void put_aligned(std::string_view piece, std::size_t begin, std::size_t end);
  // The same for a character whose origin the caller knows; `source` is where it stood in the old text.
  void put_from(std::string_view piece, Span original, std::size_t source);
  // Writes `piece`, which stands for nothing in the old text: it shares the origin of the byte written before
  // it, or, at the front, of the first byte of the old text (as in HF tokenizers).
  void insert(std::string_view piece);
  // Writes `piece` before what stands at byte `next` of the old text, whose origin it shares.
  void put_before(std::string_view piece, std::size_t next);
  // Writes the bytes [begin, end) of one character of the old text in the byte-level alphabet.
  void put_byte_level(std::size_t begin, std::size_t end);
  // Takes back copies of `suffix` from the end of what was written.
  void drop_suffixes(std::string_view suffix);
  std::size_t size() const { return bytes_.size(); }
  void finish();

 private:
  void note_first(std::size_t source) {
    if (bytes_.empty()) starts_text_ = text_.starts_text && source == 0;
  }

  TrackedText& text_;
  bool starts_text_ = false;
  std::string bytes_;
  std::vector<Span> origin_;
};

}  // namespace nibble::text
