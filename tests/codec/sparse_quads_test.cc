// SPDX-License-Identifier: Apache-2.0
#include "codec/sparse_quads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"
#include "codec/sparse_format.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;
using testing::same_tensor;

// At most two of every four columns are not zero; codes from -8 to 7 where the type is I8.
Tensor two_of_four(Rng& rng, DType dtype, std::int64_t rows, std::int64_t cols) {
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; c += 4) {
      for (int kept = 0; kept < 2; ++kept) {
        const auto at = c + static_cast<std::int64_t>(rng.below(4));
        const auto value = static_cast<int>(rng.below(16)) - 8;
        if (at < cols) values[static_cast<std::size_t>(r * cols + at)] = static_cast<float>(value);
      }
    }
  }
  if (dtype != DType::kI8) return Tensor::from_f32(dtype, {rows, cols}, values);
  Tensor codes(DType::kI8, {rows, cols});
  for (std::size_t i = 0; i < values.size(); ++i)
    codes.as_mutable<std::int8_t>()[i] = static_cast<std::int8_t>(values[i]);
  return codes;
}

std::uint64_t bytes_of(const std::map<std::string, Tensor>& tensors) {
  std::uint64_t bytes = 0;
  for (const auto& [suffix, tensor] : tensors) bytes += tensor.byte_size();
  return bytes;
}

TEST(SparseQuads, TheRowOfTheSpecification) {
  // Columns 1 and 2; 0 alone, so that 1 stands for a zero; 4 + 1 of a group with three columns.
  const std::vector<float> row{0, 5, 7, 0, 3, 0, 0, 0, 0, 2, 0};
  const auto tensors = quads_compress(Tensor::from_f32(DType::kF32, {1, 11}, row), 0).value();
  EXPECT_EQ(tensors.at("values").to_f32(), (std::vector<float>{5, 7, 3, 0, 0, 2}));
  const auto positions = tensors.at("positions").as<std::uint8_t>();
  // 1 and 2: 0b1001, 0 and 1: 0b0100, 0 and 1: 0b0100.
  EXPECT_EQ(std::vector<std::uint8_t>(positions.begin(), positions.end()),
            (std::vector<std::uint8_t>{0x49, 0x04}));
}

TEST(SparseQuads, HalfBytesHoldTwoCodes) {
  Tensor codes(DType::kI8, {1, 4});
  codes.as_mutable<std::int8_t>()[0] = -8;
  codes.as_mutable<std::int8_t>()[3] = 7;
  const auto tensors = quads_compress(codes, 4).value();
  EXPECT_EQ(tensors.at("values").shape(), (Shape{1, 1}));
  EXPECT_EQ(tensors.at("values").as<std::uint8_t>()[0], 0x78);
  EXPECT_EQ(tensors.at("positions").as<std::uint8_t>()[0], 0x0c);
}

TEST(SparseQuads, AnyShapeAndTypeComesBackAndHasThePlannedSize) {
  Rng rng(21);
  for (int i = 0; i < 200; ++i) {
    const auto rows = static_cast<std::int64_t>(rng.below(9)),
               cols = static_cast<std::int64_t>(rng.below(150));
    const DType types[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kI8};
    const DType dtype = types[rng.below(4)];
    const int bits = dtype == DType::kI8 && rng.below(2) == 0 ? 4 : 0;
    const Tensor dense = two_of_four(rng, dtype, rows, cols);
    SCOPED_TRACE(std::string(torch_name(dtype)) + " " + to_string(dense.shape()));
    const SparseLayout layout{.format = SparseFormat::kQuads, .code_bits = bits};
    const auto tensors = sparse_compress(dense, layout);
    ASSERT_TRUE(tensors.ok()) << tensors.error().message();
    const auto back = sparse_decompress(*tensors, SparseFormat::kQuads);
    ASSERT_TRUE(back.ok()) << back.error().message();
    EXPECT_TRUE(same_tensor(dense, *back));
    std::uint64_t planned = 0;
    for (const StoredTensor& stored : sparse_stored(layout, rows, cols, dtype)) {
      planned += stored.bytes();
      EXPECT_EQ(tensors->at(stored.suffix).shape(), stored.shape);
      EXPECT_EQ(tensors->at(stored.suffix).dtype(), stored.dtype);
    }
    EXPECT_EQ(bytes_of(*tensors), planned);
    EXPECT_EQ(tensors->size(), sparse_suffixes(SparseFormat::kQuads).size());
  }
}

