// SPDX-License-Identifier: Apache-2.0
// The older file formats: vocab.json + merges.txt (byte-level BPE) and vocab.txt (WordPiece). They say
// nothing about special tokens, so these follow from tokenizer_config.json where it is there, and from the
// vocabulary where not.
#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "text/tokenizer/building.h"
#include "text/tokenizer/loaders.h"
#include "text/tokenizer/unicode.h"
#include "text/tokenizer/word_scanner.h"

namespace nibble::text {
namespace {

Status read_merges(std::string_view text, ModelSpec& spec) {
  return for_each_line(text, [&](std::size_t, std::string_view line) -> Status {
    if (line.empty() || line.starts_with("#version")) return {};
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      return bad_data(fmt::format("a merge must be two tokens with a space between, found \"{}\"", line));
    }
    const TokenId left = spec.vocabulary.find(line.substr(0, space)),
                  right = spec.vocabulary.find(line.substr(space + 1));
    if (left == kNoToken || right == kNoToken) {
      return bad_data(fmt::format("the merge \"{}\" uses a token that is not in the vocabulary", line));
    }
    spec.merges.push_back({left, right, static_cast<std::uint32_t>(spec.merges.size())});
    return {};
  });
}

// The role's token as the settings give it, else `otherwise`.
std::string role(const TokenizerSettings& settings, const char* name, std::string_view otherwise) {
  const auto found = settings.special_tokens.find(name);
  return found == settings.special_tokens.end() ? std::string(otherwise) : found->second.content;
}

Status add_specials(TokenizerSpec& spec, const TokenizerSettings& settings,
                    const std::vector<std::string>& names) {
  for (const AddedToken& token : settings.added_tokens) TRY(add_token(spec, token));
  for (const auto& [name, token] : settings.special_tokens) TRY(add_token(spec, token));
  for (const std::string& name : names) {
    AddedToken token;
    token.content = name;
    token.special = true;
    token.lstrip = name == "<mask>";  // RoBERTa: the white space before a mask belongs to it
    TRY(add_token(spec, std::move(token)));
  }
  return {};
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> list) {
  return std::any_of(list.begin(), list.end(), [&](std::string_view item) { return name.starts_with(item); });
}

// Byte-level BPE comes in three kinds: with RoBERTa's vocabulary, with Qwen2's expression, and GPT-2's own.
struct Gpt2Kind {
  bool roberta_vocabulary = false;  // <s> <pad> </s> <unk> ... <mask>
  bool roberta_template = false;    // <s> A </s>
  bool qwen2 = false;
};

Gpt2Kind gpt2_kind(const TokenizerSettings& settings, const Vocabulary& vocabulary) {
  const auto has = [&](std::string_view token) { return vocabulary.find(token) != kNoToken; };
  Gpt2Kind kind;
  kind.roberta_vocabulary = has("<s>") && has("</s>") && has("<pad>") && has("<unk>") && has("<mask>");
  const std::string_view name = settings.tokenizer_class, type = settings.model_type;
  kind.roberta_template =
      name.empty() && type.empty()
          ? kind.roberta_vocabulary
          : is_one_of(name, {"Roberta", "Bart", "Longformer", "LED", "MVP"}) ||
                (name.empty() && is_one_of(type, {"roberta", "bart", "longformer", "led", "mvp"}));
  // Qwen2's vocab.json has exactly this many tokens; its special ones are in tokenizer_config.json.
  kind.qwen2 = name.starts_with("Qwen2") ||
               (name.empty() && (type.starts_with("qwen2") || vocabulary.size() == 151643));
  return kind;
}

Status finish_roberta(TokenizerSpec& spec, const TokenizerSettings& settings, bool add_prefix_space) {
  const std::string cls = role(settings, "cls_token", "<s>"), sep = role(settings, "sep_token", "</s>");
  TRY(add_specials(spec, settings, {"<s>", "<pad>", "</s>", "<unk>", "<mask>", cls, sep}));
  const Vocabulary& vocabulary = spec.model.vocabulary;
  spec.post_processor = fmt::format(
      R"({{"type":"RobertaProcessing","sep":[{},{}],"cls":[{},{}],"trim_offsets":true,"add_prefix_space":{}}})",
      json_text(sep), vocabulary.find(sep), json_text(cls), vocabulary.find(cls), add_prefix_space);
  spec.bos = vocabulary.find(cls);
  spec.eos = vocabulary.find(sep);
  return {};
}

Status finish_gpt2(TokenizerSpec& spec, const TokenizerSettings& settings, const Gpt2Kind& kind) {
  const bool opt = settings.model_type == "opt" && settings.tokenizer_class.empty();
  std::vector<std::string> names;
  if (kind.roberta_vocabulary) {
    names = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
  } else if (settings.special_tokens.empty() && settings.added_tokens.empty()) {
    names = {"<|endoftext|>"};
    if (kind.qwen2) names.insert(names.end(), {"<|im_start|>", "<|im_end|>"});
  }
  TRY(add_specials(spec, settings, names));
  const std::string_view usual = opt ? "</s>" : kind.qwen2 ? "" : "<|endoftext|>";
  const std::string bos = role(settings, "bos_token", usual),
                    eos = role(settings, "eos_token", opt ? "</s>" : "<|endoftext|>");
  const Vocabulary& vocabulary = spec.model.vocabulary;
  if (const TokenId id = vocabulary.find(bos); id != kNoToken && !bos.empty()) spec.bos = id;
  if (const TokenId id = vocabulary.find(eos); id != kNoToken && !eos.empty()) spec.eos = id;
  if (settings.add_bos_token.value_or(opt) && spec.bos) spec.post_processor = template_json(spec, {bos}, {});
  return {};
}

// Upper case letters outside [BRACKETS] mean that the model was trained on cased text.
bool is_cased(const Vocabulary& vocabulary) {
  for (TokenId id = 0; id < vocabulary.end_id(); ++id) {
    const std::string_view text = vocabulary.text(id);
    const bool special = text.size() > 2 && (text.front() == '[' || text.front() == '<');
    if (!special && std::any_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; }))
      return true;
  }
  return false;
}

}  // namespace

