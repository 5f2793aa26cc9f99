// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace nibble {
namespace {

TEST(ThreadPoolTest, RunsEveryIndexOnce) {
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const std::int64_t count : {0, 1, 7, 64, 1000}) {
      for (const std::int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> hits(static_cast<std::size_t>(count));
        pool.parallel_for(count, grain, [&](std::int64_t first, std::int64_t last) {
          EXPECT_LE(last - first, grain);
          EXPECT_EQ(first % grain, 0);
          for (std::int64_t i = first; i < last; ++i) ++hits[static_cast<std::size_t>(i)];
        });
        for (const auto& hit : hits) ASSERT_EQ(hit.load(), 1);
      }
    }
  }
}

TEST(ThreadPoolTest, NestedCallsRunInline) {
  ThreadPool pool(4);
  std::atomic<int> sum{0};
  pool.parallel_for(8, 1, [&](std::int64_t, std::int64_t) {
    pool.parallel_for(10, 2,
                      [&](std::int64_t first, std::int64_t last) { sum += static_cast<int>(last - first); });
  });
  EXPECT_EQ(sum.load(), 80);
}

TEST(ThreadPoolTest, ExceptionReachesTheCallerAndThePoolStaysUsable) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.parallel_for(100, 1,
                                 [](std::int64_t first, std::int64_t) {
                                   if (first == 42) throw std::runtime_error("task");
                                 }),
               std::runtime_error);
  std::atomic<int> count{0};
  pool.parallel_for(100, 1, [&](std::int64_t, std::int64_t) { ++count; });
  EXPECT_EQ(count.load(), 100);
}

}  // namespace
}  // namespace nibble
