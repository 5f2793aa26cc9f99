// SPDX-License-Identifier: Apache-2.0
// nibble report: reads the report.json of an output again: by kind of module, and the worst of them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

#include "base/byte_size.h"
#include "base/json.h"
#include "format.h"
#include "program.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

namespace fs = std::filesystem;

struct Module {
  std::string name, scheme;
  std::int64_t weights = 0, bytes = 0;
  std::optional<double> relative_error, sqnr_db, rtn_relative_error;
};

// Modules of one name in all layers: "q_proj".
struct Kind {
  std::string kind, scheme;
  std::int64_t modules = 0, weights = 0, bytes = 0;
  double squares = 0;  // of relative errors, by weights
  std::int64_t measured = 0;
  double worst = 0;

  std::optional<double> relative_error() const {
    if (measured == 0) return std::nullopt;
    return std::sqrt(squares / static_cast<double>(measured));
  }
  double bits_per_weight() const {
    return weights > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(weights) : 0;
  }
};

std::optional<double> number_or_none(const Json& row, const char* key) {
  if (!row.contains(key) || !row[key].is_number()) return std::nullopt;
  return row[key].get<double>();
}

Json or_null(std::optional<double> value) {
  return value ? Json(*value) : Json(nullptr);
}

Result<std::vector<Module>> read_modules(const Json& document) {
  if (!document.is_object() || !document.contains("modules") || !document["modules"].is_array()) {
    return bad_data("it holds no list \"modules\"", "give what nibble oneshot wrote");
  }
  std::vector<Module> modules;
  for (const Json& row : document["modules"]) {
    if (!row.is_object()) return bad_data("an entry of \"modules\" is no object");
    Module module;
    TRY_ASSIGN(module.name, json_string(row, "name"));
    TRY_ASSIGN(module.scheme, json_string(row, "scheme"));
    TRY_ASSIGN(module.weights, json_int(row, "weights"));
    TRY_ASSIGN(module.bytes, json_int(row, "bytes"));
    module.relative_error = number_or_none(row, "relative_error");
    module.sqnr_db = number_or_none(row, "sqnr_db");
    module.rtn_relative_error = number_or_none(row, "rtn_relative_error");
    modules.push_back(std::move(module));
  }
  return modules;
}

std::vector<Kind> by_kind(const std::vector<Module>& modules) {
  std::vector<Kind> kinds;
  for (const Module& module : modules) {
    const std::string name = module.name.substr(module.name.rfind('.') + 1);
    auto it = std::find_if(kinds.begin(), kinds.end(), [&](const Kind& kind) {
      return kind.kind == name && kind.scheme == module.scheme;
    });
    if (it == kinds.end()) it = kinds.insert(kinds.end(), {.kind = name, .scheme = module.scheme});
    ++it->modules;
    it->weights += module.weights;
    it->bytes += module.bytes;
    if (!module.relative_error) continue;
    it->measured += module.weights;
    it->squares += static_cast<double>(module.weights) * *module.relative_error * *module.relative_error;
    it->worst = std::max(it->worst, *module.relative_error);
  }
  return kinds;
}

std::vector<Module> worst_of(std::vector<Module> modules, std::size_t most) {
  std::erase_if(modules, [](const Module& module) { return !module.relative_error; });
  std::stable_sort(modules.begin(), modules.end(),
                   [](const Module& a, const Module& b) { return *a.relative_error > *b.relative_error; });
  modules.resize(std::min(modules.size(), most));
  return modules;
}

