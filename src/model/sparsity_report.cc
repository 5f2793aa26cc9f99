// SPDX-License-Identifier: Apache-2.0
#include "model/sparsity_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>

#include "base/json.h"
#include "checkpoint/module_match.h"
#include "codec/sparse_format.h"
#include "model/modules.h"

namespace nibble {
namespace {

constexpr std::int64_t kBlockElements = std::int64_t{4} << 20;
constexpr double kNearlyMet = 0.9;
constexpr std::array<MaskPattern, 4> kUsualPatterns{{{1, 4}, {2, 4}, {4, 8}, {8, 16}}};

// A tensor to look at.
struct Item {
  std::string tensor;
  std::string name;
  int block = -1;
  bool prunable = false;
  bool transposed = false;
};

bool is_counted(DType dtype) {
  return is_float(dtype) && dtype != DType::kF8E8M0;
}

// "model.layers.12.mlp" lies in block 12: the first part that is a number.
int block_of(std::string_view name) {
  while (!name.empty()) {
    const std::string_view part = name.substr(0, name.find('.'));
    int number = -1;
    const auto end = part.data() + part.size();
    if (std::from_chars(part.data(), end, number).ptr == end && !part.empty() && number >= 0) return number;
    name.remove_prefix(std::min(name.size(), part.size() + 1));
  }
  return -1;
}

std::vector<Item> items_by_name(const Checkpoint& checkpoint) {
  constexpr std::string_view kWeight = ".weight";
  std::vector<Item> items;
  for (const TensorInfo& info : checkpoint.tensors()) {
    if (!is_counted(info.dtype)) continue;
    Item item{.tensor = info.name, .name = info.name, .block = block_of(info.name)};
    const bool is_matrix = info.shape.size() >= 2 && info.name.ends_with(kWeight);
    const std::string module = is_matrix ? info.name.substr(0, info.name.size() - kWeight.size()) : "";
    item.prunable = is_matrix && !looks_like_embedding(module);
    if (item.prunable) item.name = module;
    items.push_back(std::move(item));
  }
  return items;
}

std::vector<Item> items_of(const ModelDescription& model) {
  std::vector<Item> items;
  for (const ModuleInfo& module : model.modules) {
    const bool prunable = module.kind == ModuleKind::kLinear;
    if (!module.weight.empty()) {
      items.push_back({module.weight, prunable ? module.name : module.weight, module.block, prunable,
                       prunable && module.transposed});
    }
    if (!module.bias.empty())
      items.push_back({.tensor = module.bias, .name = module.bias, .block = module.block});
  }
  for (const std::string& name : model.unused_tensors)
    items.push_back({.tensor = name, .name = name, .block = block_of(name)});
  return items;
}

bool is_quantized(const TensorInfo& info) {
  const auto stored = dtype_from_safetensors(info.stored_as);
  const bool is_sparse_only = sparse_format_from_string(info.stored_as).has_value();
  return !is_sparse_only && (!stored || dtype_bytes(*stored) < 2);
}

// Columns of the file are rows of the layer.
Tensor transposed(const Tensor& tensor) {
  const std::size_t width = dtype_bytes(tensor.dtype());
  const auto rows = static_cast<std::size_t>(tensor.dim(0)), cols = static_cast<std::size_t>(tensor.dim(1));
  Tensor out(tensor.dtype(), {tensor.dim(1), tensor.dim(0)});
  const std::byte* from = tensor.bytes().data();
  std::byte* to = out.mutable_bytes().data();
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c)
      std::memcpy(to + (c * rows + r) * width, from + (r * cols + c) * width, width);
  }
  return out;
}

Status for_blocks(const Checkpoint& checkpoint, const std::string& name, bool is_transposed,
                  const Checkpoint::RowBlockBody& body) {
  if (!is_transposed) return checkpoint.for_row_blocks(name, kBlockElements, body);
  TRY_ASSIGN(const Tensor stored, checkpoint.load(name));
  return body(transposed(stored));
}

