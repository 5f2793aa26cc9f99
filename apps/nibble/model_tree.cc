// SPDX-License-Identifier: Apache-2.0
#include "model_tree.h"

#include <fmt/format.h>

#include "base/json.h"

namespace nibble::app {
namespace {

std::string last_part(const std::string& name) {
  return name.substr(name.rfind('.') + 1);
}

bool is_child(const std::string& name, const std::string& parent) {
  if (parent.empty()) return name.find('.') == std::string::npos;
  return name.size() > parent.size() && name.starts_with(parent) && name[parent.size()] == '.' &&
         name.find('.', parent.size() + 1) == std::string::npos;
}

Json shape_of(const ModuleInfo& module, const QuantizationLabels& labels) {
  Json node = Json::object();
  if (module.kind == ModuleKind::kLinear) {
    node["in_features"] = module.cols;
    node["out_features"] = module.rows;
    node["bias"] = !module.bias.empty();
    if (!module.tied_to.empty()) node["tied_to"] = module.tied_to;
  } else if (module.kind == ModuleKind::kEmbedding) {
    node["num_embeddings"] = module.rows;
    node["embedding_dim"] = module.cols;
  } else if (module.rows > 0) {
    node["size"] = module.rows;
    node["bias"] = !module.bias.empty();
  }
  if (!labels.weights.empty()) node["weight_quant"] = labels.weights;
  if (!labels.activations.empty()) node["act_quant"] = labels.activations;
  if (!labels.outputs.empty()) node["output_quant"] = labels.outputs;
  return node;
}

class TreeBuilder {
 public:
  TreeBuilder(const ModelDescription& model, const LabelFinder& labels) : model_(model), labels_(labels) {}

  // The module at `index` and all below it; `index` moves past them (modules lie depth first).
  Json build(std::size_t& index) {
    const ModuleInfo& module = model_.modules[index++];
    Json node{{"name", last_part(module.name)}, {"class", module.class_name}};
    node.update(shape_of(module, labels_(module)));
    Json children = Json::array();
    while (index < model_.modules.size() && is_child(model_.modules[index].name, module.name)) {
      add_folded(children, build(index));
    }
    if (!children.empty()) node["children"] = std::move(children);
    return node;
  }

 private:
  static bool is_number(const std::string& text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  }

  // Joins a numbered node to the one before it when both are equal but for the number.
  static void add_folded(Json& children, Json node) {
    const std::string name = node["name"];
    if (is_number(name) && !children.empty()) {
      Json& before = children.back();
      Json a = before;
      Json b = node;
      for (const char* key : {"name", "first", "last", "count"}) {
        a.erase(key);
        b.erase(key);
      }
      if (a == b && is_number(before.value("last", before["name"].get<std::string>()))) {
        if (!before.contains("first")) {
          before["first"] = before["name"];
          before["count"] = 1;
        }
        before["last"] = name;
        before["count"] = before["count"].get<int>() + 1;
        before["name"] = before["first"].get<std::string>() + "-" + name;
        return;
      }
    }
    children.push_back(std::move(node));
  }

  const ModelDescription& model_;
  const LabelFinder& labels_;
};

std::string details(const Json& node) {
  std::string text;
  for (const auto& [key, value] : node.items()) {
    if (key == "name" || key == "class" || key == "children" || key == "first" || key == "last" ||
        key == "count")
      continue;
    text += fmt::format("{}{}={}", text.empty() ? "" : ", ", key,
                        value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

void add_lines(std::string& out, const Json& node, std::size_t depth) {
  out += std::string(2 * depth, ' ');
  const std::string name = node["name"];
  if (!name.empty()) out += fmt::format("({}): ", name);
  if (node.contains("count")) out += fmt::format("{} x ", node["count"].get<int>());
  out += fmt::format("{}({}", node["class"].get<std::string>(), details(node));
  if (node.contains("children")) {
    out += "\n";
    for (const Json& child : node["children"]) add_lines(out, child, depth + 1);
    out += std::string(2 * depth, ' ');
  }
  out += ")\n";
}

}  // namespace

Json model_tree(const ModelDescription& model, const LabelFinder& labels) {
  std::size_t index = 0;
  return TreeBuilder(model, labels).build(index);
}

std::string tree_text(const Json& tree) {
  std::string out;
  add_lines(out, tree, 0);
  return out;
}

std::int64_t parameter_count(const ModelDescription& model) {
  std::int64_t count = 0;
  for (const ModuleInfo& module : model.modules) {
    if (!module.weight.empty()) count += module.rows * module.cols;
    if (!module.bias.empty()) count += module.rows;
  }
  return count;
}

double nominal_mib(std::int64_t parameters, double data_width, std::int64_t group_size) {
  const double overhead = group_size > 0 ? (16.0 + 4.0) / static_cast<double>(group_size) : 0.0;
  return static_cast<double>(parameters) * (data_width + overhead) / 8 / (1 << 20);
}

}  // namespace nibble::app
