// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <gtest/gtest.h>

namespace nibble {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return bad_data("odd", "pass an even number");
  return value / 2;
}

Result<int> quarter(int value) {
  TRY_ASSIGN(const int once, half(value).at("first half"));
  TRY_ASSIGN(const int twice, half(once).at("second half"));
  return twice;
}

Status only_even(int value) {
  TRY(half(value));
  return {};
}

TEST(ErrorTest, CarriesValueThroughTry) {
  ASSERT_TRUE(quarter(12).ok());
  EXPECT_EQ(*quarter(12), 3);
}

TEST(ErrorTest, ContextIsAddedOutermostFirst) {
  const Result<int> result = quarter(6).at("file a");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message(), "file a: second half: odd (pass an even number)");
  EXPECT_EQ(result.error().code, ErrorCode::kBadData);
}

TEST(ErrorTest, StatusLeavesWithTheErrorOfAResult) {
  EXPECT_TRUE(only_even(2).ok());
  EXPECT_EQ(only_even(3).error().what, "odd");
}

TEST(ErrorTest, MovesValuesThatCannotBeCopied) {
  Result<std::unique_ptr<int>> made = std::make_unique<int>(7);
  const std::unique_ptr<int> taken = std::move(made).value();
  EXPECT_EQ(*taken, 7);
}

}  // namespace
}  // namespace nibble
