// SPDX-License-Identifier: Apache-2.0
#include "session/stream_runner.h"

#include <algorithm>

#include "base/memory_budget.h"

namespace nibble {
namespace {

std::int64_t rows_of(std::span<const Chunk> chunks) {
  return chunks.empty() ? 0 : chunks.back().first_row + chunks.back().rows();
}

Matrix rows_of(const Matrix& matrix, std::span<const std::int64_t> rows) {
  Matrix out = Matrix::for_overwrite(static_cast<std::int64_t>(rows.size()), matrix.cols());
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::ranges::copy(matrix.row(rows[i]), out.row(static_cast<std::int64_t>(i)).begin());
  return out;
}

// A chunk of one token a sequence: `rows` of a chunk.
Chunk tokens_of(const Chunk& chunk, std::span<const std::int64_t> rows) {
  Chunk out;
  out.batch.sequences = chunk.batch.sequences;
  out.batch.length = 1;
  out.first_row = out.first_sequence = chunk.first_sequence;
  for (const std::int64_t count : chunk.batch_rows) out.batch_rows.push_back(count / chunk.batch.length);
  for (const std::int64_t row : rows) {
    const auto at = static_cast<std::size_t>(row);
    out.batch.ids.push_back(chunk.batch.ids[at]);
    if (!chunk.batch.mask.empty()) out.batch.mask.push_back(chunk.batch.mask[at]);
    if (!chunk.loss_mask.empty()) out.loss_mask.push_back(chunk.loss_mask[at]);
  }
  return out;
}

// What a stage has taken out of the state keeps its shape, but holds nothing.
void give_back(const Pass& pass, BlockState state) {
  for (Matrix* matrix : {&state.hidden, &state.input}) {
    if (matrix->data() != nullptr) pass.give(std::move(*matrix));
  }
}

}  // namespace

Result<std::unique_ptr<StreamRunner>> StreamRunner::create(Context& context, Transformer& model,
                                                           const CalibrationData& data, Settings settings,
                                                           Stream::Place place) {
  std::unique_ptr<StreamRunner> runner(new StreamRunner(context, model, settings, std::move(place)));
  TRY(runner->open(data));
  return runner;
}

Status StreamRunner::open(const CalibrationData& data) {
  // Routed experts see rows of which only the batch is known: there a chunk is one batch.
  const auto& sparse = model_.config().sparse_layer;
  const bool routed = std::find(sparse.begin(), sparse.end(), true) != sparse.end() && !settings_.all_experts;
  chunks_ = make_chunks(data.batches, routed ? 0 : settings_.chunk_tokens, data.loss_masks);
  const auto workspace = std::make_shared<Workspace>();
  for (const Chunk& chunk : chunks_) {
    TRY_ASSIGN(Pass pass, model_.begin(context_, chunk.batch));
    pass.workspace = workspace;
    passes_.push_back(std::move(pass));
  }
  const std::int64_t width = model_.config().hidden;
  const std::int64_t widest = std::max(settings_.widest_input, width);
  for (int i = 0; i < settings_.streams; ++i) {
    TRY_ASSIGN(Stream stream, Stream::create(rows_of(chunks_), width, widest, place_));
    streams_.push_back(std::move(stream));
  }
  // A chunk that holds a compared sequence runs as a whole.
  while (compared_chunks_ < chunks_.size() &&
         chunks_[compared_chunks_].first_sequence < settings_.compared_sequences)
    ++compared_chunks_;
  if (compared_chunks_ > 0) {
    const std::span<const Chunk> compared(chunks_.data(), compared_chunks_);
    TRY_ASSIGN(Stream original, Stream::create(rows_of(compared), width, widest, place_));
    original_.emplace(std::move(original));
  }
  return embed(true);
}

Status StreamRunner::embed(bool with_original) {
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    TRY(check_stop());
    TRY_ASSIGN(const Matrix hidden, model_.embed(context_, chunks_[i].batch));
    for (Stream& stream : streams_) stream.put_hidden(passes_[i], chunks_[i], hidden);
    if (with_original && i < compared_chunks_) original_->put_hidden(passes_[i], chunks_[i], hidden);
  }
  return {};
}

