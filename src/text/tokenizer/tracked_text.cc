// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/tracked_text.h"

#include <fmt/format.h>

#include "text/tokenizer/unicode.h"

namespace nibble::text {

Status TrackedText::check_growth() const {
  if (bytes.size() <= most_bytes) return {};
  return bad_data(fmt::format("the normalizer or pre-tokenizer grows the text beyond {} bytes", most_bytes),
                  "no known tokenizer makes a text more than a few times longer");
}

Span TrackedText::original(Span span) const {
  if (!tracked || span.begin >= span.end) return {};
  return {origin[span.begin].begin, origin[span.end - 1].end};
}

Rewriter::Rewriter(TrackedText& text) : text_(text) {
  bytes_.reserve(text.bytes.size() + text.bytes.size() / 8 + 16);
  if (text.tracked) origin_.reserve(bytes_.capacity());
}

void Rewriter::keep(std::size_t begin, std::size_t end) {
  if (begin < end) note_first(begin);
  bytes_.append(text_.bytes, begin, end - begin);
  if (text_.tracked) {
    const auto first = text_.origin.begin();
    origin_.insert(origin_.end(), first + static_cast<std::ptrdiff_t>(begin),
                   first + static_cast<std::ptrdiff_t>(end));
  }
}

void Rewriter::put(std::string_view piece, std::size_t begin, std::size_t end) {
  if (!piece.empty()) note_first(begin);
  bytes_.append(piece);
  if (text_.tracked) {
    const Span span{text_.origin[begin].begin, text_.origin[end - 1].end};
    origin_.insert(origin_.end(), piece.size(), span);
  }
}

void Rewriter::put_aligned(std::string_view piece, std::size_t begin, std::size_t end) {
  if (!text_.tracked || piece.empty()) return put(piece, begin, end);
  note_first(begin);
  Span span;
  for (std::size_t i = 0; i < piece.size();) {
    if (begin < end) {
      span = text_.origin[begin];
      begin += char_length(text_.bytes[begin]);
    }
    const std::size_t length = char_length(piece[i]);
    bytes_.append(piece.substr(i, length));
    origin_.insert(origin_.end(), length, span);
    i += length;
  }
}

void Rewriter::put_from(std::string_view piece, Span original, std::size_t source) {
  note_first(source);
  bytes_.append(piece);
  if (text_.tracked) origin_.insert(origin_.end(), piece.size(), original);
}

void Rewriter::insert(std::string_view piece) {
  note_first(0);
  bytes_.append(piece);
  if (text_.tracked) {
    const Span span = !origin_.empty()       ? origin_.back()
                      : text_.origin.empty() ? Span{}
                                             : text_.origin.front();
    origin_.insert(origin_.end(), piece.size(), span);
  }
}

void Rewriter::put_before(std::string_view piece, std::size_t next) {
  note_first(next);
  bytes_.append(piece);
  if (text_.tracked) origin_.insert(origin_.end(), piece.size(), text_.origin[next]);
}

void Rewriter::put_byte_level(std::size_t begin, std::size_t end) {
  put(bytes_to_byte_level(std::string_view(text_.bytes).substr(begin, end - begin)), begin, end);
}

void Rewriter::drop_suffixes(std::string_view suffix) {
  while (bytes_.ends_with(suffix)) bytes_.resize(bytes_.size() - suffix.size());
  if (text_.tracked) origin_.resize(bytes_.size());
}

void Rewriter::finish() {
  text_.starts_text = starts_text_;
  text_.bytes = std::move(bytes_);
  text_.origin = std::move(origin_);
}

}  // namespace nibble::text
