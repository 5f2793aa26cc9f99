// SPDX-License-Identifier: Apache-2.0
// Damaged tokenizer files are refused with the file's name and a reason; cut files never crash a reader.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/packed_tokenizer.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

const fs::path kMalformed = fs::path(NIBBLE_SOURCE_DIR) / "tests/golden/malformed/tokenizer";

class MalformedTokenizerFile : public ::testing::TestWithParam<const char*> {};

TEST_P(MalformedTokenizerFile, IsRefused) {
  const auto loaded = Tokenizer::from_folder(kMalformed / GetParam());
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code, ErrorCode::kBadData);
  EXPECT_THAT(loaded.error().message(), HasSubstr(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(, MalformedTokenizerFile,
                         ::testing::Values("bad-regex", "huge-id", "merge-one-part", "merge-unknown-piece",
                                           "negative-id", "unknown-model", "unknown-pretokenizer",
                                           "vocab-not-object"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

struct Case {
  const char* name;
  const char* file;
  std::string bytes;
  const char* reason;
};

std::string nested(std::size_t depth) {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += R"({"type":"Sequence","normalizers":[)";
  text += R"({"type":"NFC"})";
  for (std::size_t i = 0; i < depth; ++i) text += "]}";
  return R"({"normalizer":)" + text + R"(,"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})";
}

std::vector<Case> cases() {
  const char* json = "tokenizer.json";
  return {
      {"Empty", json, "", ""},
      {"Cut", json, R"({"model":{"type":"BPE","vocab":{"a":0)", ""},
      {"NotAnObject", json, "[]", ""},
      {"NoModel", json, "{}", "model"},
      {"ModelIsText", json, R"({"model":"BPE"})", "model"},
      {"IdIsText", json, R"({"model":{"type":"BPE","vocab":{"a":"0"},"merges":[]}})", "\"a\""},
      {"IdIsFraction", json, R"({"model":{"type":"BPE","vocab":{"a":0.5},"merges":[]}})", "\"a\""},
      {"IdTwice", json, R"({"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}})", "0"},
      {"MergesAreNumbers", json, R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[1]}})", "merge"},
      {"MergeOfThree", json, R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[["a","a","a"]]}})", "merge"},
      {"MergeGivesNoToken", json, R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a a"]}})", "aa"},
      {"ScoreIsText", json, R"({"model":{"type":"Unigram","unk_id":0,"vocab":[["a","x"]]}})", ""},
      {"UnknownIdTooLarge", json, R"({"model":{"type":"Unigram","unk_id":5,"vocab":[["a",-1.0]]}})",
       "unk_id"},
      {"NoUnknownPiece", json, R"({"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"a":0}}})",
       "[UNK]"},
      {"AddedTokenWithoutContent", json,
       R"({"added_tokens":[{"id":1}],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})", "content"},
      {"NestedTooDeeply", json, nested(100'000), ""},
      {"TemplateNamesNoToken", json,
       R"({"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}}],"pair":[],"special_tokens":{}},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})",
       "[CLS]"},
      {"TemplateIdTooLarge", json,
       R"({"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}}],"pair":[],"special_tokens":{"x":{"id":"x","ids":[77],"tokens":["x"]}}},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})",
       "77"},
      {"CharsmapNotBase64", json,
       R"({"normalizer":{"type":"Precompiled","precompiled_charsmap":"***"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})",
       ""},
      {"LengthOfZero", json,
       R"({"pre_tokenizer":{"type":"FixedLength","length":0},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})",
       "length"},
      {"ProtobufCut", "tokenizer.model", std::string("\x0a\x7f\x0a\x01", 4), ""},
      {"ProtobufEndlessNumber", "tokenizer.model", std::string(64, '\xff'), ""},
      {"ProtobufWithoutPieces", "tokenizer.model", std::string("\x12\x02\x18\x02", 4), ""},
      {"RankIsNoNumber", "a.tiktoken", "IQ== 0\nIg== x\n", ""},
      {"RankTwice", "a.tiktoken", "IQ== 0\nIg== 0\n", ""},
      {"RankHuge", "a.tiktoken", "IQ== 0\nIg== 99999999999999999999\n", ""},
      {"NotBase64", "a.tiktoken", "IQ== 0\n!!!! 1\n", ""},
      {"VocabularyTxtWithoutUnknown", "vocab.txt", "a\nb\n", "[CLS]"},
      {"VocabularyTxtNotUtf8", "vocab.txt", "[UNK]\n\xff\xfe\n", ""},
  };
}

