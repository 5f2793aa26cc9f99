// SPDX-License-Identifier: Apache-2.0
#include "session/calibration_estimate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <unordered_map>

#include "kernels/gemm.h"
#include "model/block.h"
#include "model/module_tree.h"
#include "session/estimate.h"

namespace nibble {
namespace {

constexpr std::int64_t kMostTokens = 1024;  // full matrix products; more only costs memory
constexpr std::int64_t kLeastTokens = 64;
// What the heap keeps of pieces that are too small to go back to the system (measured: 30 to 45 MB).
constexpr std::uint64_t kHeapRemains = 48'000'000;
// Floating point operations of a solver per row and squared column: sweep, candidates for scales, refinement.
constexpr double kSolverWork = 20;
constexpr double kReferenceSolverWork = 4;

std::uint64_t squared(std::int64_t n) {
  return static_cast<std::uint64_t>(n) * static_cast<std::uint64_t>(n);
}

std::uint64_t elements(const ModuleInfo& module) {
  return static_cast<std::uint64_t>(module.rows) * static_cast<std::uint64_t>(module.cols);
}

// Bytes of the second moments of one input while they are summed: fp64 triangle and fp32 partial sums; with a
// shift the triangle of the compared sequences too, and the cross moments of both halves.
std::uint64_t summed_bytes(std::int64_t cols, unsigned needs) {
  if ((needs & kInputShift) != 0) return 20 * squared(cols);
  return (needs & kHessian) != 0 ? 8 * squared(cols) : 0;
}

// The same when solvers read them: fp32 throughout.
std::uint64_t finished_bytes(std::int64_t cols, unsigned needs) {
  if ((needs & kInputShift) != 0) return 16 * squared(cols);
  return (needs & kHessian) != 0 ? 4 * squared(cols) : 0;
}

// A factorisation in fp64 and its result, the inverse for the shift, working copies of a weight.
std::uint64_t solver_bytes(const ModuleInfo& module, unsigned needs) {
  if ((needs & kHessian) == 0) return 0;
  return ((needs & kInputShift) != 0 ? 16 : 12) * squared(module.cols) + 20 * elements(module);
}

class Counter {
 public:
  explicit Counter(const CalibrationNeeds& needs) : needs_(needs) {}

  Result<CalibrationMemory> memory() {
    CalibrationMemory memory;
    memory.fixed = kFixedMemory + kHeapRemains;
    TRY_ASSIGN(config_, read_checkpoint_config(needs_.checkpoint));
    std::vector<std::uint64_t> blocks(static_cast<std::size_t>(needs_.state.model.num_blocks));
    for (const ModuleInfo& module : needs_.state.model.modules) {
      if (module.block >= 0 && module.kind == ModuleKind::kLinear)
        blocks[static_cast<std::size_t>(module.block)] += module_bytes(module);
    }
    const std::uint64_t largest = blocks.empty() ? 0 : *std::max_element(blocks.begin(), blocks.end());
    memory.block = largest * static_cast<std::uint64_t>(needs_.walk.blocks_at_once);
    memory.statistics = statistics_bytes();
    if (needs_.data == nullptr) return memory;
    memory.per_token = token_bytes();
    memory.streams = stream_bytes();
    memory.buffers = memory.streams + waiting_bytes();
    return memory;
  }

  Result<double> operations() {
    TRY_ASSIGN(config_, read_checkpoint_config(needs_.checkpoint));
    const auto tokens = static_cast<double>(this->tokens());
    const auto compared = static_cast<double>(compared_tokens());
    const double forwards = needs_.walk.name == "stage-wise" ? 1.0 : 2.0 * needs_.walk.streams;
    double total = 0;
    for (const ModuleInfo& module : needs_.state.model.modules) {
      if (module.block < 0 || module.kind != ModuleKind::kLinear) continue;
      const double share = module.expert < 0 ? 1.0 : expert_share();
      total += 2 * (forwards * tokens + compared) * share * static_cast<double>(elements(module));
    }
    for (const auto& [place, slot] : inputs()) {
      const double square = static_cast<double>(squared(slot.cols));
      if ((slot.needs & kHessian) != 0) total += tokens * square;
      if ((slot.needs & kInputShift) != 0) total += 2 * compared * square;
    }
    return total + solver_operations();
  }

