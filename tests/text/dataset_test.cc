// SPDX-License-Identifier: Apache-2.0
#include "text/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <fstream>

#include "text/csv.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class DatasetTest : public testing::Test {
 protected:
  DatasetTest() {
    std::string pattern = (fs::temp_directory_path() / "nibble-dataset-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  ~DatasetTest() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, const std::string& content) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  static std::string packed(const std::string& text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
  }
  static std::vector<std::string> texts(const fs::path& path, const DatasetOptions& options = {}) {
    const auto documents = read_documents(path, options);
    EXPECT_TRUE(documents.ok()) << documents.error().message();
    std::vector<std::string> out;
    if (documents.ok()) {
      for (const Document& document : *documents) out.push_back(document.text);
    }
    return out;
  }
  static Error error(const fs::path& path, const DatasetOptions& options = {}) {
    const auto documents = read_documents(path, options);
    EXPECT_FALSE(documents.ok());
    return documents.ok() ? Error{} : documents.error();
  }

  fs::path folder_;
};

TEST_F(DatasetTest, ATextFileIsOneDocument) {
  const fs::path path = write("a.txt", "\xef\xbb\xbfone\n\ntwo\r\n");
  EXPECT_THAT(texts(path), ElementsAre("one\n\ntwo\r\n"));
  EXPECT_TRUE(read_documents(path, {})->at(0).whole_file);
  EXPECT_THAT(texts(write("wiki.test.raw", "raw")), ElementsAre("raw"));
  EXPECT_THAT(texts(write("empty.txt", "")), ElementsAre(""));
}

TEST_F(DatasetTest, JsonLinesGiveTheTextColumn) {
  const fs::path path = write(
      "a.jsonl", "{\"text\": \"one\", \"n\": 1}\r\n\n  \n{\"n\": 2, \"text\": \"tw\\u00f6\"}\n\"bare\"");
  EXPECT_THAT(texts(path), ElementsAre("one", "twö", "bare"));
  EXPECT_FALSE(read_documents(path, {})->at(0).whole_file);
  EXPECT_THAT(texts(write("b.jsonl", R"({"content": "c", "text": "t"})"), {.text_column = "content"}),
              ElementsAre("c"));
}

