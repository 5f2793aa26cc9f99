// SPDX-License-Identifier: Apache-2.0
// Byte pair encoding (Sennrich et al. 2016) with the options of Hugging Face tokenizers: of all adjacent
// pairs the one with the lowest rank, leftmost first, is merged until none is left. Short pieces: quadratic
// over a small array; long ones: a linked list and a heap, O(n log n).
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <unordered_set>

#include "text/tokenizer/merge_table.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

constexpr std::size_t kShortPiece = 48;  // symbols; above it the heap is faster

struct Symbol {
  TokenId id;
  std::uint32_t end;  // of its bytes in the piece; it begins where the symbol before it ends
};

// Which neighbouring characters (or bytes) can ever end up in one token: the last of the left and the first
// of the right half of some merge. Between all others a piece can be cut without changing the result, because
// any merge across the cut is one of these pairs.
class Junctions {
 public:
  void add(char32_t left, char32_t right) {
    if (left < 256 && right < 256) {
      low_.set(left * 256 + right);
    } else {
      high_.insert((static_cast<std::uint64_t>(left) << 32) | right);
    }
  }
  bool joins(char32_t left, char32_t right) const {
    if (left < 256 && right < 256) return low_.test(left * 256 + right);
    return high_.contains((static_cast<std::uint64_t>(left) << 32) | right);
  }

 private:
  std::bitset<256 * 256> low_;
  std::unordered_set<std::uint64_t> high_;
};

std::string byte_token(std::size_t byte) {
  return fmt::format("<0x{:02X}>", byte);
}

class Bpe final : public Model {
 public:
  Bpe(const ModelSpec& spec, bool raw_bytes)
      : vocabulary_(spec.vocabulary),
        table_(spec.merges.size()),
        raw_bytes_(raw_bytes),
        byte_fallback_(spec.byte_fallback),
        fuse_unk_(spec.fuse_unk),
        ignore_merges_(spec.ignore_merges),
        prefix_(spec.continuing_subword_prefix),
        suffix_(spec.end_of_word_suffix),
        plain_(prefix_.empty() && suffix_.empty()) {
    if (!spec.unk_token.empty()) unk_ = vocabulary_.find(spec.unk_token);
    for (std::size_t b = 0; b < 256; ++b) {
      std::string text;
      append_utf8(text, raw_bytes ? byte_to_char(static_cast<std::uint8_t>(b)) : static_cast<char32_t>(b));
      unit_id_[b] = vocabulary_.find(text);
      byte_id_[b] = byte_fallback_ ? vocabulary_.find(byte_token(b)) : kNoToken;
    }
    all_bytes_ = std::none_of(byte_id_.begin(), byte_id_.end(), [](TokenId id) { return id == kNoToken; });
  }

  // A token for what is unknown, unless none is wanted or nothing can be unknown.
  bool has_unknown_token(const ModelSpec& spec) const {
    return spec.unk_token.empty() || unk_ != kNoToken || all_bytes_ || raw_bytes_;
  }

  Status add_merges(const std::vector<Merge>& merges) {
    for (const Merge& merge : merges) {
      TRY_ASSIGN(const std::string joined, joined_text(merge));
      const TokenId result = vocabulary_.find(joined);
      if (result == kNoToken) {
        return bad_data(fmt::format("the merge \"{}\" + \"{}\" gives \"{}\", which is not in the vocabulary",
                                    vocabulary_.text(merge.left), vocabulary_.text(merge.right), joined));
      }
      table_.put(merge.left, merge.right, {merge.rank, result});
    }
    find_junctions(merges);
    return {};
  }