 private:
  struct Input {
    std::int64_t cols = 0;
    unsigned needs = 0;
  };

  std::uint64_t module_bytes(const ModuleInfo& module) {
    std::uint64_t bytes = elements(module) * 4;
    if (const TensorInfo* info = needs_.checkpoint.find(module.weight); info != nullptr)
      bytes += elements(module) * dtype_bytes(info->dtype);
    if (stored_.empty()) {
      for (const PlannedModule& quantized : needs_.plan.quantized)
        stored_[quantized.module] = quantized.bytes();
    }
    const auto stored = stored_.find(&module);
    return bytes + (stored != stored_.end() ? stored->second : 0);
  }

  // Inputs of all blocks, each once, with what all modifiers want of it.
  std::map<std::array<int, 3>, Input> inputs() const {
    std::map<std::array<int, 3>, Input> inputs;
    for (const ModuleInfo& module : needs_.state.model.modules) {
      if (module.block < 0 || module.kind != ModuleKind::kLinear) continue;
      const bool shared = needs_.options.moe_calibrate_all_experts && module.stage == 2;
      Input& input = inputs[{module.block, module.stage, shared ? -1 : module.expert}];
      input.cols = module.cols;
      input.needs |= needs_of(module);
    }
    return inputs;
  }

  unsigned needs_of(const ModuleInfo& module) const {
    unsigned needs = 0;
    for (const auto& modifier : needs_.lifecycle.modifiers()) needs |= modifier->needs(needs_.state, module);
    return needs;
  }

  // Moments that live together: of a stage, or of a block.
  struct Together {
    std::uint64_t summed = 0, finished = 0, solver = 0;
  };

  // Sums go before the solvers start.
  std::uint64_t statistics_bytes() const {
    const bool stagewise = needs_.walk.name == "stage-wise";
    std::map<std::pair<int, int>, Together> together;
    // The tensor of a statistics file that is being written.
    std::uint64_t written = 0;
    for (const auto& [place, input] : inputs()) {
      Together& moments = together[{place[0], stagewise ? place[1] : 0}];
      moments.summed += summed_bytes(input.cols, input.needs);
      moments.finished += finished_bytes(input.cols, input.needs);
      if (!needs_.options.save_statistics.empty()) written = std::max(written, 4 * squared(input.cols));
    }
    std::uint64_t solver_outside = 0;
    for (const ModuleInfo& module : needs_.state.model.modules) {
      const std::uint64_t solver = solver_bytes(module, needs_of(module));
      const auto moments = together.find({module.block, stagewise ? module.stage : 0});
      std::uint64_t& most = moments != together.end() ? moments->second.solver : solver_outside;
      most = std::max(most, solver);
    }
    const auto blocks = static_cast<std::uint64_t>(needs_.walk.blocks_at_once);
    std::uint64_t largest = solver_outside;
    for (const auto& [place, moments] : together) {
      largest = std::max(
          {largest, moments.summed * blocks, moments.finished * blocks + std::max(moments.solver, written)});
    }
    return largest;
  }

  // Residual stream and every output of a block once, for each model that runs. All experts keep their inner
  // activations.
  std::uint64_t token_bytes() const {
    std::int64_t floats = 4 * config_.hidden;
    std::int64_t expert = 0;
    for (const ModuleInfo& module : needs_.state.model.modules) {
      if (module.block != 0 || module.kind != ModuleKind::kLinear) continue;
      if (module.expert < 0) floats += module.rows + (module.role == ModuleRole::kDown ? module.cols : 0);
      if (module.role == ModuleRole::kExpertDown) expert += 2 * module.cols + module.rows;
    }
    floats += expert;
    return static_cast<std::uint64_t>(floats) * 4 * (needs_.walk.compared_sequences > 0 ? 2 : 1);
  }

  std::uint64_t tokens() const {
    std::uint64_t tokens = 0;
    for (const Batch& batch : needs_.data->batches) tokens += static_cast<std::uint64_t>(batch.tokens());
    return tokens;
  }

  // Of the sequences that also run through the original model.
  std::uint64_t compared_tokens() const {
    std::uint64_t tokens = 0;
    std::int64_t sequences = 0;
    for (const Batch& batch : needs_.data->batches) {
      const std::int64_t left = std::max<std::int64_t>(needs_.walk.compared_sequences - sequences, 0);
      tokens += static_cast<std::uint64_t>(std::min(left, batch.sequences) * batch.length);
      sequences += batch.sequences;
    }
    return tokens;
  }

