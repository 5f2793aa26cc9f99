// SPDX-License-Identifier: Apache-2.0
#include "session/sublayer_judge.h"

#include <fmt/format.h>

#include <cstring>

namespace nibble {
namespace {

constexpr std::int64_t kRowGrain = 32;

std::size_t bytes_of(const Matrix& matrix) {
  return matrix.values().size_bytes();
}

std::int64_t rows_of(const std::vector<Chunk>& chunks) {
  return chunks.empty() ? 0 : chunks.back().first_row + chunks.back().rows();
}

// The output of the linear that ends a sublayer, before norms and the residual sum.
class OutputTap final : public Tap {
 public:
  explicit OutputTap(ModuleRole role) : role_(role) {}
  void on_output(const LinearInfo& linear, const TapInput& output) override {
    if (linear.role != role_) return;
    y = Matrix(output.rows, output.cols);
    std::memcpy(y.data(), output.x, y.values().size_bytes());
  }
  Matrix y;

 private:
  ModuleRole role_;
};

// Puts weights in place of a block's for as long as it lives.
class Swap {
 public:
  Swap(Block& block, std::span<const Replacement> replacements) : block_(block), replacements_(replacements) {
    for (const Replacement& replacement : replacements_) {
      DenseLinear* linear = block_.linear(replacement.module->name)->dense();
      kept_.push_back(std::move(linear->mutable_weight()));
      linear->mutable_weight() = *replacement.weight;
    }
  }
  ~Swap() {
    for (std::size_t i = 0; i < kept_.size(); ++i)
      block_.linear(replacements_[i].module->name)->dense()->mutable_weight() = std::move(kept_[i]);
  }
  Swap(const Swap&) = delete;
  Swap& operator=(const Swap&) = delete;

 private:
  Block& block_;
  std::span<const Replacement> replacements_;
  std::vector<Matrix> kept_;
};

}  // namespace

Status BlockJudge::keep(int first_stage, const Chunk& chunk, const Matrix& input) {
  Sublayer& sublayer = sublayers_[first_stage];
  if (!sublayer.input) {
    TRY_ASSIGN(sublayer.input,
               ActivationBuffer::create(rows_of(chunks_), input.cols(), place_.budget, place_.spill_folder));
  }
  std::memcpy(sublayer.input->row(chunk.first_row), input.data(), bytes_of(input));
  sublayer.input->release(chunk.first_row, chunk.rows());
  return {};
}

// A mixture has no single linear at its end: there the output is what is added to a residual of zeros.
Matrix BlockJudge::run(int first_stage, std::size_t chunk, const ActivationBuffer& input) const {
  Pass pass = passes_[chunk];
  const Chunk& tokens = chunks_[chunk];
  BlockState state;
  state.hidden = Matrix(tokens.rows(), config_.hidden);
  state.input = Matrix(tokens.rows(), input.cols());
  std::memcpy(state.input.data(), input.row(tokens.first_row), bytes_of(state.input));
  input.release(tokens.first_row, tokens.rows());
  const ModuleRole last = first_stage == 0 ? ModuleRole::kAttentionOutput : ModuleRole::kDown;
  OutputTap tap(last);
  pass.all_experts = false;
  pass.tap = &tap;
  block_.run_stage(pass, state, first_stage);
  block_.run_stage(pass, state, first_stage + 1);
  return tap.y.empty() ? std::move(state.hidden) : std::move(tap.y);
}

Status BlockJudge::remember_output(int first_stage, Sublayer& sublayer) {
  TRY_ASSIGN(sublayer.output,
             ActivationBuffer::create(rows_of(chunks_), config_.hidden, place_.budget, place_.spill_folder));
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    const Matrix y = run(first_stage, i, *sublayer.input);
    std::memcpy(sublayer.output->row(chunks_[i].first_row), y.data(), bytes_of(y));
    sublayer.output->release(chunks_[i].first_row, chunks_[i].rows());
  }
  sublayer.has_output = true;
  return {};
}

double BlockJudge::distance(int first_stage, const Sublayer& sublayer) const {
  double total = 0;
  std::int64_t counted = 0;
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    const Chunk& chunk = chunks_[i];
    const Matrix y = run(first_stage, i, *sublayer.input);
    std::vector<double> rows(static_cast<std::size_t>(chunk.rows()));
    passes_[i].pool().parallel_for(chunk.rows(), kRowGrain, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        const float* wanted = sublayer.output->row(chunk.first_row + r);
        double sum = 0;
        for (std::int64_t c = 0; c < y.cols(); ++c) {
          const double d = static_cast<double>(wanted[c]) - static_cast<double>(y.at(r, c));
          sum += d * d;
        }
        rows[static_cast<std::size_t>(r)] = sum;
      }
    });
    sublayer.output->release(chunk.first_row, chunk.rows());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (!chunk.counts(r)) continue;
      total += rows[r];
      ++counted;
    }
  }
  return total / static_cast<double>(counted * config_.hidden);
}

Result<double> BlockJudge::output_error(int first_stage, std::span<const Replacement> replacements) {
  const auto found = sublayers_.find(first_stage);
  if (found == sublayers_.end())
    return failed(fmt::format("the inputs of stage {} were not kept", first_stage));
  Sublayer& sublayer = found->second;
  if (!sublayer.has_output) TRY(remember_output(first_stage, sublayer));
  const Swap swap(block_, replacements);
  return distance(first_stage, sublayer);
}

}  // namespace nibble
