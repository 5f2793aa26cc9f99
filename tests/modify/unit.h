// SPDX-License-Identifier: Apache-2.0
// Units of work made by hand: modules with weights, and statistics from given inputs.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <utility>

#include "base/events.h"
#include "calibrate/hessian.h"
#include "codec/compressed_weight.h"
#include "modify/layers.h"
#include "modify/modifier.h"

namespace nibble::testing {

inline constexpr const char* kDownProj = "model.layers.0.mlp.down_proj";

// A module tree of one block, and the state that modifiers initialize against.
class UnitBuilder {
 public:
  explicit UnitBuilder(bool is_strict = false) : is_strict_(is_strict), pool_(2) {}

  const ModuleInfo& add(ModuleInfo module) {
    module.disk_name = module.name;
    if (module.block < 0) module.block = 0;
    model_.modules.push_back(std::move(module));
    return model_.modules.back();
  }
  const ModuleInfo& linear(const std::string& name, ModuleRole role, int stage, std::int64_t rows,
                           std::int64_t cols, bool has_bias = false) {
    ModuleInfo module;
    module.name = name;
    module.class_name = "Linear";
    module.kind = ModuleKind::kLinear;
    module.role = role;
    module.stage = stage;
    module.rows = rows;
    module.cols = cols;
    module.weight = name + ".weight";
    if (has_bias) module.bias = name + ".bias";
    return add(std::move(module));
  }

  ModelDescription& model() { return model_; }
  ThreadPool& pool() { return pool_; }

  ModelState& state() {
    if (!state_) state_.emplace(ModelState{model_, {.strict = is_strict_}, SchemeMap(model_), {}});
    return *state_;
  }

  // Reads the arguments as a recipe would give them, makes the modifier and initializes it.
  std::unique_ptr<Modifier> modifier(const std::string& class_name, const RecipeValue& body) {
    std::vector<std::string> warnings;
    auto config = make_modifier_config(class_name, "stage", "group", body, {.strict = is_strict_}, warnings);
    EXPECT_TRUE(config.ok()) << config.error().message();
    auto made = make_modifier(*config);
    EXPECT_TRUE(made.ok()) << made.error().message();
    const Status status = (*made)->initialize(state());
    EXPECT_TRUE(status.ok()) << status.error().message();
    return std::move(made).value();
  }

  Result<std::vector<LayerReport>> run(Modifier& modifier, UnitWork& unit) {
    for (ModuleWork& work : unit.modules) {
      work.scheme = state().schemes.find(model_, *work.module);
      if (work.scheme && work.scheme->weights) work.format = resolve_format(*work.scheme).value();
    }
    NullSink events;
    const StopToken stop;
    Context context{pool_, events, stop};
    return modifier.on_sequential_epoch_end(unit, context);
  }

 private:
  bool is_strict_;
  ThreadPool pool_;
  ModelDescription model_;
  std::optional<ModelState> state_;
};

// Statistics of one input, as a pipeline gathers them; `original` are the inputs of the unchanged model.
class InputStatistics {
 public:
  InputStatistics(ThreadPool& pool, const Matrix& x, std::int64_t sequences = 1,
                  const Matrix* original = nullptr) {
    hessian_ = accumulate(pool, x, sequences);
    values_.hessian = &hessian_;
    values_.tokens = x.rows();
    values_.sequences = sequences;
    fill_columns(x);
    if (original == nullptr) return;
    values_.compared_hessian = &hessian_;
    for (int half = 0; half < 2; ++half) {
      shift_[half] = deviate(pool, x, *original, sequences, half, 2);
      values_.half_shift[half] = &shift_[half];
    }
  }
  InputStatistics(const InputStatistics&) = delete;
  InputStatistics& operator=(const InputStatistics&) = delete;

  ModuleStatistics& values() { return values_; }

 private:
  static Hessian accumulate(ThreadPool& pool, const Matrix& x, std::int64_t sequences) {
    HessianAccumulator sum(x.cols());
    const std::int64_t length = x.rows() / sequences;
    for (std::int64_t s = 0; s < sequences; ++s)
      sum.add(pool, x.data() + s * length * x.cols(), length, x.cols(), 1);
    return sum.finish(pool).value();
  }
  static InputShift deviate(ThreadPool& pool, const Matrix& x, const Matrix& original, std::int64_t sequences,
                            std::int64_t first, std::int64_t step) {
    InputShiftAccumulator sum(x.cols());
    const std::int64_t length = x.rows() / sequences;
    for (std::int64_t s = first; s < sequences; s += step) {
      const std::int64_t at = s * length * x.cols();
      sum.add(pool, x.data() + at, original.data() + at, length, x.cols());
    }
    return sum.finish(pool).value();
  }
  void fill_columns(const Matrix& x) {
    for (std::int64_t c = 0; c < x.cols(); ++c) {
      double abs = 0, square = 0;
      float low = x.at(0, c), high = x.at(0, c);
      for (std::int64_t t = 0; t < x.rows(); ++t) {
        const float v = x.at(t, c);
        abs += std::fabs(static_cast<double>(v));
        square += static_cast<double>(v) * static_cast<double>(v);
        low = std::min(low, v);
        high = std::max(high, v);
      }
      values_.input_abs_mean.push_back(static_cast<float>(abs / static_cast<double>(x.rows())));
      values_.input_square_mean.push_back(static_cast<float>(square / static_cast<double>(x.rows())));
      values_.input_column_min.push_back(low);
      values_.input_column_max.push_back(high);
    }
  }

  ModuleStatistics values_;
  Hessian hessian_;
  InputShift shift_[2];
};

inline ModuleWork work_of(const ModuleInfo& module, const Matrix& weight, const ModuleStatistics* statistics,
                          DType dtype = DType::kF32) {
  ModuleWork work;
  work.module = &module;
  work.weight = Tensor::from_f32(dtype, {weight.rows(), weight.cols()}, weight.values());
  work.statistics = statistics;
  return work;
}

inline Matrix matrix_of(const Tensor& tensor) {
  const std::int64_t rows = tensor.dim(0);
  Matrix m(rows, tensor.size() / rows);
  tensor.decode_f32(0, m.values());
  return m;
}

// sqrt of E ||a x - b x||^2 / E ||b x||^2.
inline double output_error(const Matrix& a, const Matrix& b, const Matrix& x) {
  ThreadPool pool(1);
  const Hessian h = hessian_of(pool, x);
  return std::sqrt(layer_loss(a, b, h.values) / layer_loss(b, Matrix(b.rows(), b.cols()), h.values));
}

}  // namespace nibble::testing