  // In all streams; those that are compared run in chunks, which may reach beyond the last of them.
  std::uint64_t stream_tokens() const {
    const std::uint64_t compared = compared_tokens();
    const std::uint64_t ragged = compared > 0 ? static_cast<std::uint64_t>(kMostTokens) : 0;
    return tokens() * static_cast<std::uint64_t>(needs_.walk.streams) + std::min(compared + ragged, tokens());
  }

  std::uint64_t stream_bytes() const {
    return stream_tokens() * static_cast<std::uint64_t>(config_.hidden) * 4;
  }

  // The inputs of a stage, in the place of the widest.
  std::uint64_t waiting_bytes() const {
    if (needs_.walk.name != "stage-wise") return 0;
    return stream_tokens() * static_cast<std::uint64_t>(widest_input(needs_.state.model)) * 4;
  }

  double expert_share() const {
    if (needs_.options.moe_calibrate_all_experts || config_.experts == 0) return 1;
    return static_cast<double>(config_.experts_per_token) / static_cast<double>(config_.experts);
  }

  double solver_operations() const {
    double total = 0;
    const double work = needs_.options.reference ? kReferenceSolverWork : kSolverWork;
    for (const ModuleInfo& module : needs_.state.model.modules) {
      if ((needs_of(module) & kHessian) == 0) continue;
      total += work * static_cast<double>(elements(module)) * static_cast<double>(module.cols);
    }
    return total;
  }

  const CalibrationNeeds& needs_;
  ModelConfig config_;
  std::unordered_map<const ModuleInfo*, std::uint64_t> stored_;
};

// Operations a second of the machine's matrix products, the better of two runs.
double measured_rate(ThreadPool& pool) {
  constexpr std::int64_t kSide = 512;
  Matrix a(kSide, kSide), b(kSide, kSide), c(kSide, kSide);
  for (std::size_t i = 0; i < a.values().size(); ++i)
    a.values()[i] = b.values()[i] = static_cast<float>(i % 17) * 0.1F;
  double best = 0;
  for (int repeat = 0; repeat < 2; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    kernels::gemm_nt(pool, kSide, kSide, kSide, a.data(), kSide, b.data(), kSide, c.data(), kSide);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, 2.0 * kSide * kSide * kSide / elapsed.count());
  }
  return best;
}

}  // namespace

std::uint64_t CalibrationMemory::working(std::uint64_t budget) const {
  return fixed + block + statistics + per_token * static_cast<std::uint64_t>(chunk_tokens(budget));
}

std::int64_t CalibrationMemory::chunk_tokens(std::uint64_t budget) const {
  const std::uint64_t held = fixed + block + statistics;
  if (per_token == 0 || budget <= held) return kLeastTokens;
  // Half of what is left: buffers that spill still pass through memory.
  const std::uint64_t fits = (budget - held) / 2 / per_token;
  return std::clamp(static_cast<std::int64_t>(std::min<std::uint64_t>(fits, kMostTokens)), kLeastTokens,
                    kMostTokens);
}

std::uint64_t CalibrationMemory::buffer_budget(std::uint64_t budget) const {
  const std::uint64_t held = working(budget);
  return budget > held ? budget - held : 0;
}

std::uint64_t CalibrationMemory::peak(std::uint64_t budget) const {
  return working(budget) + std::min(buffers, buffer_budget(budget));
}

std::int64_t widest_input(const ModelDescription& model) {
  std::int64_t widest = 0;
  for (const ModuleInfo& module : model.modules) {
    if (module.block >= 0 && module.kind == ModuleKind::kLinear && module.expert < 0)
      widest = std::max(widest, module.cols);
  }
  return widest;
}

Result<CalibrationMemory> calibration_memory(const CalibrationNeeds& needs) {
  return Counter(needs).memory();
}

Result<double> calibration_seconds(const CalibrationNeeds& needs, ThreadPool& pool) {
  if (needs.data == nullptr) return 0.0;
  TRY_ASSIGN(const double operations, Counter(needs).operations());
  return operations / measured_rate(pool);
}

}  // namespace nibble
