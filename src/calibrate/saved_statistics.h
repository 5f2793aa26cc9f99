// SPDX-License-Identifier: Apache-2.0
// Finished statistics of inputs and outputs as they are kept on disk (docs/formats.md, "Statistics files"):
// the numbers that modifiers see, so a run from the file gives the bytes of the run that saved it. Symmetric
// matrices lie there as their upper triangle.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "base/tensor.h"
#include "calibrate/hessian.h"

namespace nibble {

// What is known about one input. The matrices belong to somebody else; null or empty: not gathered, or no
// token came.
struct InputRecord {
  std::vector<std::string> modules;  // that read it
  std::int64_t cols = 0;
  std::int64_t tokens = 0;
  std::int64_t sequences = 0;
  std::vector<float> abs_mean, square_mean, column_min, column_max;
  const Hessian* hessian = nullptr;
  // Of the sequences that were compared with the original model; the same object when these are all. The
  // shifts are those of the even and the odd ones.
  const Hessian* compared = nullptr;
  std::array<const InputShift*, 2> shift{};
  const Matrix* sample = nullptr;
};

// The shift was gathered and is zero: the inputs are the original model's. It is not stored then, and neither
// are the moments of the compared sequences, which only serve shifts.
bool has_zero_shift(const InputRecord& input);

// The same with its matrices.
struct SavedInput {
  InputRecord record;
  std::unique_ptr<Hessian> hessian, compared;  // compared: null when the sequences are all
  std::array<std::unique_ptr<InputShift>, 2> shift;
  std::unique_ptr<Matrix> sample;

  // After the matrices were set.
  void link();
};

// Smallest and largest value per output of a linear or norm.
struct SavedOutput {
  std::int64_t tokens = 0;
  std::int64_t sequences = 0;
  std::vector<float> min, max;
};

// On which model, data and stream the statistics were taken.
struct StatisticsOrigin {
  struct Set {
    std::string name;          // "0", "1" ...: those that the recipe gathered one after the other; "survey"
    std::string modifiers;     // for which
    bool of_original = false;  // the inputs are the original model's; otherwise those behind changed layers
  };
  struct Run {
    std::string dataset;
    std::string fingerprint;  // of the tokens
    std::int64_t samples = 0;
    std::int64_t tokens = 0;
  };
  std::string nibble_version;
  std::string model;  // fingerprint of its files and config
  std::string model_type;
  std::string precision;
  bool reference = false;
  bool moe_calibrate_all_experts = true;
  std::string pipeline;
  std::vector<std::string> sequential_targets;
  std::int64_t sequential_targets_per_subgraph = 1;
  bool propagate_error = true;
  std::string recipe;  // fingerprint
  std::vector<Set> sets;
  std::vector<Run> runs;

  const Set* find(const std::string& name) const;
};
Json to_json(const StatisticsOrigin& origin);
Result<StatisticsOrigin> statistics_origin(const Json& json);

// A tensor of the file that is made when it is written: of all matrices of an input only one lies in memory
// a second time.
struct DeferredTensor {
  std::string name;  // suffix: "second_moments", ...
  DType dtype = DType::kF32;
  Shape shape;
  std::function<Tensor()> make;
};
// By name. The matrices of `input` must live until all are made.
std::vector<DeferredTensor> tensors_of(const InputRecord& input);
std::vector<DeferredTensor> tensors_of(const SavedOutput& output);

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;  // by suffix
// The hash of some tensors continued by one more; 0 begins.
std::uint64_t hash_with(std::uint64_t hash, std::string_view name, const Tensor& tensor);

// The inverse. Errors name the tensor that is missing, has another shape, or holds what is not finite.
Result<SavedInput> input_of(const NamedTensors& tensors);
Result<SavedOutput> output_of(const NamedTensors& tensors);

}  // namespace nibble
