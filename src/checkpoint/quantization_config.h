// SPDX-License-Identifier: Apache-2.0
// The `quantization_config` of compressed-tensors in config.json (quantization/quant_config.py): read with
// the tolerance that old files need, written as release 0.19 writes it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "checkpoint/module_match.h"
#include "codec/scheme.h"

namespace nibble {

inline constexpr std::string_view kCompressedTensorsVersion =
    "0.19.0";  // the release whose layout is written

// One use of a rotation: which modules, and at which of their inputs or outputs.
struct TransformUse {
  std::vector<std::string> targets;
  std::vector<std::string> ignore;
  std::string location;  // "input", "weight_input", "weight_output", "output", "q_attn", "k_cache"
  bool inverse = false;

  bool operator==(const TransformUse&) const = default;
};

struct TransformScheme {
  std::string name;  // "R4"
  std::string type;  // "hadamard", "random-hadamard", "random-matrix"
  std::vector<TransformUse> uses;
  bool randomize = false;
  bool requires_grad = false;
  std::optional<std::int64_t> head_dim;  // size of the diagonal blocks
  std::optional<DType> precision;

  bool operator==(const TransformScheme&) const = default;
};

struct QuantizationConfig {
  std::string version{kCompressedTensorsVersion};
  std::string format = "dense";       // of the model; "mixed-precision" when the groups differ
  std::string status = "compressed";  // quantization_status; clients load anything else as random weights
  std::vector<std::pair<std::string, QuantizationScheme>> groups;  // "group_0", ...
  std::vector<std::string> ignore;
  std::optional<QuantizationArgs> kv_cache_scheme;
  std::vector<TransformScheme> transforms;
  // sparsity_config: "", "dense", "sparse-24-bitmask", ... and what it says of the model.
  std::string sparsity_format;
  std::vector<std::string> sparsity_targets, sparsity_ignore;
  std::string sparsity_structure = "unstructured";  // or "2:4"
  double global_sparsity = 0;

  bool has_quantization() const { return !groups.empty() || kv_cache_scheme.has_value(); }
  bool is_empty() const { return !has_quantization() && sparsity_format.empty(); }
};

// From a whole config.json: `quantization_config`, that of `text_config`, or the old `compression_config`.
// Nothing when the model has none; an error for the formats of other tools.
Result<std::optional<QuantizationConfig>> read_quantization_config(const Json& config);

Json to_json(const QuantizationConfig& config);
Json to_json(const QuantizationArgs& args);

// config.json as the reference writes it: sorted keys, two spaces, ASCII, no newline at the end. Replaces
// whatever quantization metadata `config` holds; none are written for a null `quantization`.
std::string config_text(const Json& config, const QuantizationConfig* quantization);

// Finds the scheme of a module (compressed-tensors utils/match.py).
class SchemeResolver {
 public:
  static Result<SchemeResolver> make(const QuantizationConfig& config);
  // An error when an expression cannot be matched with the name (ModuleTarget::check).
  Status check(std::string_view module) const;
  // The index in config.groups; nothing for an ignored or unmatched module.
  std::optional<std::size_t> group_of(std::string_view module,
                                      std::span<const std::string_view> classes) const;

 private:
  ModuleTargets targets_;
  std::vector<std::size_t> group_of_target_;
  ModuleTargets ignore_;
};

}  // namespace nibble
