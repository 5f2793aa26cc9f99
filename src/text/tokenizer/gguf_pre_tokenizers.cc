// SPDX-License-Identifier: Apache-2.0
// Source of the names and expressions: llama.cpp, src/llama-vocab.cpp; where it names the expression of the
// model's own tokenizer.json beside its adaptation, the model's own stands here.
#include "text/tokenizer/gguf_pre_tokenizers.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/suggest.h"
#include "text/tokenizer/building.h"
#include "text/tokenizer/linear_patterns.h"
#include "text/tokenizer/word_scanner.h"

namespace nibble::text {
namespace {

using Form = GgufPreTokenizer::Form;

#define NIBBLE_CONTRACTION R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define NIBBLE_SPACES R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
#define NIBBLE_UPPER R"(\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M})"
#define NIBBLE_LOWER R"(\p{Ll}\p{Lm}\p{Lo}\p{M})"
// Words of o200k: an optional sign, then letters of which the first ones are upper case; SUFFIX follows each.
#define NIBBLE_CASED_WORDS(SUFFIX)                                     \
  R"([^\r\n\p{L}\p{N}]?[)" NIBBLE_UPPER "]*[" NIBBLE_LOWER "]+" SUFFIX \
  R"(|[^\r\n\p{L}\p{N}]?[)" NIBBLE_UPPER "]+[" NIBBLE_LOWER "]*" SUFFIX "|"
#define NIBBLE_ASCII_SIGN_WORDS R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)"
#define NIBBLE_LLAMA3(DIGITS, SIGN_END)                                                       \
  NIBBLE_CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|)" DIGITS R"(| ?[^\s\p{L}\p{N}]+)" SIGN_END \
                     "|" NIBBLE_SPACES

constexpr std::string_view kO200k =
    NIBBLE_CASED_WORDS(NIBBLE_CONTRACTION "?") R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" NIBBLE_SPACES;
constexpr std::string_view kTekken =
    NIBBLE_CASED_WORDS("") R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" NIBBLE_SPACES;
constexpr std::string_view kDigitGroups = R"(\p{N}{1,3})";
constexpr std::string_view kDigitRuns = R"(\p{N}+)";
constexpr std::string_view kOneDigit = R"(\p{N})";
constexpr std::string_view kCjkKana = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view kDeepSeek3 =
    NIBBLE_ASCII_SIGN_WORDS R"([^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)" NIBBLE_SPACES;
constexpr std::string_view kSpark =
    NIBBLE_ASCII_SIGN_WORDS R"([^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+)";
// Characters that Unicode normalization would change are written as escapes: tools normalize what they copy.
constexpr std::string_view kDeepSeekLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1F7Dᾀ-ᾴᾶ-ᾼ\u1FBEῂ-ῄῆ-ῌῐ-\u1FD3ῖ-\u1FDBῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212A-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr std::string_view kDeepSeekSigns = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
constexpr std::string_view kDeepSeekCjk = "[一-龥ࠀ-一가-퟿]+";
constexpr std::string_view kBloom = R"( ?[^(\s|[.,!?…。，、।۔،])]+)";
constexpr std::string_view kKimi =
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[)" NIBBLE_UPPER R"(&&[^\p{Han}]]*[)" NIBBLE_LOWER
    R"(&&[^\p{Han}]]+)" NIBBLE_CONTRACTION R"(?|[^\r\n\p{L}\p{N}]?[)" NIBBLE_UPPER
    R"(&&[^\p{Han}]]+[)" NIBBLE_LOWER R"(&&[^\p{Han}]]*)" NIBBLE_CONTRACTION
    R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" NIBBLE_SPACES;

const GgufPreTokenizer kGpt2{.expressions = {kGpt2Words}};
const GgufPreTokenizer kDigitsThenGpt2{.form = Form::kDigits};
const GgufPreTokenizer kLlama3{.expressions = {kLlama3Words}};
const GgufPreTokenizer kLlama3Own{.expressions = {kLlama3Words}, .whole_words_first = true, .add_bos = true};
const GgufPreTokenizer kQwen2{.expressions = {kQwen2Words}, .nfc = true};
const GgufPreTokenizer kQwen2Plain{.expressions = {kQwen2Words}};
const GgufPreTokenizer kGpt4o{.expressions = {kO200k}};
const GgufPreTokenizer kRoberta{.expressions = {kGpt2Words}, .add_sep = true};
const GgufPreTokenizer kLines{.form = Form::kLines, .add_bos = true};
const GgufPreTokenizer kDeepSeekV3{.expressions = {kDigitGroups, kCjkKana, kDeepSeek3}};
const GgufPreTokenizer kBloomWords{.expressions = {kBloom}};
const GgufPreTokenizer kBailing{
    .expressions = {
        R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"}};
const GgufPreTokenizer kAya{.expressions = {kDigitGroupsToBoundary, kO200k}};
const GgufPreTokenizer kDefault{
    .expressions = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Words, kDigitRuns, "[0-9][0-9][0-9]"}};

struct NamedPreTokenizer {
  std::string_view name;
  GgufPreTokenizer pre;
};

const std::vector<NamedPreTokenizer>& table() {
  static const std::vector<NamedPreTokenizer> names = {
      {"default", kDefault},
      {"gpt-2", kGpt2},
      {"phi-2", kGpt2},
      {"jina-es", kGpt2},
      {"jina-de", kGpt2},
      {"gigachat", kGpt2},
      {"jina-v2-es", kGpt2},
      {"jina-v2-de", kGpt2},
      {"a.x-4.0", kGpt2},
      {"mellum", kGpt2},
      {"modern-bert", kGpt2},
      {"mpt", kGpt2},
      {"olmo", kGpt2},
      {"jais", kGpt2},
      {"trillion", kGpt2},
      {"granite-docling", kGpt2},
      {"exaone4", kGpt2},
      {"jina-v1-en", kRoberta},
      {"jina-v2-code", kRoberta},
      {"roberta-bpe", kRoberta},
      {"starcoder", kDigitsThenGpt2},
      {"refact", kDigitsThenGpt2},
      {"command-r", kDigitsThenGpt2},
      {"smollm", kDigitsThenGpt2},
      {"codeshell", kDigitsThenGpt2},
      {"exaone", kDigitsThenGpt2},
      {"minerva-7b", kDigitsThenGpt2},
      {"mellum2", kDigitsThenGpt2},
      {"falcon", {.form = Form::kFalcon}},
      {"llama3", kLlama3Own},
      {"llama-v3", kLlama3Own},
      {"llama-bpe", kLlama3Own},
      {"falcon3", kLlama3Own},
      {"falcon-h1", kLlama3Own},
      {"pixtral", kLlama3Own},
      {"midm-2.0", kLlama3Own},
      {"lfm2", kLlama3Own},
      {"jina-v5-nano", kLlama3Own},
      {"dbrx", kLlama3},
      {"smaug-bpe", kLlama3},
      {"glm4", kLlama3},
      {"chatglm-bpe", kLlama3},
      {"qwen2", kQwen2},
      {"deepseek-r1-qwen", kQwen2},
      {"kormo", kQwen2},
      {"f2llmv2", kQwen2},
      {"megrez", kQwen2},
      {"stablelm2", kQwen2Plain},
      {"hunyuan", kQwen2Plain},
      {"solar-open", kQwen2Plain},
      {"grok-2", kQwen2Plain},
      {"qwen35",
       {.expressions =
            {NIBBLE_CONTRACTION
             R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" NIBBLE_SPACES},
        .nfc = true}},
      {"ufakzeka",
       {.expressions = {R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" NIBBLE_SPACES}}},
      {"minicpm5",
       {.expressions = {kDigitGroups, NIBBLE_LLAMA3(R"(\p{N}+)", R"([\r\n]*)")}, .whole_words_first = true}},
      {"seed-coder",
       {.expressions = {NIBBLE_CONTRACTION
                        R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|)" NIBBLE_SPACES}}},
      {"jais-2",
       {.expressions =
            {NIBBLE_CONTRACTION
             R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})"}}},
      {"laguna", {.expressions = {R"([^\n]+|[\n]+)", kQwen2Words}}},
      {"exaone-moe",
       {.expressions =
            {NIBBLE_CONTRACTION
             R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)"}}},
      {"gpt-4o", kGpt4o},
      {"llama4", kGpt4o},
      {"kanana2", kGpt4o},
      {"talkie", kGpt4o},
      {"minimax-m2", kGpt4o},
      {"granite-embed-multi-97m", {.expressions = {kO200k}, .whole_words_first = true}},
      {"tekken", {.expressions = {kTekken}, .whole_words_first = true, .add_bos = true}},
      {"tiny_aya", kAya},
      {"cohere2moe", kAya},
      {"youtu",
       {.expressions =
            {R"([가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+)",
             NIBBLE_CASED_WORDS(NIBBLE_CONTRACTION "?") R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" NIBBLE_SPACES},
        .whole_words_first = true}},
      {"kimi-k2", {.expressions = {kKimi}}},
      {"deepseek-llm",
       {.expressions = {R"([\r\n])", kDeepSeekLetters, kDeepSeekSigns, kSpaceToLineEnd, kDeepSeekCjk,
                        kDigitRuns}}},
      {"deepseek-coder",
       {.expressions = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepSeekCjk, kOneDigit}}},
      {"deepseek-v3", kDeepSeekV3},
      {"hunyuan-dense", kDeepSeekV3},
      {"hy_v4", kDeepSeekV3},
      {"joyai-llm", kDeepSeekV3},
      {"spark2_5", {.expressions = {kDigitGroups, kCjkKana, kSpark, kOneDigit}}},
      // The formatter counts the width of these characters differently each time.
      // clang-format off
      {"afmoe",
       {.expressions = {kDigitGroupsFromRight,
                        "[一-鿿㐀-䶿\\uF900-\\uFAFF぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]"
                        "+",
                        kDeepSeek3}}},
      // clang-format on
      {"bloom", kBloomWords},
      {"gpt3-finnish", kBloomWords},
      {"poro-chat", kBloomWords},
      {"viking", {.expressions = {kBloom, kOneDigit}}},
      {"superbpe", {.expressions = {kDigitRuns, kBetweenDigitGroups}}},
      {"bailingmoe", kBailing},
      {"bailingmoe2", kBailing},
      {"llada-moe", kBailing},
      {"chameleon",
       {.expressions = {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )",
                        kOneDigit, R"([\p{P}!-/:-@\[-`{-~])", kGpt2Words},
        .add_bos = true}},
      {"gemma4", kLines},
      {"granite-embed-multi-311m", kLines},
      {"sarvam-moe", {.form = Form::kLines}},
  };
  return names;
}

std::string split_json(std::string_view expression) {
  return fmt::format(R"({{"type":"Split","pattern":{{"Regex":{}}},"behavior":"Isolated","invert":false}})",
                     json_text(expression));
}

}  // namespace

Result<GgufPreTokenizer> gguf_pre_tokenizer(std::string_view name) {
  if (name.empty()) name = "default";
  for (const NamedPreTokenizer& named : table()) {
    if (named.name == name) return named.pre;
  }
  std::vector<std::string> names;
  for (const std::string_view known : gguf_pre_tokenizer_names()) names.emplace_back(known);
  return bad_data(fmt::format("unknown pre-tokenizer \"{}\" in tokenizer.ggml.pre", name),
                  did_you_mean(name, names));
}

std::vector<std::string_view> gguf_pre_tokenizer_names() {
  std::vector<std::string_view> names;
  for (const NamedPreTokenizer& named : table()) names.push_back(named.name);
  return names;
}

std::string pre_tokenizer_json(const GgufPreTokenizer& pre) {
  std::vector<std::string> steps;
  const std::string gpt2 = byte_level_json("", false);
  switch (pre.form) {
    case Form::kLines:
      return split_json(R"([^\n]+|[\n]+)");
    case Form::kDigits:
      steps = {R"({"type":"Digits","individual_digits":true})", gpt2};
      break;
    case Form::kFalcon:
      steps = {R"({"type":"Punctuation","behavior":"Contiguous"})", gpt2,
               R"({"type":"Digits","individual_digits":false})", split_json("[0-9][0-9][0-9]")};
      break;
    case Form::kExpressions:
      if (pre.expressions.size() == 1 && pre.expressions[0] == kGpt2Words) return gpt2;
      for (const std::string_view expression : pre.expressions) steps.push_back(split_json(expression));
      steps.emplace_back(
          R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})");
      break;
  }
  return fmt::format(R"({{"type":"Sequence","pretokenizers":[{}]}})", fmt::join(steps, ","));
}

}  // namespace nibble::text