Status StreamRunner::begin_again() {
  return embed(false);
}

Status StreamRunner::check_stop() const {
  if (!context_.stop.stop_requested()) return {};
  return Error{ErrorCode::kInterrupted, "stopped", {}, {}};
}

// Solvers take their turn now, and the widest activations of a chunk are as large as their matrices. The
// heap keeps what lies between allocations in use: a sixth of the peak.
void StreamRunner::drop_workspace() {
  if (!passes_.empty()) *passes_.front().workspace = Workspace();
  release_free_heap();
}

bool StreamRunner::is_mixture(const Block& block) const {
  return model_.config().sparse_layer[static_cast<std::size_t>(block.index())];
}

std::int64_t StreamRunner::input_width(const Block& block, int stage) const {
  for (const auto& linear : block.linears()) {
    if (linear->info().stage == stage && linear->info().expert < 0) return linear->info().cols;
  }
  return model_.config().hidden;
}

BlockState StreamRunner::at_stage(const Stream& stream, const Pass& pass, const Chunk& chunk,
                                  const Block& block, int stage) const {
  BlockState state = stream.load(pass, chunk, block);
  for (int s = stream.stage(); s < stage; ++s) block.run_stage(pass, state, s);
  return state;
}

struct StreamRunner::Gathering {
  Stream& stream;
  Stream* original;  // null unless a gatherer compares with it
  std::span<BlockWork> blocks;
  const std::vector<int>& stages;
  std::span<BlockGathering> gatherings;
  bool stays;  // the state at the first stage is kept
  bool moves_on;
};

Status StreamRunner::gather(int index, std::span<BlockWork> blocks, const std::vector<int>& stages,
                            std::span<BlockGathering> gatherings, bool may_stay, bool moves_on) {
  Stream& stream = streams_[static_cast<std::size_t>(index)];
  const bool compares = std::any_of(gatherings.begin(), gatherings.end(),
                                    [](const BlockGathering& g) { return g.gatherer->wants(kInputShift); });
  CHECK(!compares || original_, "an original stream is kept for those who compare with it");
  // Between the stages of a mixture there is a state for every expert: it is computed again.
  const int rest = stages.front() == 3 && is_mixture(*blocks[0].block) ? 2 : stages.front();
  Gathering g{.stream = stream,
              .original = compares ? &*original_ : nullptr,
              .blocks = blocks,
              .stages = stages,
              .gatherings = gatherings,
              .stays = may_stay && !moves_on && rest == stages.front() && rest > stream.stage(),
              .moves_on = moves_on};
  const bool original_stays = g.stays && g.original != nullptr && streams_.size() == 1;
  const std::int64_t width = input_width(*blocks[0].block, stages.front());
  if (g.stays || moves_on) TRY(stream.begin_move(moves_on ? 0 : stages.front(), width));
  if (original_stays) TRY(original_->begin_move(stages.front(), width));
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    TRY(check_stop());
    TRY(gather_chunk(g, i));
  }
  if (g.stays || moves_on) stream.end_move();
  if (original_stays) original_->end_move();
  drop_workspace();
  for (BlockGathering& gathering : gatherings) TRY(gathering.gatherer->finish());
  return {};
}

