// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/output_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "checkpoint/sharded_writer.h"
#include "test_files.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using test::read_bytes;
using test::TemporaryFolder;
using test::write_bytes;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  return names;
}

std::string refusal(const fs::path& path, const OutputDirectory::Options& options) {
  const Status checked = OutputDirectory::check(path, options);
  const auto created = OutputDirectory::create(path, options);
  EXPECT_EQ(checked.ok(), created.ok());
  return created.ok() ? "accepted" : created.error().message();
}

TEST(OutputDirectoryTest, NothingStandsAtTheFinalPlaceBeforeCommit) {
  const TemporaryFolder base;
  const fs::path out = base / "deep/out";
  {
    auto output = OutputDirectory::create(out, {});
    ASSERT_TRUE(output.ok()) << output.error().message();
    ASSERT_TRUE(output->write_file("config.json", "{}").ok());
    EXPECT_FALSE(fs::exists(out));
    ASSERT_TRUE(output->commit().ok());
  }
  EXPECT_THAT(names_in(base / "deep"), UnorderedElementsAre("out"));
  EXPECT_THAT(names_in(out), UnorderedElementsAre("config.json"));
}

TEST(OutputDirectoryTest, AnEmptyFolderMayBeFilledButAFullOneIsNotReplacedUnasked) {
  const TemporaryFolder base;
  fs::create_directories(base / "empty");
  auto output = OutputDirectory::create(base / "empty", {});
  ASSERT_TRUE(output.ok());
  ASSERT_TRUE(output->write_file("config.json", "first").ok());
  ASSERT_TRUE(output->commit().ok());
  EXPECT_THAT(refusal(base / "empty", {}), HasSubstr("exists already"));

  auto second =
      OutputDirectory::create(base / "empty/", {.overwrite = true, .resume = false, .not_touched = {}});
  ASSERT_TRUE(second.ok()) << second.error().message();
  ASSERT_TRUE(second->write_file("config.json", "second").ok());
  EXPECT_EQ(read_bytes(base / "empty/config.json"), "first");
  ASSERT_TRUE(second->commit().ok());
  EXPECT_EQ(read_bytes(base / "empty/config.json"), "second");
  EXPECT_THAT(names_in(base.path()), UnorderedElementsAre("empty"));
  EXPECT_THAT(names_in(base / "empty"), UnorderedElementsAre("config.json"));
}

TEST(OutputDirectoryTest, OnlyAModelFolderIsEverReplaced) {
  const TemporaryFolder base;
  const OutputDirectory::Options overwrite{.overwrite = true, .resume = false, .not_touched = {}};
  write_bytes(base / "home/letter.txt", "dear");
  EXPECT_THAT(refusal(base / "home", overwrite), HasSubstr("no model folder"));
  write_bytes(base / "clone/config.json", "{}");
  write_bytes(base / "clone/.git/HEAD", "x");
  EXPECT_THAT(refusal(base / "clone", overwrite), HasSubstr("holds the folder .git"));
  write_bytes(base / "file", "x");
  EXPECT_THAT(refusal(base / "file", overwrite), HasSubstr("is a file, not a folder"));
}

TEST(OutputDirectoryTest, TheSourceIsNeverReplaced) {
  const TemporaryFolder base;
  write_bytes(base / "models/source/config.json", "{}");
  write_bytes(base / "models/config.json", "{}");
  const OutputDirectory::Options options{
      .overwrite = true, .resume = false, .not_touched = {base / "models/source"}};
  EXPECT_THAT(refusal(base / "models/source", options), HasSubstr("would replace the source"));
  EXPECT_THAT(refusal(base / "models/x/../source/", options), HasSubstr("would replace the source"));
  EXPECT_THAT(refusal(base / "models", options), HasSubstr("would replace the source"));
  EXPECT_THAT(refusal(base / "models/source/deep/out", options),
              HasSubstr("lies in the folder of the source"));
  EXPECT_FALSE(fs::exists(base / "models/source/deep"));
  EXPECT_EQ(refusal(base / "models/source-w4", options), "accepted");
}

TEST(OutputDirectoryTest, DiscardTakesTheFoldersAboveWithItThatItMade) {
  const TemporaryFolder base;
  write_bytes(base / "mine/letter.txt", "dear");
  for (const bool shared : {false, true}) {
    auto output = OutputDirectory::create(base / "mine/a/b/out", {});
    ASSERT_TRUE(output.ok()) << output.error().message();
    if (shared) write_bytes(base / "mine/a/other.txt", "x");
    output->discard();
    EXPECT_FALSE(fs::exists(base / "mine/a/b"));
    EXPECT_EQ(fs::exists(base / "mine/a"), shared) << "what others put there stays";
    EXPECT_TRUE(fs::exists(base / "mine/letter.txt"));
  }
}

TEST(OutputDirectoryTest, APartialFolderThatIsNotOursIsLeftAlone) {
  const TemporaryFolder base;
  write_bytes(base / "out.partial/precious", "x");
  EXPECT_THAT(refusal(base / "out", {}), HasSubstr("not made by nibble"));
  EXPECT_EQ(read_bytes(base / "out.partial/precious"), "x");
}

TEST(OutputDirectoryTest, TwoRunsCannotWriteToOneFolder) {
  const TemporaryFolder base;
  auto first = OutputDirectory::create(base / "out", {});
  ASSERT_TRUE(first.ok());
  const auto second = OutputDirectory::create(base / "out", {});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message(), HasSubstr("another run"));
}

