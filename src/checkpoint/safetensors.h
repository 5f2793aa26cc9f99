// SPDX-License-Identifier: Apache-2.0
// The safetensors container: 8 bytes little-endian header length, a JSON header, then the tensors back to
// back. The reader is strict: no duplicate names, holes, overlaps, stray bytes or sizes that do not follow
// from shape and dtype, so two programs can never see different tensors in one file
// (github.com/huggingface/safetensors, Format).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/tensor.h"

namespace nibble {

inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t begin = 0;  // of the data, relative to SafetensorsHeader::data_begin
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // by offset
  std::map<std::string, std::string> metadata;
  std::uint64_t data_begin = 0;  // absolute offset in the file
};

// `file` is the whole file; only its header is touched. Errors name the tensor, what was found and what is
// allowed.
Result<SafetensorsHeader> parse_safetensors_header(std::span<const std::byte> file);

// The elements of `entry` inside a mapped file: a view, or a copy where the data are not aligned for the
// dtype.
Tensor tensor_from_file(const std::shared_ptr<const MappedFile>& file, std::uint64_t offset, DType dtype,
                        const Shape& shape);

}  // namespace nibble
