// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf_builder.h"

namespace nibble {
namespace {

using test::GgufBuilder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Keeps the bytes alive for the file that views them.
struct Parsed {
  std::string bytes;
  Result<std::shared_ptr<const GgufFile>> file;
  explicit Parsed(std::string content)
      : bytes(std::move(content)),
        file(GgufFile::parse(std::as_bytes(std::span(bytes.data(), bytes.size())))) {}
  const GgufFile& operator*() const { return **file; }
};

TEST(GgufFileTest, GivesMetadataByTypeAndNamesWhatIsWrong) {
  const Parsed parsed(GgufBuilder()
                          .key("a.text", "x\ny")
                          .key("a.count", 7)
                          .key("a.rate", 0.5F)
                          .key("a.flag", true)
                          .key("a.words", std::vector<std::string>{"one", "", "three"})
                          .key("a.numbers", std::vector<float>{1.0F, 2.5F})
                          .bytes());
  ASSERT_TRUE(parsed.file.ok()) << parsed.file.error().message();
  const GgufFile& file = *parsed;
  EXPECT_EQ(*file.string("a.text"), "x\ny");
  EXPECT_EQ(*file.integer("a.count"), 7);
  EXPECT_EQ(*file.number("a.count"), 7.0);
  EXPECT_EQ(*file.number("a.rate"), 0.5);
  EXPECT_TRUE(*file.boolean("a.flag"));
  EXPECT_THAT(*file.strings("a.words"), ElementsAre("one", "", "three"));
  EXPECT_THAT(*file.floats("a.numbers"), ElementsAre(1.0F, 2.5F));
  EXPECT_EQ(*file.integer_or("absent", 3), 3);
  EXPECT_THAT(file.integer("absent").error().message(), HasSubstr("absent is missing"));
  EXPECT_THAT(file.integer("a.text").error().message(),
              HasSubstr("must be an integer, found string \"x\\ny\""));
  EXPECT_THAT(file.integer_or("a.rate", 1).error().message(), HasSubstr("must be an integer, found f32 0.5"));
  EXPECT_THAT(file.strings("a.numbers").error().message(), HasSubstr("array of f32"));
  EXPECT_EQ(GgufFile::shown(*file.find("a.words"), 2), "[\"one\", \"\", ... 3 in all]");
}

TEST(GgufFileTest, ShapesAreRowsFirstInBothVersions) {
  for (const std::uint32_t version : {2U, 3U}) {
    const Parsed parsed(GgufBuilder(version).tensor("t", {2, 3}, {1, 2, 3, 4, 5, 6}).bytes());
    ASSERT_TRUE(parsed.file.ok()) << parsed.file.error().message();
    const GgufTensor* tensor = (*parsed).tensor("t");
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->shape, (Shape{2, 3}));
    EXPECT_EQ((*parsed).data(*tensor).size(), 24U);
  }
}

TEST(GgufFileTest, ACutAtAnyByteIsRefusedOrLosesOnlyPadding) {
  const std::string whole = GgufBuilder()
                                .key("general.architecture", "llama")
                                .key("words", std::vector<std::string>{"a", "b"})
                                .tensor("t", {8}, {1, 2, 3, 4, 5, 6, 7, 8})
                                .bytes();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const Parsed parsed(whole.substr(0, length));
    EXPECT_FALSE(parsed.file.ok()) << length;
  }
}

TEST(GgufFileTest, OverlappingTensorsAreRefused) {
  std::string bytes =
      GgufBuilder().tensor("a", {8}, std::vector<float>(8)).tensor("b", {8}, std::vector<float>(8)).bytes();
  const std::size_t name = bytes.find('b', 60);  // name, rank, extent, type, then the offset
  bytes[name + 1 + 4 + 8 + 4] = '\0';
  const Parsed parsed(bytes);
  ASSERT_FALSE(parsed.file.ok());
  EXPECT_THAT(parsed.file.error().message(), HasSubstr("overlap"));
}

TEST(GgufFileTest, AKeyMayStandOnlyOnce) {
  const Parsed parsed(GgufBuilder().key("k", 1).key("k", 2).bytes());
  ASSERT_FALSE(parsed.file.ok());
  EXPECT_THAT(parsed.file.error().message(), HasSubstr("the key \"k\" stands twice"));
}

TEST(GgufFileTest, EmptyExtentsDoNotHideAnOverflow) {
  const Parsed parsed(
      GgufBuilder().tensor("t", 0, {std::int64_t{1} << 40, std::int64_t{1} << 40, 0}, "").bytes());
  ASSERT_FALSE(parsed.file.ok());
  EXPECT_THAT(parsed.file.error().message(), HasSubstr("60 bits"));
}

}  // namespace
}  // namespace nibble
