// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/json.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

// Pieces longer than this are cut at places where the model allows it before they are looked up.
constexpr std::size_t kLongPiece = WordCache::kLongestPiece;
// Positions are 32 bits wide: longer texts are encoded part by part, cut before white space.
constexpr std::size_t kLongestText = std::size_t{1} << 30;
// How long normalizers and pre-tokenizers may make a text (NFKC makes 18 characters of one, U+FDFA).
std::size_t most_bytes(std::size_t text_size) {
  return std::min<std::size_t>(4096 + 256 * text_size, UINT32_MAX);
}

Result<Json> parse_component(const std::string& text) {
  return text.empty() ? Result<Json>(Json()) : parse_json(text);
}

std::size_t end_of_part(std::string_view text) {
  if (text.size() <= kLongestText) return text.size();
  const std::size_t blank = text.find_last_of(" \n", kLongestText);
  if (blank != std::string_view::npos && blank > 0) return blank;
  std::size_t end = kLongestText;
  while (end > 1 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

// Valid UTF-8 with the place of every character in the user's text.
TrackedText track(std::string_view text) {
  TrackedText tracked;
  tracked.tracked = true;
  tracked.bytes = to_valid_utf8(text);
  tracked.origin.reserve(tracked.bytes.size());
  for (std::uint32_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const bool valid = valid_utf8_prefix(rest.substr(0, 4)) > 0;
    const auto length = valid ? char_length(rest[0]) : static_cast<std::uint32_t>(invalid_utf8_length(rest));
    tracked.origin.insert(tracked.origin.end(), valid ? length : 3,
                          Span{at, at + length});  // U+FFFD has 3 bytes
    at += length;
  }
  return tracked;
}

TrackedText slice(const TrackedText& text, Span span) {
  if (span.begin == 0 && span.end == text.bytes.size()) return text;
  TrackedText part;
  part.bytes = text.bytes.substr(span.begin, span.end - span.begin);
  part.tracked = text.tracked;
  part.most_bytes = text.most_bytes;
  part.starts_text = text.starts_text && span.begin == 0;
  if (text.tracked) part.origin.assign(text.origin.begin() + span.begin, text.origin.begin() + span.end);
  return part;
}

}  // namespace

struct Pipeline::Sink {
  std::vector<TokenId> ids;
  std::vector<TokenOffset> offsets;
  bool tracked = false;
  Scratch* scratch = nullptr;
  Status failure;  // the first; what follows it is left out

  // `text`: what the token looks like to the trimming of offsets.
  void put(TokenId id, Span original, std::string_view text, const PostProcessor& post) {
    TokenOffset offset{original.begin, original.end};
    if (post.trim_offsets) offset = trim_offset(offset, text, ids.empty(), post.add_prefix_space);
    ids.push_back(id);
    offsets.push_back(offset);
  }
};

class Pipeline::BorrowedScratch {
 public:
  explicit BorrowedScratch(const Pipeline& owner) : owner_(owner) {
    {
      const std::scoped_lock lock(owner.scratch_lock_);
      if (!owner.scratch_.empty()) {
        scratch_ = std::move(owner.scratch_.back());
        owner.scratch_.pop_back();
      }
    }
    if (!scratch_) scratch_ = std::make_unique<Scratch>();
  }
  ~BorrowedScratch() {
    const std::scoped_lock lock(owner_.scratch_lock_);
    owner_.scratch_.push_back(std::move(scratch_));
  }
  BorrowedScratch(const BorrowedScratch&) = delete;
  BorrowedScratch& operator=(const BorrowedScratch&) = delete;
  Scratch* get() const { return scratch_.get(); }

 private:
  const Pipeline& owner_;
  std::unique_ptr<Scratch> scratch_;
};

Result<std::unique_ptr<Tokenizer>> Pipeline::create(TokenizerSpec spec) {
  std::unique_ptr<Pipeline> pipeline(new Pipeline(std::move(spec)));
  TRY(pipeline->build());
  return std::unique_ptr<Tokenizer>(std::move(pipeline));
}

Status Pipeline::build() {
  TRY_ASSIGN(const Json normalizer, parse_component(spec_.normalizer));
  TRY_ASSIGN(const Json pre_tokenizer, parse_component(spec_.pre_tokenizer));
  TRY_ASSIGN(const Json post_processor, parse_component(spec_.post_processor));
  TRY_ASSIGN(const Json decoder, parse_component(spec_.decoder));
  if (!normalizer.is_null()) {
    TRY_ASSIGN(normalizer_, make_normalizer(normalizer));
  }
  TRY_ASSIGN(plan_, make_pre_tokenizer(pre_tokenizer, can_use_raw_bytes(spec_.model)));
  TRY_ASSIGN(model_, make_model(spec_.model, plan_.raw_bytes));
  TRY_ASSIGN(post_, make_post_processor(post_processor));
  if (!decoder.is_null()) {
    TRY_ASSIGN(decoder_, make_decoder(decoder));
  }
  TRY(assign_added_ids());
  raw_finder_.emplace(spec_.added_tokens, added_texts_, false);
  normalized_finder_.emplace(spec_.added_tokens, added_texts_, true);
  return {};
}

// Ids as Hugging Face tokenizers gives them: that of the model, else the next free number; the file's own
// number of a token is not looked at there either.
Status Pipeline::assign_added_ids() {
  const Vocabulary& vocabulary = spec_.model.vocabulary;
  std::int64_t next = vocabulary.size();
  TokenId end = vocabulary.end_id();
  for (AddedToken& token : spec_.added_tokens) {
    token.id = vocabulary.find(token.content);
    if (token.id == kNoToken && next > kMaxTokenId) return bad_data("too many added tokens");
    if (token.id == kNoToken) token.id = static_cast<TokenId>(next++);
    end = std::max(end, token.id + 1);
    TrackedText text;
    text.bytes = token.content;
    text.most_bytes = most_bytes(text.bytes.size());
    if (token.normalized && normalizer_ && !spec_.match_added_tokens_verbatim) {
      TRY(normalizer_->apply(text).at(fmt::format("added token \"{}\"", token.content)));
    }
    added_texts_.push_back(std::move(text.bytes));
  }
  token_count_ = static_cast<std::size_t>(end);
  added_index_.assign(token_count_, -1);
  is_special_.assign(token_count_, false);
  for (std::size_t i = 0; i < spec_.added_tokens.size(); ++i) {
    const auto id = static_cast<std::size_t>(spec_.added_tokens[i].id);
    added_index_[id] = static_cast<std::int32_t>(i);
    if (spec_.added_tokens[i].special) is_special_[id] = true;
  }
  for (const auto* pieces : {&post_.single, &post_.pair}) {
    for (const TemplatePiece& piece : *pieces) {
      for (const TokenId id : piece.special) {
        if (static_cast<std::size_t>(id) < token_count_) continue;
        return bad_data(
            fmt::format("the post-processor adds the id {}, but the largest id is {}", id, token_count_ - 1));
      }
    }
  }
  return {};
}

Result<std::vector<TokenId>> Pipeline::encode(std::string_view text, bool add_special_tokens) const {
  const BorrowedScratch scratch(*this);
  Sink sink;
  sink.scratch = scratch.get();
  sink.ids.reserve(text.size() / 4 + 8);
  for (const TemplatePiece& piece : post_.single) {
    if (piece.special.empty()) {
      encode_plain(text, sink);
    } else if (add_special_tokens) {
      sink.ids.insert(sink.ids.end(), piece.special.begin(), piece.special.end());
    }
  }
  TRY(std::move(sink.failure));
  return std::move(sink.ids);
}

void Pipeline::encode_plain(std::string_view text, Sink& sink) const {
  bool starts_text = true;
  while (!text.empty()) {
    const std::size_t part = end_of_part(text);
    TrackedText tracked;
    if (sink.tracked) {
      tracked = track(text.substr(0, part));
    } else {
      tracked.bytes = to_valid_utf8(text.substr(0, part));
    }
    tracked.starts_text = starts_text;
    tracked.most_bytes = most_bytes(tracked.bytes.size());
    if (raw_finder_->empty()) {
      encode_raw_segment(std::move(tracked), sink);
    } else {
      raw_finder_->for_each(tracked.bytes, [&](Span span, const AddedToken* token) {
        if (token == nullptr) return encode_raw_segment(slice(tracked, span), sink);
        put_added(*token, tracked, span, sink);
      });
    }
    starts_text = false;
    text.remove_prefix(part);
  }
}

void Pipeline::put_added(const AddedToken& token, const TrackedText& text, Span span, Sink& sink) const {
  if (!sink.tracked) return sink.ids.push_back(token.id);
  const std::string_view found = std::string_view(text.bytes).substr(span.begin, span.end - span.begin);
  sink.put(token.id, text.original(span), found, post_);
}

void Pipeline::encode_raw_segment(TrackedText text, Sink& sink) const {
  if (!sink.failure.ok()) return;
  if (normalizer_) sink.failure = normalizer_->apply(text);
  if (!sink.failure.ok()) return;
  if (normalized_finder_->empty()) return encode_normalized_segment(std::move(text), sink);
  normalized_finder_->for_each(text.bytes, [&](Span span, const AddedToken* token) {
    if (token == nullptr) return encode_normalized_segment(slice(text, span), sink);
    put_added(*token, text, span, sink);
  });
}

void Pipeline::encode_normalized_segment(TrackedText text, Sink& sink) const {
  if (text.bytes.empty() || !sink.failure.ok()) return;
  Pieces pieces;
  pieces.spans.push_back({0, static_cast<std::uint32_t>(text.bytes.size())});
  pieces.text = std::move(text);
  if (plan_.pre_tokenizer) sink.failure = plan_.pre_tokenizer->apply(pieces);
  if (!sink.failure.ok()) return;
  for (const Span& span : pieces.spans) encode_piece(pieces.text, span, sink);
}

void Pipeline::encode_piece(const TrackedText& text, const Span& span, Sink& sink) const {
  std::string_view rest = std::string_view(text.bytes).substr(span.begin, span.end - span.begin);
  std::vector<Token>& tokens = sink.scratch->tokens;
  for (std::uint32_t at = span.begin; !rest.empty();) {
    const std::size_t length = rest.size() > kLongPiece ? model_->first_part(rest) : rest.size();
    const std::string_view part = rest.substr(0, length);
    if (!sink.tracked) {
      encode_part_cached(part, sink);
    } else {
      tokens.clear();
      model_->tokenize(part, tokens);
      for (const Token& token : tokens) {
        const Span original = text.original({at + token.span.begin, at + token.span.end});
        sink.put(token.id, original, text_for_decoding(token.id), post_);
      }
    }
    rest.remove_prefix(length);
    at += static_cast<std::uint32_t>(length);
  }
}

void Pipeline::encode_part_cached(std::string_view part, Sink& sink) const {
  const bool fits = part.size() <= WordCache::kLongestPiece;
  WordCache::Entry* entry = fits ? &sink.scratch->cache.place_of(part) : nullptr;
  if (fits && WordCache::holds(*entry, part)) {
    sink.ids.insert(sink.ids.end(), entry->ids.begin(), entry->ids.begin() + entry->count);
    return;
  }
  std::vector<Token>& tokens = sink.scratch->tokens;
  tokens.clear();
  model_->tokenize(part, tokens);
  const auto first = static_cast<std::ptrdiff_t>(sink.ids.size());
  for (const Token& token : tokens) sink.ids.push_back(token.id);
  if (fits) WordCache::store(*entry, part, std::span(sink.ids).subspan(static_cast<std::size_t>(first)));
}

Result<Encoding> Pipeline::encode_tracked(std::string_view text) const {
  const BorrowedScratch scratch(*this);
  Sink sink;
  sink.scratch = scratch.get();
  sink.tracked = true;
  encode_plain(text, sink);
  TRY(std::move(sink.failure));
  Encoding encoding;
  encoding.ids = std::move(sink.ids);
  encoding.offsets = std::move(sink.offsets);
  return encoding;
}

Encoding Pipeline::assemble(const std::vector<TemplatePiece>& pieces, std::span<const Encoding> parts,
                            bool special) const {
  Encoding out;
  for (const TemplatePiece& piece : pieces) {
    std::size_t count = 0;
    if (!piece.special.empty()) {
      count = special ? piece.special.size() : 0;
      out.ids.insert(out.ids.end(), piece.special.begin(),
                     piece.special.begin() + static_cast<std::ptrdiff_t>(count));
      out.offsets.insert(out.offsets.end(), count, TokenOffset{0, 0, true, 0});
    } else {
      const Encoding& part = parts[piece.sequence];
      count = part.ids.size();
      out.ids.insert(out.ids.end(), part.ids.begin(), part.ids.end());
      for (TokenOffset offset : part.offsets) {
        offset.sequence = piece.sequence;
        out.offsets.push_back(offset);
      }
    }
    out.type_ids.insert(out.type_ids.end(), count, piece.type_id);
  }
  return out;
}

Result<Encoding> Pipeline::encode_with_offsets(std::string_view text, bool add_special_tokens) const {
  TRY_ASSIGN(const Encoding part, encode_tracked(text));
  return assemble(post_.single, {&part, 1}, add_special_tokens);
}

Result<Encoding> Pipeline::encode_pair(std::string_view first, std::string_view second) const {
  std::array<Encoding, 2> parts;
  TRY_ASSIGN(parts[0], encode_tracked(first));
  TRY_ASSIGN(parts[1], encode_tracked(second));
  return assemble(post_.pair, parts, true);
}

std::string_view Pipeline::text_for_decoding(TokenId id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= token_count_) return {};
  const std::int32_t index = added_index_[static_cast<std::size_t>(id)];
  return index >= 0 ? std::string_view(added_texts_[static_cast<std::size_t>(index)])
                    : spec_.model.vocabulary.text(id);
}

