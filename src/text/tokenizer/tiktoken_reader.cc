// SPDX-License-Identifier: Apache-2.0
// Rank files of tiktoken. They hold no expression and no special tokens; these belong to the family, which
// the number of ranks identifies.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "text/tokenizer/building.h"
#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/loaders.h"
#include "text/tokenizer/unicode.h"
#include "text/tokenizer/word_scanner.h"

namespace nibble::text {
namespace {

using NamedTokens = std::vector<std::pair<std::string, TokenId>>;

struct Family {
  std::string_view name;
  TokenId ranks;
  std::string_view expression;  // empty: GPT-2's
  bool nfc;
  bool whole_words_first;  // a piece that is a token needs no merges
  std::string_view bos, eos;
  bool adds_bos;
  NamedTokens (*specials)(const TokenizerSettings& settings);
};

// 256 places from 128000 on. The second generation (3.1 and later) named three of the reserved ones.
NamedTokens llama3_specials(const TokenizerSettings& settings) {
  std::vector<std::string> names{"<|begin_of_text|>", "<|end_of_text|>"};
  int reserved = 0;
  const auto reserve = [&](int count) {
    for (int i = 0; i < count; ++i) names.push_back(fmt::format("<|reserved_special_token_{}|>", reserved++));
  };
  const bool second = settings.has_llama3_rope;
  reserve(2);
  if (second) names.emplace_back("<|finetune_right_pad_id|>");
  reserve(second ? 1 : 2);
  names.insert(names.end(), {"<|start_header_id|>", "<|end_header_id|>"});
  second ? void(names.emplace_back("<|eom_id|>")) : reserve(1);
  names.emplace_back("<|eot_id|>");
  if (second) names.emplace_back("<|python_tag|>");
  reserve(static_cast<int>(256 - names.size()));
  NamedTokens specials;
  for (std::size_t i = 0; i < names.size(); ++i)
    specials.emplace_back(names[i], 128000 + static_cast<TokenId>(i));
  return specials;
}

NamedTokens qwen_specials(const TokenizerSettings& settings) {
  NamedTokens specials{{"<|endoftext|>", 151643}, {"<|im_start|>", 151644}, {"<|im_end|>", 151645}};
  const bool first_generation = settings.tokenizer_class == "QWenTokenizer" || settings.model_type == "qwen";
  for (int i = 0; first_generation && i < 205; ++i)
    specials.emplace_back(fmt::format("<|extra_{}|>", i), 151646 + i);
  return specials;
}

NamedTokens cl100k_specials(const TokenizerSettings&) {
  return {{"<|endoftext|>", 100257},
          {"<|fim_prefix|>", 100258},
          {"<|fim_middle|>", 100259},
          {"<|fim_suffix|>", 100260},
          {"<|endofprompt|>", 100276}};
}
NamedTokens o200k_specials(const TokenizerSettings&) {
  return {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}};
}
NamedTokens gpt2_specials(const TokenizerSettings&) {
  return {{"<|endoftext|>", 50256}};
}

constexpr std::string_view kO200kWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const Family kFamilies[] = {
    {"Llama 3", 128000, kLlama3Words, false, true, "<|begin_of_text|>", "<|end_of_text|>", true,
     llama3_specials},
    {"Qwen", 151643, kQwen2Words, true, false, "", "<|endoftext|>", false, qwen_specials},
    {"cl100k_base", 100256, kLlama3Words, false, true, "", "<|endoftext|>", false, cl100k_specials},
    {"o200k_base", 199998, kO200kWords, false, true, "", "<|endoftext|>", false, o200k_specials},
    {"gpt2", 50256, "", false, true, "", "<|endoftext|>", false, gpt2_specials},
};

struct RankedToken {
  std::string token;  // bytes
  TokenId rank = -1;
};
Result<RankedToken> read_rank(std::string_view line) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return bad_data("a line must hold a base64 token and its rank");
  RankedToken ranked;
  TRY_ASSIGN(ranked.token, decode_base64(line.substr(0, space)));
  const char* last = line.data() + line.size();
  const auto parsed = std::from_chars(line.data() + space + 1, last, ranked.rank);
  if (parsed.ec != std::errc() || parsed.ptr != last || ranked.token.empty())
    return bad_data(fmt::format("\"{}\" is not a rank", line.substr(space + 1)));
  return ranked;
}

Result<const Family*> family_of(TokenId ranks) {
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.ranks == ranks) return &family;
    known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", family.ranks, family.name);
  }
  return bad_data(
      fmt::format("a file of {} tiktoken ranks is of no known family; known numbers are {}", ranks, known),
      "convert the tokenizer to tokenizer.json with transformers");
}

}  // namespace

bool looks_like_tiktoken(std::string_view text) {
  const std::string_view line = text.substr(0, std::min(text.find('\n'), text.size()));
  const std::size_t space = line.find(' ');
  return space != std::string_view::npos && space > 0 && line.size() < 4096 &&
         decode_base64(line.substr(0, space)).ok();
}

Result<TokenizerSpec> read_tiktoken(std::string_view text, const TokenizerSettings& settings) {
  TokenizerSpec spec;
  Vocabulary& vocabulary = spec.model.vocabulary;
  TRY(for_each_line(text, [&](std::size_t, std::string_view line) -> Status {
    if (line.empty()) return {};
    TRY_ASSIGN(const RankedToken ranked, read_rank(line));
    return vocabulary.add(bytes_to_byte_level(ranked.token), ranked.rank);
  }));
  const TokenId ranks = vocabulary.end_id();
  TRY_ASSIGN(const Family* family, family_of(ranks));
  spec.model.ignore_merges = family->whole_words_first;
  spec.model.merges = merges_of_ranked_tokens(
      vocabulary, [](TokenId) { return true; }, [](TokenId id) { return static_cast<std::uint32_t>(id); });
  for (const auto& [content, id] : family->specials(settings)) {
    AddedToken token;
    token.content = content;
    token.id = id;
    token.special = true;
    TRY(add_token(spec, std::move(token)));
  }
  for (const AddedToken& token : settings.added_tokens) TRY(add_token(spec, token));
  if (family->nfc) spec.normalizer = R"({"type":"NFC"})";
  spec.pre_tokenizer = byte_level_json(family->expression, false);
  spec.decoder = kByteLevelDecoder;
  if (!family->bos.empty()) spec.bos = vocabulary.find(family->bos);
  spec.eos = vocabulary.find(family->eos);
  if (settings.add_bos_token.value_or(family->adds_bos) && !family->bos.empty()) {
    spec.post_processor = template_json(spec, {std::string(family->bos)}, {});
  }
  return spec;
}

}  // namespace nibble::text
