// SPDX-License-Identifier: Apache-2.0
#include "session/source.h"

#include <fmt/format.h>

#include "base/json.h"
#include "checkpoint/hub_cache.h"
#include "checkpoint/quantized_checkpoint.h"
#include "checkpoint/with_config.h"
#include "session/small_files.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

bool exists(const std::string& path) {
  std::error_code status;
  return fs::exists(path, status);
}

// The model with "@revision" when it is looked up in the cache.
Result<std::string> model_at_revision(const Options& options, std::vector<std::string>& warnings) {
  if (options.model_revision == "main" || options.model_revision.empty()) return options.model;
  if (exists(options.model)) {
    warnings.push_back(fmt::format("model_revision {} has no effect: {} is a path, not org/name in the cache",
                                   options.model_revision, options.model));
    return options.model;
  }
  if (options.model.find('@') == std::string::npos) return options.model + "@" + options.model_revision;
  if (options.model.ends_with("@" + options.model_revision)) return options.model;
  return usage_error(fmt::format("the model {} names one revision and model_revision another: {}",
                                 options.model, options.model_revision),
                     "give one of them");
}

// A path as it stands, else a snapshot in the cache.
Result<fs::path> resolve(const std::string& name, const Options& options, std::string_view key) {
  if (exists(name)) return fs::path(name);
  const std::string what = fmt::format("{} {}", key, name);
  if (!is_hub_id(name)) {
    return no_input("it does not exist", "give a folder, or org/name in the Hugging Face cache")
        .add_context(what);
  }
  return find_in_hub_cache(options.hub_cache, name).at(what);
}

Result<Json> read_config(const Options& options) {
  TRY_ASSIGN(fs::path path, resolve(options.config_name, options, "config_name"));
  std::error_code status;
  if (fs::is_directory(path, status)) path /= "config.json";
  TRY_ASSIGN(Json config, read_json_file(path).at("config_name"));
  if (config.is_object()) return config;
  return bad_data("it holds no JSON object", "give a config.json or the folder that holds one")
      .add_context(fmt::format("config_name: file {}", path.string()));
}

// The folder `name` if one of `files` is in it.
Result<std::string> folder_with(const std::string& name, const Options& options, std::string_view key,
                                std::span<const std::string_view> files) {
  TRY_ASSIGN(fs::path folder, resolve(name, options, key));
  std::error_code status;
  if (!fs::is_directory(folder, status)) folder = folder.parent_path().empty() ? "." : folder.parent_path();
  for (const std::string_view file : files) {
    if (fs::exists(folder / file, status)) return folder.string();
  }
  return no_input(fmt::format("the folder {} holds none of {}", folder.string(), fmt::join(files, ", ")))
      .add_context(std::string(key));
}

bool holds_tokenizer(const std::string& folder) {
  for (const std::string_view file : tokenizer_files()) {
    if (exists((fs::path(folder) / file).string())) return true;
  }
  return false;
}

// The reference takes a processor for a tokenizer too, where no other is named.
Status find_folders(const Options& options, Source& source) {
  if (!options.tokenizer.empty()) {
    TRY_ASSIGN(source.tokenizer, folder_with(options.tokenizer, options, "tokenizer", tokenizer_files()));
  }
  if (options.processor.empty()) return {};
  std::vector<std::string_view> either(processor_files().begin(), processor_files().end());
  either.insert(either.end(), tokenizer_files().begin(), tokenizer_files().end());
  TRY_ASSIGN(source.processor, folder_with(options.processor, options, "processor", either));
  if (source.tokenizer.empty() && holds_tokenizer(source.processor)) source.tokenizer = source.processor;
  return {};
}

}  // namespace

Result<Source> open_source(const Options& options, const Context& context) {
  Source source;
  TRY_ASSIGN(const std::string model, model_at_revision(options, source.warnings));
  TRY_ASSIGN(source.checkpoint, Checkpoint::open(model, {.hub_cache = options.hub_cache}));
  if (!options.config_name.empty()) {
    TRY_ASSIGN(Json config, read_config(options));
    source.checkpoint = with_config(std::move(source.checkpoint), std::move(config));
  }
  TRY(find_folders(options, source));
  TRY_ASSIGN(const auto quantization, read_quantization_config(source.checkpoint->config()));
  if (!quantization || !quantization->has_quantization()) return source;
  source.warnings.emplace_back(
      "the model is compressed already: its weights are decompressed first, so its errors stay and new ones "
      "are added");
  TRY_ASSIGN(source.checkpoint, decompressed(std::move(source.checkpoint), context.pool));
  return source;
}

}  // namespace nibble
