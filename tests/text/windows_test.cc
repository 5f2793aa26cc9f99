// SPDX-License-Identifier: Apache-2.0
#include "text/windows.h"

#include <gtest/gtest.h>

#include <numeric>

namespace nibble {
namespace {

std::vector<TokenId> counting(std::size_t count) {
  std::vector<TokenId> ids(count);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

TEST(WindowsTest, GptqCutsWithoutOverlapAndDropsTheTail) {
  const auto windows =
      cut_windows(counting(25), {.context = 8, .max_windows = std::nullopt, .bos = std::nullopt});
  ASSERT_TRUE(windows.ok());
  ASSERT_EQ(windows->size(), 3u);
  EXPECT_EQ((*windows)[1].ids.front(), 8);
  EXPECT_EQ((*windows)[2].ids.back(), 23);
  EXPECT_EQ((*windows)[0].predictions(), 7);
}

TEST(WindowsTest, LlamaCppPutsBosFirstAndScoresTheSecondHalf) {
  const auto windows = cut_windows(
      counting(16),
      {.convention = Convention::kLlamaCpp, .context = 8, .max_windows = std::nullopt, .bos = 99});
  ASSERT_TRUE(windows.ok());
  EXPECT_EQ((*windows)[1].ids.front(), 99);
  EXPECT_EQ((*windows)[1].ids[1], 9);
  EXPECT_EQ((*windows)[0].predictions(), 3);  // positions 4, 5, 6
}

TEST(WindowsTest, AShortTextIsOneShortWindowAndATinyOneAnError) {
  EXPECT_EQ(cut_windows(counting(5), {.max_windows = std::nullopt, .bos = std::nullopt})->front().ids.size(),
            5u);
  EXPECT_FALSE(cut_windows(counting(1), {.max_windows = std::nullopt, .bos = std::nullopt}).ok());
}

TEST(WindowsTest, HashNamesTheTokens) {
  const WindowOptions options{.context = 4, .max_windows = 2, .bos = std::nullopt};
  std::vector<TokenId> ids = counting(12);
  const std::string hash = token_hash(*cut_windows(ids, options));
  EXPECT_EQ(hash.size(), 16u);
  ids[9] = 0;  // in the third window, which is not used
  EXPECT_EQ(token_hash(*cut_windows(ids, options)), hash);
  ids[7] = 0;
  EXPECT_NE(token_hash(*cut_windows(ids, options)), hash);
}

}  // namespace
}  // namespace nibble
