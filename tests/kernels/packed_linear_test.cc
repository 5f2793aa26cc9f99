// SPDX-License-Identifier: Apache-2.0
#include "kernels/packed_linear.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/dtype.h"
#include "kernels/gemm.h"
#include "kernels/levels.h"

namespace nibble::kernels {
namespace {

using testing::at_every_level;
using testing::Random;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// Codes with scales and zeros, and the weights they stand for by the plain formula.
struct Coded {
  std::vector<std::int8_t> codes, zeros;
  std::vector<float> scales, dense;
  std::vector<std::int32_t> groups;
  CodedWeights w;
};

Coded make(CodeKind kind, int bits, std::int64_t rows, std::int64_t cols, std::int64_t group_size,
           bool zeros = false, bool act_order = false, DType scale_type = DType::kF32) {
  Coded c;
  Random random(static_cast<std::uint64_t>(bits * 1000 + rows + cols + group_size));
  CodedWeights& w = c.w;
  w.rows = rows, w.cols = cols, w.kind = kind, w.bits = bits, w.ld = cols + 2, w.group_size = group_size;
  const std::int64_t size = group_size == 0 ? cols : group_size, groups = (cols + size - 1) / size;
  w.scale_ld = groups + 1;
  for (float& v : w.table) v = random.uniform(-6, 6);
  const int half = 1 << (bits - 1);
  for (std::int64_t i = 0; i < rows * w.ld; ++i) {
    const int code = static_cast<int>(random.bits() % (2u * static_cast<unsigned>(half)));
    const bool nan = kind == CodeKind::kFloat8 && (code & 0x7f) == 0x7f;
    c.codes.push_back(static_cast<std::int8_t>(kind == CodeKind::kInteger ? code - half : nan ? 1 : code));
  }
  for (std::int64_t i = 0; i < rows * w.scale_ld; ++i) {
    c.scales.push_back(round_to(scale_type, random.uniform(0.001f, 0.1f)));
    c.zeros.push_back(static_cast<std::int8_t>(
        static_cast<int>(random.bits() % (2u * static_cast<unsigned>(half))) - half));
  }
  for (std::int64_t j = 0; j < cols; ++j) {
    c.groups.push_back(static_cast<std::int32_t>(act_order ? (j * 7 + 3) % cols / size : j / size));
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < cols; ++j) {
      const std::int8_t code = c.codes[at(r * w.ld + j)];
      const std::int64_t s = r * w.scale_ld + c.groups[at(j)];
      float value = 0;
      if (kind == CodeKind::kInteger)
        value = static_cast<float>(code) - (zeros ? static_cast<float>(c.zeros[at(s)]) : 0.0f);
      if (kind == CodeKind::kTable) value = w.table[at(code)];
      if (kind == CodeKind::kFloat8) value = f8e4m3_to_f32(static_cast<std::uint8_t>(code));
      c.dense.push_back(value * c.scales[at(s)]);
    }
  }
  w.codes = c.codes.data();
  w.scales = c.scales.data();
  w.zeros = zeros ? c.zeros.data() : nullptr;
  w.group_index = act_order ? c.groups.data() : nullptr;
  return c;
}

std::vector<Coded> all_kinds() {
  std::vector<Coded> out;
  for (int bits = 2; bits <= 8; ++bits) {
    out.push_back(make(CodeKind::kInteger, bits, 33, 300, 128, bits % 2 == 0));
    out.push_back(make(CodeKind::kInteger, bits, 65, 70, 24, bits % 2 == 1, false, DType::kBF16));
    out.push_back(make(CodeKind::kInteger, bits, 7, 33, 0));
  }
  out.push_back(make(CodeKind::kInteger, 4, 1, 1, 0, true));
  out.push_back(make(CodeKind::kInteger, 4, 40, 256, 64, true, true, DType::kF16));
  out.push_back(make(CodeKind::kTable, 4, 50, 129, 16));
  out.push_back(make(CodeKind::kFloat8, 8, 50, 129, 0));
  out.push_back(make(CodeKind::kFloat8, 8, 16, 320, 128));
  return out;
}

TEST(PackedLinearTest, UnpacksToTheCodesMeaning) {
  ThreadPool pool(2);
  for (const Coded& c : all_kinds()) {
    const PackedWeights packed = pack_codes(pool, c.w);
    at_every_level([&](CpuLevel) {
      std::vector<float> out(at(c.w.rows * (c.w.cols + 1)));
      packed.unpack(pool, out.data(), c.w.cols + 1);
      for (std::int64_t r = 0; r < c.w.rows; ++r) {
        for (std::int64_t j = 0; j < c.w.cols; ++j) {
          ASSERT_EQ(out[at(r * (c.w.cols + 1) + j)], c.dense[at(r * c.w.cols + j)])
              << "bits " << c.w.bits << " kind " << static_cast<int>(c.w.kind) << " at " << r << "," << j;
        }
      }
    });
  }
}

TEST(PackedLinearTest, GivesTheBitsOfGemmOnUnpackedWeights) {
  ThreadPool one(1), two(2), four(4);
  for (const Coded& c : all_kinds()) {
    if (c.w.group_index != nullptr) continue;  // its sums run in another order
    const PackedWeights packed = pack_codes(two, c.w);
    at_every_level([&](CpuLevel) {
      for (const std::int64_t tokens : {1, 2, 3, 5, 33, 180}) {
        if (tokens == 180 && c.w.bits != 4) continue;
        const std::int64_t ldx = c.w.cols + 1, ldy = c.w.rows + 2;
        const auto x = Random(7).floats(tokens * ldx);
        std::vector<float> expected(at(tokens * ldy), 0.5f), y = expected, z = expected;
        for (const bool accumulate : {false, true}) {
          gemm_nt(two, tokens, c.w.rows, c.w.cols, x.data(), ldx, c.dense.data(), c.w.cols, expected.data(),
                  ldy, accumulate);
          linear(one, tokens, x.data(), ldx, packed, y.data(), ldy, accumulate);
          linear(four, tokens, x.data(), ldx, packed, z.data(), ldy, accumulate);
          ASSERT_EQ(y, expected) << "bits " << c.w.bits << " kind " << static_cast<int>(c.w.kind) << " "
                                 << tokens;
          ASSERT_EQ(z, expected);
        }
      }
    });
  }
}

TEST(PackedLinearTest, ActOrderIsAProductWithTheOriginalColumns) {
  ThreadPool pool(2);
  const Coded c = make(CodeKind::kInteger, 4, 40, 256, 64, true, true);
  const PackedWeights packed = pack_codes(pool, c.w);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t tokens : {1, 7, 33}) {
      const auto x = Random(7).floats(tokens * 256);
      std::vector<float> expected(at(tokens * 40)), y(expected.size());
      gemm_nt(pool, tokens, 40, 256, x.data(), 256, c.dense.data(), 256, expected.data(), 40);
      linear(pool, tokens, x.data(), 256, packed, y.data(), 40);
      for (std::size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], expected[i], 2e-5f);
    }
  });
}

