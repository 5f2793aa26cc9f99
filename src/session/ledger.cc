// SPDX-License-Identifier: Apache-2.0
#include "session/ledger.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "base/hash.h"
#include "base/json.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "ledger.jsonl";

// JSON has no infinity; the SQNR of an exact copy is one.
Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

double number_of(const Json& json) {
  return json.is_number() ? json.get<double>() : std::numeric_limits<double>::infinity();
}

Json to_json(const LayerReport& report) {
  Json json = {{"module", report.module},
               {"modifier", report.modifier},
               {"relative_error", number(report.relative_error)},
               {"sqnr_db", number(report.sqnr_db)},
               {"of_outputs", report.of_outputs},
               {"seconds", report.seconds},
               {"notes", report.notes}};
  if (report.rtn_relative_error) json["rtn_relative_error"] = number(*report.rtn_relative_error);
  if (report.loss) json["loss"] = number(*report.loss);
  if (report.zeros) json["zeros"] = *report.zeros;
  if (report.zeros_lost) json["zeros_lost"] = *report.zeros_lost;
  return json;
}

LayerReport report_of(const Json& json) {
  LayerReport report;
  report.module = json.at("module").get<std::string>();
  report.modifier = json.at("modifier").get<std::string>();
  report.relative_error = number_of(json.at("relative_error"));
  report.sqnr_db = number_of(json.at("sqnr_db"));
  report.of_outputs = json.at("of_outputs").get<bool>();
  report.seconds = json.at("seconds").get<double>();
  report.notes = json.at("notes").get<std::vector<std::string>>();
  if (json.contains("rtn_relative_error")) report.rtn_relative_error = number_of(json["rtn_relative_error"]);
  if (json.contains("loss")) report.loss = number_of(json["loss"]);
  if (json.contains("zeros")) report.zeros = json["zeros"].get<std::int64_t>();
  if (json.contains("zeros_lost")) report.zeros_lost = json["zeros_lost"].get<std::int64_t>();
  return report;
}

Json pairs_json(const std::vector<std::pair<std::string, std::string>>& pairs) {
  Json json = Json::object();
  for (const auto& [name, value] : pairs) json[name] = value;
  return json;
}

std::vector<std::pair<std::string, std::string>> pairs_of(const Json& json) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const auto& [name, value] : json.items()) pairs.emplace_back(name, value.get<std::string>());
  return pairs;
}

std::string line_of(const LedgerEntry& entry) {
  Json json = {{"blocks", entry.blocks},
               {"tensors", pairs_json(entry.tensors)},
               {"streams", pairs_json(entry.streams)},
               {"changes", Json::array()},
               {"warnings", entry.warnings}};
  for (const LayerReport& change : entry.changes) json["changes"].push_back(to_json(change));
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

LedgerEntry entry_of(const Json& json) {
  LedgerEntry entry;
  entry.blocks = json.at("blocks").get<int>();
  entry.tensors = pairs_of(json.at("tensors"));
  entry.streams = pairs_of(json.at("streams"));
  for (const Json& change : json.at("changes")) entry.changes.push_back(report_of(change));
  entry.warnings = json.at("warnings").get<std::vector<std::string>>();
  return entry;
}

// The whole lines of the file that are JSON, and where they end.
std::vector<Json> whole_lines(const std::string& text, std::uint64_t& end) {
  std::vector<Json> lines;
  end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t stop = text.find('\n', at);
    if (stop == std::string::npos) break;
    auto json = parse_json(std::string_view(text).substr(at, stop - at));
    if (!json.ok() || !json->is_object()) break;
    lines.push_back(std::move(json).value());
    at = stop + 1;
    end = at;
  }
  return lines;
}

Status check_same(const Json& stopped, const Fingerprint& now) {
  for (const auto& [field, value] : now) {
    const auto found = stopped.find(field);
    const std::string before = found != stopped.end() ? found->get<std::string>() : "nothing";
    if (before == value) continue;
    return usage_error(fmt::format("the stopped run had another {}: {}, and now {}", field, before, value),
                       "resume with what the stopped run was given, or start again without --resume");
  }
  return {};
}

}  // namespace

Result<Ledger> Ledger::start(const fs::path& folder, const Fingerprint& fingerprint) {
  TRY_ASSIGN(FileWriter file, FileWriter::create(folder / kFile));
  Ledger ledger(folder, std::move(file), 0);
  TRY(ledger.write_line(Json({{"fingerprint", pairs_json(fingerprint)}}).dump() + "\n"));
  TRY(sync_folder(folder));
  return ledger;
}

Result<std::optional<Ledger>> Ledger::reopen(const fs::path& folder, const Fingerprint& fingerprint) {
  const fs::path path = folder / kFile;
  if (!fs::exists(path)) return std::optional<Ledger>();
  TRY_ASSIGN(const std::string text, read_text_file(path));
  std::uint64_t end = 0;
  const std::vector<Json> lines = whole_lines(text, end);
  if (lines.empty() || !lines[0].contains("fingerprint")) return std::optional<Ledger>();
  TRY(check_same(lines[0]["fingerprint"], fingerprint));
  std::error_code status;
  fs::resize_file(path, end, status);
  if (status) return cannot_create(fmt::format("cannot write {}: {}", path.string(), status.message()));
  TRY_ASSIGN(FileWriter file, FileWriter::reopen(path));
  Ledger ledger(folder, std::move(file), end);
  try {
    for (std::size_t i = 1; i < lines.size(); ++i) ledger.entries_.push_back(entry_of(lines[i]));
  } catch (const Json::exception& e) {
    return bad_data(fmt::format("{} is damaged: {}", path.string(), e.what()),
                    "start again without --resume");
  }
  return std::optional<Ledger>(std::move(ledger));
}

Status Ledger::write_line(const std::string& line) {
  TRY(file_.write_at(end_, std::as_bytes(std::span(line.data(), line.size()))));
  end_ += line.size();
  return file_.sync();
}

Status Ledger::append(LedgerEntry entry) {
  TRY(write_line(line_of(entry)));
  if (!entries_.empty()) {
    for (const auto& [file, hash] : entries_.back().streams) {
      std::error_code ignored;
      fs::remove(folder_ / file, ignored);
    }
  }
  entries_.push_back(std::move(entry));
  return {};
}

std::vector<std::string> Ledger::file_names() const {
  std::vector<std::string> names{kFile};
  std::error_code status;
  for (fs::directory_iterator it(folder_, status), end; !status && it != end; it.increment(status)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with("stream-") && name.ends_with(".bin")) names.push_back(name);
  }
  return names;
}

Result<bool> restore_tensors(const Ledger& ledger, ShardedWriter& writer) {
  for (const LedgerEntry& entry : ledger.entries()) {
    for (const auto& [name, hash] : entry.tensors) {
      TRY_ASSIGN(const std::uint64_t stored, writer.stored_hash(name));
      if (hex(stored) != hash) return false;
    }
  }
  for (const LedgerEntry& entry : ledger.entries()) {
    for (const auto& [name, hash] : entry.tensors) writer.mark_finished(name);
  }
  return true;
}

}  // namespace nibble
