// SPDX-License-Identifier: Apache-2.0
#include "calibrate/stream.h"

#include <cstring>

namespace nibble {
namespace {

constexpr std::int64_t kRowsPerCopy = 256;

void copy_rows(ThreadPool& pool, const float* from, std::int64_t rows, std::int64_t cols, float* to) {
  pool.parallel_for(rows, kRowsPerCopy, [&](std::int64_t first, std::int64_t last) {
    const auto bytes = static_cast<std::size_t>((last - first) * cols) * sizeof(float);
    std::memcpy(to + first * cols, from + first * cols, bytes);
  });
}

Matrix copy_out(const Pass& pass, const ActivationBuffer& buffer, const Chunk& chunk) {
  Matrix out = pass.take(chunk.rows(), buffer.cols());
  copy_rows(pass.pool(), buffer.row(chunk.first_row), chunk.rows(), buffer.cols(), out.data());
  buffer.release(chunk.first_row, chunk.rows());
  return out;
}

void copy_in(const Pass& pass, const Matrix& from, const Chunk& chunk, ActivationBuffer& buffer) {
  CHECK(from.cols() == buffer.cols() && from.rows() == chunk.rows(), "a chunk of another shape");
  copy_rows(pass.pool(), from.data(), chunk.rows(), buffer.cols(), buffer.row(chunk.first_row));
  buffer.release(chunk.first_row, chunk.rows());
}

}  // namespace

Result<Stream> Stream::create(std::int64_t rows, std::int64_t hidden, Place place) {
  TRY_ASSIGN(ActivationBuffer buffer,
             ActivationBuffer::create(rows, hidden, place.budget, place.spill_folder));
  return Stream(std::move(buffer), std::move(place));
}

Matrix Stream::hidden(const Pass& pass, const Chunk& chunk) const {
  CHECK(stage_ == 0, "the stream stands inside a block");
  return copy_out(pass, hidden_, chunk);
}

BlockState Stream::load(const Pass& pass, const Chunk& chunk, const Block& block) const {
  if (stage_ == 0) return block.start(pass, hidden(pass, chunk));
  BlockState state;
  state.hidden = copy_out(pass, hidden_, chunk);
  state.input = copy_out(pass, *inputs_[input_], chunk);
  return state;
}

Status Stream::begin_move(int stage, std::int64_t input_width) {
  next_stage_ = stage;
  if (stage == 0) return {};
  next_input_ = 1 - input_;
  auto& place = inputs_[next_input_];
  if (place && place->reuse(input_width)) return {};
  place.reset();
  TRY_ASSIGN(ActivationBuffer fresh,
             ActivationBuffer::create(hidden_.rows(), input_width, place_.budget, place_.spill_folder));
  place.emplace(std::move(fresh));
  return {};
}

void Stream::put(const Pass& pass, const Chunk& chunk, const BlockState& state) {
  copy_in(pass, state.hidden, chunk, hidden_);
  if (next_stage_ != 0) copy_in(pass, state.input, chunk, *inputs_[next_input_]);
}

void Stream::put_hidden(const Pass& pass, const Chunk& chunk, const Matrix& hidden) {
  copy_in(pass, hidden, chunk, hidden_);
}

void Stream::end_move() {
  stage_ = next_stage_;
  input_ = stage_ == 0 ? 1 : next_input_;
}

}  // namespace nibble
