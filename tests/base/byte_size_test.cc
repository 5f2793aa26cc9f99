// SPDX-License-Identifier: Apache-2.0
#include "base/byte_size.h"

#include <gtest/gtest.h>

namespace nibble {
namespace {

TEST(ByteSizeTest, UnitsAreDecimalUnlessTheySayOtherwise) {
  EXPECT_EQ(*parse_byte_size("5GB"), 5'000'000'000U);
  EXPECT_EQ(*parse_byte_size("1.5 gb"), 1'500'000'000U);
  EXPECT_EQ(*parse_byte_size("20K"), 20'000U);
  EXPECT_EQ(*parse_byte_size("4GiB"), 4'294'967'296U);
  EXPECT_EQ(*parse_byte_size("123"), 123U);
  EXPECT_EQ(*parse_byte_size("7B"), 7U);
}

TEST(ByteSizeTest, OtherTextIsRefused) {
  for (const char* text : {"", "GB", "-1GB", "5XB", "1e3", "99999999TB", "nan", "5GB5"}) {
    EXPECT_FALSE(parse_byte_size(text).ok()) << text;
  }
}

TEST(ByteSizeTest, FormatsWithThreeDigits) {
  EXPECT_EQ(format_byte_size(999), "999 B");
  EXPECT_EQ(format_byte_size(1'500'000'000), "1.50 GB");
  EXPECT_EQ(format_byte_size(999'996), "1.00 MB");
}

}  // namespace
}  // namespace nibble
