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
  const InputWishes wishes{.columns = true, .hessian = true, .shift = true, .compared_sequences = 33};
  const auto together = gathered(rows, make_chunks(batches(40, 1, 30), 2048), 128, wishes);
  const auto apart = gathered(rows, make_chunks(batches(40, 1, 30), 0), 128, wishes);
  const auto pairs = gathered(rows, make_chunks(batches(20, 2, 30), 300), 128, wishes);
  for (const InputStatistics* other : {&apart, &pairs}) {
    EXPECT_EQ(together.abs_mean(), other->abs_mean());
    EXPECT_EQ(together.square_mean(), other->square_mean());
    EXPECT_EQ(together.sequences(), other->sequences());
    expect_same(together.hessian()->values, other->hessian()->values);
    expect_same(together.compared_hessian()->values, other->compared_hessian()->values);
    for (const int half : {0, 1})
      expect_same(together.half_shift(half)->values, other->half_shift(half)->values);
  }
}

// Sequences of 5 tokens; `compared` of 8.
void expect_moments_of(std::int64_t compared) {
  const Rows rows = random_rows(8 * 5);
  const InputWishes wishes{.columns = false, .hessian = true, .shift = true, .compared_sequences = compared};
  const auto statistics = gathered(rows, make_chunks(batches(8, 1, 5), 2048), 128, wishes);
  const auto value = [](const Matrix& m, std::int64_t t, std::int64_t c) {
    return static_cast<double>(m.at(t, c));
  };
  double all = 0, squares = 0, cross[2] = {0, 0};
  for (std::int64_t t = 0; t < 40; ++t) {
    const std::int64_t sequence = t / 5;
    const double square = value(rows.x, t, 0) * value(rows.x, t, 3);
    all += square;
    if (sequence >= compared) continue;
    squares += square;
    cross[sequence % 2] += (value(rows.original, t, 0) - value(rows.x, t, 0)) * value(rows.x, t, 3);
  }
  EXPECT_EQ(statistics.hessian()->tokens, 40);
  EXPECT_EQ(statistics.hessian()->sequences, 8);
  EXPECT_NEAR(statistics.hessian()->values.at(0, 3), all / 40, 1e-6);
  const std::int64_t seen = std::min<std::int64_t>(compared, 8);
  EXPECT_EQ(statistics.compared_hessian()->tokens, 5 * seen);
  EXPECT_EQ(statistics.compared_hessian()->sequences, seen);
  EXPECT_NEAR(statistics.compared_hessian()->values.at(0, 3), squares / static_cast<double>(5 * seen), 1e-6);
  for (const int half : {0, 1}) {
    const std::int64_t sequences = half == 0 ? (seen + 1) / 2 : seen / 2;
    EXPECT_EQ(statistics.half_shift(half)->tokens, 5 * sequences);
    EXPECT_NEAR(statistics.half_shift(half)->values.at(0, 3),
                cross[half] / static_cast<double>(5 * sequences), 1e-6);
  }
}

TEST(InputStatisticsTest, TheHalvesAreTheEvenAndTheOddSequences) {
  expect_moments_of(8);
}

TEST(InputStatisticsTest, OnlyTheFirstSequencesAreCompared) {
  for (const std::int64_t compared : {2, 3, 100}) expect_moments_of(compared);
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
