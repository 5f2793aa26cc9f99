// SPDX-License-Identifier: Apache-2.0
// What a modifier is to the pipelines. A modifier declares its targets and the statistics it needs; a
// pipeline gathers those, calls it unit by unit, and owns order, files and threads. The life cycle is that of
// llm-compressor, each step once and in recipe order:
//
//   initialize               against the module tree; no weight has been read
//   on_survey                each block of the original model, where survey_needs() asks for it
//   on_calibration_start
//   on_sequential_epoch_end  for each unit whose statistics are complete: new weights, and a report a module
//   on_calibration_end
//   finalize                 nothing may be left undone
//
// A unit is what has to be seen together: one linear, siblings that share a global scale, a stage of a block,
// or a block with its norms (grain()).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"
#include "calibrate/hessian.h"
#include "codec/activation_quantizer.h"
#include "codec/compressed_weight.h"
#include "model/modules.h"
#include "modify/modifier_config.h"
#include "modify/scheme_map.h"

namespace nibble {

// What a pipeline can tell a modifier about the inputs and outputs of a module; needs() ORs them. Padding
// never enters a statistic.
enum Statistic : unsigned {
  kNoStatistic = 0,
  kInputParams = 1,       // of the scheme's static (or local) input_activations
  kInputAbsMean = 2,      // E|x| per column (AWQ)
  kInputSquareMean = 4,   // E x^2 per column (Wanda, importance)
  kInputColumnRange = 8,  // smallest and largest value per column
  kHessian = 16,          // E x x^T
  kInputShift = 32,       // E (x_original - x) x^T of two halves of the first compared_sequences()
  kOutputParams = 64,     // of the scheme's static output_activations; of attention modules: keys and values
  kOutputColumnRange = 128,  // smallest and largest value per row of the weight (SmoothQuant: of norms too)
  kInputSample = 512,        // some of the rows, evenly spaced over the tokens
  kSublayerError = 256,      // the unit's judge is asked about the sublayer that this module's stage begins
};

struct ModuleStatistics {
  std::optional<ActivationParams> input_params, output_params;
  std::optional<ActivationParams> key_params, value_params;  // of attention modules
  std::vector<float> input_abs_mean;
  std::vector<float> input_square_mean;
  std::vector<float> input_column_min, input_column_max;
  std::vector<float> output_column_min, output_column_max;
  // Shared by linears with the same input.
  const Hessian* hessian = nullptr;
  // Of the sequences that are compared with the original model. The halves are those of even and odd
  // sequences: a choice made on one is judged on the other.
  const Hessian* compared_hessian = nullptr;
  const InputShift* half_shift[2] = {nullptr, nullptr};
  const Matrix* input_sample = nullptr;
  std::int64_t tokens = 0;     // that this module saw
  std::int64_t sequences = 0;  // they come from
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
  std::map<std::string, Tensor> activation_tensors;  // by suffix: "input_scale", "k_scale", ...
  const ModuleStatistics* statistics = nullptr;      // null without calibration
};

// A linear's weight to try in place of the unit's.
struct Replacement {
  const ModuleInfo* module = nullptr;
  const Matrix* weight = nullptr;
};

// Runs parts of a block on the calibration tokens, for modifiers that judge candidates by what comes out.
class SublayerJudge {
 public:
  virtual ~SublayerJudge() = default;
  // Mean over all tokens and elements of (y - y')^2: y is the output of the attention (`first_stage` 0) or
  // the MLP (2) with its weights as they were when the statistics were gathered, y' with the replacements.
  // The inputs of the sublayer are the gathered ones.
  virtual Result<double> output_error(int first_stage, std::span<const Replacement> replacements) = 0;
};

struct UnitWork {
  std::string name;  // "model.layers.3", or that of the only module
  std::vector<ModuleWork> modules;
  SublayerJudge* judge = nullptr;  // null unless kSublayerError was asked for

  ModuleWork* find(std::string_view module_name);
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
  std::optional<std::int64_t> zeros{};       // of a pruned module, as its weight decodes
  std::optional<std::int64_t>
      zeros_lost{};  // places that an earlier modifier pruned and that are not zero now
  double seconds = 0;
  std::vector<std::string> notes;  // raised damping, dead columns, experts without tokens
};

// What modifiers find out about the model before any weight is read.
struct ModelState {
  const ModelDescription& model;
  RecipeRules rules;
  SchemeMap schemes;
  MatchReport matches;
  // Modules that modifiers so far prune: later ones keep their zeros.
  std::set<std::string, std::less<>> pruned = {};
  bool unties_embeddings = false;  // a tied head gets a weight of its own, whatever happens to it
};

// The least that on_sequential_epoch_end must see at once.
enum class Grain {
  kModule,  // linears one by one, but siblings under a global scale together
  kStage,   // the linears of a stage: what is left of the block is calibrated with them already changed
  kBlock,   // the whole block with its norms
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
  // How many of the first calibration sequences also run through the original model, where needs() asks for
  // kInputShift. May be more than there are.
  virtual std::int64_t compared_sequences() const { return 0; }
  virtual Grain grain(const ModelState&) const { return Grain::kModule; }
  // Whether blocks that follow are calibrated with this modifier's weights (`propagate_error` permitting).
  virtual bool changes_weights(const ModelState&) const { return true; }
  // Only moves scales between layers: the original model may take part, so that later modifiers compare like
  // with like.
  virtual bool preserves_function() const { return false; }
  // Statistics of the original model that are needed before the first unit (sparsity profiles).
  virtual unsigned survey_needs(const ModelState&, const ModuleInfo&) const { return kNoStatistic; }
  virtual Status on_survey(const UnitWork& /*block*/, Context&) { return {}; }
  // A survey that also runs the model: on_trial() gives the block changed as a whole run would change it,
  // roughly, and on_divergences() is told what each such change alone does to the model's predictions (KL,
  // nats), by block.
  virtual bool measures_divergence() const { return false; }
  virtual Status on_trial(UnitWork& /*block*/, Context&) { return {}; }
  virtual void on_divergences(const std::map<int, double>& /*by_block*/) {}
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
