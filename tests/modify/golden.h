// SPDX-License-Identifier: Apache-2.0
// Golden layers of tests/golden/modify: tensors by key, arguments by case.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/json.h"
#include "base/tensor.h"
#include "checkpoint/checkpoint.h"
#include "codec/scheme.h"

namespace nibble::testing {

class Golden {
 public:
  explicit Golden(const std::string& name)
      : tensors_(Checkpoint::open(stem(name) + ".safetensors").value()),
        cases_(std::make_unique<Json>(read_json_file(stem(name) + ".json").value())) {}
  const Json& cases() const { return *cases_; }
  bool has(const std::string& key) const { return tensors_->find(key) != nullptr; }
  Tensor tensor(const std::string& key) const { return tensors_->load(key).value(); }
  // 0-D and 1-D tensors become one row; leading dimensions of 3-D ones are joined.
  Matrix matrix(const std::string& key) const {
    const Tensor t = tensor(key);
    const std::int64_t cols = t.shape().empty() ? 1 : t.shape().back();
    Matrix m(cols == 0 ? 0 : t.size() / cols, cols);
    t.decode_f32(0, m.values());
    return m;
  }

 private:
  static std::string stem(const std::string& name) {
    return std::string(NIBBLE_SOURCE_DIR) + "/tests/golden/modify/" + name;
  }

  std::unique_ptr<Checkpoint> tensors_;
  std::unique_ptr<const Json> cases_;
};

// Case names of a golden file, as parameters of a test and as its name.
inline std::vector<std::string> golden_names(const std::string& file) {
  const Golden golden(file);
  std::vector<std::string> names;
  for (const auto& item : golden.cases().items()) names.push_back(item.key());
  return names;
}

inline std::string test_name(const ::testing::TestParamInfo<std::string>& parameter) {
  std::string name = parameter.param;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

// QuantizationArgs of a case's "args".
inline QuantizationArgs golden_args(const Json& json) {
  QuantizationArgs args;
  args.num_bits = json.value("num_bits", 8);
  args.type = json.value("type", std::string("int")) == "float" ? NumberType::kFloat : NumberType::kInt;
  args.symmetric = json.value("symmetric", true);
  args.strategy = strategy_from_string(json.value("strategy", std::string("tensor")));
  if (json.contains("group_size")) args.group_size = json["group_size"].get<std::int64_t>();
  if (json.contains("block_structure")) {
    args.block_structure = {json["block_structure"][0].get<std::int64_t>(),
                            json["block_structure"][1].get<std::int64_t>()};
  }
  if (json.contains("scale_dtype")) {
    args.scale_dtype = dtype_from_torch(json["scale_dtype"].get<std::string>());
    args.zp_dtype = args.scale_dtype;
  }
  if (json.contains("actorder") && json["actorder"].is_string()) {
    args.actorder = ActOrder::kWeight;
    args.actorder_spelling = json["actorder"].get<std::string>();
  }
  EXPECT_TRUE(args.validate("weights").ok());
  return args;
}

}  // namespace nibble::testing