TEST(SparseQuads, RefuseThreeOfFourAndWideCodes) {
  const auto three = quads_compress(Tensor::from_f32(DType::kF32, {1, 4}, std::vector<float>{1, 2, 3, 0}), 0);
  ASSERT_FALSE(three.ok());
  EXPECT_THAT(three.error().message(), HasSubstr("row 0, columns 0 to 3 have 3 non-zeros"));
  Tensor codes(DType::kI8, {1, 4});
  codes.as_mutable<std::int8_t>()[1] = 8;
  EXPECT_FALSE(quads_compress(codes, 4).ok());
  EXPECT_FALSE(quads_compress(Tensor(DType::kF32, {4}), 0).ok());
  EXPECT_FALSE(quads_compress(Tensor(DType::kI32, {1, 4}), 0).ok());
}

std::string refusal(const std::map<std::string, Tensor>& good, const std::string& suffix, const Tensor& bad) {
  auto damaged = good;
  damaged[suffix] = bad;
  const auto dense = sparse_decompress(damaged, SparseFormat::kQuads);
  return dense.ok() ? "accepted" : dense.error().message();
}

TEST(SparseQuads, DamageIsAnError) {
  Rng rng(22);
  const auto good = quads_compress(two_of_four(rng, DType::kF32, 2, 10), 0).value();
  for (const char* suffix : {"shape", "values", "positions"}) {
    auto without = good;
    without.erase(suffix);
    EXPECT_FALSE(sparse_decompress(without, SparseFormat::kQuads).ok()) << suffix;
  }
  const auto bytes = [](std::vector<std::uint8_t> values) {
    return Tensor::of<std::uint8_t>(DType::kU8, {2, 2}, values);
  };
  EXPECT_THAT(refusal(good, "positions", bytes({0x41, 0x04, 0x44, 0x04})),
              HasSubstr("positions of row 0, columns 0 to 3 are 1 and 0; they must ascend"));
  EXPECT_THAT(refusal(good, "positions", bytes({0x44, 0x05, 0x44, 0x04})), HasSubstr("they must ascend"));
  EXPECT_THAT(refusal(good, "positions", bytes({0x44, 0x14, 0x44, 0x04})), HasSubstr("zero bits"));
  EXPECT_THAT(refusal(good, "positions", Tensor(DType::kU8, {2, 3})), HasSubstr("expected [2, 2]"));
  EXPECT_THAT(refusal(good, "positions", Tensor(DType::kI8, {2, 2})), HasSubstr("uint8"));
  EXPECT_THAT(refusal(good, "values", Tensor(DType::kF32, {2, 5})), HasSubstr("expected [2, 6]"));
  EXPECT_THAT(refusal(good, "values", Tensor(DType::kI64, {2, 6})), HasSubstr("values are int64"));
  std::vector<float> values = good.at("values").to_f32();
  values[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal(good, "values", Tensor::from_f32(DType::kF32, {2, 6}, values)), HasSubstr("hold nan"));
  // The last group has two columns: a value at its third place lies behind the row.
  const std::vector<float> ones(12, 1.0F);
  auto behind = good;
  behind["values"] = Tensor::from_f32(DType::kF32, {2, 6}, ones);
  EXPECT_THAT(refusal(behind, "positions", bytes({0x44, 0x0c, 0x44, 0x04})),
              HasSubstr("behind its last column 9"));
  for (const std::int64_t cols : {std::int64_t{-1}, std::int64_t{13}, std::int64_t{1} << 62}) {
    const std::int64_t shape[2] = {2, cols};
    EXPECT_NE(refusal(good, "shape",
                      Tensor::of<std::int64_t>(DType::kI64, {2}, std::span<const std::int64_t>(shape))),
              "accepted");
  }
}

TEST(SparseBitmask, StoredZerosFillThePlannedSize) {
  const std::vector<float> values{0, 5, 0, -0.0F, 7, 0};
  const Tensor dense = Tensor::from_f32(DType::kF32, {2, 3}, values);
  const SparseLayout layout{.format = SparseFormat::kBitmask, .stored_values = 4};
  const auto tensors = sparse_compress(dense, layout).value();
  EXPECT_EQ(tensors.at("compressed").to_f32(), (std::vector<float>{0, 5, 0, 7}));
  const Tensor back = sparse_decompress(tensors, SparseFormat::kBitmask).value();
  EXPECT_EQ(back.to_f32(), dense.to_f32());
  for (const StoredTensor& stored : sparse_stored(layout, 2, 3, DType::kF32))
    EXPECT_EQ(tensors.at(stored.suffix).byte_size(), stored.bytes()) << stored.suffix;
  EXPECT_FALSE(sparse_compress(dense, SparseLayout{.stored_values = 1}).ok());
}

}  // namespace
}  // namespace nibble
