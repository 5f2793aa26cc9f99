// SPDX-License-Identifier: Apache-2.0
// Writes small GGUF files for tests, field by field.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"

namespace nibble::test {

class GgufBuilder {
 public:
  explicit GgufBuilder(std::uint32_t version = 3) : version_(version) {}

  GgufBuilder& key(std::string_view name, std::string_view value) { return put(name, 8, text(value)); }
  GgufBuilder& key(std::string_view name, const char* value) { return key(name, std::string_view(value)); }
  GgufBuilder& key(std::string_view name, int value) {
    return put(name, 4, number(static_cast<std::uint32_t>(value)));
  }
  GgufBuilder& key(std::string_view name, float value) { return put(name, 6, number(value)); }
  GgufBuilder& key(std::string_view name, bool value) {
    return put(name, 7, std::string(1, value ? '\1' : '\0'));
  }
  GgufBuilder& key(std::string_view name, const std::vector<std::string>& values) {
    std::string bytes = number(std::uint32_t{8}) + number(std::uint64_t{values.size()});
    for (const std::string& value : values) bytes += text(value);
    return put(name, 9, bytes);
  }
  GgufBuilder& key(std::string_view name, const std::vector<float>& values) {
    std::string bytes = number(std::uint32_t{6}) + number(std::uint64_t{values.size()});
    for (const float value : values) bytes += number(value);
    return put(name, 9, bytes);
  }

  // `shape` rows first; `data` as stored in the GGUF type `type`.
  GgufBuilder& tensor(std::string_view name, std::uint32_t type, const Shape& shape, std::string_view data) {
    infos_ += text(name) + number(static_cast<std::uint32_t>(shape.size()));
    for (auto extent = shape.rbegin(); extent != shape.rend(); ++extent) {
      infos_ += number(static_cast<std::uint64_t>(*extent));
    }
    infos_ += number(type) + number(std::uint64_t{data_.size()});
    data_.append(data);
    data_.append((32 - data_.size() % 32) % 32, '\0');
    ++tensors_;
    return *this;
  }
  GgufBuilder& tensor(std::string_view name, const Shape& shape, const std::vector<float>& values) {
    return tensor(
        name, 0, shape,
        std::string_view(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)));
  }

  std::string bytes() const {
    std::string file = "GGUF" + number(version_) + number(tensors_) + number(keys_) + values_ + infos_;
    file.append((32 - file.size() % 32) % 32, '\0');
    return file + data_;
  }

 private:
  template <class T>
  static std::string number(T value) {
    std::string bytes(sizeof(T), '\0');
    std::memcpy(bytes.data(), &value, sizeof(T));
    return bytes;
  }
  static std::string text(std::string_view value) {
    return number(std::uint64_t{value.size()}).append(value);
  }
  GgufBuilder& put(std::string_view name, std::uint32_t type, const std::string& bytes) {
    values_ += text(name) + number(type) + bytes;
    ++keys_;
    return *this;
  }

  std::uint32_t version_;
  std::uint64_t keys_ = 0;
  std::uint64_t tensors_ = 0;
  std::string values_;
  std::string infos_;
  std::string data_;
};

}  // namespace nibble::test
