// SPDX-License-Identifier: Apache-2.0
// What is known of an input must not depend on how its rows arrive, and must not know of padding.
#include "calibrate/input_statistics.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "calibrate/token_chunks.h"

namespace nibble {
namespace {

constexpr std::int64_t kCols = 24;

struct Rows {
  Matrix x, original;
  std::vector<std::uint8_t> mask;
};

Rows random_rows(std::int64_t count) {
  Rows rows{Matrix(count, kCols), Matrix(count, kCols),
            std::vector<std::uint8_t>(static_cast<std::size_t>(count), 1)};
  Rng rng(7);
  for (float& v : rows.x.values()) v = static_cast<float>(rng.below(2001)) / 1000.0f - 1.0f;
  for (float& v : rows.original.values()) v = static_cast<float>(rng.below(2001)) / 1000.0f - 1.0f;
  return rows;
}

std::vector<Batch> batches(std::int64_t count, std::int64_t sequences, std::int64_t length) {
  std::vector<Batch> result;
  for (std::int64_t i = 0; i < count; ++i) {
    Batch batch;
    batch.sequences = sequences;
    batch.length = length;
    batch.ids.resize(static_cast<std::size_t>(batch.tokens()));
    result.push_back(std::move(batch));
  }
  return result;
}

InputStatistics gathered(const Rows& rows, const std::vector<Chunk>& chunks, std::int64_t block_rows,
                         InputWishes wishes, bool masked = false) {
  ThreadPool pool(2);
  InputStatistics statistics(kCols, wishes, block_rows);
  for (const Chunk& chunk : chunks) {
    const float* x = rows.x.row(chunk.first_row).data();
    const float* original = rows.original.row(chunk.first_row).data();
    const std::uint8_t* mask = masked ? rows.mask.data() + chunk.first_row : nullptr;
    statistics.add(
        pool, chunk,
        {.x = x, .original = wishes.shift ? original : nullptr, .rows = chunk.rows(), .mask = mask});
  }
  EXPECT_TRUE(statistics.finish(pool).ok());
  return statistics;
}

void expect_same(const Matrix& a, const Matrix& b) {
  ASSERT_EQ(a.values().size(), b.values().size());
  for (std::size_t i = 0; i < a.values().size(); ++i) ASSERT_EQ(a.values()[i], b.values()[i]) << i;
}

TEST(InputStatisticsTest, ChunksDoNotChangeABit) {
  const Rows rows = random_rows(40 * 30);
  const InputWishes wishes{.columns = true, .hessian = true, .shift = true};
  const auto together = gathered(rows, make_chunks(batches(40, 1, 30), 2048), 128, wishes);
  const auto apart = gathered(rows, make_chunks(batches(40, 1, 30), 0), 128, wishes);
  const auto pairs = gathered(rows, make_chunks(batches(20, 2, 30), 300), 128, wishes);
  for (const InputStatistics* other : {&apart, &pairs}) {
    EXPECT_EQ(together.abs_mean(), other->abs_mean());
    EXPECT_EQ(together.square_mean(), other->square_mean());
    EXPECT_EQ(together.sequences(), other->sequences());
    expect_same(together.hessian()->values, other->hessian()->values);
    expect_same(together.shift()->values, other->shift()->values);
    for (const int half : {0, 1}) {
      expect_same(together.half_hessian(half)->values, other->half_hessian(half)->values);
      expect_same(together.half_shift(half)->values, other->half_shift(half)->values);
    }
  }
}

TEST(InputStatisticsTest, TheHalvesAreTheEvenAndTheOddSequences) {
  const Rows rows = random_rows(8 * 5);
  const InputWishes wishes{.columns = false, .hessian = true, .shift = true};
  const auto statistics = gathered(rows, make_chunks(batches(8, 1, 5), 2048), 128, wishes);
  for (const int half : {0, 1}) {
    double expected = 0;
    for (std::int64_t t = 0; t < 40; ++t) {
      if (t / 5 % 2 == half)
        expected += static_cast<double>(rows.x.at(t, 0)) * static_cast<double>(rows.x.at(t, 3));
    }
    EXPECT_EQ(statistics.half_hessian(half)->tokens, 20);
    EXPECT_EQ(statistics.half_hessian(half)->sequences, 4);
    EXPECT_NEAR(statistics.half_hessian(half)->values.at(0, 3), expected / 20, 1e-6);
  }
  EXPECT_EQ(statistics.hessian()->tokens, 40);
}

TEST(InputStatisticsTest, PaddingIsNotThere) {
  Rows rows = random_rows(6 * 10);
  Rows kept{Matrix(6 * 7, kCols), Matrix(6 * 7, kCols), {}};
  for (std::int64_t s = 0; s < 6; ++s) {
    for (std::int64_t t = 0; t < 10; ++t) {
      rows.mask[static_cast<std::size_t>(s * 10 + t)] = t < 7 ? 1 : 0;
      if (t >= 7) continue;
      std::copy_n(rows.x.row(s * 10 + t).data(), kCols, kept.x.row(s * 7 + t).data());
    }
  }
  const InputWishes wishes{.columns = true, .hessian = true};
  const auto padded = gathered(rows, make_chunks(batches(6, 1, 10), 2048), 128, wishes, true);
  const auto plain = gathered(kept, make_chunks(batches(6, 1, 7), 2048), 128, wishes);
  EXPECT_EQ(padded.tokens(), 42);
  EXPECT_EQ(padded.abs_mean(), plain.abs_mean());
  EXPECT_EQ(padded.column_max(), plain.column_max());
  expect_same(padded.hessian()->values, plain.hessian()->values);
}

TEST(InputStatisticsTest, WithoutATokenThereIsNothing) {
  ThreadPool pool(1);
  InputStatistics statistics(kCols, {.columns = true, .hessian = true}, 128);
  EXPECT_TRUE(statistics.finish(pool).ok());
  EXPECT_EQ(statistics.hessian(), nullptr);
  EXPECT_TRUE(statistics.abs_mean().empty());
}

TEST(TokenChunksTest, NeighboursOfEqualLengthAreJoinedUpToTheLimit) {
  std::vector<Batch> mixed = batches(5, 1, 8);
  mixed[3].length = 6;
  mixed[3].ids.resize(6);
  mixed[1].mask.assign(8, 1);
  mixed[1].mask[7] = 0;
  const std::vector<Chunk> chunks = make_chunks(mixed, 16);
  ASSERT_EQ(chunks.size(), 4u);  // two, one, the shorter one, one
  EXPECT_EQ(chunks[0].batch.sequences, 2);
  EXPECT_EQ(chunks[0].batch_rows, (std::vector<std::int64_t>{8, 8}));
  ASSERT_EQ(chunks[0].batch.mask.size(), 16u);
  EXPECT_EQ(chunks[0].batch.mask[0], 1);
  EXPECT_EQ(chunks[0].batch.mask[15], 0);
  EXPECT_EQ(chunks[2].first_row, 24);
  EXPECT_EQ(chunks[3].first_sequence, 4);
}

}  // namespace
}  // namespace nibble
