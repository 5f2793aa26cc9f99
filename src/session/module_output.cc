// SPDX-License-Identifier: Apache-2.0
#include "session/module_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "session/storage.h"

namespace nibble {
namespace {

// A part of a tensor that is copied at once.
constexpr std::size_t kCopyPart = std::size_t{8} << 20;

// [rows, cols] to [cols, rows], whatever the elements are.
Tensor transposed_tensor(const Tensor& tensor) {
  const std::int64_t rows = tensor.dim(0);
  const std::int64_t cols = tensor.dim(1);
  const std::size_t width = dtype_bytes(tensor.dtype());
  Tensor out(tensor.dtype(), {cols, rows});
  const std::byte* from = tensor.bytes().data();
  std::byte* to = out.mutable_bytes().data();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      std::memcpy(to + static_cast<std::size_t>(c * rows + r) * width,
                  from + static_cast<std::size_t>(r * cols + c) * width, width);
    }
  }
  return out;
}

bool is_work_type(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF64;
}

// F64 does not fit the types that modifiers work on.
Result<Tensor> wide_tensor(ThreadPool& pool, const Tensor& tensor, DType dtype, const std::string& name) {
  if (dtype != DType::kF64 || tensor.dtype() == DType::kF64) return cast_tensor(pool, tensor, dtype, name);
  Tensor out(DType::kF64, tensor.shape());
  const std::vector<float> values = tensor.to_f32();
  std::copy(values.begin(), values.end(), out.as_mutable<double>().begin());
  return out;
}

Status write_sparse(const CarriedTensor& carried, const Tensor& value, ShardedWriter& writer) {
  TRY_ASSIGN(const auto parts,
             sparse_compress(value, *carried.sparse).at(fmt::format("module {}", carried.module->name)));
  for (const StoredTensor& stored : carried.stored)
    TRY(writer.write(carried.module->disk_name + "." + stored.suffix, parts.at(stored.suffix)));
  return {};
}

}  // namespace

ModuleOutput::ModuleOutput(const Checkpoint& checkpoint, const OutputPlan& plan, const ModelState& state)
    : checkpoint_(checkpoint), state_(state) {
  for (const PlannedModule& quantized : plan.quantized) entries_[quantized.module].quantized = &quantized;
  for (const CarriedTensor& carried : plan.carried) {
    if (carried.module == nullptr || !is_work_type(carried.dtype)) continue;
    Entry& entry = entries_[carried.module];
    (carried.is_bias ? entry.bias : entry.weight) = &carried;
  }
  for (const PlannedActivations& planned : plan.activations) entries_[planned.module].activations = &planned;
}

Result<Tensor> ModuleOutput::load_as_work(const CarriedTensor& carried, ThreadPool& pool) const {
  TRY_ASSIGN(const Tensor stored, checkpoint_.load(carried.source));
  return cast_tensor(pool, stored, carried.dtype == DType::kF64 ? DType::kF32 : carried.dtype,
                     carried.source);
}

Result<ModuleWork> ModuleOutput::load(const ModuleInfo& module, ThreadPool& pool) const {
  ModuleWork work;
  work.module = &module;
  work.scheme = state_.schemes.find(state_.model, module);
  const auto found = entries_.find(&module);
  if (found == entries_.end()) return work;
  const Entry& entry = found->second;
  if (entry.quantized != nullptr) {
    work.format = entry.quantized->format;
    TRY_ASSIGN(const Tensor stored, checkpoint_.load(entry.quantized->source));
    TRY_ASSIGN(work.weight, cast_tensor(pool, stored, entry.quantized->dtype, entry.quantized->source));
  } else if (entry.weight != nullptr) {
    TRY_ASSIGN(work.weight, load_as_work(*entry.weight, pool));
  }
  if (module.transposed && work.weight.shape().size() == 2) work.weight = transposed_tensor(work.weight);
  if (entry.bias != nullptr) {
    TRY_ASSIGN(work.bias, load_as_work(*entry.bias, pool));
  }
  return work;
}