Result<std::string> Pipeline::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const TokenId id : ids) {
    if (id < 0 || static_cast<std::size_t>(id) >= token_count_) continue;
    const auto index = static_cast<std::size_t>(id);
    if (added_index_[index] < 0 && !spec_.model.vocabulary.has(id)) continue;
    if (!skip_special_tokens || !is_special_[index]) tokens.emplace_back(text_for_decoding(id));
  }
  if (decoder_) TRY(decoder_->apply(tokens));
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && !decoder_) text += ' ';  // without a decoder, tokens are words
    text += tokens[i];
  }
  return text;
}

std::optional<TokenId> Pipeline::token_id(std::string_view token) const {
  if (const TokenId id = spec_.model.vocabulary.find(token); id != kNoToken) return id;
  for (const AddedToken& added : spec_.added_tokens) {
    if (added.content == token) return added.id;
  }
  return std::nullopt;
}

std::string Pipeline::token_text(TokenId id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= token_count_) return {};
  const std::int32_t index = added_index_[static_cast<std::size_t>(id)];
  return index >= 0 ? spec_.added_tokens[static_cast<std::size_t>(index)].content
                    : std::string(spec_.model.vocabulary.text(id));
}

Result<std::string> Pipeline::to_tokenizer_json() const {
  return write_tokenizer_json(spec_);
}

}  // namespace nibble::text