class MalformedTokenizer : public ::testing::TestWithParam<Case> {};

TEST_P(MalformedTokenizer, IsRefusedWithFileAndReason) {
  const TemporaryFolder folder(std::string("malformed_") + GetParam().name);
  folder.write(GetParam().file, GetParam().bytes);
  const auto loaded = Tokenizer::from_folder(folder.path());
  ASSERT_FALSE(loaded.ok());
  const std::string message = loaded.error().message();
  EXPECT_THAT(message, HasSubstr(GetParam().reason));
  EXPECT_THAT(message, HasSubstr(folder.path().filename().string()));
  EXPECT_FALSE(loaded.error().what.empty());
}

INSTANTIATE_TEST_SUITE_P(, MalformedTokenizer, ::testing::ValuesIn(cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

// A cut file is an error, or a smaller tokenizer that works.
void check_cut(const std::string& file, std::string_view bytes) {
  const TemporaryFolder folder("cut");
  folder.write(file, bytes);
  const auto loaded = Tokenizer::from_folder(folder.path());
  if (!loaded.ok()) {
    EXPECT_FALSE(loaded.error().what.empty());
    return;
  }
  const Result<std::vector<TokenId>> ids = (*loaded)->encode("Hello w\xC3\xB6rld \xff 123", true);
  ASSERT_TRUE(ids.ok());
  for (const TokenId id : *ids) EXPECT_LT(id, (*loaded)->vocabulary_size());
  EXPECT_TRUE((*loaded)->decode(*ids, true).ok());
}

TEST(CutTokenizerTest, NeverCrashes) {
  struct Source {
    const char* folder;
    const char* file;
  };
  for (const auto& [name, file] :
       {Source{"llama2", "tokenizer.model"}, Source{"bert-base-cased", "vocab.txt"},
        Source{"SmolLM2", "tokenizer.json"}}) {
    const std::string bytes =
        testing::read_packed(testing::kTokenizerGoldens / name / (std::string(file) + ".zst"));
    for (std::size_t size = 1; size < bytes.size(); size = size * 3 + 1) {
      check_cut(file, std::string_view(bytes).substr(0, size));
      check_cut(file, std::string_view(bytes).substr(0, bytes.size() - size));
    }
  }
}

TEST(GgufVocabularyTest, WrongSizesAndIdsAreRefused) {
  GgufVocabulary good;
  good.model = "llama";
  good.tokens = {"<unk>", "<s>", "</s>", "\xE2\x96\x81", "a"};
  good.scores = {0, 0, 0, -1, -2};
  good.token_types = {2, 3, 3, 1, 1};
  good.unknown = 0;
  good.bos = 1;
  ASSERT_TRUE(Tokenizer::from_gguf(good).ok());
  const auto refused = [&](auto change) {
    GgufVocabulary bad = good;
    change(bad);
    const auto loaded = Tokenizer::from_gguf(bad);
    return !loaded.ok() && !loaded.error().what.empty();
  };
  EXPECT_TRUE(refused([](GgufVocabulary& v) { v.model = "nonsense"; }));
  EXPECT_TRUE(refused([](GgufVocabulary& v) { v.tokens.clear(); }));
  EXPECT_TRUE(refused([](GgufVocabulary& v) { v.scores.pop_back(); }));
  EXPECT_TRUE(refused([](GgufVocabulary& v) { v.token_types.pop_back(); }));
  EXPECT_TRUE(refused([](GgufVocabulary& v) { v.unknown = 99; }));
  EXPECT_TRUE(refused([](GgufVocabulary& v) { v.bos = -7; }));
  EXPECT_TRUE(refused([](GgufVocabulary& v) {
    v.model = "gpt2";
    v.pre = "nonsense";
  }));
}

}  // namespace
}  // namespace nibble
