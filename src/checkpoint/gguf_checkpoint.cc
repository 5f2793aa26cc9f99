// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/gguf_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include "base/json.h"
#include "base/suggest.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_architectures.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_layout.h"
#include "checkpoint/safetensors.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostParts = 9999;
constexpr std::int64_t kMostSlices = 65536;

struct NativeType {
  GgufType gguf;
  DType dtype;
};

constexpr std::array kNativeTypes{
    NativeType{GgufType::kF32, DType::kF32},   NativeType{GgufType::kF16, DType::kF16},
    NativeType{GgufType::kBF16, DType::kBF16}, NativeType{GgufType::kF64, DType::kF64},
    NativeType{GgufType::kI8, DType::kI8},     NativeType{GgufType::kI16, DType::kI16},
    NativeType{GgufType::kI32, DType::kI32},   NativeType{GgufType::kI64, DType::kI64},
};

// Types that need no decoding; everything else is decoded to F32.
const NativeType* find_native(GgufType type) {
  for (const NativeType& row : kNativeTypes) {
    if (row.gguf == type) return &row;
  }
  return nullptr;
}

// One tensor of the Hugging Face model: a GGUF tensor or a slice of its first dimension.
struct Source {
  std::shared_ptr<const GgufFile> file;
  std::uint64_t offset = 0;  // absolute, of the slice
  std::uint64_t bytes = 0;
  const GgufTypeInfo* type = nullptr;
  Shape shape;  // of the slice as stored
  GgufLayout layout = GgufLayout::kPlain;
  std::int64_t heads = 0;
  float scale = 1.0F;  // of the ".scale" tensor that goes with NVFP4 weights
};

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(fs::path path) : path_(std::move(path)) {}

  Status read(std::vector<std::shared_ptr<const GgufFile>> files) {
    files_ = std::move(files);
    TRY_ASSIGN(const std::string name, files_.front()->string_or("general.architecture", ""));
    TRY_ASSIGN(const std::int64_t experts, files_.front()->integer_or(name + ".expert_count", 0));
    architecture_ = find_gguf_architecture(name, experts > 0);
    for (const auto& file : files_) {
      for (const GgufTensor& tensor : file->tensors()) {
        TRY(add_tensor(file, tensor)
                .at(fmt::format("file {}: tensor {}", file->path().filename().string(), tensor.name)));
      }
    }
    sort_tensors();
    return make_config(name);
  }

  const fs::path& path() const override { return path_; }
  const Json& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::vector<fs::path> companion_files() const override { return {}; }
  const GgufFile* gguf() const override { return files_.front().get(); }

  const TensorInfo* find(std::string_view name) const override {
    const auto found = by_name_.find(std::string(name));
    return found == by_name_.end() ? nullptr : &infos_[found->second];
  }

  Result<Tensor> load(std::string_view name) const override {
    const auto found = by_name_.find(std::string(name));
    if (found == by_name_.end()) {
      std::vector<std::string> names;
      for (const TensorInfo& info : infos_) names.push_back(info.name);
      return Error(bad_data(fmt::format("there is no tensor {}", name), did_you_mean(name, names)))
          .add_context(path_.string());
    }
    const Source& source = sources_[found->second];
    return undo_gguf_layout(read_stored(source), source.layout, source.heads);
  }

  Status for_row_blocks(std::string_view name, std::int64_t elements,
                        const RowBlockBody& body) const override {
    const auto found = by_name_.find(std::string(name));
    const Source* source = found == by_name_.end() ? nullptr : &sources_[found->second];
    const bool keeps_rows = source != nullptr && source->shape.size() == 2 && source->shape[0] > 0 &&
                            (source->layout == GgufLayout::kPlain || source->layout == GgufLayout::kExperts);
    if (!keeps_rows || find_native(source->type->type) != nullptr)
      return Checkpoint::for_row_blocks(name, elements, body);
    const std::int64_t rows = source->shape[0];
    const std::uint64_t row_bytes = source->bytes / static_cast<std::uint64_t>(rows);
    const std::int64_t step =
        std::max<std::int64_t>(1, elements / std::max<std::int64_t>(1, source->shape[1]));
    for (std::int64_t first = 0; first < rows; first += step) {
      Source block = *source;
      block.shape[0] = std::min(step, rows - first);
      block.offset += static_cast<std::uint64_t>(first) * row_bytes;
      block.bytes = static_cast<std::uint64_t>(block.shape[0]) * row_bytes;
      TRY(body(read_stored(block)));
    }
    return {};
  }

  void release(std::string_view name) const override {
    const auto found = by_name_.find(std::string(name));
    if (found == by_name_.end()) return;
    const Source& source = sources_[found->second];
    source.file->mapped()->drop(source.offset, source.bytes);
  }

 private:
  const GgufTensor* find_stored(std::string_view name, const GgufFile** holder = nullptr) const {
    for (const auto& file : files_) {
      const GgufTensor* tensor = file->tensor(name);
      if (tensor == nullptr) continue;
      if (holder != nullptr) *holder = file.get();
      return tensor;
    }
    return nullptr;
  }

  std::vector<float> decode_whole(std::string_view name) const {
    const GgufFile* file = nullptr;
    const GgufTensor* tensor = find_stored(name, &file);
    std::vector<float> values(static_cast<std::size_t>(element_count(tensor->shape)));
    decode_gguf_rows(tensor->type->type, file->data(*tensor), values);
    return values;
  }

  static Tensor read_stored(const Source& source) {
    const NativeType* native = find_native(source.type->type);
    if (native != nullptr && source.scale == 1.0F) {
      return tensor_from_file(source.file->mapped(), source.offset, native->dtype, source.shape);
    }
    Tensor decoded = Tensor::for_overwrite(DType::kF32, source.shape);
    const std::span<float> values = decoded.as_mutable<float>();
    decode_gguf_rows(source.type->type, source.file->mapped()->bytes().subspan(source.offset, source.bytes),
                     values);
    if (source.scale != 1.0F) {
      for (float& value : values) value *= source.scale;
    }
    return decoded;
  }

  // Tensors that became part of the configuration or of their weights.
  bool is_consumed(const GgufNameParts& parts) const {
    constexpr std::array<std::string_view, 4> kConfiguration{"rope_freqs", "rope_factors_long",
                                                             "rope_factors_short", "blk.%.attn_rot_embd"};
    if (std::find(kConfiguration.begin(), kConfiguration.end(), parts.stem) != kConfiguration.end())
      return true;
    return parts.suffix == ".scale" || parts.suffix == ".input_scale";
  }

  Status add_tensor(const std::shared_ptr<const GgufFile>& file, const GgufTensor& tensor) {
    Source source{file, tensor.offset, tensor.bytes, tensor.type, tensor.shape, GgufLayout::kPlain, 0, 1.0F};
    if (architecture_ == nullptr) return add(tensor.name, std::move(source));
    const GgufNameParts parts = split_gguf_name(tensor.name);
    if (is_consumed(parts)) return {};
    bool known = false;
    for (const GgufNameRow& row : gguf_name_rows()) {
      if (row.gguf != parts.stem || (row.families & architecture_->family) == 0) continue;
      known = true;
      TRY(add_mapped(row, parts, tensor, source));
    }
    return known ? Status() : add(tensor.name, std::move(source));
  }

  Status add_mapped(const GgufNameRow& row, const GgufNameParts& parts, const GgufTensor& tensor,
                    Source source) {
    source.layout =
        parts.suffix == ".bias" && row.layout == GgufLayout::kNormPlusOne ? GgufLayout::kPlain : row.layout;
    TRY_ASSIGN(source.heads, heads_of(source.layout));
    std::vector<float> scales;
    if (parts.suffix == ".weight") {
      const std::string scale_name = fill_template(parts.stem, parts.numbers) + ".scale";
      if (find_stored(scale_name) != nullptr) scales = decode_whole(scale_name);
    }
    const bool stacked = row.layout == GgufLayout::kExperts || row.layout == GgufLayout::kExpertsFirst ||
                         row.layout == GgufLayout::kExpertsSecond || row.layout == GgufLayout::kHeadVectors;
    if (!stacked) {
      if (scales.size() == 1) source.scale = scales[0];
      return add(fill_template(row.hf, parts.numbers) + parts.suffix, std::move(source));
    }
    if (tensor.shape.empty() || tensor.shape[0] > kMostSlices) {
      return bad_data(fmt::format("its shape is {}; the first dimension counts experts or heads, up to {}",
                                  to_string(tensor.shape), kMostSlices));
    }
    for (std::int64_t e = 0; e < tensor.shape[0]; ++e) {
      Source slice = source;
      TRY(cut_slice(slice, tensor, e));
      if (!scales.empty()) slice.scale = scales[std::min(scales.size() - 1, static_cast<std::size_t>(e))];
      std::vector<std::int64_t> numbers = parts.numbers;
      numbers.push_back(e);
      TRY(add(fill_template(row.hf, numbers) + parts.suffix, std::move(slice)));
    }
    return {};
  }

  // Slice e of the first dimension; halves of its rows for fused gate and up.
  static Status cut_slice(Source& slice, const GgufTensor& tensor, std::int64_t e) {
    slice.shape = Shape(tensor.shape.begin() + 1, tensor.shape.end());
    slice.bytes = tensor.bytes / static_cast<std::uint64_t>(tensor.shape[0]);
    if (slice.shape.empty() && tensor.type->block_size != 1) {
      return bad_data(fmt::format("{} values cannot be split", tensor.type->name));
    }
    slice.offset = tensor.offset + static_cast<std::uint64_t>(e) * slice.bytes;
    if (slice.layout != GgufLayout::kExpertsFirst && slice.layout != GgufLayout::kExpertsSecond) return {};
    if (slice.shape.empty() || slice.shape[0] % 2 != 0) {
      return bad_data(fmt::format("fused gate and up of shape {} cannot be halved", to_string(tensor.shape)));
    }
    slice.shape[0] /= 2;
    slice.bytes /= 2;
    if (slice.layout == GgufLayout::kExpertsSecond) slice.offset += slice.bytes;
    return {};
  }

  Result<std::int64_t> heads_of(GgufLayout layout) const {
    const GgufFile& file = *files_.front();
    const std::string all = fmt::format("{}.attention.head_count", architecture_->name);
    if (layout == GgufLayout::kRotaryQuery || layout == GgufLayout::kNeoxQkv) return file.integer(all);
    if (layout != GgufLayout::kRotaryKey) return std::int64_t{0};
    const std::string keys = fmt::format("{}.attention.head_count_kv", architecture_->name);
    return file.integer(file.has(keys) ? keys : all);
  }

  Status add(std::string name, Source source) {
    const NativeType* native = find_native(source.type->type);
    const DType stored = native != nullptr && source.scale == 1.0F ? native->dtype : DType::kF32;
    TensorInfo info{name,         dtype_after_layout(stored, source.layout),
                    {},           std::string(source.type->name),
                    source.bytes, source.file->path().filename().string()};
    TRY_ASSIGN(info.shape, shape_after_layout(source.shape, source.layout, source.heads));
    if (!by_name_.emplace(name, infos_.size()).second) {
      return bad_data(fmt::format("it would be a second tensor {}", name));
    }
    infos_.push_back(std::move(info));
    sources_.push_back(std::move(source));
    return {};
  }

  void sort_tensors() {
    std::vector<std::size_t> order(infos_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::tie(infos_[a].file, sources_[a].offset) < std::tie(infos_[b].file, sources_[b].offset);
    });
    std::vector<TensorInfo> infos;
    std::vector<Source> sources;
    for (const std::size_t i : order) {
      by_name_[infos_[i].name] = infos.size();
      infos.push_back(std::move(infos_[i]));
      sources.push_back(std::move(sources_[i]));
    }
    infos_ = std::move(infos);
    sources_ = std::move(sources);
  }

  Status make_config(const std::string& architecture_name) {
    if (architecture_ == nullptr) {
      if (!architecture_name.empty()) config_["model_type"] = architecture_name;
      return {};
    }
    const GgufTensorSource source{[this](std::string_view name) { return find_stored(name); },
                                  [this](const GgufTensor& tensor) { return decode_whole(tensor.name); }};
    TRY_ASSIGN(config_, make_gguf_config(*files_.front(), *architecture_, source).at(path_.string()));
    config_["torch_dtype"] = torch_name(matrix_dtype());
    return {};
  }

  // The type of the matrices if all are of one float type; quantized ones decode to F32.
  DType matrix_dtype() const {
    std::optional<DType> common;
    for (const TensorInfo& info : infos_) {
      if (info.shape.size() < 2) continue;
      if (common && *common != info.dtype) return DType::kF32;
      common = info.dtype;
    }
    return common && is_float(*common) ? *common : DType::kF32;
  }

  fs::path path_;
  std::vector<std::shared_ptr<const GgufFile>> files_;
  const GgufArchitecture* architecture_ = nullptr;
  Json config_;
  std::vector<TensorInfo> infos_;
  std::vector<Source> sources_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

