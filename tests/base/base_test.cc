// SPDX-License-Identifier: Apache-2.0
// Hash, random numbers, tensors, JSON, regular expressions, suggestions and files.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/regex.h"
#include "base/rng.h"
#include "base/suggest.h"
#include "base/tensor.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        fs::temp_directory_path() /
        ("nibble_file_test_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST(HashTest, Sha256EqualsTheStandardsExample) {
  const std::string_view text = "abc";
  EXPECT_EQ(sha256_hex(std::as_bytes(std::span(text.data(), text.size()))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(HashTest, PiecesHashLikeTheWhole) {
  const std::string text(1000, 'x');
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  Sha256 pieces;
  pieces.update(bytes.first(317));
  pieces.update(bytes.subspan(317));
  EXPECT_EQ(pieces.hex_digest(), sha256_hex(bytes));
}

TEST(RngTest, FirstBlockEqualsThePublishedPhiloxVector) {
  Rng rng(0, 0);  // key 0, counter 0: known answer of the paper's reference code
  EXPECT_EQ(rng.next_u32(), 0x6627e8d5u);
  EXPECT_EQ(rng.next_u32(), 0xe169c58du);
  EXPECT_EQ(rng.next_u32(), 0xbc57ac4cu);
  EXPECT_EQ(rng.next_u32(), 0x9b00dbd8u);
}

TEST(RngTest, NormalHasMeanZeroAndDeviationOne) {
  Rng rng(3);
  double sum = 0;
  double squares = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double value = rng.normal();
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / kCount, 0.0, 0.02);
  EXPECT_NEAR(squares / kCount, 1.0, 0.02);
}

TEST(RngTest, BelowStaysBelowAndStreamsDiffer) {
  Rng a(5, 0);
  Rng b(5, 1);
  int equal = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t x = a.below(10);
    const std::uint64_t y = b.below(10);
    ASSERT_LT(x, 10u);
    equal += x == y ? 1 : 0;
  }
  EXPECT_LT(equal, 200);
}

TEST(TensorTest, DecodesEveryFloatFormatExactly) {
  const std::vector<float> values{0.0f, -1.5f, 448.0f, 0.001953125f};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_EQ(Tensor::from_f32(dtype, {2, 2}, values).to_f32(), values);
  }
}

TEST(TensorTest, CopiesShareBytesAndViewsAreReadOnly) {
  Tensor tensor = Tensor::of<std::int32_t>(DType::kI32, {3}, std::vector<std::int32_t>{1, 2, 3});
  const Tensor copy = tensor.reshaped({3, 1});
  tensor.as_mutable<std::int32_t>()[1] = 9;
  EXPECT_EQ(copy.as<std::int32_t>()[1], 9);
  EXPECT_EQ(to_string(copy.shape()), "[3, 1]");
  const Tensor view(DType::kI32, {3}, tensor.bytes().data(), nullptr);
  EXPECT_FALSE(view.is_owned());
}

TEST(MatrixTest, CopyIsDeepAndAligned) {
  Matrix a(3, 5);
  a.at(2, 4) = 7.0f;
  Matrix b = a;
  b.at(2, 4) = 8.0f;
  EXPECT_EQ(a.at(2, 4), 7.0f);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.data()) % kAlignment, 0u);
}

TEST(JsonTest, ErrorNamesLineAndColumn) {
  const Result<Json> result = parse_json("{\n  \"a\": [1, 2,,]\n}");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().what.find("line 2"), std::string::npos) << result.error().what;
}

TEST(JsonTest, RefusesDuplicateKeysAndDeepNesting) {
  EXPECT_FALSE(parse_json(R"({"a": 1, "a": 2})").ok());
  EXPECT_TRUE(parse_json(R"({"a": 1, "a": 2})", {.allow_duplicate_keys = true}).ok());
  EXPECT_FALSE(parse_json(std::string(100, '[') + std::string(100, ']')).ok());
  EXPECT_FALSE(parse_json(std::string(100000, '[')).ok());
}

TEST(JsonTest, TypedLookUpsNameTheKeyAndTheTypeFound) {
  const Json object = *parse_json(R"({"n": "five", "i": 3, "f": 2.5, "whole": 4.0, "none": null})");
  EXPECT_EQ(*json_int(object, "i"), 3);
  EXPECT_EQ(*json_int(object, "whole"), 4);
  EXPECT_EQ(*json_int_or(object, "none", 8), 8);
  EXPECT_EQ(*json_number(object, "f"), 2.5);
  EXPECT_FALSE(json_int(object, "f").ok());
  const Result<std::int64_t> wrong = json_int(object, "n");
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().what.find("\"n\" must be an integer, found string"), std::string::npos);
}

TEST(RegexTest, PrefixMatchIsAnchoredAtTheStartOnly) {
  const Regex regex = *Regex::compile(".*gate");
  EXPECT_TRUE(*regex.matches_prefix("mlp.gate_proj"));
  EXPECT_FALSE(*Regex::compile("gate")->matches_prefix("mlp.gate"));
  EXPECT_TRUE(*Regex::compile("(?!lm).*head")->matches_prefix("the_head"));
  EXPECT_FALSE(*Regex::compile("(?!lm).*head")->matches_prefix("lm_head"));
}