TEST_F(DatasetTest, JsonMayBeAListARecordWithAListOrLines) {
  EXPECT_THAT(texts(write("a.json", R"([{"text": "a"}, "b"])")), ElementsAre("a", "b"));
  EXPECT_THAT(texts(write("b.json", "{\"version\": 1,\n \"data\": [{\"text\": \"a\"}]}")), ElementsAre("a"));
  EXPECT_THAT(texts(write("c.json", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n")), ElementsAre("a", "b"));
  EXPECT_THAT(texts(write("d.json", "{\"text\": \"only\"}\n")), ElementsAre("only"));
}

TEST_F(DatasetTest, CsvFollowsItsQuotes) {
  EXPECT_THAT(texts(write("a.csv", "id,text\n1,plain\n2,\"a, \"\"b\"\"\nc\"\n\n3,\n")),
              ElementsAre("plain", "a, \"b\"\nc", ""));
  EXPECT_THAT(texts(write("a.tsv", "text\tid\na,b\t1\n")), ElementsAre("a,b"));
  EXPECT_THAT(error(write("b.csv", "id,txt\n1,a\n")).hint, HasSubstr("txt"));
  EXPECT_THAT(error(write("c.csv", "id,text\n1\n")).where, HasSubstr("line 2"));
  EXPECT_THAT(error(write("d.csv", "text\n\"open\n")).what, HasSubstr("not closed"));
}

TEST_F(DatasetTest, ZstdIsUnpackedOnTheWay) {
  std::string lines;
  for (int i = 0; i < 50000; ++i) lines += "{\"text\": \"document " + std::to_string(i) + "\"}\n";
  const std::vector<std::string> all = texts(write("a.jsonl.zst", packed(lines)));
  ASSERT_EQ(all.size(), 50000u);
  EXPECT_EQ(all[49999], "document 49999");
  EXPECT_THAT(texts(write("b.txt.zst", packed("x") + packed("y"))), ElementsAre("xy"));  // frames in a row
  EXPECT_THAT(error(write("c.txt.zst", packed(lines).substr(0, 1000))).hint, HasSubstr("cut off"));
  EXPECT_THAT(error(write("d.txt.zst", "no zstd at all")).what, HasSubstr("damaged"));
}

TEST_F(DatasetTest, AFolderStandsForItsFilesInTheOrderOfNames) {
  write("data/b.jsonl", "{\"text\": \"2\"}\n");
  write("data/a.txt", "1");
  write("data/sub/c.csv", "text\n3\n");
  write("data/README.pdf", "not a text");
  EXPECT_THAT(texts(folder_ / "data"), ElementsAre("1", "2", "3"));
  fs::create_directories(folder_ / "none");
  EXPECT_EQ(error(folder_ / "none").code, ErrorCode::kNoInput);
}

TEST_F(DatasetTest, ConversationsGoThroughTheChatTemplate) {
  DatasetOptions options;
  options.chat_template = *ChatTemplate::parse(
      "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{{ tools|length if "
      "tools }}");
  options.special_tokens = {{"bos_token", "[B]"}};
  const fs::path path =
      write("chat.jsonl",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"tools\": [1, 2]}\n"
            "{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", \"value\": "
            "\"b\"}]}\n"
            "{\"text\": [{\"role\": \"x\", \"content\": \"y\"}]}\n");
  EXPECT_THAT(texts(path, options), ElementsAre("[B]<user>hi2", "[B]<user>a<assistant>b", "[B]<x>y"));
  EXPECT_TRUE(read_documents(path, options)->at(0).has_special_tokens);
  const Error without = error(path);
  EXPECT_THAT(without.what, HasSubstr("no chat template"));
  EXPECT_THAT(without.where, HasSubstr("line 1"));
}

TEST_F(DatasetTest, ExactTokensPassThrough) {
  const auto documents = read_documents(write("ids.jsonl", "{\"input_ids\": [5, 0, 7]}\n"), {});
  ASSERT_TRUE(documents.ok());
  EXPECT_THAT(*documents->at(0).ids, ElementsAre(5, 0, 7));
  EXPECT_THAT(error(write("bad.jsonl", "{\"input_ids\": [5, -1]}\n")).what, HasSubstr("-1"));
  EXPECT_THAT(error(write("bad2.jsonl", "{\"input_ids\": [4294967296]}\n")).what, HasSubstr("4294967296"));
}

TEST_F(DatasetTest, MistakesAreNamedWithFileAndLine) {
  const Error column = error(write("a.jsonl", "{\"text\": \"x\"}\n{\"txet\": \"x\"}\n"));
  EXPECT_EQ(column.code, ErrorCode::kBadData);
  EXPECT_THAT(column.where, HasSubstr("a.jsonl: line 2"));
  EXPECT_THAT(column.what, HasSubstr("there are txet"));
  EXPECT_THAT(error(write("b.jsonl", "{\"text\": \"x\"}\n{\"text\"")).where, HasSubstr("line 2"));
  EXPECT_THAT(error(write("c.jsonl", "{\"text\": 5}")).what, HasSubstr("not a text"));
  EXPECT_THAT(error(write("d.jsonl", "7")).what, HasSubstr("number"));
  EXPECT_THAT(error(write("e.json", "5")).what, HasSubstr("list of records"));
  EXPECT_EQ(error(folder_ / "absent.txt").code, ErrorCode::kNoInput);
  EXPECT_THAT(error(write("f.parquet", "PAR1")).hint, HasSubstr("to_json"));
  EXPECT_THAT(error(write("g.jsonl.gz", "x")).hint, HasSubstr("gunzip"));
  EXPECT_THAT(error(write("h.jsonl", "{\"text\": \"x\"}"), {.text_column = "body"}).what,
              HasSubstr("\"body\""));
}

TEST_F(DatasetTest, MostLimitsTheNumberOfDocuments) {
  const fs::path path = write("a.jsonl", "\"1\"\n\"2\"\nnot json\n");
  EXPECT_EQ(read_documents(path, {}, 2)->size(), 2u);
}

}  // namespace
}  // namespace nibble