TEST(OutputDirectoryTest, ResumeKeepsWhatAStoppedRunLeft) {
  const TemporaryFolder base;
  const OutputDirectory::Options resume{.overwrite = false, .resume = true, .not_touched = {}};
  EXPECT_THAT(refusal(base / "out", resume), HasSubstr("nothing to resume"));
  { ASSERT_TRUE(OutputDirectory::create(base / "out", {})->write_file("ledger", "block 1").ok()); }
  {
    auto resumed = OutputDirectory::create(base / "out", resume);
    ASSERT_TRUE(resumed.ok()) << resumed.error().message();
    EXPECT_EQ(read_bytes(resumed->partial() / "ledger"), "block 1");
  }
  auto fresh = OutputDirectory::create(base / "out", {});
  ASSERT_TRUE(fresh.ok());
  EXPECT_FALSE(fs::exists(fresh->partial() / "ledger"));
}

TEST(OutputDirectoryTest, CompanionsAreCopiedByteForByte) {
  const TemporaryFolder base;
  ASSERT_TRUE(fs::create_directories(base / "in"));
  ASSERT_TRUE(write_safetensors_file(base / "in/model.safetensors", {{"a", Tensor(DType::kU8, {1})}}).ok());
  write_bytes(base / "in/config.json", "{}");
  write_bytes(base / "in/tokenizer.json", std::string("\0\xff", 2));
  write_bytes(base / "in/recipe.yaml", "old");
  write_bytes(base / "in/additional_chat_templates/tool.jinja", "{{ x }}");
  auto source = Checkpoint::open((base / "in").string());
  ASSERT_TRUE(source.ok());
  auto output = OutputDirectory::create(base / "out", {});
  const auto copied = output->copy_companions(**source, {"recipe.yaml"});
  ASSERT_TRUE(copied.ok()) << copied.error().message();
  EXPECT_THAT(*copied, UnorderedElementsAre("additional_chat_templates/tool.jinja", "tokenizer.json"));
  ASSERT_TRUE(output->commit().ok());
  EXPECT_EQ(read_bytes(base / "out/tokenizer.json"), std::string("\0\xff", 2));
  EXPECT_EQ(read_bytes(base / "out/additional_chat_templates/tool.jinja"), "{{ x }}");
}

// A run that dies by SIGKILL after `steps` steps of its work.
void run_and_die(const fs::path& out, int steps) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    int left = steps;
    const auto step = [&] {
      if (left-- == 0) ::kill(::getpid(), SIGKILL);
    };
    step();
    auto output = OutputDirectory::create(out, {.overwrite = true, .resume = false, .not_touched = {}});
    step();
    auto writer = ShardedWriter::create(*WritePlan::make({{"a", DType::kU8, {9}}, {"b", DType::kF32, {9}}},
                                                         {.max_shard_bytes = 10, .metadata = {}}),
                                        output->partial());
    step();
    for (const char* name : {"a", "b"}) {
      const std::vector<std::byte> data(*name == 'a' ? 9 : 36, std::byte{7});
      (void)(*writer)->write_part(name, 0, data);
      step();
    }
    (void)(*writer)->finish();
    step();
    (void)output->write_file("config.json", "new");
    step();
    ::kill(::getpid(), SIGKILL);
  }
  int state = 0;
  ASSERT_EQ(::waitpid(child, &state, 0), child);
  ASSERT_TRUE(WIFSIGNALED(state));
}

TEST(OutputDirectoryTest, AKillAtAnyStepLeavesEarlierOutputAndTheNextRunWorks) {
  const TemporaryFolder base;
  const fs::path out = base / "out";
  for (int steps = 0; steps < 8; ++steps) {
    for (const bool with_earlier_output : {false, true}) {
      fs::remove_all(out);
      if (with_earlier_output) write_bytes(out / "config.json", "old");
      run_and_die(out, steps);
      EXPECT_EQ(fs::exists(out), with_earlier_output);
      EXPECT_EQ(read_bytes(out / "config.json"), with_earlier_output ? "old" : "");
      for (const std::string& name : names_in(base.path()))
        EXPECT_TRUE(name == "out" || name == "out.partial") << name;
      auto next = OutputDirectory::create(out, {.overwrite = true, .resume = false, .not_touched = {}});
      ASSERT_TRUE(next.ok()) << next.error().message();
      ASSERT_TRUE(next->write_file("config.json", "next").ok());
      ASSERT_TRUE(next->commit().ok());
      EXPECT_THAT(names_in(out), UnorderedElementsAre("config.json"));
      EXPECT_EQ(read_bytes(out / "config.json"), "next");
      EXPECT_FALSE(fs::exists(base / "out.partial"));
    }
  }
}

TEST(OutputDirectoryTest, AKillInsideCommitIsMendedByTheNextRun) {
  const TemporaryFolder base;
  // Renamed, the marker not yet gone, the old output still under the partial name.
  write_bytes(base / "a/config.json", "new");
  write_bytes(base / "a/.nibble-partial", "");
  write_bytes(base / "a.partial/config.json", "old");
  EXPECT_THAT(refusal(base / "a", {}), HasSubstr("exists already"));
  EXPECT_EQ(read_bytes(base / "a/config.json"), "new");
  EXPECT_FALSE(fs::exists(base / "a/.nibble-partial"));
  EXPECT_FALSE(fs::exists(base / "a.partial"));
  // Between the two renames of a file system that cannot swap.
  write_bytes(base / "b.replaced/config.json", "old");
  write_bytes(base / "b.partial/.nibble-partial", "");
  EXPECT_TRUE(
      OutputDirectory::create(base / "b", {.overwrite = true, .resume = false, .not_touched = {}}).ok());
  EXPECT_EQ(read_bytes(base / "b/config.json"), "old");
}

}  // namespace
}  // namespace nibble
