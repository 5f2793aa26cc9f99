// SPDX-License-Identifier: Apache-2.0
// A strict reader of protocol buffer messages (protobuf.dev, "Encoding"): fields one after the other, every
// length checked. It knows no schema; SentencePiece models need no more.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"

namespace nibble::text {

struct ProtoField {
  std::uint32_t number = 0;
  std::uint32_t wire_type = 0;
  std::uint64_t value = 0;  // wire types 0, 1, 5
  std::string_view bytes;   // wire type 2

  // The value as the schema's type; an error when the wire type does not fit.
  Result<std::string_view> as_bytes() const;
  Result<std::int64_t> as_int() const;
  Result<bool> as_bool() const;
  Result<float> as_float() const;
};

class ProtoReader {
 public:
  explicit ProtoReader(std::string_view message) : rest_(message) {}
  // The next field; nullopt at the end of the message.
  Result<std::optional<ProtoField>> next();

 private:
  Result<std::uint64_t> varint();
  Result<std::uint64_t> fixed(std::size_t bytes);
  std::string_view rest_;
};

}  // namespace nibble::text
