// SPDX-License-Identifier: Apache-2.0
#include "format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "console.h"

namespace nibble::app {
namespace {

TEST(Format, DurationsAndCounts) {
  EXPECT_EQ(format_duration(0.25), "0.2s");
  EXPECT_EQ(format_duration(59.4), "59s");
  EXPECT_EQ(format_duration(723), "12m 3s");
  EXPECT_EQ(format_duration(2 * 3600 + 41 * 60), "2h 41m");
  EXPECT_EQ(format_count(7), "7");
  EXPECT_EQ(format_count(1234567), "1,234,567");
  EXPECT_EQ(format_count(-1234), "-1,234");
  EXPECT_EQ(format_count(-123), "-123");
}

TEST(Format, TableAlignsNumbersToTheRight) {
  Table table({"name", "size"});
  table.row({"a", "7"});
  table.row({"größe", "1234"});
  EXPECT_EQ(table.text(), "name   size\na         7\ngröße  1234\n");
}

TEST(Progress, EstimatesTheTimeLeftFromTheShareOfWork) {
  EXPECT_EQ(progress_text("calibrate", 1, 4, 60), "calibrate  25 %  1m 0s elapsed  3m 0s left");
  EXPECT_EQ(progress_text("calibrate", 0, 4, 60), "calibrate  0 %  1m 0s elapsed");
  EXPECT_EQ(progress_text("calibrate", 4, 4, 60), "calibrate  100 %  1m 0s elapsed");
}

}  // namespace
}  // namespace nibble::app