Result<TokenizerSpec> read_gpt2_files(std::string_view vocabulary, std::string_view merges,
                                      const TokenizerSettings& settings) {
  TokenizerSpec spec;
  TRY_ASSIGN(spec.model.vocabulary, read_vocabulary_json(vocabulary).at("vocab.json"));
  TRY(read_merges(merges, spec.model).at("merges.txt"));
  const Gpt2Kind kind = gpt2_kind(settings, spec.model.vocabulary);
  const bool add_prefix_space = settings.add_prefix_space.value_or(false);
  if (kind.qwen2) spec.normalizer = R"({"type":"NFC"})";
  spec.pre_tokenizer = byte_level_json(kind.qwen2 ? kQwen2Words : "", add_prefix_space);
  spec.decoder = kByteLevelDecoder;
  TRY(kind.roberta_template ? finish_roberta(spec, settings, add_prefix_space)
                            : finish_gpt2(spec, settings, kind));
  return spec;
}

Result<TokenizerSpec> read_bert_vocabulary(std::string_view text, const TokenizerSettings& settings) {
  TokenizerSpec spec;
  spec.model.kind = ModelKind::kWordPiece;
  spec.model.continuing_subword_prefix = "##";
  spec.model.unk_token = role(settings, "unk_token", "[UNK]");
  TRY(for_each_line(text, [&](std::size_t number, std::string_view line) -> Status {
    if (line.empty()) return {};
    return spec.model.vocabulary.add(line, static_cast<std::int64_t>(number), Vocabulary::Repeat::kLastWins);
  }));
  const std::string cls = role(settings, "cls_token", "[CLS]"), sep = role(settings, "sep_token", "[SEP]");
  for (const std::string& name : {cls, sep, spec.model.unk_token}) {
    if (spec.model.vocabulary.find(name) != kNoToken) continue;
    return bad_data(fmt::format("vocab.txt holds no \"{}\": it is not the vocabulary of a BERT model", name),
                    "give the special tokens in special_tokens_map.json");
  }
  std::vector<std::string> specials{cls, sep, spec.model.unk_token};
  for (const auto* name : {"[PAD]", "[MASK]"}) {
    if (spec.model.vocabulary.find(name) != kNoToken) specials.emplace_back(name);
  }
  const bool lower = settings.do_lower_case.value_or(!is_cased(spec.model.vocabulary));
  TRY(add_specials(spec, settings, specials));
  spec.normalizer = fmt::format(
      R"({{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":{},"strip_accents":{},"lowercase":{}}})",
      settings.tokenize_chinese_chars.value_or(true),
      settings.strip_accents ? fmt::format("{}", *settings.strip_accents) : "null", lower);
  spec.pre_tokenizer = R"({"type":"BertPreTokenizer"})";
  spec.decoder = R"({"type":"WordPiece","prefix":"##","cleanup":true})";
  spec.post_processor = bert_template_json(spec, cls, sep);
  return spec;
}

}  // namespace nibble::text
