// SPDX-License-Identifier: Apache-2.0
#include "session/block_work.h"

#include <algorithm>

#include "kernels/convert.h"

namespace nibble {
namespace {

Matrix to_matrix(ThreadPool& pool, const Tensor& tensor, std::int64_t rows, std::int64_t cols) {
  Matrix matrix(rows, cols);
  CHECK(tensor.size() == rows * cols, "a weight keeps its shape");
  kernels::decode_to_f32(pool, tensor.dtype(), tensor.bytes().data(), tensor.size(), matrix.data());
  return matrix;
}

bool belongs(const ModuleInfo& module) {
  return module.kind == ModuleKind::kLinear || module.kind == ModuleKind::kNorm ||
         module.kind == ModuleKind::kAttention;
}

}  // namespace

std::unique_ptr<Block> clone(const ModelConfig& config, const Block& block) {
  auto copy = std::make_unique<Block>(config, block.index());
  for (const auto& linear : block.linears())
    copy->add(std::make_unique<DenseLinear>(linear->info(), linear->weight(), linear->bias()));
  for (const Norm& norm : const_cast<Block&>(block).norms()) copy->add(norm);
  copy->attention_name = block.attention_name;
  copy->attention_quantizers = block.attention_quantizers;
  return copy;
}

Status put_back(Context& context, Block& block, const ModuleWork& work) {
  const ModuleInfo& module = *work.module;
  if (module.kind == ModuleKind::kNorm) {
    auto& norms = block.norms();
    const auto norm =
        std::find_if(norms.begin(), norms.end(), [&](const Norm& n) { return n.name == module.name; });
    CHECK(norm != norms.end(), "a block has no norm of that name");
    if (!norm->weight.empty()) norm->weight = work.weight.to_f32();
    if (work.bias) norm->bias = work.bias->to_f32();
    return {};
  }
  if (module.kind != ModuleKind::kLinear) return {};
  Linear* linear = block.linear(module.name);
  CHECK(linear != nullptr && linear->dense() != nullptr, "blocks in work are dense");
  Tensor weight = work.weight;
  if (work.compressed) {
    TRY_ASSIGN(weight, work.compressed->dense(context.pool).at(module.name));
  }
  linear->dense()->mutable_weight() = to_matrix(context.pool, weight, module.rows, module.cols);
  if (work.bias) linear->dense()->mutable_bias() = work.bias->to_f32();
  return {};
}

Result<BlockWork> load_block_work(Context& context, const Transformer& transformer, const ModelState& state,
                                  const ModuleOutput& output, int index, bool keep_original) {
  BlockWork work;
  TRY_ASSIGN(work.block, transformer.load_block(context, index));
  for (const ModuleInfo& module : state.model.modules) {
    if (module.block != index) continue;
    if (module.kind == ModuleKind::kBlock) work.name = module.name;
    if (!belongs(module)) continue;
    TRY_ASSIGN(ModuleWork loaded, output.load(module, context.pool));
    const bool has_weight = loaded.weight.size() > 0;
    if (has_weight) TRY(put_back(context, *work.block, loaded));
    work.modules.push_back(std::move(loaded));
  }
  if (keep_original) work.original = clone(transformer.config(), *work.block);
  return work;
}

}  // namespace nibble
