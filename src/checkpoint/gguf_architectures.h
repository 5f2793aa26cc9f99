// SPDX-License-Identifier: Apache-2.0
// What llama.cpp calls things and how it lays them out, against Hugging Face: one row an architecture, one
// row a tensor name, one row a hyper-parameter. A new architecture is new rows.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {

// Bits, so that a row of the tables can serve several architectures.
enum GgufFamily : std::uint32_t {
  kGgufLlama = 1u << 0,
  kGgufMixtral = 1u << 1,  // "llama" with experts
  kGgufQwen2 = 1u << 2,
  kGgufQwen3 = 1u << 3,
  kGgufQwen2Moe = 1u << 4,
  kGgufQwen3Moe = 1u << 5,
  kGgufGemma = 1u << 6,
  kGgufGemma2 = 1u << 7,
  kGgufGemma3 = 1u << 8,
  kGgufPhi3 = 1u << 9,
  kGgufOlmo2 = 1u << 10,
  kGgufStarcoder2 = 1u << 11,
  kGgufStableLm = 1u << 12,
  kGgufGpt2 = 1u << 13,
  kGgufGptNeox = 1u << 14,
  kGgufBert = 1u << 15,
};

struct GgufArchitecture {
  GgufFamily family;
  std::string_view name;        // general.architecture
  std::string_view model_type;  // config.json
  std::string_view class_name;  // config.json: architectures
};

// What has to be done to the values of a GGUF tensor to get the Hugging Face one.
enum class GgufLayout {
  kPlain,
  kRotaryQuery,   // rows in rotary pairs (2i, 2i+1) of each query head back to halves (i, i + head_dim/2)
  kRotaryKey,     // the same for key heads
  kNormPlusOne,   // the file holds gamma + 1
  kTransposed,    // [out, in] back to GPT-2's Conv1D [in, out]
  kNeoxQkv,       // [q; k; v] back to q, k, v head by head
  kExperts,       // [experts, rows, cols]: one tensor an expert
  kExpertsFirst,  // the first half of an expert's rows (fused gate and up)
  kExpertsSecond,
  kRow,          // [n] is [1, n]
  kHeadVectors,  // [heads, n]: one vector a head
};

struct GgufNameRow {
  std::uint32_t families;
  std::string_view gguf;  // % is a number: block, then expert
  std::string_view hf;
  GgufLayout layout = GgufLayout::kPlain;
};

struct GgufKeyRow {
  enum class Kind { kInteger, kNumber };
  std::uint32_t families;
  std::string_view gguf;  // after "<architecture>."
  std::string_view hf;    // key in config.json
  Kind kind = Kind::kInteger;
};

// A constant of config.json that GGUF leaves to the architecture.
struct GgufConstantRow {
  std::uint32_t families;
  std::string_view hf;
  std::string_view json;
};

const GgufArchitecture* find_gguf_architecture(std::string_view name, bool has_experts);
std::span<const GgufNameRow> gguf_name_rows();
std::span<const GgufKeyRow> gguf_key_rows();
std::span<const GgufConstantRow> gguf_constant_rows();

// "blk.12.ffn_gate.3.weight" is stem "blk.%.ffn_gate.%", numbers {12, 3}, suffix ".weight".
struct GgufNameParts {
  std::string stem;
  std::vector<std::int64_t> numbers;
  std::string suffix;
};
GgufNameParts split_gguf_name(std::string_view name);
// The template with its % replaced in turn.
std::string fill_template(std::string_view pattern, std::span<const std::int64_t> numbers);

}  // namespace nibble