TEST(PackedLinearTest, DenseWeightsAreRoundedToTheirStorage) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const std::int64_t rows : {1, 33, 65}) {
      const std::int64_t cols = 270;
      const auto w = Random(3).floats(rows * cols);
      std::vector<float> rounded;
      for (const float v : w) rounded.push_back(round_to(dtype, v));
      const PackedWeights packed = pack_dense(pool, rows, cols, w.data(), cols, dtype);
      EXPECT_EQ(packed.bytes(), at((rows + 15) / 16 * 16 * cols) * dtype_bytes(dtype));
      at_every_level([&](CpuLevel) {
        std::vector<float> back(w.size());
        packed.unpack(pool, back.data(), cols);
        EXPECT_EQ(back, rounded);
        for (const std::int64_t tokens : {1, 2, 17, 180}) {
          const auto x = Random(7).floats(tokens * cols);
          std::vector<float> expected(at(tokens * rows)), y(expected.size());
          gemm_nt(pool, tokens, rows, cols, x.data(), cols, rounded.data(), cols, expected.data(), rows);
          linear(pool, tokens, x.data(), cols, packed, y.data(), rows);
          ASSERT_EQ(y, expected);
        }
      });
    }
  }
}

TEST(PackedLinearTest, TakesExactlyItsBitsAndTwoByteScales) {
  ThreadPool pool(2);
  const Coded c = make(CodeKind::kInteger, 3, 64, 1024, 128, true, false, DType::kBF16);
  const std::size_t scales = 64 * 8;
  EXPECT_EQ(pack_codes(pool, c.w).bytes(), 64u * 1024u * 3u / 8u + scales * 2u + scales);
}

TEST(PackedLinearTest, Float8NanReachesTheOutput) {
  ThreadPool pool(1);
  Coded c = make(CodeKind::kFloat8, 8, 3, 40, 0);
  c.codes[5] = static_cast<std::int8_t>(0xff);
  const PackedWeights packed = pack_codes(pool, c.w);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t tokens : {1, 9}) {
      const auto x = Random(7).floats(tokens * 40);
      std::vector<float> y(at(tokens * 3));
      linear(pool, tokens, x.data(), 40, packed, y.data(), 3);
      EXPECT_TRUE(std::isnan(y[0]));
      EXPECT_FALSE(std::isnan(y[1]));
    }
  });
}

TEST(PackedLinearTest, EmptyShapesDoNothing) {
  ThreadPool pool(2);
  Coded c = make(CodeKind::kInteger, 4, 8, 32, 0);
  at_every_level([&](CpuLevel) {
    const PackedWeights packed = pack_codes(pool, c.w);
    linear(pool, 0, nullptr, 32, packed, nullptr, 8);
    CodedWeights none = c.w;
    none.rows = 0;
    float y = 3.0f;
    linear(pool, 1, c.dense.data(), 32, pack_codes(pool, none), &y, 1);
    EXPECT_EQ(y, 3.0f);
  });
}

}  // namespace
}  // namespace nibble::kernels
