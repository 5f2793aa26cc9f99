// SPDX-License-Identifier: Apache-2.0
// tokenizer.model / spiece.model: sentencepiece_model.proto (ModelProto) of google/sentencepiece.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "text/tokenizer/building.h"
#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/loaders.h"
#include "text/tokenizer/protobuf.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

enum ModelType : std::int64_t { kUnigramType = 1, kBpeType, kWordType, kCharType };

struct Piece {
  std::string_view text;
  float score = 0;
  std::int64_t type = kNormal;
};

struct SentencePieceModel {
  std::vector<Piece> pieces;
  std::int64_t model_type = kUnigramType;
  bool byte_fallback = false, whitespace_as_suffix = false;
  std::int64_t unk_id = 0, bos_id = 1, eos_id = 2;
  std::string_view unk_surface = " \xE2\x81\x87 ";
  std::string_view charsmap;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// Calls read(field) for every field of `message`.
template <class Read>
Status for_each_field(std::string_view message, Read read) {
  ProtoReader reader(message);
  for (;;) {
    TRY_ASSIGN(const std::optional<ProtoField> field, reader.next());
    if (!field) return {};
    TRY(read(*field));
  }
}

template <class T>
Status store(Result<T> value, T& place) {
  if (!value.ok()) return std::move(value).error();
  place = *value;
  return {};
}

Status read_piece(std::string_view message, SentencePieceModel& model) {
  Piece piece;
  TRY(for_each_field(message, [&](const ProtoField& field) -> Status {
    if (field.number == 1) return store(field.as_bytes(), piece.text);
    if (field.number == 2) return store(field.as_float(), piece.score);
    if (field.number == 3) return store(field.as_int(), piece.type);
    return {};
  }));
  if (piece.text.empty()) return bad_data(fmt::format("the piece {} is empty", model.pieces.size()));
  if (piece.type < kNormal || piece.type > kByte) {
    return bad_data(fmt::format("the piece \"{}\" has the unknown type {}", piece.text, piece.type));
  }
  if (!(std::abs(piece.score) <= std::numeric_limits<float>::max())) {
    return bad_data(fmt::format("the score of the piece \"{}\" is not finite", piece.text));
  }
  if (static_cast<std::int64_t>(model.pieces.size()) > kMaxTokenId) return bad_data("too many pieces");
  model.pieces.push_back(piece);
  return {};
}

Status read_trainer(std::string_view message, SentencePieceModel& model) {
  return for_each_field(message, [&](const ProtoField& field) -> Status {
    switch (field.number) {
      case 3:
        return store(field.as_int(), model.model_type);
      case 24:
        return store(field.as_bool(), model.whitespace_as_suffix);
      case 35:
        return store(field.as_bool(), model.byte_fallback);
      case 40:
        return store(field.as_int(), model.unk_id);
      case 41:
        return store(field.as_int(), model.bos_id);
      case 42:
        return store(field.as_int(), model.eos_id);
      case 44:
        return store(field.as_bytes(), model.unk_surface);
      default:
        return {};
    }
  });
}

Status read_normalizer(std::string_view message, SentencePieceModel& model) {
  return for_each_field(message, [&](const ProtoField& field) -> Status {
    switch (field.number) {
      case 2:
        return store(field.as_bytes(), model.charsmap);
      case 3:
        return store(field.as_bool(), model.add_dummy_prefix);
      case 4:
        return store(field.as_bool(), model.remove_extra_whitespaces);
      case 5:
        return store(field.as_bool(), model.escape_whitespaces);
      default:
        return {};
    }
  });
}

Result<SentencePieceModel> parse_model(std::string_view bytes) {
  SentencePieceModel model;
  TRY(for_each_field(bytes, [&](const ProtoField& field) -> Status {
    if (field.number < 1 || field.number > 3) return {};
    TRY_ASSIGN(const std::string_view message, field.as_bytes());
    constexpr std::array kReaders{read_piece, read_trainer, read_normalizer};
    return kReaders[field.number - 1](message, model);
  }));
  if (model.pieces.empty()) return bad_data("the SentencePiece model has no pieces");
  return model;
}

std::string options_json(const SentencePieceModel& model) {
  return fmt::format(
      R"("add_dummy_prefix":{},"remove_extra_whitespaces":{},"escape_whitespaces":{},"treat_whitespace_as_suffix":{})",
      model.add_dummy_prefix, model.remove_extra_whitespaces, model.escape_whitespaces,
      model.whitespace_as_suffix);
}

std::string names_of_type(const SentencePieceModel& model, std::int64_t type) {
  std::string list;
  for (const Piece& piece : model.pieces) {
    if (piece.type == type) list += (list.empty() ? "" : ",") + json_text(piece.text);
  }
  return "[" + list + "]";
}

Status fill_vocabulary(const SentencePieceModel& model, TokenizerSpec& spec) {
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    TRY(spec.model.vocabulary.add(piece.text, static_cast<std::int64_t>(id)));
    if (piece.type == kUnknown) {
      if (spec.model.unk_id != kNoToken) return bad_data("the model has two unknown pieces");
      spec.model.unk_id = static_cast<TokenId>(id);
      spec.model.unk_token = std::string(piece.text);
    }
    if (piece.type == kByte && byte_of_token(piece.text) < 0) {
      return bad_data(fmt::format("the byte piece \"{}\" is not of the form <0xNN>", piece.text));
    }
    if (piece.type != kControl && piece.type != kUnknown && piece.type != kUserDefined) continue;
    AddedToken token;
    token.content = std::string(piece.text);
    token.id = static_cast<TokenId>(id);
    token.special = piece.type != kUserDefined;
    // "<s>" in a text is three characters to SentencePiece; user-defined symbols are found first by BPE
    // models and chosen by their scores by Unigram ones.
    token.in_text = !token.special && model.model_type != kUnigramType;
    token.normalized = !token.special;
    spec.added_tokens.push_back(std::move(token));
  }
  if (spec.model.unk_id == kNoToken) return bad_data("the model has no unknown piece");
  spec.match_added_tokens_verbatim = true;
  return {};
}

