// SPDX-License-Identifier: Apache-2.0
// What a modifier is to the pipelines. A modifier declares its targets and the statistics it needs; a
// pipeline gathers those, calls it unit by unit, and owns order, files and threads. The life cycle is that of
// the reference (llm-compressor.md section 4), each step once and in recipe order:
//
//   initialize               against the module tree; no weight has been read
//   on_calibration_start
//   on_sequential_epoch_end  for each unit whose statistics are complete: new weights, and a report a module
//   on_calibration_end
//   finalize                 nothing may be left undone
//
// A unit is what has to be seen together: one linear, siblings that share a global scale, or a block with its
// norms.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"
#include "calibrate/hessian.h"
#include "codec/compressed_weight.h"
#include "model/modules.h"
#include "modify/modifier_config.h"
#include "modify/scheme_map.h"

namespace nibble {

// What a pipeline can tell a modifier about the inputs and outputs of a module; needs() ORs them.
enum Statistic : unsigned {
  kNoStatistic = 0,
  kInputRange = 1,        // smallest and largest value (static activations)
  kInputAbsMean = 2,      // E|x| per column (AWQ)
  kInputSquareMean = 4,   // E x^2 per column (Wanda, importance)
  kInputColumnRange = 8,  // smallest and largest value per column (SmoothQuant)
  kHessian = 16,          // E x x^T
  kInputShift = 32,       // E (x_original - x) x^T
  kOutputRange = 64,      // of the module's output; of keys and values for attention modules
};

struct ModuleStatistics {
  std::optional<std::pair<float, float>> input_range;
  std::optional<std::pair<float, float>> output_range;
  std::vector<float> input_abs_mean;
  std::vector<float> input_square_mean;
  std::vector<float> input_column_min;
  std::vector<float> input_column_max;
  const Hessian* hessian = nullptr;
  const InputShift* input_shift = nullptr;
  std::int64_t tokens = 0;  // that this module saw
};

// A module in work. Modifiers replace `weight` and `bias`; a quantizing one sets `compressed`, which is what
// is written.
struct ModuleWork {
  const ModuleInfo* module = nullptr;
  const QuantizationScheme* scheme = nullptr;  // null: stays dense
  CompressionFormat format = CompressionFormat::kDense;
  Tensor weight;  // [rows, cols] as the module sees it; norms [rows]
  std::optional<Tensor> bias;
  std::optional<CompressedWeight> compressed;
  const ModuleStatistics* statistics = nullptr;  // null without calibration
};

struct UnitWork {
  std::string name;  // "model.layers.3", or that of the only module
  std::vector<ModuleWork> modules;
};

// What a modifier did to a module, in numbers that do not depend on the scale of the weights.
struct LayerReport {
  std::string module;
  std::string modifier;
  // |W - W'| / |W| (Frobenius) of the weights, or of the outputs when `of_outputs`; 0 when nothing changed.
  double relative_error = 0;
  double sqnr_db = 0;  // 10 log10 of signal over noise; infinite when nothing changed
  bool of_outputs = false;
  std::optional<double> rtn_relative_error;  // what rounding to nearest would have given on the same data
  std::optional<double> loss;                // the modifier's own objective
  double seconds = 0;
  std::vector<std::string> notes;  // raised damping, dead columns, experts without tokens
};

// What modifiers find out about the model before any weight is read.
struct ModelState {
  const ModelDescription& model;
  RecipeRules rules;
  SchemeMap schemes;
  MatchReport matches;
};

class Modifier {
 public:
  explicit Modifier(ModifierConfig config) : config_(std::move(config)) {}
  virtual ~Modifier() = default;
  Modifier(const Modifier&) = delete;
  Modifier& operator=(const Modifier&) = delete;

  const ModifierConfig& config() const { return config_; }
  const std::string& class_name() const { return config_.class_name(); }

  virtual Status initialize(ModelState& state) = 0;
  // Statistic bits; valid after initialize().
  virtual unsigned needs(const ModelState& state, const ModuleInfo& module) const = 0;
  virtual Status on_calibration_start(ModelState&) { return {}; }
  virtual Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) = 0;
  virtual Status on_calibration_end(ModelState&) { return {}; }
  virtual Status finalize(ModelState&) { return {}; }

 private:
  ModifierConfig config_;
};

// Errors for a class that this version parses but cannot run, saying so.
Result<std::unique_ptr<Modifier>> make_modifier(const ModifierConfig& config);

}  // namespace nibble
