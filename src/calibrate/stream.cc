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

// The rows of a chunk lie together, `width` wide.
Matrix copy_out(const Pass& pass, const ActivationBuffer& buffer, const Chunk& chunk, std::int64_t width) {
  Matrix out = pass.take(chunk.rows(), width);
  copy_rows(pass.pool(), buffer.row(chunk.first_row), chunk.rows(), width, out.data());
  buffer.release(chunk.first_row, chunk.rows());
  return out;
}

void copy_in(const Pass& pass, const Matrix& from, const Chunk& chunk, std::int64_t width,
             ActivationBuffer& buffer) {
  CHECK(from.cols() == width && from.rows() == chunk.rows(), "a chunk of another shape");
  copy_rows(pass.pool(), from.data(), chunk.rows(), width, buffer.row(chunk.first_row));
  buffer.release(chunk.first_row, chunk.rows());
}

}  // namespace

Result<Stream> Stream::create(std::int64_t rows, std::int64_t hidden, std::int64_t widest, Place place) {
  TRY_ASSIGN(ActivationBuffer buffer,
             ActivationBuffer::create(rows, hidden, place.budget, place.spill_folder));
  return Stream(std::move(buffer), widest, std::move(place));
}

Matrix Stream::hidden(const Pass& pass, const Chunk& chunk) const {
  CHECK(stage_ == 0, "the stream stands inside a block");
  return copy_out(pass, hidden_, chunk, hidden_.cols());
}

BlockState Stream::load(const Pass& pass, const Chunk& chunk, const Block& block) const {
  if (stage_ == 0) return block.start(pass, hidden(pass, chunk));
  BlockState state;
  state.hidden = copy_out(pass, hidden_, chunk, hidden_.cols());
  state.input = copy_out(pass, *inputs_, chunk, input_width_);
  return state;
}

Status Stream::begin_move(int stage, std::int64_t input_width) {
  CHECK(stage == 0 || input_width <= widest_, "an input wider than the widest");
  next_stage_ = stage;
  next_input_width_ = input_width;
  if (stage == 0 || inputs_) return {};
  TRY_ASSIGN(ActivationBuffer buffer,
             ActivationBuffer::create(hidden_.rows(), widest_, place_.budget, place_.spill_folder));
  inputs_.emplace(std::move(buffer));
  return {};
}

void Stream::put(const Pass& pass, const Chunk& chunk, const BlockState& state) {
  put_hidden(pass, chunk, state.hidden);
  if (next_stage_ != 0) copy_in(pass, state.input, chunk, next_input_width_, *inputs_);
}

void Stream::put_hidden(const Pass& pass, const Chunk& chunk, const Matrix& hidden) {
  copy_in(pass, hidden, chunk, hidden_.cols(), hidden_);
}

void Stream::end_move() {
  stage_ = next_stage_;
  input_width_ = next_input_width_;
}

}  // namespace nibble
