// SPDX-License-Identifier: Apache-2.0
// The index that lies beside golden tensors (case name -> arguments), and quantization arguments from it.
#pragma once

#include <gtest/gtest.h>

#include "base/json.h"
#include "codec/scheme.h"

namespace nibble::testing {

inline Json golden_json(const std::filesystem::path& path) {
  auto json = read_json_file(std::filesystem::path(NIBBLE_SOURCE_DIR) / "tests/golden" / path);
  if (!json.ok()) {
    ADD_FAILURE() << json.error().message();
    return Json::object();
  }
  return *json;
}

// `field` as in QuantizationArgs::validate.
inline QuantizationArgs golden_args(const Json& json, std::string_view field) {
  QuantizationArgs args;
  for (const auto& [key, value] : json.items()) {
    if (value.is_null()) continue;
    if (key == "num_bits") args.num_bits = value.get<int>();
    if (key == "type") args.type = *number_type_from_string(value.get<std::string>());
    if (key == "symmetric") args.symmetric = value.get<bool>();
    if (key == "strategy") args.strategy = strategy_from_string(value.get<std::string>());
    if (key == "group_size") args.group_size = value.get<std::int64_t>();
    if (key == "block_structure")
      args.block_structure = {value[0].get<std::int64_t>(), value[1].get<std::int64_t>()};
    if (key == "scale_dtype") args.scale_dtype = dtype_from_torch(value.get<std::string>());
    if (key == "zp_dtype") args.zp_dtype = dtype_from_torch(value.get<std::string>());
    if (key == "observer") args.observer = value.get<std::string>();
    if (key == "actorder") args.actorder = actorder_from_string(value.get<std::string>());
    if (key == "dynamic") {
      args.dynamic = value.is_string()   ? Dynamic::kLocal
                     : value.get<bool>() ? Dynamic::kTrue
                                         : Dynamic::kFalse;
    }
  }
  const Status status = args.validate(field);
  EXPECT_TRUE(status.ok()) << json.dump() << ": " << (status.ok() ? "" : status.error().message());
  return args;
}

}  // namespace nibble::testing
