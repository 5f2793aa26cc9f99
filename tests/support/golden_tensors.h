// SPDX-License-Identifier: Apache-2.0
// The tensors of one safetensors file for golden tests, by name; any trouble fails the test that asks.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>

#include "checkpoint/safetensors.h"

namespace nibble::testing {

class GoldenTensors {
 public:
  // `path` is relative to tests/golden, or absolute.
  explicit GoldenTensors(const std::filesystem::path& path) {
    auto mapped = MappedFile::open(std::filesystem::path(NIBBLE_SOURCE_DIR) / "tests/golden" / path);
    if (!mapped.ok()) {
      ADD_FAILURE() << mapped.error().message();
      return;
    }
    auto header = parse_safetensors_header((*mapped)->bytes());
    if (!header.ok()) {
      ADD_FAILURE() << mapped.error().message();
      return;
    }
    for (const SafetensorsEntry& entry : header->entries) {
      tensors_.emplace(entry.name,
                       tensor_from_file(*mapped, header->data_begin + entry.begin, entry.dtype, entry.shape));
    }
  }

  bool has(const std::string& name) const { return tensors_.contains(name); }
  Tensor get(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      ADD_FAILURE() << "no golden tensor " << name;
      return Tensor(DType::kF32, {0});
    }
    return found->second;
  }
  const std::map<std::string, Tensor>& all() const { return tensors_; }

 private:
  std::map<std::string, Tensor> tensors_;
};

// Equal dtype, shape and bytes.
inline ::testing::AssertionResult same_tensor(const Tensor& expected, const Tensor& found) {
  if (expected.dtype() != found.dtype()) {
    return ::testing::AssertionFailure() << "dtype " << safetensors_name(found.dtype()) << ", expected "
                                         << safetensors_name(expected.dtype());
  }
  if (expected.shape() != found.shape()) {
    return ::testing::AssertionFailure()
           << "shape " << to_string(found.shape()) << ", expected " << to_string(expected.shape());
  }
  const std::size_t width = dtype_bytes(expected.dtype());
  std::size_t wrong = 0;
  std::size_t first = 0;
  for (std::size_t i = expected.byte_size() / width; i-- > 0;) {
    if (std::memcmp(expected.bytes().data() + i * width, found.bytes().data() + i * width, width) != 0) {
      ++wrong;
      first = i;
    }
  }
  if (wrong == 0) return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure()
                 << wrong << " of " << expected.size() << " elements differ, the first at " << first;
  if (is_float(expected.dtype()) && expected.dtype() != DType::kF64) {
    failure << ": " << found.to_f32()[first] << ", expected " << expected.to_f32()[first];
  }
  return failure;
}

}  // namespace nibble::testing
