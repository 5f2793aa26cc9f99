// SPDX-License-Identifier: Apache-2.0
// Finds out what a model argument is and opens it.
#include <fmt/format.h>

#include <algorithm>

#include "base/suggest.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_checkpoint.h"
#include "checkpoint/hf_checkpoint.h"
#include "checkpoint/hub_cache.h"
#include "checkpoint/shard_index.h"
#include "checkpoint/sparse_checkpoint.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

Result<std::unique_ptr<Checkpoint>> open_folder(const fs::path& folder) {
  const bool has_safetensors = fs::exists(folder / kSingleFileName) || fs::exists(folder / kIndexFileName);
  if (has_safetensors) return open_hf_folder(folder);
  std::vector<std::string> files;
  std::error_code status;
  for (fs::directory_iterator it(folder, status), end; !status && it != end; it.increment(status)) {
    const std::string name = it->path().filename().string();
    const bool later_part =
        name.find("-of-") != std::string::npos && name.find("-00001-of-") == std::string::npos;
    if (name.ends_with(".gguf") && !later_part) files.push_back(it->path().string());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) return open_hf_folder(folder);
  if (files.size() == 1) return open_gguf(files.front());
  return usage_error(fmt::format("{} holds {} GGUF models", folder.string(), files.size()),
                     "name one of them: " + join_or(files));
}

// A name beside the missing one that is much like it.
std::string nearest_beside(const fs::path& missing) {
  std::vector<std::string> names;
  const fs::path folder = missing.has_parent_path() ? missing.parent_path() : fs::path(".");
  std::error_code status;
  for (fs::directory_iterator it(folder, status), end; !status && it != end; it.increment(status))
    names.push_back(it->path().filename().string());
  std::vector<std::string> near = nearest_names(missing.filename().string(), names);
  for (std::string& name : near) name = (missing.parent_path() / name).string();
  return did_you_mean(near);
}

Result<std::unique_ptr<Checkpoint>> open_path(const fs::path& path) {
  std::error_code status;
  if (fs::is_directory(path, status)) return open_folder(path);
  if (path.extension() == ".safetensors") return open_safetensors_file(path);
  if (path.extension() == ".gguf") return open_gguf(path);
  const fs::path folder = path.parent_path();
  return bad_data(
      fmt::format("{} is no model: expected a folder, a .safetensors or a .gguf file", path.string()),
      fs::exists(folder / "config.json", status)
          ? fmt::format("give the folder that holds the weights: {}", folder.string())
          : "give the folder that holds config.json and the weights");
}

Result<std::unique_ptr<Checkpoint>> open_weights(const fs::path& path) {
  TRY_ASSIGN(std::unique_ptr<Checkpoint> stored, open_path(path));
  return with_sparse_weights(std::move(stored));
}

}  // namespace

Status Checkpoint::for_row_blocks(std::string_view name, std::int64_t, const RowBlockBody& body) const {
  TRY_ASSIGN(const Tensor tensor, load(name));
  return body(tensor);
}

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(const std::string& model, const OpenOptions& options) {
  std::error_code status;
  if (model.empty()) return usage_error("the name of the model is empty");
  if (fs::exists(model, status)) return open_weights(model);
  if (!is_hub_id(model)) {
    const std::string nearest = nearest_beside(model);
    return no_input(
        fmt::format("{} does not exist", model),
        nearest.empty()
            ? "a model is a folder, a .gguf or .safetensors file, or org/name in the Hugging Face cache"
            : nearest);
  }
  TRY_ASSIGN(const fs::path snapshot, find_in_hub_cache(options.hub_cache, model));
  return open_weights(snapshot);
}

}  // namespace nibble