  void tokenize(std::string_view piece, std::vector<Token>& out) const override {
    if (ignore_merges_) {
      const TokenId whole = vocabulary_.find(raw_bytes_ ? bytes_to_byte_level(piece) : std::string(piece));
      if (whole != kNoToken) {
        out.push_back({whole, {0, static_cast<std::uint32_t>(piece.size())}});
        return;
      }
    }
    std::vector<Symbol> symbols;
    symbols.reserve(std::min<std::size_t>(piece.size(), 64));
    raw_bytes_ ? split_bytes(piece, symbols) : split_chars(piece, symbols);
    symbols.size() <= kShortPiece ? merge_short(symbols) : merge_long(symbols);
    std::uint32_t begin = 0;
    for (const Symbol& symbol : symbols) {
      out.push_back({symbol.id, {begin, symbol.end}});
      begin = symbol.end;
    }
  }

  std::size_t first_part(std::string_view piece) const override {
    if (!can_cut_) return piece.size();
    return raw_bytes_ ? first_part_of_bytes(piece) : first_part_of_chars(piece);
  }

 private:
  Result<std::string> joined_text(const Merge& merge) const {
    std::string_view right = vocabulary_.text(merge.right);
    if (!prefix_.empty()) {
      if (right.size() < prefix_.size()) {
        return bad_data(
            fmt::format("the second part \"{}\" of a merge is shorter than the prefix of words", right));
      }
      right.remove_prefix(prefix_.size());
    }
    return std::string(vocabulary_.text(merge.left)).append(right);
  }

  void find_junctions(const std::vector<Merge>& merges) {
    // Whole-piece look-ups, prefixes and suffixes depend on where a piece ends; dropped characters join their
    // neighbours; a character missing beside byte tokens is put down late (see split_chars).
    const bool unknown_is_safe = raw_bytes_ || all_bytes_ || (unk_ != kNoToken && !byte_fallback_);
    can_cut_ = !ignore_merges_ && plain_ && unknown_is_safe;
    for (const Merge& merge : merges) {
      if (!can_cut_) return;
      const std::string_view left = vocabulary_.text(merge.left), right = vocabulary_.text(merge.right);
      can_cut_ = !left.empty() && !right.empty() && merge.left != unk_ && merge.right != unk_;
      for (const std::string_view part : {left, right}) {
        can_cut_ = can_cut_ && !(byte_fallback_ && part.size() == 6 && part.starts_with("<0x"));
      }
      if (!can_cut_) return;
      const char32_t last = decode_last_char(left).code, first = decode_char(right.data()).code;
      if (!raw_bytes_) {
        junctions_.add(last, first);
      } else if (char_to_byte(last) >= 0 && char_to_byte(first) >= 0) {
        junctions_.add(static_cast<char32_t>(char_to_byte(last)), static_cast<char32_t>(char_to_byte(first)));
      }
    }
  }

  std::size_t first_part_of_bytes(std::string_view piece) const {
    for (std::size_t i = 1; i < piece.size(); ++i) {
      if (!junctions_.joins(static_cast<unsigned char>(piece[i - 1]), static_cast<unsigned char>(piece[i]))) {
        // A byte without a token is dropped and lets its neighbours meet.
        if (unit_id_[static_cast<unsigned char>(piece[i - 1])] == kNoToken) continue;
        if (unit_id_[static_cast<unsigned char>(piece[i])] == kNoToken) continue;
        return i;
      }
    }
    return piece.size();
  }

  std::size_t first_part_of_chars(std::string_view piece) const {
    DecodedChar last = decode_char(piece.data());
    for (std::size_t i = last.length; i < piece.size();) {
      const DecodedChar c = decode_char(piece.data() + i);
      if (!junctions_.joins(last.code, c.code)) {
        const bool fuses = !all_bytes_ && fuse_unk_ &&
                           vocabulary_.find(piece.substr(i, c.length)) == kNoToken &&
                           vocabulary_.find(piece.substr(i - last.length, last.length)) == kNoToken;
        if (!fuses) return i;
      }
      last = c;
      i += c.length;
    }
    return piece.size();
  }

