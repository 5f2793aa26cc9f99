// SPDX-License-Identifier: Apache-2.0
#include "calibrate/activation_buffer.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace nibble {
namespace {

namespace fs = std::filesystem;

class ActivationBufferTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / "nibble_activation_buffer_test";
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(ActivationBufferTest, TakesMemoryWhileTheBudgetLastsThenDisk) {
  MemoryBudget budget(1000 * 16 * 4);
  {
    auto first = ActivationBuffer::create(1000, 16, budget, folder_);
    ASSERT_TRUE(first.ok());
    EXPECT_FALSE(first->is_spilled());
    EXPECT_EQ(budget.free_bytes(), 0u);
    auto second = ActivationBuffer::create(1000, 16, budget, folder_);
    ASSERT_TRUE(second.ok());
    EXPECT_TRUE(second->is_spilled());
  }
  EXPECT_EQ(budget.free_bytes(), budget.total_bytes());
}

TEST_F(ActivationBufferTest, SpilledRowsKeepTheirValuesAfterRelease) {
  MemoryBudget none(0);
  auto buffer = ActivationBuffer::create(5000, 33, none, folder_);
  ASSERT_TRUE(buffer.ok());
  for (std::int64_t r = 0; r < 5000; ++r) {
    for (std::int64_t c = 0; c < 33; ++c) buffer->row(r)[c] = static_cast<float>(r * 33 + c);
  }
  buffer->release(0, 5000);
  for (std::int64_t r = 0; r < 5000; ++r) {
    for (std::int64_t c = 0; c < 33; ++c) ASSERT_EQ(buffer->row(r)[c], static_cast<float>(r * 33 + c));
  }
}

TEST_F(ActivationBufferTest, TheSpillFileHasNoName) {
  MemoryBudget none(0);
  const auto buffer = ActivationBuffer::create(100, 8, none, folder_);
  ASSERT_TRUE(buffer.ok());
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(ActivationBufferTest, TooLittleDiskIsSaidBeforeWork) {
  MemoryBudget none(0);
  const auto buffer = ActivationBuffer::create(std::int64_t{1} << 40, 1024, none, folder_);
  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.error().code, ErrorCode::kCannotCreate);
  EXPECT_NE(buffer.error().what.find("on disk"), std::string::npos) << buffer.error().what;
}

TEST_F(ActivationBufferTest, MissingSpillFolderIsNamed) {
  MemoryBudget none(0);
  const auto buffer = ActivationBuffer::create(10, 10, none, folder_ / "absent");
  ASSERT_FALSE(buffer.ok());
  EXPECT_NE(buffer.error().what.find("absent"), std::string::npos) << buffer.error().what;
}

}  // namespace
}  // namespace nibble
