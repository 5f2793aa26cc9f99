// SPDX-License-Identifier: Apache-2.0
// Reads the tokenizer.* keys of a GGUF file for tests of the text layer, which must not know the checkpoint
// layer. Trusts its input: golden files only.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "text/tokenizer.h"

namespace nibble::testing {

class GgufMetadata {
 public:
  explicit GgufMetadata(std::string bytes) : bytes_(std::move(bytes)) {}

  GgufVocabulary vocabulary() {
    at_ = 16;  // magic, version, number of tensors
    GgufVocabulary out;
    for (auto keys = number<std::uint64_t>(); keys > 0; --keys) {
      const std::string key = string();
      read_value(key, number<std::uint32_t>(), out);
    }
    return out;
  }

 private:
  template <class T>
  T number() {
    T value{};
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string string() {
    const auto length = number<std::uint64_t>();
    at_ += length;
    return bytes_.substr(at_ - length, length);
  }
  std::int64_t scalar(std::uint32_t type) {
    constexpr std::size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    std::int64_t value = 0;
    std::memcpy(&value, bytes_.data() + at_, kSizes[type]);
    at_ += kSizes[type];
    return value;
  }

  void read_value(const std::string& key, std::uint32_t type, GgufVocabulary& out) {
    if (type == 8) {
      const std::string text = string();
      if (key == "tokenizer.ggml.model") out.model = text;
      if (key == "tokenizer.ggml.pre") out.pre = text;
      if (key == "tokenizer.chat_template") out.chat_template = text;
    } else if (type == 9) {
      read_array(key, out);
    } else {
      const std::int64_t value = scalar(type);
      const auto id = static_cast<TokenId>(value);
      if (key == "tokenizer.ggml.bos_token_id") out.bos = id;
      if (key == "tokenizer.ggml.eos_token_id") out.eos = id;
      if (key == "tokenizer.ggml.unknown_token_id") out.unknown = id;
      if (key == "tokenizer.ggml.seperator_token_id") out.separator = id;
      if (key == "tokenizer.ggml.padding_token_id") out.padding = id;
      if (key == "tokenizer.ggml.cls_token_id") out.cls = id;
      if (key == "tokenizer.ggml.mask_token_id") out.mask = id;
      if (key == "tokenizer.ggml.add_bos_token") out.add_bos = value != 0;
      if (key == "tokenizer.ggml.add_eos_token") out.add_eos = value != 0;
      if (key == "tokenizer.ggml.add_space_prefix") out.add_space_prefix = value != 0;
      if (key == "tokenizer.ggml.remove_extra_whitespaces") out.remove_extra_whitespaces = value != 0;
    }
  }

  void read_array(const std::string& key, GgufVocabulary& out) {
    const auto type = number<std::uint32_t>();
    const auto count = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < count; ++i) {
      if (type == 8) {
        std::string text = string();
        if (key == "tokenizer.ggml.tokens") out.tokens.push_back(std::move(text));
        if (key == "tokenizer.ggml.merges") out.merges.push_back(std::move(text));
      } else if (type == 6) {
        const auto value = number<float>();
        if (key == "tokenizer.ggml.scores") out.scores.push_back(value);
      } else {
        const std::int64_t value = scalar(type);
        if (key == "tokenizer.ggml.token_type") out.token_types.push_back(static_cast<std::int32_t>(value));
        if (key == "tokenizer.ggml.precompiled_charsmap")
          out.precompiled_charsmap.push_back(static_cast<char>(value));
      }
    }
  }

  std::string bytes_;
  std::size_t at_ = 0;
};

}  // namespace nibble::testing
