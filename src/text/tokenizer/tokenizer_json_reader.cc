// SPDX-License-Identifier: Apache-2.0
// tokenizer.json. The vocabulary and the merges, nearly all of the file, go straight from the parser's events
// into compact tables; a DOM of them would cost ten times the memory (and its ordered objects quadratic
// time).
#include <fmt/format.h>

#include <optional>

#include "base/json.h"
#include "base/suggest.h"
#include "text/tokenizer/components.h"
#include "text/tokenizer/loaders.h"

namespace nibble::text {
namespace {

constexpr int kMaxDepth = 64;

// The parts of a merge as texts: the vocabulary may follow the merges in the file.
class MergeTexts {
 public:
  void begin() { parts_.clear(); }
  void add_part(std::string_view text) { parts_.emplace_back(text); }
  Status end() {
    if (parts_.size() != 2)
      return bad_data(fmt::format("a merge must have two parts, found {}", parts_.size()));
    for (const std::string& part : parts_) {
      texts_ += part;
      ends_.push_back(texts_.size());
    }
    return {};
  }
  // "left right"; some old files begin with a line "#version: 0.2".
  Status add_line(std::string_view line) {
    if (line.starts_with("#version")) return {};
    begin();
    for (std::size_t at = 0; at <= line.size();) {
      const std::size_t space = std::min(line.find(' ', at), line.size());
      add_part(line.substr(at, space - at));
      at = space + 1;
    }
    return end().at(fmt::format("merge \"{}\"", line));
  }

  Result<std::vector<Merge>> resolve(const Vocabulary& vocabulary) const {
    std::vector<Merge> merges;
    merges.reserve(ends_.size() / 2);
    std::size_t begin = 0;
    for (std::size_t i = 0; i < ends_.size(); ++i) {
      const std::string_view text = std::string_view(texts_).substr(begin, ends_[i] - begin);
      const TokenId id = vocabulary.find(text);
      if (id == kNoToken) {
        return bad_data(fmt::format("the merge {} uses \"{}\", which is not in the vocabulary", i / 2, text));
      }
      if (i % 2 == 0) merges.push_back({id, kNoToken, static_cast<std::uint32_t>(i / 2)});
      merges.back().right = id;
      begin = ends_[i];
    }
    return merges;
  }

 private:
  std::vector<std::string> parts_;
  std::string texts_;
  std::vector<std::size_t> ends_;
};

// Builds `rest`, a DOM of everything but model.vocab and model.merges.
class Handler final : public nlohmann::json_sax<Json> {
 public:
  // `flat`: the whole text is a vocabulary (vocab.json).
  explicit Handler(bool flat) : flat_(flat) {}
  Json rest;
  Vocabulary vocabulary;
  std::vector<double> scores;  // of a Unigram vocabulary
  MergeTexts merges;
  bool has_vocabulary = false, has_merges = false, is_list = false;
  std::optional<Error> error;

  bool null() override { return scalar(Json()); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(number_integer_t value) override { return scalar(value); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(value); }
  bool number_float(number_float_t value, const string_t&) override { return scalar(value); }
  bool string(string_t& value) override { return scalar(std::move(value)); }
  bool binary(binary_t&) override { return fail(bad_data("binary values are not JSON")); }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    return fail(bad_data(fmt::format("invalid JSON near byte {}: {}", position, e.what())));
  }

 private:
  enum class Inside { kNothing, kVocabulary, kMerges };

  bool fail(Error reason) {
    if (!error) error = std::move(reason);
    return false;
  }
  bool check(Status status) { return status.ok() || fail(std::move(status).error()); }

  bool open(Json empty) {
    if (++depth_ > kMaxDepth)
      return fail(bad_data(fmt::format("JSON nested deeper than {} levels", kMaxDepth)));
    if (inside_ != Inside::kNothing) return open_inside(empty.is_object());
    const bool in_model = depth_ == 3 && path_.size() == 2 && path_[1] == "model";
    if (flat_ || (in_model && key_ == "vocab")) {
      if (has_vocabulary) return fail(bad_data("the key \"vocab\" stands twice in the model"));
      inside_ = Inside::kVocabulary;
      has_vocabulary = true;
      is_list = empty.is_array();
      return true;
    }
    if (in_model && key_ == "merges" && empty.is_array()) {
      inside_ = Inside::kMerges;
      has_merges = true;
      return true;
    }
    path_.push_back(depth_ == 1 ? std::string() : key_);
    Json* place = add(std::move(empty));
    if (place == nullptr) return false;
    open_.push_back(place);
    return true;
  }