// Merges by score. A user-defined symbol is found before the model; its merges matter only in the exported
// form, which looks for it in texts that are not normalized yet.
void fill_bpe(const SentencePieceModel& model, ModelSpec& spec) {
  spec.kind = ModelKind::kBpe;
  spec.fuse_unk = true;
  if (model.model_type == kCharType) return;
  std::vector<double> scores;
  for (const Piece& piece : model.pieces) {
    scores.push_back(piece.type == kUserDefined ? std::numeric_limits<double>::infinity() : piece.score);
  }
  const std::vector<std::uint32_t> ranks = ranks_of_scores(scores);
  const auto joins = [&](TokenId id) {
    const std::int64_t type = model.pieces[static_cast<std::size_t>(id)].type;
    return type == kNormal || type == kUserDefined || type == kUnused;
  };
  spec.merges = merges_of_ranked_tokens(spec.vocabulary, joins,
                                        [&](TokenId id) { return ranks[static_cast<std::size_t>(id)]; });
}

// The score of a user-defined symbol, which is not a log probability (0.2.3; earlier versions had another
// bonus).
float user_defined_score(std::string_view symbol) {
  return static_cast<float>(0.1 * static_cast<double>(symbol.size() - 1));
}

void fill_unigram(const SentencePieceModel& model, ModelSpec& spec) {
  spec.kind = ModelKind::kUnigram;
  spec.single_precision = true;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    spec.scores.push_back(piece.type == kUserDefined ? user_defined_score(piece.text) : piece.score);
    if (piece.type == kNormal) {
      spec.lowest_score = std::min<double>(spec.lowest_score.value_or(piece.score), piece.score);
    } else if (piece.type != kUserDefined) {
      spec.never_chosen.push_back(static_cast<TokenId>(id));
    }
  }
}

