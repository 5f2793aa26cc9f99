// SPDX-License-Identifier: Apache-2.0
#include "model/pass.h"

namespace nibble {

Batch Batch::of(std::vector<TokenId> ids) {
  Batch batch;
  batch.length = static_cast<std::int64_t>(ids.size());
  batch.ids = std::move(ids);
  return batch;
}

KvCache::KvCache(const ModelConfig& config, std::int64_t sequences, std::int64_t capacity)
    : sequences_(sequences), capacity_(capacity), width_(config.kv_width()) {
  for (std::int64_t block = 0; block < config.layers; ++block) {
    keys_.emplace_back(sequences * capacity, width_);
    values_.emplace_back(sequences * capacity, width_);
  }
}

float* KvCache::keys(int block, std::int64_t sequence) {
  return keys_[static_cast<std::size_t>(block)].data() + sequence * capacity_ * width_;
}

float* KvCache::values(int block, std::int64_t sequence) {
  return values_[static_cast<std::size_t>(block)].data() + sequence * capacity_ * width_;
}

Matrix Workspace::take(std::int64_t rows, std::int64_t cols) {
  for (std::size_t i = free_.size(); i-- > 0;) {
    if (free_[i].rows() != rows || free_[i].cols() != cols) continue;
    Matrix matrix = std::move(free_[i]);
    free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
    return matrix;
  }
  return Matrix::for_overwrite(rows, cols);
}

void Workspace::give(Matrix matrix) {
  constexpr std::size_t kMost = 12;  // shapes of one block; older ones belong to batches of another size
  if (matrix.empty()) return;
  if (free_.size() == kMost) free_.erase(free_.begin());
  free_.push_back(std::move(matrix));
}

}  // namespace nibble
