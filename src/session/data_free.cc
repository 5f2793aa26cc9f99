// SPDX-License-Identifier: Apache-2.0
#include "session/data_free.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "session/module_output.h"

namespace nibble {
namespace {

// What all units in work may take together, unless the memory budget is smaller.
constexpr std::uint64_t kWorkBytes = std::uint64_t{256} << 20;

class Run {
 public:
  Run(const DataFreeRun& run, std::vector<ModuleRow>& rows, Context& context)
      : run_(run), rows_(rows), context_(context) {
    for (const auto& unit : run.plan.units)
      total_ += static_cast<double>(unit_bytes(run.checkpoint, run.plan, unit));
    for (const CarriedTensor& tensor : run.plan.carried) total_ += bytes_of(tensor);
  }

  Status run() {
    const auto unit_size = [&](std::size_t i) {
      return unit_bytes(run_.checkpoint, run_.plan, run_.plan.units[i]);
    };
    work_through(run_.plan.units.size(), unit_size, [&](std::size_t i) { do_unit(i); });
    if (run_.writer) {
      const auto carried_size = [&](std::size_t i) {
        return static_cast<std::uint64_t>(bytes_of(run_.plan.carried[i]));
      };
      work_through(run_.plan.carried.size(), carried_size,
                   [&](std::size_t i) { do_carried(run_.plan.carried[i]); });
    }
    if (error_) return *error_;
    return {};
  }

 private:
  double bytes_of(const CarriedTensor& tensor) const {
    const TensorInfo* info = run_.checkpoint.find(tensor.source);
    return run_.writer && info ? static_cast<double>(info->stored_bytes) : 0;
  }

  // Large items one after the other, each with all threads; then small ones side by side.
  template <class Size, class Body>
  void work_through(std::size_t count, Size size, Body body) {
    const std::uint64_t limit = side_by_side_limit(run_.memory_budget, context_.pool.size());
    std::vector<std::size_t> small;
    for (std::size_t i = 0; i < count; ++i) {
      if (size(i) <= limit) {
        small.push_back(i);
      } else {
        body(i);
      }
    }
    context_.pool.parallel_for(static_cast<std::int64_t>(small.size()), 1,
                               [&](std::int64_t first, std::int64_t last) {
                                 for (std::int64_t i = first; i < last; ++i)
                                   body(small[static_cast<std::size_t>(i)]);
                               });
  }

  bool goes_on() {
    const std::scoped_lock lock(mutex_);
    if (!error_ && context_.stop.stop_requested()) {
      error_ = Error{ErrorCode::kInterrupted, "stopped; the partial output is kept", {}, {}};
    }
    return !error_;
  }

  void fail(Error error) {
    const std::scoped_lock lock(mutex_);
    if (!error_) error_ = std::move(error);
  }

  // Events are sent from one thread at a time.
  void finished(double bytes, const std::vector<std::size_t>* unit) {
    const std::scoped_lock lock(mutex_);
    done_ += bytes;
    if (unit) {
      for (const std::size_t i : *unit) tell_module(rows_[i]);
    }
    context_.events.progress("quantize", done_, total_);
  }

  void tell_module(const ModuleRow& row) {
    Event event{
        .kind = Event::Kind::kModule, .name = row.name, .text = {}, .fields = {{"scheme", row.scheme}}};
    event.fields.emplace_back("bits_per_weight", fmt::format("{:.3f}", row.bits_per_weight()));
    if (!row.changes.empty()) {
      event.fields.emplace_back("relative_error", fmt::format("{:.5f}", row.changes.back().relative_error));
      event.fields.emplace_back("sqnr_db", fmt::format("{:.2f}", row.changes.back().sqnr_db));
      event.fields.emplace_back("seconds", fmt::format("{:.3f}", row.changes.back().seconds));
    }
    context_.events.on_event(event);
  }

  void do_unit(std::size_t index) {
    if (!goes_on()) return;
    const std::vector<std::size_t>& unit = run_.plan.units[index];
    Status status = process(unit);
    if (!status.ok()) {
      fail(std::move(status).error());
      return;
    }
    finished(static_cast<double>(unit_bytes(run_.checkpoint, run_.plan, unit)), &unit);
  }

  Status process(const std::vector<std::size_t>& unit) {
    UnitWork work;
    for (const std::size_t i : unit) {
      const PlannedModule& quantized = run_.plan.quantized[i];
      TRY_ASSIGN(Tensor stored, run_.checkpoint.load(quantized.source));
      TRY_ASSIGN(Tensor weight, cast_tensor(context_.pool, stored, quantized.dtype, quantized.source));
      ModuleWork module;
      module.module = quantized.module;
      module.scheme = quantized.scheme;
      module.format = quantized.format;
      module.weight = std::move(weight);
      work.modules.push_back(std::move(module));
    }
    work.name = work.modules.front().module->name;
    TRY_ASSIGN(const std::vector<LayerReport> reports, run_.lifecycle.apply(work, context_));
    for (const LayerReport& report : reports) {
      for (const std::size_t i : unit) {
        if (rows_[i].name == report.module) rows_[i].changes.push_back(report);
      }
    }
    for (std::size_t k = 0; k < unit.size(); ++k)
      TRY(write_module(run_.plan.quantized[unit[k]], work.modules[k]));
    work.modules.clear();
    for (const std::size_t i : unit) run_.checkpoint.release(run_.plan.quantized[i].source);
    return {};
  }

  Status write_module(const PlannedModule& quantized, const ModuleWork& work) {
    if (!work.compressed) {
      return failed("no modifier quantized it").add_context(fmt::format("module {}", quantized.module->name));
    }
    if (!run_.writer) return {};
    for (const StoredTensor& stored : quantized.stored) {
      TRY(run_.writer->write(quantized.tensor_name(stored.suffix), work.compressed->tensor(stored.suffix)));
    }
    return {};
  }

  void do_carried(const CarriedTensor& tensor) {
    if (!goes_on()) return;
    Status status = copy_carried(run_.checkpoint, tensor, *run_.writer, context_.pool);
    if (!status.ok()) {
      fail(std::move(status).error());
      return;
    }
    finished(bytes_of(tensor), nullptr);
  }

  const DataFreeRun& run_;
  std::vector<ModuleRow>& rows_;
  Context& context_;
  std::mutex mutex_;
  std::optional<Error> error_;
  double total_ = 0;
  double done_ = 0;
};

}  // namespace

std::uint64_t side_by_side_limit(std::uint64_t memory_budget, int threads) {
  return std::min(kWorkBytes, memory_budget / 2) / static_cast<std::uint64_t>(threads);
}

std::uint64_t unit_bytes(const Checkpoint& checkpoint, const OutputPlan& plan,
                         const std::vector<std::size_t>& unit) {
  std::uint64_t total = 0;
  for (const std::size_t i : unit) {
    const PlannedModule& quantized = plan.quantized[i];
    const TensorInfo* info = checkpoint.find(quantized.source);
    const std::uint64_t weights = static_cast<std::uint64_t>(quantized.weights());
    total += quantized.bytes() + (info ? info->stored_bytes : 0);
    // A decoded copy in the loaded type, and one in the type that is quantized.
    if (info && dtype_from_safetensors(info->stored_as) != info->dtype)
      total += weights * dtype_bytes(info->dtype);
    if (info && info->dtype != quantized.dtype) total += weights * dtype_bytes(quantized.dtype);
  }
  return total;
}

Status run_data_free(const DataFreeRun& run, std::vector<ModuleRow>& rows, Context& context) {
  return Run(run, rows, context).run();
}

}  // namespace nibble