// The parts "<stem>-00001-of-00003.gguf" ... of a split file, given any of them.
Result<std::vector<std::shared_ptr<const GgufFile>>> open_parts(const fs::path& path) {
  TRY_ASSIGN(std::shared_ptr<const GgufFile> given, GgufFile::open(path));
  TRY_ASSIGN(const std::int64_t count, given->integer_or("split.count", 1));
  if (count <= 1) return std::vector{std::move(given)};
  const std::string name = path.filename().string();
  const std::string ending = fmt::format("-of-{:05}.gguf", count);
  constexpr std::size_t kNumberLength = 5;
  if (count > kMostParts || !name.ends_with(ending) || name.size() < ending.size() + kNumberLength) {
    return bad_data(fmt::format("{} is one of {} parts, but its name does not end in -NNNNN{}", path.string(),
                                count, ending),
                    "give the parts their original names");
  }
  const std::string stem = name.substr(0, name.size() - ending.size() - kNumberLength);
  std::vector<std::shared_ptr<const GgufFile>> parts;
  for (std::int64_t i = 1; i <= count; ++i) {
    TRY_ASSIGN(std::shared_ptr<const GgufFile> part,
               GgufFile::open(path.parent_path() / fmt::format("{}{:05}{}", stem, i, ending))
                   .at("part of a split model"));
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_gguf(const fs::path& file) {
  TRY_ASSIGN(auto parts, open_parts(file));
  TRY_ASSIGN(const std::string kind, parts.front()->string_or("general.type", "model"));
  if (kind == "adapter") return bad_data(fmt::format("{} holds a LoRA adapter, not a model", file.string()));
  auto checkpoint = std::make_unique<GgufCheckpoint>(file);
  TRY(checkpoint->read(std::move(parts)));
  return std::unique_ptr<Checkpoint>(std::move(checkpoint));
}

}  // namespace nibble
