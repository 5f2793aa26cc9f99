// SPDX-License-Identifier: Apache-2.0
// From yaml-cpp's nodes to RecipeValue: the only place that sees yaml-cpp or its exceptions.
#include <fmt/format.h>
#include <yaml-cpp/binary.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cstring>
#include <sstream>

#include "session/yaml.h"

namespace nibble {
namespace {

constexpr int kMaxDepth = 64;
// Aliases are expanded; the budget stops texts of a few lines that would expand to gigabytes.
constexpr std::int64_t kMaxValues = 200'000;
constexpr std::size_t kMaxText = std::size_t{16} << 20;
constexpr std::string_view kStandard = "tag:yaml.org,2002:";

class Converter {
 public:
  explicit Converter(const YamlRules& rules) : rules_(rules) {}

  Result<RecipeValue> convert(const YAML::Node& node, int depth) {
    const int line = node.Mark().line + 1;
    if (depth > kMaxDepth)
      return at(line, bad_data(fmt::format("values are nested more than {} deep", kMaxDepth)));
    if (++values_ > kMaxValues) {
      return at(line,
                bad_data(fmt::format("more than {} values; aliases may repeat each other", kMaxValues)));
    }
    auto value = convert_tagged(node, depth);
    if (value.ok()) value->line = line;
    return value;
  }

 private:
  static Error at(int line, Error error) { return error.add_context(fmt::format("line {}", line)); }

  Result<RecipeValue> convert_tagged(const YAML::Node& node, int depth) {
    const std::string& tag = node.Tag();
    if (tag.empty() || tag == "?" || tag == "!") return convert_plain(node, tag == "!", depth);
    const std::string_view name = std::string_view(tag).starts_with(kStandard)
                                      ? std::string_view(tag).substr(kStandard.size())
                                      : std::string_view(tag);
    if (name == "str" && node.IsScalar()) return RecipeValue(node.Scalar());
    for (const std::string_view known : {"int", "float", "bool", "null", "seq", "map"}) {
      if (name == known) return convert_plain(node, false, depth);
    }
    if (name.starts_with("python/") && rules_.python_tags) return convert_python(node, name.substr(7), depth);
    return at(node.Mark().line + 1, bad_data(fmt::format("the tag !!{} is not read{}", name,
                                                         name.starts_with("python/") ? " here" : ""),
                                             "write the plain value instead"));
  }

  Result<RecipeValue> convert_plain(const YAML::Node& node, bool quoted, int depth) {
    if (node.IsScalar()) return quoted ? RecipeValue(node.Scalar()) : resolve_yaml_scalar(node.Scalar());
    if (node.IsSequence()) return convert_list(node, depth);
    if (node.IsMap()) return convert_map(node, depth);
    return RecipeValue();
  }

  Result<RecipeValue> convert_list(const YAML::Node& node, int depth) {
    RecipeValue::List list;
    for (const YAML::Node& item : node) {
      TRY_ASSIGN(RecipeValue value, convert(item, depth + 1));
      list.push_back(std::move(value));
    }
    return RecipeValue(std::move(list));
  }

  Result<RecipeValue> convert_map(const YAML::Node& node, int depth) {
    RecipeValue own = RecipeValue::Map{};
    std::vector<RecipeValue> merged;
    for (const auto& entry : node) {
      const int line = entry.first.Mark().line + 1;
      if (!entry.first.IsScalar()) return at(line, bad_data("a key is not a scalar"));
      const std::string& key = entry.first.Scalar();
      TRY_ASSIGN(RecipeValue value, convert(entry.second, depth + 1));
      value.line = line;
      if (key == "<<") {
        merged.push_back(std::move(value));
      } else if (own.find(key)) {
        return at(line, bad_data(fmt::format(
                            "the key \"{}\" stands twice; the second would replace the first", key)));
      } else {
        own.set(key, std::move(value));
      }
    }
    for (const RecipeValue& value : merged) TRY(merge(value, own));
    return own;
  }

  // Keys of a `<<` map, or list of maps, that the map does not have itself; earlier maps win.
  static Status merge(const RecipeValue& from, RecipeValue& into) {
    if (const RecipeValue::List* list = from.if_list()) {
      for (const RecipeValue& item : *list) TRY(merge(item, into));
      return {};
    }
    if (!from.if_map()) return at(from.line, bad_data("<< needs a map or a list of maps"));
    for (const auto& [key, value] : *from.if_map()) {
      if (!into.find(key)) into.set(key, value);
    }
    return {};
  }

  Result<RecipeValue> convert_python(const YAML::Node& node, std::string_view name, int depth) {
    for (const std::string_view known :
         {"tuple", "list", "dict", "str", "unicode", "int", "float", "bool", "none"}) {
      if (name == known) return convert_plain(node, name == "str" || name == "unicode", depth);
    }
    if (name.starts_with("object/apply:") && node.IsSequence() && node.size() > 0) {
      if (name.ends_with("multiarray.scalar")) return convert_numpy(node);
      // An enum or a torch.device holds its value; a sentinel its name and where it was made.
      if (node.size() == 1 || name.ends_with("Sentinel")) return convert(node[0], depth + 1);
    }
    return at(node.Mark().line + 1,
              bad_data(fmt::format("the Python object !!python/{} cannot be read", name),
                       "write the plain value instead"));
  }

  // [dtype, !!binary bytes] of a float64 or float32.
  static Result<RecipeValue> convert_numpy(const YAML::Node& node) {
    const Error unreadable =
        at(node.Mark().line + 1, bad_data("a numpy scalar that is no float cannot be read"));
    if (node.size() != 2 || !node[0].IsMap() || !node[0]["args"].IsSequence() || !node[1].IsScalar()) {
      return unreadable;
    }
    const std::string type = node[0]["args"][0].Scalar();
    const std::vector<unsigned char> bytes = YAML::DecodeBase64(node[1].Scalar());
    if (type == "f8" && bytes.size() == sizeof(double)) {
      double value = 0;
      std::memcpy(&value, bytes.data(), sizeof value);
      return RecipeValue(value);
    }
    if (type == "f4" && bytes.size() == sizeof(float)) {
      float value = 0;
      std::memcpy(&value, bytes.data(), sizeof value);
      return RecipeValue(static_cast<double>(value));
    }
    return unreadable;
  }

  YamlRules rules_;
  std::int64_t values_ = 0;
};

class Ignore final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
  }
  void OnMapEnd() override {}
};

// 0, 1, or 2 for more. YAML::LoadAll finds documents without end in some bytes that are no YAML.
int count_documents(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  Ignore ignore;
  int documents = 0;
  while (documents < 2 && parser.HandleNextDocument(ignore)) ++documents;
  return documents;
}

}  // namespace

Result<RecipeValue> read_yaml(std::string_view text, const YamlRules& rules) {
  if (text.size() > kMaxText)
    return bad_data(fmt::format("{} bytes of YAML; at most {} are read", text.size(), kMaxText));
  try {
    const std::string whole(text);
    const int documents = count_documents(whole);
    if (documents == 0) return RecipeValue();
    if (documents > 1) return bad_data("several YAML documents; a recipe is one");
    return Converter(rules).convert(YAML::Load(whole), 0);
  } catch (const YAML::Exception& error) {
    return bad_data(fmt::format("invalid YAML at line {}, column {}: {}", error.mark.line + 1,
                                error.mark.column + 1, error.msg));
  }
}

}  // namespace nibble