  void split_bytes(std::string_view piece, std::vector<Symbol>& symbols) const {
    for (std::size_t i = 0; i < piece.size(); ++i) {
      const TokenId id = unit_id_[static_cast<unsigned char>(piece[i])];
      if (id != kNoToken) symbols.push_back({id, static_cast<std::uint32_t>(i + 1)});
    }
  }

  // The character with what marks its place in the piece, as the vocabulary writes it.
  std::string affixed(std::string_view piece, std::size_t begin, std::size_t end) const {
    std::string text = begin > 0 ? prefix_ : std::string();
    text += piece.substr(begin, end - begin);
    return end == piece.size() ? text + suffix_ : text;
  }

  TokenId id_of_char(std::string_view piece, std::size_t begin, std::size_t end) const {
    if (!plain_) return vocabulary_.find(affixed(piece, begin, end));
    const auto byte = static_cast<unsigned char>(piece[begin]);
    return byte < 128 ? unit_id_[byte] : vocabulary_.find(piece.substr(begin, end - begin));
  }

  // Order of the reference: a run of unknown characters is put down when the next known one comes, so byte
  // tokens of characters in between come first.
  void split_chars(std::string_view piece, std::vector<Symbol>& symbols) const {
    std::uint32_t unknown_end = 0;
    const auto put_unknown = [&] {
      if (unknown_end > 0) symbols.push_back({unk_, unknown_end});
      unknown_end = 0;
    };
    for (std::size_t begin = 0; begin < piece.size();) {
      const std::size_t end = begin + char_length(piece[begin]);
      const TokenId id = id_of_char(piece, begin, end);
      if (id != kNoToken) {
        put_unknown();
        symbols.push_back({id, static_cast<std::uint32_t>(end)});
      } else if (!put_byte_tokens(piece, begin, end, symbols) && unk_ != kNoToken) {
        if (!fuse_unk_) put_unknown();
        unknown_end = static_cast<std::uint32_t>(end);
      }
      begin = end;
    }
    put_unknown();
  }

  // Bytes of prefix and suffix too, as in the reference.
  bool put_byte_tokens(std::string_view piece, std::size_t begin, std::size_t end,
                       std::vector<Symbol>& symbols) const {
    if (!byte_fallback_) return false;
    const std::string text = affixed(piece, begin, end);
    const auto id_of = [this](char byte) { return byte_id_[static_cast<unsigned char>(byte)]; };
    if (std::any_of(text.begin(), text.end(), [&](char byte) { return id_of(byte) == kNoToken; }))
      return false;
    for (const char byte : text) {
      begin = std::min(begin + 1, end);
      symbols.push_back({id_of(byte), static_cast<std::uint32_t>(begin)});
    }
    return true;
  }

  void merge_short(std::vector<Symbol>& symbols) const {
    std::array<MergeResult, kShortPiece> pair;  // pair[i]: symbols i and i + 1
    std::size_t count = symbols.size();
    for (std::size_t i = 0; i + 1 < count; ++i) pair[i] = table_.find(symbols[i].id, symbols[i + 1].id);
    while (count > 1) {
      std::size_t best = 0;
      for (std::size_t i = 1; i + 1 < count; ++i) {
        if (pair[i].rank < pair[best].rank) best = i;
      }
      if (pair[best].rank == MergeResult::kNever) break;
      symbols[best] = {pair[best].id, symbols[best + 1].end};
      const auto at = static_cast<std::ptrdiff_t>(best);
      std::copy(symbols.begin() + at + 2, symbols.begin() + static_cast<std::ptrdiff_t>(count),
                symbols.begin() + at + 1);
      if (best + 2 < count) {
        std::copy(pair.begin() + at + 2, pair.begin() + static_cast<std::ptrdiff_t>(count) - 1,
                  pair.begin() + at + 1);
      }
      --count;
      if (best + 1 < count) pair[best] = table_.find(symbols[best].id, symbols[best + 1].id);
      if (best > 0) pair[best - 1] = table_.find(symbols[best - 1].id, symbols[best].id);
    }
    symbols.resize(count);
  }