Status ModuleOutput::write_carried(const CarriedTensor& carried, const Tensor& value, bool transposed,
                                   ShardedWriter& writer, ThreadPool& pool) const {
  const Tensor laid_out = transposed ? transposed_tensor(value) : value;
  TRY_ASSIGN(const Tensor tensor, wide_tensor(pool, laid_out, carried.dtype, carried.name));
  const TensorInfo* source = checkpoint_.find(carried.source);
  const Tensor shaped = source != nullptr ? tensor.reshaped(source->shape) : tensor;
  return carried.sparse ? write_sparse(carried, shaped, writer) : writer.write(carried.name, shaped);
}

Status ModuleOutput::write(const ModuleWork& work, ShardedWriter& writer, ThreadPool& pool) const {
  const auto found = entries_.find(work.module);
  if (found == entries_.end()) return {};
  const Entry& entry = found->second;
  if (entry.quantized != nullptr) {
    if (!work.compressed) {
      return failed("no modifier quantized it").add_context(fmt::format("module {}", work.module->name));
    }
    std::map<std::string, Tensor> tensors = work.compressed->tensors();
    if (entry.quantized->sparse) {
      auto parts = sparse_compress(tensors.at("weight"), *entry.quantized->sparse);
      if (!parts.ok()) return std::move(parts).at(fmt::format("module {}", work.module->name)).error();
      tensors.merge(*parts);
    }
    for (const StoredTensor& stored : entry.quantized->stored)
      TRY(writer.write(entry.quantized->tensor_name(stored.suffix), tensors.at(stored.suffix)));
  } else if (entry.weight != nullptr) {
    TRY(write_carried(*entry.weight, work.weight, work.module->transposed, writer, pool));
  }
  if (entry.bias != nullptr) TRY(write_carried(*entry.bias, *work.bias, false, writer, pool));
  if (entry.activations == nullptr) return {};
  for (const StoredTensor& stored : entry.activations->stored) {
    const auto tensor = work.activation_tensors.find(stored.suffix);
    if (tensor == work.activation_tensors.end()) {
      return failed(fmt::format("its {} is not known", stored.suffix),
                    "calibration data must reach the module")
          .add_context(fmt::format("module {}", work.module->name));
    }
    TRY_ASSIGN(const Tensor value, cast_tensor(pool, tensor->second, stored.dtype, stored.suffix));
    TRY(writer.write(entry.activations->tensor_name(stored.suffix), value.reshaped(stored.shape)));
  }
  return {};
}

std::vector<std::string> ModuleOutput::tensor_names(const ModuleInfo& module) const {
  std::vector<std::string> names;
  const auto found = entries_.find(&module);
  if (found == entries_.end()) return names;
  const Entry& entry = found->second;
  if (entry.quantized != nullptr) {
    for (const StoredTensor& stored : entry.quantized->stored)
      names.push_back(entry.quantized->tensor_name(stored.suffix));
  } else if (entry.weight != nullptr) {
    names = entry.weight->names();
  }
  if (entry.bias != nullptr) names.push_back(entry.bias->name);
  if (entry.activations != nullptr) {
    for (const StoredTensor& stored : entry.activations->stored)
      names.push_back(entry.activations->tensor_name(stored.suffix));
  }
  return names;
}

void ModuleOutput::release(const ModuleInfo& module) const {
  const auto found = entries_.find(&module);
  if (found == entries_.end()) return;
  const Entry& entry = found->second;
  if (entry.quantized != nullptr) checkpoint_.release(entry.quantized->source);
  if (entry.weight != nullptr) checkpoint_.release(entry.weight->source);
  if (entry.bias != nullptr) checkpoint_.release(entry.bias->source);
}

Status copy_carried(const Checkpoint& checkpoint, const CarriedTensor& tensor, ShardedWriter& writer,
                    ThreadPool& pool) {
  TRY_ASSIGN(const Tensor stored, checkpoint.load(tensor.source));
  TRY_ASSIGN(const Tensor value, cast_tensor(pool, stored, tensor.dtype, tensor.source));
  if (tensor.sparse) return write_sparse(tensor, value, writer);
  const std::span<const std::byte> bytes = value.bytes();
  for (std::size_t at = 0; at < bytes.size(); at += kCopyPart) {
    TRY(writer.write_part(tensor.name, at, bytes.subspan(at, std::min(kCopyPart, bytes.size() - at))));
  }
  checkpoint.release(tensor.source);
  return {};
}

}  // namespace nibble
