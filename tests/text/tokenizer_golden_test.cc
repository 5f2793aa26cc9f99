// SPDX-License-Identifier: Apache-2.0
// Ids and texts of the reference tokenizers (tests/golden/tokenizers), string by string.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/json.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(NIBBLE_SOURCE_DIR) / "tests/golden/tokenizers";

std::vector<Json> read_lines(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<Json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(parse_json(line).value());
  return lines;
}

TEST(TokenizerGoldenTest, Stories260KEqualsReference) {
  const auto loaded = Tokenizer::from_folder(kGolden / "stories260K");
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  const Tokenizer& tokenizer = **loaded;
  EXPECT_EQ(tokenizer.vocabulary_size(), 512);
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  const std::vector<Json> lines = read_lines(kGolden / "goldens/stories260K.jsonl");
  ASSERT_EQ(lines.size(), 102u);
  for (const Json& line : lines) {
    const auto text = line["text"].get<std::string>();
    const auto ids = line["ids"].get<std::vector<TokenId>>(),
               special = line["ids_special"].get<std::vector<TokenId>>();
    EXPECT_EQ(tokenizer.encode(text, false), ids) << line["text"];
    EXPECT_EQ(tokenizer.encode(text, true), special) << line["text"];
    EXPECT_EQ(tokenizer.decode(ids, false), line["decoded"].get<std::string>());
    const char* skipped = line.contains("decoded_skip_special") ? "decoded_skip_special" : "decoded";
    EXPECT_EQ(tokenizer.decode(special, true), line[skipped].get<std::string>());
  }
}

}  // namespace
}  // namespace nibble
