// SPDX-License-Identifier: Apache-2.0
// Watches one block (or what follows the last one) during a forward and keeps what was asked for. Linears
// with the same input share its statistics: one Hessian serves q, k and v. Where every expert sees every
// token, the experts' first products share one as well.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "base/error.h"
#include "calibrate/input_statistics.h"
#include "calibrate/observers.h"
#include "model/linear.h"

namespace nibble {

// Where an input stands: stage and expert (-1: all tokens). Linears outside of blocks have stage -1.
using InputPlace = std::pair<int, int>;

struct LinearWishes {
  InputWishes input;
  const QuantizationArgs* input_args = nullptr;   // static or local: their parameters are observed
  const QuantizationArgs* output_args = nullptr;  // static
  bool output_columns = false;                    // smallest and largest value per row of the weight
};

struct ColumnRange {
  std::vector<float> min, max;
};

class StatisticsTap final : public Tap {
 public:
  // `dtype` is the model's: observers follow its arithmetic.
  StatisticsTap(ThreadPool& pool, DType dtype, bool all_experts)
      : pool_(pool), dtype_(dtype), all_experts_(all_experts) {}

  Status watch(const LinearInfo& linear, const LinearWishes& wishes);
  // The input that the linears of a stage share, for a norm that makes it.
  void watch_input(int stage, std::int64_t cols, InputWishes wishes);
  Status watch_attention(const std::string& attention, const QuantizationArgs& args, std::int64_t head_dim);

  // What follows belongs to `chunk`. `original` has the same inputs in the original model, by place; null
  // without.
  using Originals = std::map<InputPlace, std::pair<const float*, std::int64_t>>;
  void begin_chunk(const Chunk& chunk, const Originals* original = nullptr);

  void on_input(const LinearInfo& linear, const TapInput& input) override;
  void on_output(const LinearInfo& linear, const TapInput& output) override;
  void on_key_value(const std::string& attention, std::int64_t head_dim, const TapInput& key,
                    const TapInput& value) override;

  // No more chunks will come; then the results are valid.
  Status finish();
  const InputStatistics* input(int stage, int expert) const;
  const ActivationObserver* input_observer(const std::string& linear) const;
  const ActivationObserver* output_observer(const std::string& linear) const;
  const ActivationObserver* key_observer(const std::string& attention) const;
  const ActivationObserver* value_observer(const std::string& attention) const;
  const ColumnRange* output_range(const std::string& linear) const;

 private:
  struct Slot {
    InputWishes wishes;
    std::int64_t cols = 0;
    std::optional<InputStatistics> statistics;
    std::int64_t last_chunk = -1;
  };
  using Observers = std::map<std::string, ActivationObserver>;
  InputPlace place(int stage, int expert) const;
  void observe(ActivationObserver& observer, const TapInput& rows);
  const std::uint8_t* counted(const TapInput& rows) const;
  static const ActivationObserver* find(const Observers& observers, const std::string& name);

  ThreadPool& pool_;
  DType dtype_;
  bool all_experts_;
  const Chunk* chunk_ = nullptr;
  const Originals* originals_ = nullptr;
  std::int64_t chunk_number_ = -1;
  std::map<InputPlace, Slot> slots_;
  Observers inputs_, outputs_, keys_, values_;
  std::map<std::string, ColumnRange> ranges_;
};

// Keeps where the inputs of a stage lie, while the state that holds them lives. Gathered rows of routed
// experts do not live that long and are left out.
class InputPointers final : public Tap {
 public:
  explicit InputPointers(bool all_experts) : all_experts_(all_experts) {}
  void on_input(const LinearInfo& linear, const TapInput& input) override;
  const StatisticsTap::Originals& inputs() const { return inputs_; }
  void clear() { inputs_.clear(); }

 private:
  bool all_experts_;
  StatisticsTap::Originals inputs_;
};

}  // namespace nibble
