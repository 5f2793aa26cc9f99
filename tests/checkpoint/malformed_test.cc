// SPDX-License-Identifier: Apache-2.0
// Every damaged file is refused with a message that names the file, the tensor and what was expected; the odd
// but valid ones are accepted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "test_files.h"

namespace nibble {
namespace {

using test::golden;
using ::testing::HasSubstr;

struct Case {
  const char* file;
  const char* reason;  // must be in the message; "" for valid files
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.file;
}

constexpr Case kSafetensors[] = {
    {"safetensors/empty.safetensors", "this one has 0 bytes"},
    {"safetensors/seven-bytes.safetensors", "this one has 7 bytes"},
    {"safetensors/header-beyond-file.safetensors", "the header length is 5000, but only 78 bytes follow"},
    {"safetensors/header-length-huge.safetensors", "at most 100000000 bytes"},
    {"safetensors/header-length-minus-one.safetensors", "the header length is 18446744073709551615"},
    {"safetensors/header-over-100mb.safetensors", "at most 100000000 bytes"},
    {"safetensors/header-length-zero.safetensors", "no header"},
    {"safetensors/header-cut.safetensors", "cut short"},
    {"safetensors/not-json.safetensors", "must be a JSON object"},
    {"safetensors/json-array.safetensors", "must be a JSON object"},
    {"safetensors/not-utf8.safetensors", "invalid JSON"},
    {"safetensors/duplicate-key.safetensors", "\"a\" stands twice"},
    {"safetensors/overlap.safetensors",
     "tensor b: its data begin at 8, but tensor a ends at 16: the tensors overlap"},
    {"safetensors/hole.safetensors", "bytes that belong to no tensor"},
    {"safetensors/hole-at-start.safetensors", "the data begin at 0: bytes that belong to no tensor"},
    {"safetensors/offset-beyond-file.safetensors",
     "tensor a: its data end at 16, but the file holds only 12"},
    {"safetensors/offsets-reversed.safetensors", "tensor a: \"data_offsets\" end at"},
    {"safetensors/size-mismatch.safetensors", "tensor a: F32 of shape [5] needs 20 bytes"},
    {"safetensors/shape-overflow.safetensors", "tensor a: the shape"},
    {"safetensors/shape-bytes-overflow.safetensors", "tensor a: the shape"},
    {"safetensors/negative-dim.safetensors", "tensor a: \"shape\" must be a list of integers >= 0"},
    {"safetensors/float-dim.safetensors", "tensor a: \"shape\" must be a list of integers >= 0"},
    {"safetensors/string-offset.safetensors", "tensor a: \"data_offsets\" must be two integers"},
    {"safetensors/three-offsets.safetensors", "tensor a: \"data_offsets\" must be two integers"},
    {"safetensors/unknown-dtype.safetensors", "tensor a: dtype \"F33\" is unknown; known are F64, F32"},
    {"safetensors/missing-dtype.safetensors", "tensor a: the key \"dtype\" is missing"},
    {"safetensors/trailing-bytes.safetensors", "the tensors end at 16, but the file holds 20"},
    {"safetensors/metadata-not-string.safetensors", "__metadata__ \""},
    {"safetensors/deep-nesting.safetensors", "nested deeper"},
    {"safetensors/trailing-garbage-in-header.safetensors", "invalid JSON"},
    {"safetensors/ok-scalar-and-empty.safetensors", ""},
    {"safetensors/ok-padded-header.safetensors", ""},
};

constexpr Case kIndex[] = {
    {"index/path-traversal/model.safetensors.index.json", "plain name of a .safetensors file"},
    {"index/absolute-path/model.safetensors.index.json", "plain name of a .safetensors file"},
    {"index/missing-shard/model.safetensors.index.json", "does not exist"},
    {"index/missing-tensor/model.safetensors.index.json", "places tensor b here"},
    {"index/map-not-object/model.safetensors.index.json", "\"weight_map\" must be an object"},
    {"index/value-not-string/model.safetensors.index.json", "must be a string, found number"},
    {"index/index-names-itself/model.safetensors.index.json", "plain name of a .safetensors file"},
};

constexpr Case kGguf[] = {
    {"gguf/empty.gguf", "the magic needs 4 bytes, but the file ends after 0"},
    {"gguf/bad-magic.gguf", "does not begin with \"GGUF\""},
    {"gguf/version-0.gguf", "GGUF version 0 is not known"},
    {"gguf/version-99.gguf", "GGUF version 99 is not known"},
    {"gguf/big-endian-version.gguf", "big-endian"},
    {"gguf/huge-tensor-count.gguf", "1152921504606846976 tensors"},
    {"gguf/huge-kv-count.gguf", "2305843009213693952 metadata entries are claimed"},
    {"gguf/key-length-beyond-file.gguf", "the key has 1099511627776 bytes, at most 65535"},
    {"gguf/string-length-overflow.gguf", "the string needs 18446744073709551608 bytes"},
    {"gguf/bad-value-type.gguf", "the value type 77 does not exist"},
    {"gguf/array-huge.gguf", "an array of 4611686018427387904 values"},
    {"gguf/array-nested-deep.gguf", "nested deeper than 4"},
    {"gguf/array-bad-element-type.gguf", "the array element type 200 does not exist"},
    {"gguf/alignment-zero.gguf", "general.alignment is 0"},
    {"gguf/alignment-24.gguf", "general.alignment is 24; it must be a power of two"},
    {"gguf/bad-tensor-type.gguf", "tensor \"t\": tensor type 999 does not exist"},
    {"gguf/removed-tensor-type.gguf", "tensor \"t\": tensor type 4"},
    {"gguf/offset-beyond-file.gguf", "tensor \"t\": its data would be"},
    {"gguf/data-cut.gguf", "tensor \"t\": its data would be 256 bytes at offset 0, but the file holds 64"},
    {"gguf/offset-unaligned.gguf", "tensor \"t\": the offset 4 is no multiple of the alignment 32"},
    {"gguf/duplicate-tensor.gguf", "tensor \"t\": the name stands twice"},
    {"gguf/dims-overflow.gguf", "tensor \"t\": the product of the dimensions"},
    {"gguf/dims-9.gguf", "tensor \"t\": 9 dimensions; the format allows 4"},
    {"gguf/row-not-block-multiple.gguf", "tensor \"t\": rows of 33 elements are not whole blocks of 32"},
    {"gguf/cut-in-tensor-info.gguf", "but the file ends after"},
};

// The argument a user would give: the file, or the folder of an index.
std::filesystem::path model_path(std::string_view file) {
  const std::filesystem::path path = golden("malformed") / file;
  return path.extension() == ".json" ? path.parent_path() : path;
}

class MalformedTest : public ::testing::TestWithParam<Case> {};

TEST_P(MalformedTest, IsRefusedWithFileAndReason) {
  const auto opened = Checkpoint::open(model_path(GetParam().file).string());
  if (*GetParam().reason == '\0') {
    EXPECT_TRUE(opened.ok()) << opened.error().message();
    return;
  }
  ASSERT_FALSE(opened.ok());
  const std::string message = opened.error().message();
  EXPECT_THAT(message, HasSubstr(GetParam().reason));
  EXPECT_THAT(message, HasSubstr(std::filesystem::path(GetParam().file).parent_path().filename().string()));
  EXPECT_THAT(message, HasSubstr("file "));
  const bool absent = std::string_view(GetParam().file).find("missing-shard") != std::string_view::npos;
  EXPECT_EQ(opened.error().code, absent ? ErrorCode::kNoInput : ErrorCode::kBadData);
}

INSTANTIATE_TEST_SUITE_P(Safetensors, MalformedTest, ::testing::ValuesIn(kSafetensors));
INSTANTIATE_TEST_SUITE_P(Gguf, MalformedTest, ::testing::ValuesIn(kGguf));
INSTANTIATE_TEST_SUITE_P(Index, MalformedTest, ::testing::ValuesIn(kIndex));

TEST(MalformedManifestTest, EveryListedFileHasACase) {
  std::set<std::string> covered;
  for (const Case& c : kSafetensors) covered.insert(c.file);
  for (const Case& c : kIndex) covered.insert(c.file);
  for (const Case& c : kGguf) covered.insert(c.file);
  const auto manifest = read_json_file(golden("malformed/manifest.json"));
  ASSERT_TRUE(manifest.ok());
  const std::set<std::string> ours{"safetensors", "index", "gguf"};
  for (const Json& entry : (*manifest)["files"]) {
    if (!ours.contains(entry["kind"].get<std::string>())) continue;
    EXPECT_TRUE(covered.contains(entry["file"].get<std::string>())) << entry["file"];
  }
}

}  // namespace
}  // namespace nibble