TEST(RegexTest, NotKnowingIsNoAnswer) {
  const Result<bool> found = Regex::compile("(a|aa)+$")->matches_prefix(std::string(80, 'a') + "b");
  ASSERT_FALSE(found.ok()) << "answered " << *found;
  EXPECT_NE(found.error().what.find("\"(a|aa)+$\" backtracks without end"), std::string::npos);
  EXPECT_TRUE(*Regex::compile("(a|b)+$")->matches_prefix(std::string(300000, 'a'))) << "long, but one way";
  EXPECT_FALSE(Regex::compile(".")->matches_prefix("\xff").ok());
}

std::string matches_of(const char* pattern, const std::string& text) {
  std::string found;
  const Status status =
      Regex::compile(pattern)->for_each_match(text, [&](std::size_t begin, std::size_t end) {
        found += std::to_string(begin) + "-" + std::to_string(end) + " ";
      });
  return status.ok() ? found : status.error().what;
}

TEST(RegexTest, MatchesAreThoseOfTheWholeTextWhereverWindowsEnd) {
  for (const std::size_t n : {4090, 4095, 4096, 4097, 8191, 8192, 8193, 50001}) {
    const std::string run(n, 'a');
    const std::string end = std::to_string(n);
    const std::string next = std::to_string(n + 1);
    EXPECT_EQ(matches_of("a+", run), "0-" + end + " ");
    EXPECT_EQ(matches_of("a+?$", run), "0-" + end + " ");
    EXPECT_EQ(matches_of("a+b|c", run + "b"), "0-" + next + " ");
    EXPECT_EQ(matches_of("a+(?!a)|b", run + "b"), "0-" + end + " " + end + "-" + next + " ");
    EXPECT_EQ(matches_of("\\bb|(?<=a)[bc]", run + "b"), end + "-" + next + " ");
    EXPECT_EQ(matches_of("x*$", run), end + "-" + end + " ");
    EXPECT_EQ(matches_of("(?<=a)(?=b)", run + "b"), end + "-" + end + " ");
    std::string umlauts;
    for (std::size_t i = 0; i < n; ++i) umlauts += "\xc3\xa4";
    EXPECT_EQ(matches_of("[^a]+[^a]", umlauts), "0-" + std::to_string(2 * n) + " ");
  }
  EXPECT_EQ(matches_of("a|", "ba"), "0-0 1-2 ");
}

TEST(RegexTest, WhatTakesQuadraticTimeIsAnErrorInSeconds) {
  const std::string found = matches_of("a*[bc]", std::string(std::size_t{1} << 22, 'a'));
  EXPECT_NE(found.find("backtracks without end"), std::string::npos) << found;
}

TEST(RegexTest, BadPatternSaysWhere) {
  const auto bad = Regex::compile("a(b");
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().what.find("\"a(b\" at position 3"), std::string::npos) << bad.error().what;
}

TEST(SuggestTest, FindsTheTypo) {
  const std::vector<std::string> names{"group_size", "num_bits", "symmetric"};
  EXPECT_EQ(nearest_names("grup_size", names), std::vector<std::string>{"group_size"});
  EXPECT_EQ(did_you_mean("NumBits", names), "did you mean num_bits?");
  EXPECT_EQ(did_you_mean("temperature", names), "");
}

TEST_F(FileTest, MapsWhatWasWritten) {
  ASSERT_TRUE(write_file_durably(folder_ / "a", "hello").ok());
  const auto file = MappedFile::open(folder_ / "a");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file)->size(), 5u);
  EXPECT_EQ(*read_text_file(folder_ / "a"), "hello");
  EXPECT_FALSE(fs::exists(folder_ / "a.partial"));
}

TEST_F(FileTest, MissingAndUnreadableFilesAreNamed) {
  const auto missing = MappedFile::open(folder_ / "absent");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNoInput);
  EXPECT_NE(missing.error().what.find("absent: No such file"), std::string::npos);
  EXPECT_FALSE(MappedFile::open(folder_).ok());
  EXPECT_FALSE(read_text_file(folder_).ok());
}

TEST_F(FileTest, WriterPutsBytesAtOffsets) {
  Result<FileWriter> writer = FileWriter::create(folder_ / "w");
  ASSERT_TRUE(writer.ok());
  const std::string_view text = "abc";
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  ASSERT_TRUE(writer->write_at(4, bytes).ok());
  ASSERT_TRUE(writer->write(bytes).ok());
  ASSERT_TRUE(writer->close().ok());
  EXPECT_EQ(*read_text_file(folder_ / "w"), std::string("abc\0abc", 7));
}

TEST(CheckedTest, OverflowIsAnError) {
  EXPECT_EQ(*checked_multiply(1u << 20, 1u << 20), std::uint64_t{1} << 40);
  EXPECT_FALSE(checked_multiply(std::uint64_t{1} << 40, std::uint64_t{1} << 40).ok());
  EXPECT_FALSE(checked_add(UINT64_MAX, 1).ok());
}

}  // namespace
}  // namespace nibble
