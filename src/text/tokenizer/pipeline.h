// SPDX-License-Identifier: Apache-2.0
// The one implementation of Tokenizer: added tokens, normalizer, pre-tokenizer, model, post-processor and
// decoder, put together from a TokenizerSpec.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"
#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/post_processor.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/spec.h"
#include "text/tokenizer/word_cache.h"

namespace nibble::text {

class Pipeline final : public Tokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> create(TokenizerSpec spec);

  Result<std::vector<TokenId>> encode(std::string_view text, bool add_special_tokens) const override;
  Result<Encoding> encode_with_offsets(std::string_view text, bool add_special_tokens) const override;
  Result<std::string> decode(std::span<const TokenId> ids, bool skip_special_tokens) const override;
  std::int64_t vocabulary_size() const override { return static_cast<std::int64_t>(token_count_); }
  std::optional<TokenId> token_id(std::string_view token) const override;
  std::string token_text(TokenId id) const override;
  std::optional<TokenId> bos() const override { return spec_.bos; }
  std::optional<TokenId> eos() const override { return spec_.eos; }
  Result<Encoding> encode_pair(std::string_view first, std::string_view second) const override;
  const std::string& chat_template() const override { return spec_.chat_template; }
  Result<std::string> to_tokenizer_json() const override;

 private:
  // Memory that calls reuse: one is borrowed for the time of a call.
  struct Scratch {
    WordCache cache;
    std::vector<Token> tokens;
  };
  class BorrowedScratch;
  struct Sink;

  explicit Pipeline(TokenizerSpec spec) : spec_(std::move(spec)) {}
  Status build();
  Status assign_added_ids();

  void encode_plain(std::string_view text, Sink& sink) const;
  void put_added(const AddedToken& token, const TrackedText& text, Span span, Sink& sink) const;
  void encode_raw_segment(TrackedText text, Sink& sink) const;
  void encode_normalized_segment(TrackedText text, Sink& sink) const;
  void encode_piece(const TrackedText& text, const Span& span, Sink& sink) const;
  void encode_part_cached(std::string_view part, Sink& sink) const;
  Result<Encoding> encode_tracked(std::string_view text) const;
  Encoding assemble(const std::vector<TemplatePiece>& pieces, std::span<const Encoding> parts,
                    bool special) const;
  std::string_view text_for_decoding(TokenId id) const;

  TokenizerSpec spec_;
  std::vector<std::string> added_texts_;   // what each added token is searched as
  std::vector<std::int32_t> added_index_;  // id -> index into spec_.added_tokens, or -1
  std::vector<bool> is_special_;           // by id
  std::size_t token_count_ = 0;
  std::unique_ptr<Normalizer> normalizer_;  // may be null
  PreTokenizerPlan plan_;
  std::unique_ptr<Model> model_;
  PostProcessor post_;
  std::unique_ptr<Decoder> decoder_;  // may be null
  std::optional<AddedTokenFinder> raw_finder_, normalized_finder_;

  mutable std::mutex scratch_lock_;
  mutable std::vector<std::unique_ptr<Scratch>> scratch_;
};

// The tokenizer.json of a spec.
Result<std::string> write_tokenizer_json(const TokenizerSpec& spec);

}  // namespace nibble::text
