// SPDX-License-Identifier: Apache-2.0
#include "codec/sparse_format.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

using testing::same_tensor;

Tensor sparse_matrix(DType dtype, std::int64_t rows, std::int64_t cols, bool quads) {
  Rng rng(static_cast<std::uint64_t>(rows * cols));
  Tensor out(dtype, {rows, cols});
  const std::size_t width = dtype_bytes(dtype);
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    if (quads ? i % 4 != 1 && i % 4 != 2 : rng.below(3) == 0) continue;
    for (std::size_t b = 0; b < width; ++b) {
      out.mutable_bytes()[static_cast<std::size_t>(i) * width + b] =
          static_cast<std::byte>(1 + rng.below(100));
    }
  }
  return out;
}

TEST(SparseFormat, TheRowOfTheSpecification) {
  const std::vector<float> row{0, 5, 0, 7, 1, 0, 2, 0, 3};
  const auto tensors =
      sparse_compress(Tensor::from_f32(DType::kF32, {1, 9}, row), SparseFormat::kBitmask).value();
  const auto mask = tensors.at("bitmask").as<std::uint8_t>();
  EXPECT_EQ(std::vector<std::uint8_t>(mask.begin(), mask.end()), (std::vector<std::uint8_t>{0x5a, 0x01}));
  EXPECT_EQ(tensors.at("compressed").to_f32(), (std::vector<float>{5, 7, 1, 2, 3}));
  EXPECT_EQ(tensors.at("row_offsets").as<std::int64_t>()[0], 0);
}

TEST(SparseFormat, EveryTypeComesBack) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3, DType::kI8}) {
    for (const auto& [rows, cols] : {std::pair{5, 16}, {1, 8}, {7, 36}, {3, 4}}) {
      for (const SparseFormat format : {SparseFormat::kBitmask, SparseFormat::kBitmask24}) {
        const Tensor dense = sparse_matrix(dtype, rows, cols, format == SparseFormat::kBitmask24);
        const auto tensors = sparse_compress(dense, format);
        ASSERT_TRUE(tensors.ok()) << tensors.error().message();
        EXPECT_EQ(tensors->size(), sparse_suffixes(format).size());
        EXPECT_TRUE(same_tensor(dense, sparse_decompress(*tensors, format).value()));
      }
    }
  }
  const Tensor ragged = sparse_matrix(DType::kBF16, 4, 13, false);
  EXPECT_TRUE(same_tensor(ragged, sparse_decompress(sparse_compress(ragged, SparseFormat::kBitmask).value(),
                                                    SparseFormat::kBitmask)
                                      .value()));
}

TEST(SparseFormat, BlocksOfRowsAreTheWhole) {
  for (const SparseFormat format : {SparseFormat::kBitmask, SparseFormat::kBitmask24, SparseFormat::kQuads}) {
    const Tensor dense = sparse_matrix(DType::kBF16, 7, 36, format != SparseFormat::kBitmask);
    const auto tensors = sparse_compress(dense, format).value();
    for (const std::int64_t step : {1, 2, 3, 7, 100}) {
      std::vector<std::byte> joined;
      std::int64_t blocks = 0;
      const Status status = sparse_decompress_rows(tensors, format, step, [&](const Tensor& rows) -> Status {
        EXPECT_EQ(rows.dtype(), DType::kBF16);
        EXPECT_EQ(rows.shape(), (Shape{std::min(step, 7 - blocks * step), 36}));
        joined.insert(joined.end(), rows.bytes().begin(), rows.bytes().end());
        ++blocks;
        return {};
      });
      ASSERT_TRUE(status.ok()) << status.error().message();
      EXPECT_TRUE(std::ranges::equal(joined, dense.bytes())) << to_string(format) << " " << step;
    }
  }
}

TEST(SparseFormat, OffsetsCountTheRowsBefore) {
  const std::vector<float> values{1, 0, 2, 0, 0, 0, 3, -0.0f, 4};
  const auto tensors =
      sparse_compress(Tensor::from_f32(DType::kF32, {3, 3}, values), SparseFormat::kBitmask).value();
  const auto offsets = tensors.at("row_offsets").as<std::int64_t>();
  EXPECT_EQ(std::vector<std::int64_t>(offsets.begin(), offsets.end()), (std::vector<std::int64_t>{0, 2, 2}));
  EXPECT_EQ(tensors.at("compressed").to_f32(), (std::vector<float>{1, 2, 3, 4}));
}

TEST(SparseFormat, DamageIsAnError) {
  const Tensor dense = sparse_matrix(DType::kBF16, 4, 16, true);
  for (const SparseFormat format : {SparseFormat::kBitmask, SparseFormat::kBitmask24}) {
    const auto good = sparse_compress(dense, format).value();
    for (const char* suffix : {"shape", "bitmask", "compressed"}) {
      auto without = good;
      without.erase(suffix);
      EXPECT_FALSE(sparse_decompress(without, format).ok()) << suffix;
    }
    auto damaged = good;
    damaged["compressed"] = Tensor(DType::kBF16, {3});
    EXPECT_FALSE(sparse_decompress(damaged, format).ok());
    const std::int64_t huge[2] = {4, std::int64_t{1} << 62};
    damaged = good;
    damaged["shape"] = Tensor::of<std::int64_t>(DType::kI64, {2}, std::span<const std::int64_t>(huge));
    EXPECT_FALSE(sparse_decompress(damaged, format).ok());
    damaged = good;
    damaged["bitmask"] = Tensor(DType::kU8, {4, 2});
    damaged["bitmask"].as_mutable<std::uint8_t>()[0] = 0xff;
    EXPECT_FALSE(sparse_decompress(damaged, format).ok());
  }
  EXPECT_FALSE(sparse_compress(Tensor::from_f32(DType::kF32, {1, 4}, std::vector<float>{1, 2, 3, 0}),
                               SparseFormat::kBitmask24)
                   .ok());
  EXPECT_EQ(sparse_format_from_string("sparse-24-bitmask"), SparseFormat::kBitmask24);
  EXPECT_EQ(sparse_format_from_string("marlin-24"), std::nullopt);
}

}  // namespace
}  // namespace nibble
