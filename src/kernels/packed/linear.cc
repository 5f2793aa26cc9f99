// SPDX-License-Identifier: Apache-2.0
// Products with fp32 activations: packed strips feed the GEMM driver.
#include <algorithm>

#include "base/check.h"
#include "kernels/gemm/driver.h"
#include "kernels/level_table.h"
#include "kernels/packed/storage.h"

namespace nibble::kernels {

namespace packed {
const Kernels& kernels() {
#if defined(__x86_64__)
  static constexpr LevelTable<Kernels> kTables{&kPortable, &kAvx2, &kAvx512, nullptr};
#else
  static constexpr LevelTable<Kernels> kTables{&kPortable, nullptr, nullptr, nullptr};
#endif
  return pick_level(kTables);
}
}  // namespace packed

namespace {

using packed::kLanes;
using Storage = PackedWeights::Storage;

class DenseStrips final : public gemm::StripSource {
 public:
  DenseStrips(const Storage& storage, std::int64_t cols)
      : kernel_(packed::kernels()), storage_(storage), stride_(cols * kLanes) {}
  void fill(std::int64_t strip, std::int64_t first, std::int64_t depth, float* out) const override {
    const auto* codes =
        reinterpret_cast<const std::uint16_t*>(storage_.strips.get() + strip * storage_.strip_bytes);
    (storage_.dense == DType::kF16 ? kernel_.fill_f16 : kernel_.fill_bf16)(codes + first * kLanes, depth,
                                                                           out);
  }
  const float* ready(std::int64_t strip) const override {
    if (storage_.dense != DType::kF32) return nullptr;
    return reinterpret_cast<const float*>(storage_.strips.get() + strip * storage_.strip_bytes);
  }
  std::int64_t strip_stride() const override { return stride_; }

 private:
  const packed::Kernels& kernel_;
  const Storage& storage_;
  std::int64_t stride_;
};

const packed::CodeKernels& code_kernels(const Storage& storage) {
  const packed::Kernels& kernel = packed::kernels();
  switch (storage.kind) {
    case CodeKind::kTable:
      return kernel.table;
    case CodeKind::kFloat8:
      return kernel.float8;
    case CodeKind::kInteger:
      break;
  }
  return kernel.integer[storage.bits];
}

class CodeStrips final : public gemm::StripSource {
 public:
  CodeStrips(const Storage& storage, std::int64_t rows, std::int64_t cols)
      : kernel_(code_kernels(storage)),
        storage_(storage),
        strips_((rows + kLanes - 1) / kLanes),
        cols_(cols) {}
  void fill(std::int64_t strip, std::int64_t first, std::int64_t depth, float* out) const override {
    kernel_.fill(storage_.strip(strip), first, depth, out);
  }
  std::int64_t fused_rows() const override { return kernel_.dot[0] == nullptr ? 0 : packed::kFusedTokens; }
  void dot(std::int64_t strip, std::int64_t rows, const float* a, float* c, std::int64_t ldc, int cols,
           bool accumulate) const override {
    const packed::CodeStrip pair[2] = {storage_.strip(strip),
                                       storage_.strip(std::min(strip + 1, strips_ - 1))};
    kernel_.dot[rows - 1](pair, cols_, a, c, ldc, cols, accumulate);
  }

 private:
  const packed::CodeKernels& kernel_;
  const Storage& storage_;
  std::int64_t strips_;
  std::int64_t cols_;
};

// x with its columns in the order of the weights.
gemm::Floats reorder(ThreadPool& pool, const std::vector<std::int32_t>& order, std::int64_t tokens,
                     const float* x, std::int64_t ldx) {
  const auto cols = static_cast<std::int64_t>(order.size());
  gemm::Floats moved = gemm::allocate_floats(tokens * cols);
  pool.parallel_for(tokens, 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t t = first; t < last; ++t) {
      for (std::int64_t i = 0; i < cols; ++i) {
        moved[static_cast<std::size_t>(t * cols + i)] = x[t * ldx + order[static_cast<std::size_t>(i)]];
      }
    }
  });
  return moved;
}

template <class Use>
void with_strips(const PackedWeights& weights, Use use) {
  const Storage& storage = PackedAccess::storage(weights);
  if (storage.coded) {
    use(CodeStrips(storage, weights.rows(), weights.cols()));
  } else {
    use(DenseStrips(storage, weights.cols()));
  }
}

}  // namespace

void linear(ThreadPool& pool, std::int64_t tokens, const float* x, std::int64_t ldx,
            const PackedWeights& weights, float* y, std::int64_t ldy, bool accumulate) {
  if (tokens <= 0 || weights.rows() == 0) return;
  const Storage& storage = PackedAccess::storage(weights);
  gemm::Floats moved;
  if (!storage.order.empty()) {
    moved = reorder(pool, storage.order, tokens, x, ldx);
    x = moved.get();
    ldx = weights.cols();
  }
  with_strips(weights, [&](const gemm::StripSource& strips) {
    gemm::multiply(pool, tokens, weights.rows(), weights.cols(), {x, ldx, false}, strips,
                   {y, ldy, 1.0f, accumulate, false});
  });
}

void PackedWeights::unpack(ThreadPool& pool, float* w, std::int64_t ld) const {
  if (rows_ == 0 || cols_ == 0) return;
  const std::vector<std::int32_t>& order = storage_->order;
  with_strips(*this, [&](const gemm::StripSource& strips) {
    pool.parallel_for((rows_ + kLanes - 1) / kLanes, 1, [&](std::int64_t first, std::int64_t last) {
      const gemm::Floats local = gemm::allocate_floats(gemm::kDepth * kLanes);
      for (std::int64_t strip = first; strip < last; ++strip) {
        const std::int64_t count = std::min<std::int64_t>(kLanes, rows_ - strip * kLanes);
        for (std::int64_t k = 0; k < cols_; k += gemm::kDepth) {
          const std::int64_t depth = std::min<std::int64_t>(gemm::kDepth, cols_ - k);
          const float* values = strips.ready(strip);
          if (values != nullptr) {
            values += k * kLanes;
          } else {
            strips.fill(strip, k, depth, local.get());
            values = local.get();
          }
          for (std::int64_t i = 0; i < depth; ++i) {
            const std::int64_t column = order.empty() ? k + i : order[static_cast<std::size_t>(k + i)];
            for (std::int64_t lane = 0; lane < count; ++lane) {
              w[(strip * kLanes + lane) * ld + column] = values[i * kLanes + lane];
            }
          }
        }
      }
    });
  });
}

}  // namespace nibble::kernels