  void merge_long(std::vector<Symbol>& symbols) const;

  const Vocabulary& vocabulary_;
  MergeTable table_;
  Junctions junctions_;
  std::array<TokenId, 256> unit_id_{};  // of a raw byte, or of a character below U+0100
  std::array<TokenId, 256> byte_id_{};  // of "<0xNN>"
  TokenId unk_ = kNoToken;
  bool raw_bytes_, byte_fallback_, fuse_unk_, ignore_merges_;
  bool all_bytes_ = false;
  bool can_cut_ = false;
  std::string prefix_, suffix_;
  bool plain_;  // neither prefix nor suffix
};

struct Candidate {
  std::uint32_t rank;
  std::uint32_t left;  // index of the left symbol
  TokenId id;
};
// For a heap whose top is the lowest rank, then the leftmost.
bool later(const Candidate& a, const Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
}

constexpr std::uint32_t kNone = 0xFFFFFFFF;

void Bpe::merge_long(std::vector<Symbol>& symbols) const {
  const auto count = static_cast<std::uint32_t>(symbols.size());
  std::vector<std::uint32_t> previous(count), next(count);
  std::vector<Candidate> heap;
  const auto candidate = [&](std::uint32_t left) -> Candidate {
    const MergeResult found = table_.find(symbols[left].id, symbols[next[left]].id);
    return {found.rank, left, found.id};
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    previous[i] = i == 0 ? kNone : i - 1;
    next[i] = i + 1 == count ? kNone : i + 1;
  }
  for (std::uint32_t i = 0; i + 1 < count; ++i) {
    if (const Candidate c = candidate(i); c.rank != MergeResult::kNever) heap.push_back(c);
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto push = [&](std::uint32_t left) {
    const Candidate c = candidate(left);
    if (c.rank == MergeResult::kNever) return;
    heap.push_back(c);
    std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate top = heap.back();
    heap.pop_back();
    // Out of date when a neighbour was merged since: the pair at this place is another one now.
    if (symbols[top.left].id == kNoToken || next[top.left] == kNone || candidate(top.left).id != top.id)
      continue;
    const std::uint32_t right = next[top.left];
    symbols[top.left] = {top.id, symbols[right].end};
    symbols[right].id = kNoToken;
    next[top.left] = next[right];
    if (next[right] != kNone) previous[next[right]] = top.left;
    if (previous[top.left] != kNone) push(previous[top.left]);
    if (next[top.left] != kNone) push(top.left);
  }
  std::erase_if(symbols, [](const Symbol& symbol) { return symbol.id == kNoToken; });
}

}  // namespace

bool can_use_raw_bytes(const ModelSpec& spec) {
  if (spec.kind != ModelKind::kBpe || !spec.continuing_subword_prefix.empty() ||
      !spec.end_of_word_suffix.empty()) {
    return false;
  }
  if (spec.unk_token.empty() && !spec.byte_fallback) return true;
  for (int b = 0; b < 256; ++b) {  // with all bytes there, nothing is ever unknown
    std::string text;
    append_utf8(text, byte_to_char(static_cast<std::uint8_t>(b)));
    if (spec.vocabulary.find(text) == kNoToken) return false;
  }
  return true;
}

Result<std::unique_ptr<Model>> make_bpe(const ModelSpec& spec, bool raw_bytes) {
  auto bpe = std::make_unique<Bpe>(spec, raw_bytes);
  if (!bpe->has_unknown_token(spec)) {
    return bad_data(fmt::format("\"unk_token\" is \"{}\", which is not in the vocabulary", spec.unk_token));
  }
  TRY(bpe->add_merges(spec.merges));
  return std::unique_ptr<Model>(std::move(bpe));
}

}  // namespace nibble::text
