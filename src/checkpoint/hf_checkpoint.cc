// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hf_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/file.h"
#include "base/json.h"
#include "base/suggest.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/shard_index.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxConfigBytes = 16'000'000;

class SafetensorsCheckpoint final : public Checkpoint {
 public:
  explicit SafetensorsCheckpoint(fs::path path) : path_(std::move(path)) {}

  // Maps one file and checks its header. A tensor that an index places elsewhere is left out.
  Status add_file(const fs::path& file, const ShardIndex* index) {
    const std::string name = file.filename().string();
    TRY_ASSIGN(std::shared_ptr<const MappedFile> mapped, MappedFile::open(file));
    TRY_ASSIGN(SafetensorsHeader header,
               parse_safetensors_header(mapped->bytes()).at(fmt::format("file {}", name)));
    for (SafetensorsEntry& entry : header.entries) {
      if (index != nullptr) {
        const auto placed = index->weight_map.find(entry.name);
        if (placed != index->weight_map.end() && placed->second != name) continue;
      }
      if (!by_name_.emplace(entry.name, infos_.size()).second) {
        return Error(bad_data("it stands in two shards and the index does not say which one counts"))
            .add_context(fmt::format("file {}: tensor {}", name, entry.name));
      }
      places_.push_back({files_.size(), header.data_begin + entry.begin});
      infos_.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape),
                        std::string(safetensors_name(entry.dtype)), entry.end - entry.begin, name});
    }
    files_.push_back(std::move(mapped));
    return {};
  }

  Status check_index(const ShardIndex& index) const {
    for (const auto& [tensor, file] : index.weight_map) {
      if (by_name_.contains(tensor)) continue;
      return Error(
                 bad_data(fmt::format("{} places tensor {} here, but the file does not hold it",
                                      kIndexFileName, tensor),
                          "the shards and the index belong to different models or a download is incomplete"))
          .add_context(fmt::format("file {}", file));
    }
    return {};
  }

  Status read_config(const fs::path& file) {
    TRY_ASSIGN(const std::string text, read_text_file(file, kMaxConfigBytes));
    TRY_ASSIGN(config_, parse_json(text).at("file config.json"));
    if (config_.is_object()) return {};
    return Error(bad_data(fmt::format("expected a JSON object, found {}", config_.type_name())))
        .add_context("file config.json");
  }

  void set_companions(std::vector<fs::path> files) { companions_ = std::move(files); }

  const fs::path& path() const override { return path_; }
  const Json& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::vector<fs::path> companion_files() const override { return companions_; }

  const TensorInfo* find(std::string_view name) const override {
    const auto found = by_name_.find(std::string(name));
    return found == by_name_.end() ? nullptr : &infos_[found->second];
  }

  Result<Tensor> load(std::string_view name) const override {
    const auto found = by_name_.find(std::string(name));
    if (found == by_name_.end()) return unknown_tensor(name);
    const TensorInfo& info = infos_[found->second];
    const Place& place = places_[found->second];
    return tensor_from_file(files_[place.file], place.offset, info.dtype, info.shape);
  }

  void release(std::string_view name) const override {
    const auto found = by_name_.find(std::string(name));
    if (found == by_name_.end()) return;
    const Place& place = places_[found->second];
    files_[place.file]->drop(place.offset, infos_[found->second].stored_bytes);
  }

 private:
  struct Place {
    std::size_t file;
    std::uint64_t offset;  // absolute
  };

  Error unknown_tensor(std::string_view name) const {
    std::vector<std::string> names;
    for (const TensorInfo& info : infos_) names.push_back(info.name);
    return Error(bad_data(fmt::format("there is no tensor {}", name), did_you_mean(name, names)))
        .add_context(path_.string());
  }

  fs::path path_;
  Json config_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::vector<fs::path> companions_;
};

bool is_file(const fs::path& path) {
  std::error_code status;
  return fs::is_regular_file(path, status);
}

