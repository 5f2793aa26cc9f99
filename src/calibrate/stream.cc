// SPDX-License-Identifier: Apache-2.0
#include "calibrate/stream.h"

#include <cstring>

namespace nibble {
namespace {

std::size_t bytes_of(std::int64_t rows, std::int64_t cols) {
  return static_cast<std::size_t>(rows * cols) * sizeof(float);
}

Matrix copy_out(const Pass& pass, const ActivationBuffer& buffer, const Chunk& chunk) {
  Matrix out = pass.take(chunk.rows(), buffer.cols());
  std::memcpy(out.data(), buffer.row(chunk.first_row), bytes_of(chunk.rows(), buffer.cols()));
  buffer.release(chunk.first_row, chunk.rows());
  return out;
}

void copy_in(const Matrix& from, const Chunk& chunk, ActivationBuffer& buffer) {
  CHECK(from.cols() == buffer.cols() && from.rows() == chunk.rows(), "a chunk of another shape");
  std::memcpy(buffer.row(chunk.first_row), from.data(), bytes_of(chunk.rows(), buffer.cols()));
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
  state.input = copy_out(pass, *input_, chunk);
  return state;
}

Status Stream::begin_move(int stage, std::int64_t input_width) {
  next_stage_ = stage;
  if (stage == 0) return {};
  TRY_ASSIGN(next_input_,
             ActivationBuffer::create(hidden_.rows(), input_width, place_.budget, place_.spill_folder));
  return {};
}

void Stream::put(const Chunk& chunk, const BlockState& state) {
  copy_in(state.hidden, chunk, hidden_);
  // A chunk that has moved on is not loaded again at the old point.
  if (input_) input_->discard(chunk.first_row, chunk.rows());
  if (next_stage_ != 0) copy_in(state.input, chunk, *next_input_);
}

void Stream::put_hidden(const Chunk& chunk, const Matrix& hidden) {
  copy_in(hidden, chunk, hidden_);
}

void Stream::end_move() {
  input_ = std::move(next_input_);
  next_input_.reset();
  if (next_stage_ == 0) input_.reset();
  stage_ = next_stage_;
}

}  // namespace nibble