// What T5 adds behind its pieces when the files beside the model do not list it: <extra_id_99> to
// <extra_id_0>.
Status add_t5_sentinels(TokenizerSpec& spec) {
  for (int i = 99; i >= 0; --i) {
    AddedToken token;
    token.content = fmt::format("<extra_id_{}>", i);
    token.special = true;
    TRY(add_token(spec, std::move(token)));
  }
  return {};
}

// Which special tokens stand around a text: as the files beside the model say, else as the family does.
// Models that have a piece for the beginning put it first; those that have none (T5) end with the piece for
// the end.
Status add_specials(const SentencePieceModel& model, const TokenizerSettings& settings, TokenizerSpec& spec) {
  const bool t5 = settings.tokenizer_class.find("T5") != std::string::npos ||
                  settings.model_type.find("t5") != std::string::npos;
  const auto piece_at = [&](std::int64_t id) {
    const bool there = id >= 0 && id < static_cast<std::int64_t>(model.pieces.size());
    return there ? std::string(model.pieces[static_cast<std::size_t>(id)].text) : std::string();
  };
  const auto role = [&](const char* name, std::int64_t id) {
    const auto found = settings.special_tokens.find(name);
    return found == settings.special_tokens.end() ? piece_at(id) : found->second.content;
  };
  const std::string bos = role("bos_token", model.bos_id), eos = role("eos_token", model.eos_id);
  const bool ends = t5 || (bos.empty() && model.model_type == kUnigramType);
  const bool add_bos = settings.add_bos_token.value_or(!ends) && !bos.empty();
  const bool add_eos = settings.add_eos_token.value_or(ends) && !eos.empty();
  for (const AddedToken& token : settings.added_tokens) TRY(add_token(spec, token));
  const bool has_sentinels = t5 || (settings.tokenizer_class.empty() && settings.is_spiece_file && ends);
  if (settings.added_tokens.empty() && has_sentinels) TRY(add_t5_sentinels(spec));
  for (const std::string& name : {bos, eos}) {
    AddedToken token;
    token.content = name;
    token.special = true;
    TRY(add_token(spec, std::move(token)));
  }
  if (const TokenId id = spec.model.vocabulary.find(bos); !bos.empty()) spec.bos = id;
  if (const TokenId id = spec.model.vocabulary.find(eos); !eos.empty()) spec.eos = id;
  std::vector<std::string> before, after;
  if (add_bos) before.push_back(bos);
  if (add_eos) after.push_back(eos);
  if (add_bos || add_eos) spec.post_processor = template_json(spec, before, after);
  return {};
}

}  // namespace

Result<TokenizerSpec> read_sentencepiece_model(std::string_view bytes, const TokenizerSettings& settings) {
  TRY_ASSIGN(const SentencePieceModel model, parse_model(bytes));
  TokenizerSpec spec;
  TRY(fill_vocabulary(model, spec));
  spec.model.byte_fallback = model.byte_fallback;
  if (model.model_type == kBpeType || model.model_type == kCharType) {
    fill_bpe(model, spec.model);
  } else if (model.model_type == kUnigramType) {
    fill_unigram(model, spec.model);
    if (!model.byte_fallback) spec.model.fuse_unk = true;
  } else {
    return bad_data(
        fmt::format("SentencePiece models of the type {} are not supported; known are UNIGRAM (1), BPE (2) "
                    "and CHAR (4)",
                    model.model_type));
  }
  const std::string options = options_json(model);
  spec.normalizer = fmt::format(R"({{"type":"SentencePiece","precompiled_charsmap":"{}","symbols":{},{}}})",
                                encode_base64(model.charsmap), names_of_type(model, kUserDefined), options);
  spec.decoder = fmt::format(R"({{"type":"SentencePiece","control":{},"unk":{},"unk_surface":{},{}}})",
                             names_of_type(model, kControl), json_text(spec.model.unk_token),
                             json_text(to_valid_utf8(model.unk_surface)), options);
  TRY(add_specials(model, settings, spec));
  return spec;
}

}  // namespace nibble::text
