// SPDX-License-Identifier: Apache-2.0
#include "session/model_card.h"

#include <fmt/format.h>

#include <set>

#include "base/byte_size.h"
#include "base/file.h"
#include "base/json.h"
#include "base/regex.h"
#include "checkpoint/gguf.h"
#include "session/recipe.h"
#include "session/yaml.h"

namespace nibble {
namespace {

constexpr const char* kCarriedKeys[] = {"license", "license_name", "license_link", "language",
                                        "pipeline_tag"};

bool is_hub_name(const std::string& text) {
  static const auto pattern = Regex::compile(R"(\A[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\z)");
  if (!pattern.ok()) return false;
  const auto found = pattern->matches_prefix(text);
  return found.ok() && *found;
}

// "org/name" of a snapshot inside the Hugging Face cache: .../models--org--name/snapshots/...
std::string hub_name_of_path(const std::filesystem::path& path) {
  for (const auto& part : path) {
    const std::string text = part.string();
    if (!text.starts_with("models--")) continue;
    const std::size_t cut = text.find("--", 8);
    if (cut != std::string::npos) return text.substr(8, cut - 8) + "/" + text.substr(cut + 2);
  }
  return {};
}

std::string base_model_of(const Checkpoint& checkpoint, const std::string& model) {
  std::error_code ignored;
  if (is_hub_name(model) && !std::filesystem::exists(model, ignored)) return model;
  if (std::string name = hub_name_of_path(checkpoint.path()); !name.empty()) return name;
  const Json& config = checkpoint.config();
  if (config.is_object() && config.contains("_name_or_path") && config["_name_or_path"].is_string()) {
    if (std::string name = config["_name_or_path"].get<std::string>(); is_hub_name(name)) return name;
  }
  const std::filesystem::path path =
      checkpoint.path().has_filename() ? checkpoint.path() : checkpoint.path().parent_path();
  return path.extension() == ".gguf" || path.extension() == ".safetensors" ? path.stem().string()
                                                                           : path.filename().string();
}

// The YAML between the first two lines `---` of a README.
RecipeValue front_matter_of(const std::filesystem::path& readme) {
  const auto text = read_text_file(readme);
  if (!text.ok() || !text->starts_with("---\n")) return RecipeValue::Map{};
  const std::size_t end = text->find("\n---", 3);
  if (end == std::string::npos) return RecipeValue::Map{};
  auto yaml = read_yaml(std::string_view(*text).substr(4, end - 3));
  return yaml.ok() && yaml->if_map() ? *yaml : RecipeValue(RecipeValue::Map{});
}

void read_gguf_card(const GgufFile& file, SourceCard& card) {
  const auto text = [&](const char* key) {
    return file.string_or(key, "").ok() ? *file.string_or(key, "") : "";
  };
  if (const std::string license = text("general.license"); !license.empty()) {
    card.kept.set("license", license);
    if (const std::string name = text("general.license.name"); !name.empty())
      card.kept.set("license_name", name);
    if (const std::string link = text("general.license.link"); !link.empty())
      card.kept.set("license_link", link);
  }
  for (const char* key : {"general.base_model.0.repo_url", "general.source.repo_url", "general.repo_url",
                          "general.source.huggingface.repository"}) {
    std::string url = text(key);
    const std::string_view hub = "https://huggingface.co/";
    if (url.starts_with(hub)) url.erase(0, hub.size());
    if (is_hub_name(url)) {
      card.base_model = url;
      return;
    }
  }
}

RecipeValue card_header(const SourceCard& source, const RunReport& report) {
  std::set<std::string> formats;
  for (const ModuleRow& row : report.modules) formats.insert(row.format);
  RecipeValue::List tags{"nibble"};
  if (!report.modules.empty()) tags.insert(tags.begin(), "compressed-tensors");
  for (const std::string& format : formats) tags.emplace_back(format);
  RecipeValue header =
      RecipeValue::Map{{"base_model", source.base_model}, {"base_model_relation", "quantized"}};
  for (const auto& [key, value] : *source.kept.if_map()) header.set(key, value);
  header.set("library_name", "transformers");
  header.set("tags", std::move(tags));
  return header;
}

// One line a scheme: how many modules and weights it took.
std::string scheme_table(const RunReport& report) {
  struct Sum {
    std::string scheme;
    std::string format;
    std::int64_t modules = 0;
    std::int64_t weights = 0;
    std::uint64_t bytes = 0;
  };
  std::vector<Sum> sums;
  for (const ModuleRow& row : report.modules) {
    auto found = std::find_if(sums.begin(), sums.end(), [&](const Sum& sum) {
      return sum.scheme == row.scheme && sum.format == row.format;
    });
    if (found == sums.end()) found = sums.insert(sums.end(), Sum{row.scheme, row.format, 0, 0, 0});
    found->modules += 1;
    found->weights += row.weights;
    found->bytes += row.bytes;
  }
  std::string table =
      "| scheme | format | modules | weights | size | bits per weight |\n|---|---|---|---|---|---|\n";
  for (const Sum& sum : sums) {
    table += fmt::format("| {} | {} | {} | {} | {} | {:.3f} |\n", sum.scheme, sum.format, sum.modules,
                         sum.weights, format_byte_size(sum.bytes),
                         8.0 * static_cast<double>(sum.bytes) / static_cast<double>(sum.weights));
  }
  table +=
      fmt::format("| {} | - | - | - | {} | - |\n", report.precision, format_byte_size(report.carried_bytes));
  return table;
}

}  // namespace

SourceCard read_source_card(const Checkpoint& checkpoint, const std::string& model) {
  SourceCard card;
  card.base_model = base_model_of(checkpoint, model);
  if (checkpoint.gguf()) read_gguf_card(*checkpoint.gguf(), card);
  for (const std::filesystem::path& file : checkpoint.companion_files()) {
    if (file.filename() != "README.md") continue;
    const RecipeValue front = front_matter_of(file);
    for (const char* key : kCarriedKeys) {
      if (const RecipeValue* value = front.find(key); value && !value->is_null()) card.kept.set(key, *value);
    }
  }
  return card;
}

std::string model_card(const SourceCard& source, const RunReport& report, const std::string& version) {
  const std::string name = std::filesystem::path(report.output_dir).filename().string();
  std::string text = "---\n" + write_yaml(card_header(source, report)) + "---\n";
  text += fmt::format("# {}\n\nMade from {} by nibble {}: {} to {} of weights.\n\n",
                      name.empty() ? "Model" : name, source.base_model, version,
                      format_byte_size(report.source_bytes), format_byte_size(report.output_bytes));
  text += scheme_table(report);
  text += "\n`recipe.yaml` holds the recipe with every default; `report.json` the error of each module.\n";
  text +=
      source.has_license()
          ? "The licence of the base model applies; its licence files are beside this one where it has any.\n"
          : "The source does not say under which licence it is; that of the base model applies.\n";
  return text;
}

}  // namespace nibble