std::vector<std::string> files_ending(const fs::path& folder, std::string_view ending) {
  std::vector<std::string> names;
  std::error_code status;
  for (fs::directory_iterator it(folder, status), end; !status && it != end; it.increment(status)) {
    std::string name = it->path().filename().string();
    if (name.ends_with(ending) && is_file(it->path())) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Why a folder without model.safetensors and without an index cannot be read, and the way out.
Error no_weights(const fs::path& folder) {
  const std::string where = folder.string();
  if (is_file(folder / "adapter_model.safetensors")) {
    return bad_data("the folder holds a LoRA adapter, not a model",
                    "merge it into its base model first (peft: merge_and_unload, then save_pretrained)");
  }
  for (const std::string_view ending : {".bin", ".pt", ".pth", ".ckpt"}) {
    for (const std::string& name : files_ending(folder, ending)) {
      if (name == "training_args.bin" || name == "optimizer.pt" || name == "scheduler.pt") continue;
      return bad_data(
          fmt::format("the weights are stored as pickle ({}), which can run any program while it is read; "
                      "nibble reads "
                      "only safetensors and GGUF",
                      name),
          fmt::format("convert it once with transformers: AutoModelForCausalLM.from_pretrained(\"{}\")"
                      ".save_pretrained(\"{}-safetensors\", safe_serialization=True)",
                      where, where));
    }
  }
  if (const auto others = files_ending(folder, ".safetensors"); !others.empty()) {
    return bad_data(fmt::format("the folder has neither {} nor {}, only {}", kSingleFileName, kIndexFileName,
                                fmt::join(others, ", ")),
                    fmt::format("to look at one file name it: {}", (folder / others.front()).string()));
  }
  if (is_file(folder / "tf_model.h5") || is_file(folder / "flax_model.msgpack")) {
    return bad_data("the folder holds TensorFlow or Flax weights only",
                    "convert them with transformers (from_tf=True or from_flax=True) and save_pretrained");
  }
  std::error_code status;
  return no_input(fmt::format("the folder has no weights: expected {}, {} or a .gguf file", kSingleFileName,
                              kIndexFileName),
                  fs::is_empty(folder, status) ? "the folder is empty: was the download stopped?"
                                               : "give the folder that holds the weights of the model");
}

Status add_shards(SafetensorsCheckpoint& checkpoint, const fs::path& folder) {
  TRY_ASSIGN(const ShardIndex index,
             read_shard_index(folder / kIndexFileName).at(fmt::format("file {}", kIndexFileName)));
  for (const std::string& shard : index.shards()) {
    if (!is_file(folder / shard)) {
      return Error(
                 no_input(fmt::format("the shard {} does not exist", shard), "a download may be incomplete"))
          .add_context(fmt::format("file {}", kIndexFileName));
    }
    TRY(checkpoint.add_file(folder / shard, &index));
  }
  return checkpoint.check_index(index);
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_safetensors_file(const fs::path& file) {
  auto checkpoint = std::make_unique<SafetensorsCheckpoint>(file);
  TRY(checkpoint->add_file(file, nullptr).at(file.parent_path().string()));
  return std::unique_ptr<Checkpoint>(std::move(checkpoint));
}

Result<std::unique_ptr<Checkpoint>> open_hf_folder(const fs::path& folder) {
  auto checkpoint = std::make_unique<SafetensorsCheckpoint>(folder);
  const std::string place = folder.string();
  if (is_file(folder / "config.json")) TRY(checkpoint->read_config(folder / "config.json").at(place));
  if (is_file(folder / kSingleFileName)) {  // as in transformers, the single file counts before an index
    TRY(checkpoint->add_file(folder / kSingleFileName, nullptr).at(place));
  } else if (is_file(folder / kIndexFileName)) {
    TRY(add_shards(*checkpoint, folder).at(place));
  } else {
    return no_weights(folder).add_context(place);
  }
  checkpoint->set_companions(companion_files_of(folder));
  return std::unique_ptr<Checkpoint>(std::move(checkpoint));
}

std::vector<fs::path> companion_files_of(const fs::path& folder) {
  constexpr std::uintmax_t kLargestCompanion = 200'000'000;
  constexpr std::array<std::string_view, 12> kWeights{".safetensors", ".bin",     ".pt",  ".pth",
                                                      ".ckpt",        ".gguf",    ".h5",  ".onnx",
                                                      ".ot",          ".msgpack", ".npz", ".index.json"};
  std::vector<fs::path> files;
  const auto add_from = [&](const fs::path& place, std::string_view only_ending) {
    for (const std::string& name : files_ending(place, only_ending)) {
      const bool weights = std::any_of(kWeights.begin(), kWeights.end(),
                                       [&](std::string_view ending) { return name.ends_with(ending); });
      std::error_code status;
      const std::uintmax_t size = fs::file_size(place / name, status);
      if (weights || name == "config.json" || name.starts_with('.') || status || size > kLargestCompanion)
        continue;
      files.push_back(fs::absolute(place / name));
    }
  };
  add_from(folder, "");
  add_from(folder / "additional_chat_templates", ".jinja");
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace nibble
