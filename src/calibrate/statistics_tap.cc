// SPDX-License-Identifier: Apache-2.0
#include "calibrate/statistics_tap.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace nibble {
namespace {

// Rows summed at once. An expert sees a share of the tokens, and there are many of them.
constexpr std::int64_t kBlockRows = 512;
constexpr std::int64_t kExpertBlockRows = 128;

// The inputs of an expert's first products are rows of the block's own.
constexpr int kMixtureInputStage = 2;
constexpr int kMixtureOutputStage = 3;

}  // namespace

InputPlace StatisticsTap::place(int stage, int expert) const {
  return {stage, all_experts_ && stage == kMixtureInputStage ? -1 : expert};
}

Status StatisticsTap::watch(const LinearInfo& linear, const LinearWishes& wishes) {
  if (wishes.input.any()) {
    Slot& slot = slots_[place(linear.stage, linear.expert)];
    slot.cols = linear.cols;
    slot.wishes |= wishes.input;
  }
  if (wishes.input_args != nullptr) {
    TRY_ASSIGN(ActivationObserver observer, ActivationObserver::create(*wishes.input_args, dtype_));
    inputs_.insert_or_assign(linear.name, std::move(observer));
  }
  if (wishes.output_args != nullptr) {
    TRY_ASSIGN(ActivationObserver observer, ActivationObserver::create(*wishes.output_args, dtype_));
    outputs_.insert_or_assign(linear.name, std::move(observer));
  }
  if (wishes.output_columns) {
    const auto rows = static_cast<std::size_t>(linear.rows);
    ranges_[linear.name] = {std::vector<float>(rows, std::numeric_limits<float>::infinity()),
                            std::vector<float>(rows, -std::numeric_limits<float>::infinity())};
  }
  return {};
}

void StatisticsTap::watch_input(int stage, std::int64_t cols, InputWishes wishes) {
  Slot& slot = slots_[{stage, -1}];
  slot.cols = cols;
  slot.wishes |= wishes;
}

Status StatisticsTap::watch_attention(const std::string& attention, const QuantizationArgs& args,
                                      std::int64_t head_dim) {
  TRY_ASSIGN(ActivationObserver key, ActivationObserver::create(args, dtype_, head_dim));
  TRY_ASSIGN(ActivationObserver value, ActivationObserver::create(args, dtype_, head_dim));
  keys_.insert_or_assign(attention, std::move(key));
  values_.insert_or_assign(attention, std::move(value));
  return {};
}

void StatisticsTap::begin_chunk(const Chunk& chunk, const Originals* original) {
  chunk_ = &chunk;
  originals_ = original;
  ++chunk_number_;
}

void StatisticsTap::on_input(const LinearInfo& linear, const TapInput& input) {
  CHECK(chunk_ != nullptr, "a tap is told its chunk first");
  if (const auto found = inputs_.find(linear.name); found != inputs_.end()) observe(found->second, input);
  const InputPlace where = place(linear.stage, linear.expert);
  const auto found = slots_.find(where);
  if (found == slots_.end()) return;
  Slot& slot = found->second;
  if (slot.last_chunk == chunk_number_) return;  // a sibling has shown the same input
  slot.last_chunk = chunk_number_;
  ActivationRows rows{.x = input.x, .original = nullptr, .rows = input.rows, .mask = counted(input)};
  if (slot.wishes.shift && originals_ != nullptr) {
    const auto original = originals_->find(where);
    if (original != originals_->end() && original->second.second == input.rows)
      rows.original = original->second.first;
  }
  if (!slot.statistics) {
    // Routed experts have other rows in the original model: no shift can be told for them.
    InputWishes wishes = slot.wishes;
    wishes.hessian |= wishes.shift;
    wishes.shift &= rows.original != nullptr;
    const bool is_expert = where.second >= 0;
    slot.statistics.emplace(slot.cols, wishes, is_expert ? kExpertBlockRows : kBlockRows);
  }
  slot.statistics->add(pool_, *chunk_, rows);
}

void StatisticsTap::on_output(const LinearInfo& linear, const TapInput& output) {
  if (const auto found = outputs_.find(linear.name); found != outputs_.end()) observe(found->second, output);
  const auto found = ranges_.find(linear.name);
  if (found == ranges_.end()) return;
  ColumnRange& range = found->second;
  const std::uint8_t* mask = counted(output);
  pool_.parallel_for(output.cols, 128, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = 0; r < output.rows; ++r) {
      if (mask != nullptr && mask[r] == 0) continue;
      for (std::int64_t c = first; c < last; ++c) {
        const auto at = static_cast<std::size_t>(c);
        range.min[at] = std::min(range.min[at], output.x[r * output.cols + c]);
        range.max[at] = std::max(range.max[at], output.x[r * output.cols + c]);
      }
    }
  });
}

void StatisticsTap::on_key_value(const std::string& attention, std::int64_t, const TapInput& key,
                                 const TapInput& value) {
  if (const auto found = keys_.find(attention); found != keys_.end()) observe(found->second, key);
  if (const auto found = values_.find(attention); found != values_.end()) observe(found->second, value);
}

// With a loss mask every linear sees the tokens of the chunk in their order.
const std::uint8_t* StatisticsTap::counted(const TapInput& rows) const {
  if (chunk_->loss_mask.empty()) return rows.mask;
  CHECK(rows.rows == chunk_->rows(), "a loss mask and routed rows");
  return chunk_->loss_mask.data();
}

// Batch by batch. Rows of routed experts are all of one batch.
void StatisticsTap::observe(ActivationObserver& observer, const TapInput& rows) {
  const bool routed = rows.rows != chunk_->rows();
  const std::vector<std::int64_t> whole{rows.rows};
  const std::uint8_t* all = counted(rows);
  std::int64_t first = 0;
  for (const std::int64_t count : routed ? whole : chunk_->batch_rows) {
    const std::uint8_t* mask = all != nullptr ? all + first : nullptr;
    observer.observe(pool_, rows.x + first * rows.cols, count, rows.cols, mask);
    first += count;
  }
}

Status StatisticsTap::finish() {
  for (auto& [where, slot] : slots_) {
    if (!slot.statistics) continue;
    TRY(slot.statistics->finish(pool_).at(fmt::format("input of stage {}", where.first)));
  }
  return {};
}

const InputStatistics* StatisticsTap::input(int stage, int expert) const {
  const auto found = slots_.find(place(stage, expert));
  return found != slots_.end() && found->second.statistics ? &*found->second.statistics : nullptr;
}

const ActivationObserver* StatisticsTap::find(const Observers& observers, const std::string& name) {
  const auto found = observers.find(name);
  return found != observers.end() ? &found->second : nullptr;
}

const ActivationObserver* StatisticsTap::input_observer(const std::string& linear) const {
  return find(inputs_, linear);
}
const ActivationObserver* StatisticsTap::output_observer(const std::string& linear) const {
  return find(outputs_, linear);
}
const ActivationObserver* StatisticsTap::key_observer(const std::string& attention) const {
  return find(keys_, attention);
}
const ActivationObserver* StatisticsTap::value_observer(const std::string& attention) const {
  return find(values_, attention);
}

const ColumnRange* StatisticsTap::output_range(const std::string& linear) const {
  const auto found = ranges_.find(linear);
  return found != ranges_.end() ? &found->second : nullptr;
}

void InputPointers::on_input(const LinearInfo& linear, const TapInput& input) {
  if (linear.expert >= 0 && (!all_experts_ || linear.stage != kMixtureOutputStage)) return;
  inputs_[{linear.stage, linear.expert}] = {input.x, input.rows};
}

}  // namespace nibble
