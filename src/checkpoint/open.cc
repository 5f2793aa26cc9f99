// SPDX-License-Identifier: Apache-2.0
// Finds out what a model argument is and opens it.
#include <fmt/format.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/hf_checkpoint.h"
#include "checkpoint/hub_cache.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

Result<std::unique_ptr<Checkpoint>> open_path(const fs::path& path) {
  std::error_code status;
  if (fs::is_directory(path, status)) return open_hf_folder(path);
  if (path.extension() == ".safetensors") return open_safetensors_file(path);
  return bad_data(fmt::format("{} is no model: expected a folder or a .safetensors file", path.string()));
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(const std::string& model, const OpenOptions& options) {
  std::error_code status;
  if (model.empty()) return usage_error("the name of the model is empty");
  if (fs::exists(model, status)) return open_path(model);
  if (!is_hub_id(model)) {
    return no_input(
        fmt::format("{} does not exist", model),
        "a model is a folder, a .gguf or .safetensors file, or org/name in the Hugging Face cache");
  }
  TRY_ASSIGN(const fs::path snapshot, find_in_hub_cache(options.hub_cache, model));
  return open_path(snapshot);
}

}  // namespace nibble