Status StreamRunner::gather_chunk(Gathering& g, std::size_t index) {
  const Chunk& chunk = chunks_[index];
  Pass pass = passes_[index];
  pass.all_experts = settings_.all_experts;
  const int first = g.stages.front();
  BlockState state = at_stage(g.stream, pass, chunk, *g.blocks[0].block, first);
  BlockState original;
  InputPointers pointers(settings_.all_experts);
  const bool compares = g.original != nullptr && index < compared_chunks_;
  if (compares) {
    original = at_stage(*g.original, pass, chunk, *g.blocks[0].original, first);
    if (g.stays && streams_.size() == 1) g.original->put(pass, chunk, original);
  }
  if (g.stays) g.stream.put(pass, chunk, state);
  for (std::size_t b = 0; b < g.blocks.size(); ++b) {
    const Block& block = *g.blocks[b].block;
    Gatherer& gatherer = *g.gatherings[b].gatherer;
    const bool last_block = b + 1 == g.blocks.size();
    gatherer.tap().begin_chunk(chunk, compares ? &pointers.inputs() : nullptr);
    for (const int stage : g.stages) {
      if (g.gatherings[b].judge && (stage == 0 || stage == 2))
        TRY(g.gatherings[b].judge->keep(stage, chunk, state.input));
      if (compares) {
        pointers.clear();
        g.blocks[b].original->visit_inputs(pass, original, stage, pointers);
      }
      const bool ends = last_block && stage == g.stages.back() && !g.moves_on;
      if (ends && !gatherer.wants_outputs(stage)) {
        block.visit_inputs(pass, state, stage, gatherer.tap());
        break;
      }
      pass.tap = &gatherer.tap();
      block.run_stage(pass, state, stage);
      pass.tap = nullptr;
      if (compares && !ends) g.blocks[b].original->run_stage(pass, original, stage);
    }
    if (last_block) break;
    state = g.blocks[b + 1].block->start(pass, std::move(state.hidden));
    if (compares) original = g.blocks[b + 1].original->start(pass, std::move(original.hidden));
  }
  if (g.moves_on) g.stream.put_hidden(pass, chunk, state.hidden);
  give_back(pass, std::move(state));
  give_back(pass, std::move(original));
  return {};
}

Status StreamRunner::move_through(Stream& stream, std::size_t chunks,
                                  const std::vector<const Block*>& blocks) {
  TRY(stream.begin_move(0, 0));
  for (std::size_t i = 0; i < chunks; ++i) {
    TRY(check_stop());
    const Pass& pass = passes_[i];
    BlockState state = at_stage(stream, pass, chunks_[i], *blocks[0], Block::kStages);
    for (std::size_t b = 1; b < blocks.size(); ++b)
      state.hidden = blocks[b]->forward(pass, std::move(state.hidden));
    stream.put_hidden(pass, chunks_[i], state.hidden);
    give_back(pass, std::move(state));
  }
  drop_workspace();
  stream.end_move();
  return {};
}

Status StreamRunner::move_on(int stream, std::span<BlockWork> blocks) {
  std::vector<const Block*> through;
  for (const BlockWork& work : blocks) through.push_back(work.block.get());
  return move_through(streams_[static_cast<std::size_t>(stream)], chunks_.size(), through);
}

Status StreamRunner::move_original_on(std::span<BlockWork> blocks) {
  std::vector<const Block*> through;
  for (const BlockWork& work : blocks) through.push_back(work.original.get());
  return move_through(*original_, compared_chunks_, through);
}

Status StreamRunner::gather_outside(int index, const ModuleInfo& linear, Gatherer& gatherer) {
  const Stream& stream = streams_[static_cast<std::size_t>(index)];
  const LinearInfo info = linear_info(linear);
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    TRY(check_stop());
    const Chunk& chunk = chunks_[i];
    if (linear.role == ModuleRole::kEmbeddingProjection) {
      const Matrix x = model_.embedding().token_rows(context_, chunk.batch);
      gatherer.tap().begin_chunk(chunk);
      gatherer.tap().on_input(info, {x.data(), x.rows(), x.cols(), passes_[i].mask});
      continue;
    }
    const Matrix hidden = stream.hidden(passes_[i], chunk);
    const std::vector<std::int64_t> read = model_.head().read_rows(linear.role, chunk.batch);
    const Chunk tokens = read.empty() ? chunk : tokens_of(chunk, read);
    const Matrix x =
        model_.head().input_of(linear.role, context_, read.empty() ? hidden : rows_of(hidden, read));
    gatherer.tap().begin_chunk(tokens);
    gatherer.tap().on_input(
        info, {x.data(), x.rows(), x.cols(), tokens.batch.mask.empty() ? nullptr : tokens.batch.mask.data()});
  }
  return gatherer.finish();
}

std::unique_ptr<BlockJudge> StreamRunner::make_judge(Block& block) const {
  return std::make_unique<BlockJudge>(model_.config(), block, chunks_, passes_, place_);
}

}  // namespace nibble