std::string text_of(const std::string& path, const Json& totals, const std::vector<Kind>& kinds,
                    const std::vector<Module>& worst, const Json& warnings) {
  Table table({"kind", "scheme", "modules", "weights", "bytes", "bits/weight", "relative error", "worst"});
  for (const Kind& kind : kinds) {
    table.row({kind.kind, kind.scheme, format_count(kind.modules), format_count(kind.weights),
               format_count(kind.bytes), fmt::format("{:.3f}", kind.bits_per_weight()),
               format_number(kind.relative_error().value_or(NAN)),
               kind.measured > 0 ? format_number(kind.worst) : "-"});
  }
  Table bad({"worst modules", "relative error", "SQNR dB", "rtn error"});
  for (const Module& module : worst) {
    bad.row({module.name, format_number(*module.relative_error), format_number(module.sqnr_db.value_or(NAN)),
             format_number(module.rtn_relative_error.value_or(NAN))});
  }
  std::string text = path + "\n\n" + table.text();
  if (!bad.empty()) text += "\n" + bad.text();
  const auto bytes = [&](const char* key) {
    return format_byte_size(
        static_cast<std::uint64_t>(std::max(0.0, number_or_none(totals, key).value_or(0))));
  };
  text += fmt::format("\nsource {}, output {}", bytes("source_bytes"), bytes("output_bytes"));
  if (const auto bits = number_or_none(totals, "output_bits_per_parameter"))
    text += fmt::format(" ({:.2f} bits per parameter)", *bits);
  text += "\n";
  for (const Json& warning : warnings) {
    if (warning.is_string()) text += "warning: " + warning.get<std::string>() + "\n";
  }
  return text;
}

Json document_of(const std::string& path, const Json& totals, const std::vector<Kind>& kinds,
                 const std::vector<Module>& worst, const Json& warnings) {
  Json document{{"path", path}, {"totals", totals}};
  document["kinds"] = Json::array();
  for (const Kind& kind : kinds) {
    document["kinds"].push_back({{"kind", kind.kind},
                                 {"scheme", kind.scheme},
                                 {"modules", kind.modules},
                                 {"weights", kind.weights},
                                 {"bytes", kind.bytes},
                                 {"bits_per_weight", kind.bits_per_weight()},
                                 {"relative_error", or_null(kind.relative_error())},
                                 {"worst_relative_error", kind.measured > 0 ? Json(kind.worst) : Json()}});
  }
  document["worst"] = Json::array();
  for (const Module& module : worst) {
    document["worst"].push_back({{"name", module.name},
                                 {"relative_error", or_null(module.relative_error)},
                                 {"sqnr_db", or_null(module.sqnr_db)},
                                 {"rtn_relative_error", or_null(module.rtn_relative_error)}});
  }
  document["warnings"] = warnings;
  return document;
}

class ReportVerb final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positional("OUT", folder_, "folder that nibble oneshot wrote, or a report.json");
    flags.value("--worst", "N", worst_, "how many of the worst modules", 0, 1'000'000);
  }

  Status run(Program& program) override {
    fs::path path = folder_;
    std::error_code status;
    if (!fs::exists(path, status)) {
      return no_input(fmt::format("{} does not exist", folder_), "give a folder that nibble oneshot wrote");
    }
    if (fs::is_directory(path, status)) path /= "report.json";
    if (!fs::exists(path, status)) {
      return no_input(fmt::format("{} holds no report.json", folder_),
                      "nibble oneshot writes one into its output; `nibble inspect` looks at any model");
    }
    const std::string place = fmt::format("file {}", path.string());
    TRY_ASSIGN(const Json document, read_json_file(path));
    TRY_ASSIGN(const std::vector<Module> modules, read_modules(document).at(place));
    const Json totals = document.value("totals", Json::object());
    const Json warnings = document.value("warnings", Json::array());
    if (!totals.is_object() || !warnings.is_array())
      return bad_data("\"totals\" is no object or \"warnings\" no list").add_context(place);
    const std::vector<Kind> kinds = by_kind(modules);
    const std::vector<Module> worst = worst_of(modules, static_cast<std::size_t>(worst_));
    return program.print(document_of(path.string(), totals, kinds, worst, warnings),
                         text_of(path.string(), totals, kinds, worst, warnings));
  }

 private:
  std::string folder_;
  std::int64_t worst_ = 5;
};

}  // namespace

VerbEntry report_verb() {
  return {.name = "report",
          .usage = "OUT [flags]",
          .summary = "what a run of oneshot did: errors and sizes by kind of module, the worst modules",
          .detail = "Relative errors are root mean squares over weights: |W - W'| / |W|.",
          .examples = {"OUT", "OUT --worst 20", "OUT --json"},
          .make = []() -> std::unique_ptr<Verb> { return std::make_unique<ReportVerb>(); }};
}

}  // namespace nibble::app