  bool close() {
    --depth_;
    if (inside_ == Inside::kNothing) {
      open_.pop_back();
      path_.pop_back();
      return true;
    }
    if (depth_ == (flat_ ? 0 : 2)) {
      inside_ = Inside::kNothing;
      return true;
    }
    if (inside_ == Inside::kMerges) return check(merges.end());
    if (!piece_ || !score_) return fail(bad_data("a Unigram vocabulary is a list of [piece, score]"));
    scores.push_back(*score_);
    return check(
        vocabulary.add(*piece_, static_cast<std::int64_t>(scores.size()) - 1, Vocabulary::Repeat::kLastWins));
  }

  bool open_inside(bool object) {
    const bool pair = depth_ == 4 && !object && (inside_ == Inside::kMerges || is_list);
    if (!pair) return fail(bad_data("the vocabulary or the merges hold a value of the wrong type"));
    merges.begin();
    piece_.reset();
    score_.reset();
    return true;
  }

  bool scalar(Json value) {
    if (inside_ == Inside::kNothing) return add(std::move(value)) != nullptr;
    const bool text = value.is_string();
    if (inside_ == Inside::kMerges) {
      if (!text) return fail(bad_data("a merge must be a string or a pair of strings"));
      if (depth_ == 3) return check(merges.add_line(value.get_ref<const std::string&>()));
      merges.add_part(value.get_ref<const std::string&>());
      return true;
    }
    if (!is_list) {
      if (!value.is_number_integer() ||
          (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
        return fail(bad_data(
            fmt::format("the id of the token \"{}\" must be an integer, found {:.40}", key_, value.dump())));
      }
      return check(vocabulary.add(key_, value.get<std::int64_t>()));
    }
    if (depth_ != 4 || (text ? piece_.has_value() : score_.has_value() || !value.is_number())) {
      return fail(bad_data("a Unigram vocabulary is a list of [piece, score]"));
    }
    text ? void(piece_ = value.get<std::string>()) : void(score_ = value.get<double>());
    return true;
  }

  Json* add(Json value) {
    if (open_.empty()) {
      rest = std::move(value);
      return &rest;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    if (parent.contains(key_)) {
      fail(bad_data(fmt::format("the JSON key \"{}\" stands twice in one object", key_)));
      return nullptr;
    }
    Json& place = parent[key_];
    place = std::move(value);
    return &place;
  }

  bool flat_;
  int depth_ = 0;
  std::vector<std::string> path_;  // keys of the open containers of `rest`
  std::vector<Json*> open_;        // stay valid: only the innermost container grows
  std::string key_;
  Inside inside_ = Inside::kNothing;
  std::optional<std::string> piece_;
  std::optional<double> score_;
};

std::string component(const Json& root, const char* key) {
  const auto found = root.find(key);
  return found == root.end() || found->is_null() ? std::string() : found->dump();
}

Result<std::vector<AddedToken>> read_added_tokens(const Json& root) {
  std::vector<AddedToken> tokens;
  const auto list = root.find("added_tokens");
  if (list == root.end() || list->is_null()) return tokens;
  if (!list->is_array()) return bad_data("\"added_tokens\" must be an array");
  for (const Json& item : *list) {
    AddedToken token;
    TRY_ASSIGN(token.content, json_string(item, "content"));
    TRY_ASSIGN(const std::int64_t id,
               json_int(item, "id").at(fmt::format("added token \"{}\"", token.content)));
    if (id < 0 || id > kMaxTokenId) {
      return bad_data(fmt::format("the id {} of the added token \"{}\" is outside 0..{}", id, token.content,
                                  kMaxTokenId));
    }
    token.id = static_cast<TokenId>(id);
    TRY_ASSIGN(token.special, json_bool_or(item, "special", false));
    TRY_ASSIGN(token.single_word, json_bool_or(item, "single_word", false));
    TRY_ASSIGN(token.lstrip, json_bool_or(item, "lstrip", false));
    TRY_ASSIGN(token.rstrip, json_bool_or(item, "rstrip", false));
    TRY_ASSIGN(token.normalized, json_bool_or(item, "normalized", !token.special));
    if (!token.content.empty()) tokens.push_back(std::move(token));
  }
  return tokens;
}

// Old files do not name the type; it follows from the keys that are there.
Result<ModelKind> model_kind(const Json& model, const Handler& handler) {
  TRY_ASSIGN(std::string type, json_string_or(model, "type", ""));
  if (type.empty()) {
    type = handler.has_merges                            ? "BPE"
           : handler.is_list                             ? "Unigram"
           : model.contains("continuing_subword_prefix") ? "WordPiece"
                                                         : "WordLevel";
  }
  const std::vector<std::string> names{"BPE", "Unigram", "WordPiece", "WordLevel"};
  constexpr std::array kModelKinds{ModelKind::kBpe, ModelKind::kUnigram, ModelKind::kWordPiece,
                                   ModelKind::kWordLevel};
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == type) return kModelKinds[i];
  }
  return bad_data(fmt::format("unknown model type \"{}\"; known are {}", type, join_or(names)),
                  did_you_mean(type, names));
}

Status read_bpe(const Json& model, Handler& handler, ModelSpec& spec) {
  if (!handler.has_merges) return bad_data("a BPE model needs an array \"merges\"");
  TRY_ASSIGN(const double dropout, json_number_or(model, "dropout", 0));
  if (dropout != 0) {
    return bad_data(fmt::format("\"dropout\" is {}: ids would be random", dropout),
                    "set it to null in tokenizer.json");
  }
  TRY_ASSIGN(spec.end_of_word_suffix, json_string_or(model, "end_of_word_suffix", ""));
  TRY_ASSIGN(spec.fuse_unk, json_bool_or(model, "fuse_unk", false));
  TRY_ASSIGN(spec.ignore_merges, json_bool_or(model, "ignore_merges", false));
  TRY_ASSIGN(spec.merges, handler.merges.resolve(spec.vocabulary));
  return {};
}

Status read_model(const Json& model, Handler& handler, ModelSpec& spec) {
  TRY_ASSIGN(spec.kind, model_kind(model, handler));
  const bool list = spec.kind == ModelKind::kUnigram;
  if (!handler.has_vocabulary || handler.is_list != list) {
    return bad_data(list ? "\"vocab\" of a Unigram model must be an array of [piece, score]"
                         : "\"vocab\" must be an object of tokens and ids");
  }
  spec.vocabulary = std::move(handler.vocabulary);
  spec.scores = std::move(handler.scores);
  TRY_ASSIGN(spec.unk_token, json_string_or(model, "unk_token", ""));
  TRY_ASSIGN(spec.byte_fallback, json_bool_or(model, "byte_fallback", false));
  const std::string_view prefix = spec.kind == ModelKind::kWordPiece ? "##" : "";
  TRY_ASSIGN(spec.continuing_subword_prefix, json_string_or(model, "continuing_subword_prefix", prefix));
  TRY_ASSIGN(spec.max_input_chars_per_word, json_int_or(model, "max_input_chars_per_word", 100));
  TRY_ASSIGN(const std::int64_t unk_id, json_int_or(model, "unk_id", kNoToken));
  spec.unk_id = unk_id < 0 || unk_id > kMaxTokenId ? kNoToken : static_cast<TokenId>(unk_id);
  return spec.kind == ModelKind::kBpe ? read_bpe(model, handler, spec) : Status();
}

}  // namespace

Result<TokenizerSpec> read_tokenizer_json(std::string_view text) {
  Handler handler(false);
  if (!Json::sax_parse(text, &handler)) {
    return handler.error ? *std::move(handler.error) : bad_data("invalid JSON");
  }
  const Json& root = handler.rest;
  if (!root.is_object()) return bad_data("a tokenizer.json is a JSON object");
  TRY_ASSIGN(const std::string version, json_string_or(root, "version", "1.0"));
  if (version != "1.0")
    return bad_data(fmt::format("unknown tokenizer version \"{}\"; known is 1.0", version));
  TokenizerSpec spec;
  spec.normalizer = component(root, "normalizer");
  spec.pre_tokenizer = component(root, "pre_tokenizer");
  spec.post_processor = component(root, "post_processor");
  spec.decoder = component(root, "decoder");
  TRY_ASSIGN(spec.added_tokens, read_added_tokens(root));
  const auto model = root.find("model");
  if (model == root.end() || !model->is_object()) return bad_data("the key \"model\" must be an object");
  TRY(read_model(*model, handler, spec.model).at("model"));
  return spec;
}

Result<Vocabulary> read_vocabulary_json(std::string_view text) {
  Handler handler(true);
  if (!Json::sax_parse(text, &handler)) {
    return handler.error ? *std::move(handler.error) : bad_data("invalid JSON");
  }
  if (!handler.has_vocabulary || handler.is_list)
    return bad_data("a vocab.json is an object of tokens and ids");
  return std::move(handler.vocabulary);
}

}  // namespace nibble::text
