// SPDX-License-Identifier: Apache-2.0
#include "session/block_work.h"

#include <algorithm>

#include "kernels/convert.h"

namespace nibble {
namespace {

Matrix to_matrix(ThreadPool& pool, const Tensor& tensor, std::int64_t rows, std::int64_t cols) {
  Matrix matrix = Matrix::for_overwrite(rows, cols);
  CHECK(tensor.size() == rows * cols, "a weight keeps its shape");
  kernels::decode_to_f32(pool, tensor.dtype(), tensor.bytes().data(), tensor.size(), matrix.data());
  return matrix;
}

bool belongs(const ModuleInfo& module) {
  return module.kind == ModuleKind::kLinear || module.kind == ModuleKind::kNorm ||
         module.kind == ModuleKind::kAttention;
}

}  // namespace

namespace {

void put_norm(Block& block, const ModuleWork& work) {
  auto& norms = block.norms();
  const auto norm =
      std::find_if(norms.begin(), norms.end(), [&](const Norm& n) { return n.name == work.module->name; });
  CHECK(norm != norms.end(), "a block has no norm of that name");
  if (!norm->weight.empty()) norm->weight = work.weight.to_f32();
  if (work.bias) norm->bias = work.bias->to_f32();
}

std::unique_ptr<Linear> stored_linear(const ModuleWork& work) {
  return std::make_unique<StoredLinear>(linear_info(*work.module), work.weight,
                                        work.bias ? work.bias->to_f32() : std::vector<float>());
}

// The block as it was loaded, on the stored weights of its modules.
std::unique_ptr<Block> original_of(const ModelConfig& config, const BlockWork& work) {
  auto original = std::make_unique<Block>(config, work.block->index());
  for (const ModuleWork& module : work.modules) {
    if (module.module->kind == ModuleKind::kLinear) original->add(stored_linear(module));
  }
  for (const Norm& norm : work.block->norms()) original->add(norm);
  original->attention_name = work.block->attention_name;
  original->attention_quantizers = work.block->attention_quantizers;
  return original;
}

}  // namespace

void put_back_original(Block& original, const ModuleWork& work) {
  if (work.module->kind == ModuleKind::kNorm) put_norm(original, work);
  if (work.module->kind == ModuleKind::kLinear) original.replace(stored_linear(work));
}

Result<std::unique_ptr<Linear>> linear_of(Context& context, const ModuleWork& work) {
  const ModuleInfo& module = *work.module;
  Tensor weight = work.weight;
  if (work.compressed) {
    TRY_ASSIGN(weight, work.compressed->dense(context.pool).at(module.name));
  }
  return std::unique_ptr<Linear>(std::make_unique<DenseLinear>(
      linear_info(module), to_matrix(context.pool, weight, module.rows, module.cols),
      work.bias ? work.bias->to_f32() : std::vector<float>()));
}

Status put_back(Context& context, Block& block, const ModuleWork& work) {
  const ModuleInfo& module = *work.module;
  if (module.kind == ModuleKind::kNorm) {
    put_norm(block, work);
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
  if (keep_original) work.original = original_of(transformer.config(), work);
  return work;
}

}  // namespace nibble
