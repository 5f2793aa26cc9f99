// SPDX-License-Identifier: Apache-2.0
// What is said of a written model: nibble verify, diff and report, through the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/run_program.h"
#include "base/hash.h"
#include "base/json.h"

namespace nibble::app_test {
namespace {

using testing::HasSubstr;

// A compressed copy of the bundled model.
class WrittenModel : public testing::Test {
 protected:
  void SetUp() override {
    out_ = scratch_ / "w4";
    const Outcome outcome =
        run_nibble({"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32", "-o", out_, "-q"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "");  // --quiet: a success says nothing
  }

  // The file with `bytes` written at `offset` (from the end when negative).
  void damage(const std::string& file, std::ptrdiff_t offset, const std::string& bytes) {
    std::string content = read_file(out_ / file);
    const std::size_t at =
        offset < 0 ? content.size() - static_cast<std::size_t>(-offset) : static_cast<std::size_t>(offset);
    content.replace(at, bytes.size(), bytes);
    write_file(out_ / file, content);
  }

  Scratch scratch_;
  std::filesystem::path out_;
};

TEST_F(WrittenModel, IsWhole) {
  const Json document = document_of(run_nibble({"verify", out_, "--json"}));
  EXPECT_EQ(document["ok"], true);
  EXPECT_EQ(document["quantized_modules"], 35);
  EXPECT_THAT(document["findings"], testing::IsEmpty());
  const std::string bytes = read_file(out_ / "model.safetensors");
  EXPECT_EQ(document["sha256"]["model.safetensors"], sha256_hex(std::as_bytes(std::span(bytes))));
  EXPECT_THAT(run_nibble({"verify", out_}).out, HasSubstr("whole: "));
}

TEST_F(WrittenModel, IsComparedWithEarlierHashes) {
  write_file(scratch_ / "hashes.json", run_nibble({"verify", out_, "--json"}).out);
  EXPECT_EQ(run_nibble({"verify", out_, "--sha256", scratch_ / "hashes.json"}).code, 0);
  const std::string other(64, '0');
  write_file(scratch_ / "SHA256SUMS", other + "  model.safetensors\n");
  const Outcome outcome = run_nibble({"verify", out_, "--sha256", scratch_ / "SHA256SUMS"});
  EXPECT_EQ(outcome.code, 65);
  EXPECT_THAT(outcome.out, HasSubstr("model.safetensors"));
  write_file(scratch_ / "wrong", "this is no list of hashes\n");
  EXPECT_EQ(run_nibble({"verify", out_, "--sha256", scratch_ / "wrong"}).code, 65);
}

TEST_F(WrittenModel, WithNotANumberIsFound) {
  // The last tensors of the file are float: an all-ones word is NaN in F32 and BF16.
  damage("model.safetensors", -4, "\xff\xff\xff\x7f");
  const Outcome outcome = run_nibble({"verify", out_});
  EXPECT_EQ(outcome.code, 65) << outcome.out;
  EXPECT_THAT(outcome.out, HasSubstr("NOT whole"));
  EXPECT_THAT(outcome.err, HasSubstr("problem(s) found"));
}

TEST_F(WrittenModel, CutShortIsRefused) {
  const std::string content = read_file(out_ / "model.safetensors");
  write_file(out_ / "model.safetensors", content.substr(0, content.size() - 100));
  const Outcome outcome = run_nibble({"verify", out_});
  EXPECT_EQ(outcome.code, 65);
  EXPECT_THAT(outcome.err, HasSubstr("model.safetensors"));
}

// A copy of `model` whose config.json says something else.
void copy_with(const std::filesystem::path& model, const std::filesystem::path& copy, const Json& changes) {
  std::filesystem::copy(model, copy);
  Json config = *read_json_file(copy / "config.json");
  config.update(changes);
  write_file(copy / "config.json", config.dump());
}

std::vector<Json> findings_of(const std::filesystem::path& model) {
  const Outcome outcome = run_nibble({"verify", model, "--json", "--no-hashes"});
  std::vector<Json> findings;
  const Json document = document_of(outcome);
  for (const Json& finding : document["findings"]) findings.push_back(finding);
  EXPECT_EQ(outcome.code, findings.empty() || findings[0]["severity"] == "warning" ? 0 : 65);
  return findings;
}

Json finding(const std::string& module, const std::string& tensor, const std::string& what,
             const std::string& expected, const std::string& found) {
  return {{"severity", "error"},
          {"where", "module " + module + ": tensor " + tensor},
          {"what", what},
          {"expected", expected},
          {"found", found}};
}

TEST_F(WrittenModel, EveryWrongShapeIsListed) {
  copy_with(kStories, scratch_ / "dense", {{"intermediate_size", 176}});
  const std::string gate = "model.layers.0.mlp.gate_proj";
  const std::vector<Json> dense = findings_of(scratch_ / "dense");
  EXPECT_EQ(dense.size(), 15u);  // gate, up and down of five layers
  EXPECT_THAT(dense, testing::Contains(finding(gate, gate + ".weight", "it has the wrong shape", "[176, 64]",
                                               "[172, 64]")));

  copy_with(out_, scratch_ / "packed", {{"intermediate_size", 176}});
  const std::vector<Json> packed = findings_of(scratch_ / "packed");
  EXPECT_EQ(packed.size(), 15u);
  EXPECT_THAT(packed, testing::Contains(finding(gate, gate + ".weight_packed", "it has the wrong shape",
                                                "[176, 64]", "[172, 64], packed as pack-quantized")));
}

TEST_F(WrittenModel, EveryMissingTensorIsListed) {
  const std::string norm = "model.layers.5.input_layernorm";
  const std::string query = "model.layers.5.self_attn.q_proj";
  for (const std::filesystem::path& model : {std::filesystem::path(kStories), out_}) {
    const std::filesystem::path copy = scratch_ / ("six" + model.filename().string());
    copy_with(model, copy, {{"num_hidden_layers", 6}});
    const std::vector<Json> findings = findings_of(copy);
    EXPECT_EQ(findings.size(), 9u);  // seven linears, two norms
    EXPECT_THAT(findings,
                testing::Contains(finding(norm, norm + ".weight", "it is missing", "[64]", "nothing")));
    EXPECT_THAT(findings,
                testing::Contains(finding(query, query + ".weight", "it is missing", "[64, 64]", "nothing")));
  }
}

TEST_F(WrittenModel, WhatNoModuleUsesIsAWarning) {
  copy_with(kStories, scratch_ / "four", {{"num_hidden_layers", 4}});
  const std::vector<Json> findings = findings_of(scratch_ / "four");
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0]["severity"], "warning");
  EXPECT_EQ(findings[0]["where"], "9 tensor(s)");
}

TEST_F(WrittenModel, AnUnknownKindOfModelIsOnlyNotCheckedForShapes) {
  copy_with(kStories, scratch_ / "other", {{"model_type", "retnet"}});
  const std::vector<Json> findings = findings_of(scratch_ / "other");
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0]["severity"], "warning");
  EXPECT_THAT(findings[0]["what"].get<std::string>(), HasSubstr("retnet"));
}

