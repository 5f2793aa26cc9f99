// SPDX-License-Identifier: Apache-2.0
// GGUF files, versions 2 and 3 (ggml: docs/gguf.md): metadata, then tensor descriptions, then aligned data.
// Strings and arrays stay in the mapped file. Every count and length is checked against the bytes that are
// left before anything is reserved for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/tensor.h"
#include "codec/gguf_types.h"

namespace nibble {

enum class GgufValueType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

struct GgufValue {
  GgufValueType type = GgufValueType::kU8;
  GgufValueType element = GgufValueType::kU8;  // arrays: type of the elements
  std::uint64_t count = 1;                     // arrays: number of elements
  std::span<const std::byte> bytes;  // numbers: their bytes; strings: the text; arrays: all elements
};

struct GgufTensor {
  std::string name;
  const GgufTypeInfo* type = nullptr;
  Shape shape;               // rows first, as everywhere in nibble (the file has the fastest dimension first)
  std::uint64_t offset = 0;  // absolute in the file
  std::uint64_t bytes = 0;
};

class GgufFile {
 public:
  static Result<std::shared_ptr<const GgufFile>> open(const std::filesystem::path& path);
  // The same on bytes in memory, which must outlive the object.
  static Result<std::shared_ptr<const GgufFile>> parse(std::span<const std::byte> bytes);

  const std::filesystem::path& path() const { return path_; }
  const std::shared_ptr<const MappedFile>& mapped() const { return mapped_; }
  std::uint32_t version() const { return version_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in the order of the file
  const GgufTensor* tensor(std::string_view name) const;
  std::span<const std::byte> data(const GgufTensor& tensor) const {
    return bytes_.subspan(tensor.offset, tensor.bytes);
  }

  // Metadata. A key that is there with another type is an error that names key, type wanted and type found.
  const std::vector<std::pair<std::string, GgufValue>>& metadata() const { return metadata_; }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  const GgufValue* find(std::string_view key) const;
  Result<std::string> string(std::string_view key) const;
  Result<std::int64_t> integer(std::string_view key) const;
  Result<double> number(std::string_view key) const;  // integers too
  Result<bool> boolean(std::string_view key) const;
  Result<std::vector<std::string>> strings(std::string_view key) const;
  Result<std::vector<std::int64_t>> integers(std::string_view key) const;  // booleans too
  Result<std::vector<float>> floats(std::string_view key) const;
  Result<std::string> string_or(std::string_view key, std::string_view otherwise) const;
  Result<std::int64_t> integer_or(std::string_view key, std::int64_t otherwise) const;
  Result<double> number_or(std::string_view key, double otherwise) const;
  Result<bool> boolean_or(std::string_view key, bool otherwise) const;

  // A value as people read it; long arrays are cut to their first `most` elements.
  static std::string shown(const GgufValue& value, std::size_t most = 8);

 private:
  friend class GgufParser;
  GgufFile() = default;

  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> mapped_;
  std::span<const std::byte> bytes_;
  std::uint32_t version_ = 0;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::unordered_map<std::string, std::size_t> by_key_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

std::string_view to_string(GgufValueType type);

}  // namespace nibble