Status fit_patterns(const Checkpoint& checkpoint, TensorSparsity& tensor) {
  std::vector<MaskPattern> patterns(kUsualPatterns.begin(), kUsualPatterns.end());
  for (const MaskPattern& nearest : tensor.mask.nearest_patterns()) patterns.push_back(nearest);
  std::sort(patterns.begin(), patterns.end(), [](const MaskPattern& a, const MaskPattern& b) {
    return std::tie(a.group, a.zeros) < std::tie(b.group, b.zeros);
  });
  patterns.erase(std::unique(patterns.begin(), patterns.end()), patterns.end());
  for (const MaskPattern& pattern : patterns) {
    PatternFit fit{.pattern = pattern,
                   .groups = tensor.mask.groups_of(pattern.group),
                   .met = tensor.mask.groups_met(pattern),
                   .exact = tensor.mask.groups_exact(pattern)};
    if (!fit.holds() && static_cast<double>(fit.met) >= kNearlyMet * static_cast<double>(fit.groups)) {
      TRY_ASSIGN(fit.broken_at, find_break(checkpoint, tensor, pattern));
    }
    tensor.patterns.push_back(fit);
  }
  return {};
}

Result<TensorSparsity> measure(const Checkpoint& checkpoint, const Item& item, const TensorInfo& info,
                               ThreadPool& pool) {
  TensorSparsity tensor{.name = item.name,
                        .tensor = item.tensor,
                        .transposed = item.transposed,
                        .block = item.block,
                        .prunable = item.prunable,
                        .quantized = is_quantized(info),
                        .mask = {},
                        .patterns = {}};
  std::optional<MaskCounter> counter;
  TRY(for_blocks(checkpoint, item.tensor, item.transposed, [&](const Tensor& block) -> Status {
    if (!counter) counter.emplace(mask_shape(block.shape()).second);
    counter->add(block, pool);
    return {};
  }));
  if (counter) tensor.mask = counter->finish();
  if (tensor.prunable && tensor.mask.zeros > 0) TRY(fit_patterns(checkpoint, tensor));
  checkpoint.release(item.tensor);
  return tensor;
}

}  // namespace

void SparsityTotals::add(const TensorSparsity& tensor) {
  params += tensor.mask.count();
  zeros += tensor.mask.zeros;
  if (tensor.quantized) quantized_params += tensor.mask.count();
  if (!tensor.prunable) return;
  prunable_params += tensor.mask.count();
  prunable_zeros += tensor.mask.zeros;
}

double SparsityTotals::sparsity() const {
  return params > 0 ? static_cast<double>(zeros) / static_cast<double>(params) : 0.0;
}

double SparsityTotals::prunable_sparsity() const {
  return prunable_params > 0 ? static_cast<double>(prunable_zeros) / static_cast<double>(prunable_params)
                             : 0.0;
}

Result<std::optional<PatternBreak>> find_break(const Checkpoint& checkpoint, const TensorSparsity& tensor,
                                               const MaskPattern& pattern) {
  std::optional<PatternBreak> found;
  std::int64_t rows = 0;
  TRY(for_blocks(checkpoint, tensor.tensor, tensor.transposed, [&](const Tensor& block) -> Status {
    if (found) return {};
    found = first_break(block, pattern);
    if (found) found->row += rows;
    rows += mask_shape(block.shape()).first;
    return {};
  }));
  return found;
}

Result<SparsityReport> sparsity_report(const Checkpoint& checkpoint, Context& context) {
  const Result<ModelDescription> model = describe_model(checkpoint);
  if (!model.ok() && !checkpoint.config().is_null())
    context.events.note("layers are taken from the names of tensors: " + model.error().message());
  const std::vector<Item> items = model.ok() ? items_of(*model) : items_by_name(checkpoint);
  SparsityReport report;
  for (const Item& item : items) {
    if (context.stop.stop_requested()) return Error{ErrorCode::kInterrupted, "stopped", {}, {}};
    const TensorInfo* info = checkpoint.find(item.tensor);
    if (info == nullptr || !is_counted(info->dtype)) continue;
    TRY_ASSIGN(TensorSparsity tensor, measure(checkpoint, item, *info, context.pool));
    report.total.add(tensor);
    if (tensor.block >= 0) report.blocks[tensor.block].add(tensor);
    report.tensors.push_back(std::move(tensor));
    context.events.progress("read", static_cast<double>(report.tensors.size()),
                            static_cast<double>(items.size()));
  }
  return report;
}

}  // namespace nibble