TEST_F(WrittenModel, AGgufIsHeldToItsMetadata) {
  const std::string gguf = source_path("tests/golden/checkpoint/gguf/stories260K.gguf");
  EXPECT_THAT(findings_of(gguf), testing::IsEmpty());
  std::string bytes = read_file(gguf);
  const std::string key = "llama.feed_forward_length";
  const std::size_t at = bytes.find(key);
  ASSERT_NE(at, std::string::npos);
  bytes[at + key.size() + 4] = static_cast<char>(176);  // behind the type, u32 little-endian
  write_file(scratch_ / "wrong.gguf", bytes);
  const std::vector<Json> findings = findings_of(scratch_ / "wrong.gguf");
  EXPECT_EQ(findings.size(), 15u);
  EXPECT_EQ(findings.at(0)["found"], "[172, 64]");
}

TEST_F(WrittenModel, DiffersFromItsSourceInTheQuantizedWeights) {
  const Outcome outcome = run_nibble({"diff", kStories, out_, "--json"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "");
  const Json document = document_of(outcome);
  EXPECT_EQ(document["same"], false);
  EXPECT_EQ(document["equal_tensors"], 12);
  ASSERT_EQ(document["differing_tensors"].size(), 35u);
  for (const Json& tensor : document["differing_tensors"]) {
    EXPECT_EQ(tensor["kind"], "values");
    EXPECT_GT(tensor["relative_error"], 0.05);
    EXPECT_LT(tensor["relative_error"], 0.15);
  }
}

TEST_F(WrittenModel, IsReported) {
  const Json document = document_of(run_nibble({"report", out_, "--json", "--worst", "2"}));
  const Json written = *read_json_file(out_ / "report.json");
  ASSERT_EQ(document["kinds"].size(), 7u);
  std::int64_t weights = 0;
  for (const Json& kind : document["kinds"]) {
    EXPECT_EQ(kind["modules"], 5);
    EXPECT_GE(kind["worst_relative_error"], kind["relative_error"]);
    weights += kind["weights"].get<std::int64_t>();
  }
  EXPECT_EQ(written["totals"]["weights"], weights);
  ASSERT_EQ(document["worst"].size(), 2u);
  double worst = 0;
  for (const Json& row : written["modules"]) worst = std::max(worst, row["relative_error"].get<double>());
  EXPECT_EQ(document["worst"][0]["relative_error"], worst);
  EXPECT_THAT(run_nibble({"report", out_ / "report.json"}).out, HasSubstr("q_proj"));

  EXPECT_EQ(run_nibble({"report", kStories}).code, 66);  // never compressed
  EXPECT_EQ(run_nibble({"report", "/no/such/folder"}).code, 66);
  for (const char* text : {"{}", "[]", "{\"modules\": [1]}", "{\"modules\": [{\"name\": 1}]}", "no json",
                           "{\"modules\": [], \"totals\": 1}", "{\"modules\": [], \"warnings\": {}}"}) {
    write_file(scratch_ / "report.json", text);
    EXPECT_EQ(run_nibble({"report", scratch_ / "report.json"}).code, 65) << text;
  }
}

TEST_F(WrittenModel, IsTheSameAsItself) {
  EXPECT_EQ(run_nibble({"diff", out_, out_}).code, 0);
  EXPECT_EQ(run_nibble({"diff", out_, out_, "--stored"}).code, 0);
  const Outcome stored = run_nibble({"diff", kStories, out_, "--stored"});
  EXPECT_EQ(stored.code, 1);
  EXPECT_THAT(stored.out, HasSubstr("only right"));
  EXPECT_EQ(run_nibble({"diff", out_, "/no/such/model"}).code, 66);
}

}  // namespace
}  // namespace nibble::app_test
