// SPDX-License-Identifier: Apache-2.0
// nibble inspect: what is in a model: its tensors, its modules as a tree, single values, its size.
#include <fmt/format.h>

#include <cmath>

#include "base/byte_size.h"
#include "base/json.h"
#include "base/regex.h"
#include "base/suggest.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "checkpoint/quantized_checkpoint.h"
#include "format.h"
#include "model/module_lookup.h"
#include "model_access.h"
#include "model_tree.h"
#include "program.h"
#include "scheme_text.h"
#include "sparsity_table.h"
#include "tensor_table.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

std::string shape_text(const Shape& shape) {
  return shape.empty() ? "scalar" : to_string(shape);
}

QuantizationLabels labels_of(const QuantizationScheme& scheme) {
  const auto label = [](const std::optional<QuantizationArgs>& args) {
    return args ? args_summary(*args) : std::string();
  };
  return {.weights = label(scheme.weights),
          .activations = label(scheme.input_activations),
          .outputs = label(scheme.output_activations)};
}

class Inspect final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positional("MODEL", model_, "folder, .safetensors or .gguf file, or org/name in the local cache");
    flags.toggle("--tree", tree_, "the modules as a tree; equal layers are folded");
    flags.value("--find", "PATTERN", find_, "modules whose name matches (Python re.match); marks the first");
    flags.toggle("--prunable", prunable_, "modules that can be pruned: the linears");
    flags.toggle("--quantizable", quantizable_, "modules that can be quantized: linears and embeddings");
    flags.value("--tensor", "NAME", tensor_, "values of one tensor");
    flags.value("--rows", "N", rows_, "with --tensor: rows to show", 1);
    flags.value("--cols", "N", cols_, "with --tensor: columns to show", 1);
    flags.choice("--size-model", size_model_, {"nominal"},
                 "size by formula: parameters x data width + groups");
    flags.value("--data-width", "BITS", data_width_, "with --size-model: bits of a parameter", 0.01, 64);
    flags.value("--group-size", "N", group_size_,
                "with --size-model: weights that share scale and zero point; -1: none", -1);
    flags.toggle("--statistics", table_.statistics, "ranges and zeros, which needs every value to be read",
                 true);
    flags.toggle("--histograms", table_.histograms, "how the values of each tensor are spread");
    flags.toggle("--sparsity", sparsity_, "zeros and N:M structure of blocks, layers and the whole model");
    flags.toggle("--tensors", each_tensor_, "with --sparsity: a row for every tensor, not only every block");
    flags.toggle("--metadata", metadata_, "of a GGUF file: its keys and values");
  }

  Status run(Program& program) override {
    TRY_ASSIGN(checkpoint_, open_checkpoint(program, model_));
    if (!tensor_.empty()) return show_tensor(program);
    if (!find_.empty()) return show_found(program);
    if (prunable_ || quantizable_) return show_kind(program);
    if (sparsity_) return show_sparsity(program);
    if (tree_) return show_tree(program);
    if (!size_model_.empty()) return show_size(program);
    if (metadata_) return show_metadata(program);
    return print_tensors(program, *checkpoint_, table_);
  }

 private:
  Status show_tensor(Program& program) {
    const TensorInfo* info = checkpoint_->find(tensor_);
    if (info == nullptr) {
      std::vector<std::string> names;
      for (const TensorInfo& tensor : checkpoint_->tensors()) names.push_back(tensor.name);
      return usage_error(fmt::format("the model has no tensor \"{}\"", tensor_),
                         did_you_mean(tensor_, names));
    }
    TRY_ASSIGN(const Tensor tensor, checkpoint_->load(tensor_));
    const std::int64_t cols = tensor.shape().empty() ? 1 : tensor.shape().back();
    const std::int64_t rows = cols == 0 ? 0 : tensor.size() / cols;
    Json values = Json::array();
    std::string text = fmt::format("{}  {}  {}\n", info->name, info->stored_as, shape_text(info->shape));
    for (std::int64_t r = 0; r < std::min(rows, rows_); ++r) {
      std::vector<float> row(static_cast<std::size_t>(std::min(cols, cols_)));
      tensor.decode_f32(r * cols, row);
      for (const float value : row) text += fmt::format("{:>12.5g}", value);
      text += cols > cols_ ? "  ...\n" : "\n";
      values.push_back(finite_json(row));
    }
    if (rows > rows_) text += "         ...\n";
    return program.print({{"name", info->name},
                          {"stored_as", info->stored_as},
                          {"shape", info->shape},
                          {"values", std::move(values)}},
                         text);
  }

  // JSON has no NaN and no infinity: they become texts.
  static Json finite_json(const std::vector<float>& row) {
    Json out = Json::array();
    for (const float value : row) {
      if (std::isfinite(value))
        out.push_back(value);
      else
        out.push_back(fmt::format("{}", value));
    }
    return out;
  }

  Status show_found(Program& program) {
    TRY_ASSIGN(const ModelDescription model, describe_model(*checkpoint_));
    TRY_ASSIGN(const Regex regex,
               Regex::compile(find_.starts_with("re:") ? std::string_view(find_).substr(3) : find_));
    std::vector<const ModuleInfo*> found;
    for (const ModuleInfo& module : model.modules) {
      TRY_ASSIGN(const bool is_found, regex.matches_prefix(module.name));
      if (is_found) found.push_back(&module);
    }
    if (found.empty()) {
      const std::string nearest = nearest_module(find_, model);
      program.context().events.note("no module matches " + find_ + (nearest.empty() ? "" : "; " + nearest));
    }
    return print_modules(program, found, find_);
  }

  Status show_kind(Program& program) {
    TRY_ASSIGN(const ModelDescription model, describe_model(*checkpoint_));
    return print_modules(program, prunable_ ? prunable_layers(model) : quantizable_modules(model),
                         prunable_ ? "prunable" : "quantizable");
  }

  static Status print_modules(Program& program, const std::vector<const ModuleInfo*>& modules,
                              const std::string& pattern) {
    Json found = Json::array();
    Table table({"", "module", "class", "rows", "cols"});
    for (const ModuleInfo* module : modules) {
      table.row({found.empty() ? "first" : "", module->name.empty() ? "(the model)" : module->name,
                 module->class_name, module->rows > 0 ? fmt::to_string(module->rows) : "",
                 module->rows > 0 ? fmt::to_string(module->cols) : ""});
      found.push_back({{"name", module->name},
                       {"class", module->class_name},
                       {"rows", module->rows},
                       {"cols", module->cols},
                       {"first", found.empty()}});
    }
    return program.print({{"pattern", pattern}, {"modules", std::move(found)}},
                         table.empty() ? std::string() : table.text());
  }

  Status show_tree(Program& program) {
    TRY_ASSIGN(const ModelDescription model, describe_model(*checkpoint_));
    TRY_ASSIGN(const std::unique_ptr<QuantizedCheckpoint> quantized, QuantizedCheckpoint::open(*checkpoint_));
    const Json tree = model_tree(model, [&](const ModuleInfo& module) {
      const QuantizedModule* stored = quantized ? quantized->find(module.disk_name) : nullptr;
      return stored == nullptr ? QuantizationLabels{} : labels_of(quantized->scheme(*stored));
    });
    return program.print(tree, tree_text(tree));
  }

  Status show_size(Program& program) {
    TRY_ASSIGN(const ModelDescription model, describe_model(*checkpoint_));
    const std::int64_t parameters = parameter_count(model);
    const double mib = nominal_mib(parameters, data_width_, group_size_);
    const Json document{{"parameters", parameters},
                        {"data_width", data_width_},
                        {"group_size", group_size_},
                        {"nominal_mib", mib},
                        {"stored_bytes", stored_bytes()}};
    return program.print(document, fmt::format("model size: {:.2f} MiB\n{} parameters; {} stored\n", mib,
                                               format_count(parameters), format_byte_size(stored_bytes())));
  }

  // Of the weights that packed tensors stand for.
  Status show_sparsity(Program& program) {
    TRY_ASSIGN(checkpoint_, decompressed(std::move(checkpoint_), program.context().pool));
    return print_sparsity(program, *checkpoint_, each_tensor_);
  }

  Status show_metadata(Program& program) {
    const GgufFile* gguf = checkpoint_->gguf();
    if (gguf == nullptr)
      return usage_error("--metadata is for GGUF files",
                         "config.json holds what a folder's model says about itself");
    Json values = Json::object();
    Table table({"key", "value"});
    for (const auto& [key, value] : gguf->metadata()) {
      values[key] = GgufFile::shown(value);
      table.row({key, GgufFile::shown(value)});
    }
    return program.print(values, table.text());
  }

  std::uint64_t stored_bytes() const {
    std::uint64_t bytes = 0;
    for (const TensorInfo& tensor : checkpoint_->tensors()) bytes += tensor.stored_bytes;
    return bytes;
  }

  std::string model_;
  bool tree_ = false;
  bool prunable_ = false;
  bool quantizable_ = false;
  bool sparsity_ = false;
  bool each_tensor_ = false;
  TensorTableOptions table_;
  bool metadata_ = false;
  std::string find_;
  std::string tensor_;
  std::int64_t rows_ = 8;
  std::int64_t cols_ = 8;
  std::string size_model_;
  double data_width_ = 16;
  std::int64_t group_size_ = -1;
  std::unique_ptr<Checkpoint> checkpoint_;
};

}  // namespace

VerbEntry inspect_verb() {
  return {.name = "inspect",
          .usage = "MODEL [flags]",
          .summary = "tensors, modules, values and sizes of any safetensors or GGUF model",
          .detail = {},
          .examples = {"MODEL", "MODEL --tree", "MODEL --histograms", "MODEL --sparsity --json",
                       "MODEL --find '.*q_proj'", "MODEL --tensor lm_head.weight --rows 4 --cols 8",
                       "MODEL --size-model nominal --data-width 4 --group-size 128"},
          .make = []() -> std::unique_ptr<Verb> { return std::make_unique<Inspect>(); }};
}

}  // namespace nibble::app
