// SPDX-License-Identifier: Apache-2.0
#include "session/module_rows.h"

#include <fmt/format.h>

namespace nibble {

ModuleRows::ModuleRows(RunReport& report) : report_(report) {
  for (std::size_t i = 0; i < report.modules.size(); ++i) index_[report.modules[i].name] = {true, i};
}

void ModuleRows::add(const std::vector<LayerReport>& changes, const ModelDescription& model) {
  for (const LayerReport& change : changes) {
    const auto [entry, is_new] = index_.try_emplace(change.module, false, report_.changed.size());
    if (is_new) {
      const ModuleInfo* module = model.find(change.module);
      ModuleRow row{.name = change.module, .scheme = {}, .format = "dense", .changes = {}};
      if (module != nullptr) row.weights = module->rows * module->cols;
      report_.changed.push_back(std::move(row));
    }
    const auto [quantized, at] = entry->second;
    (quantized ? report_.modules : report_.changed)[at].changes.push_back(change);
  }
}

const ModuleRow* ModuleRows::find(const std::string& module) const {
  const auto found = index_.find(module);
  if (found == index_.end()) return nullptr;
  const auto [quantized, at] = found->second;
  return &(quantized ? report_.modules : report_.changed)[at];
}

void ModuleRows::tell(const std::string& module, EventSink& events) const {
  const ModuleRow* row = find(module);
  if (row == nullptr || row->changes.empty()) return;
  Event event{.kind = Event::Kind::kModule, .name = row->name, .text = {}, .fields = {}};
  const auto field = [&](const char* name, std::string value) {
    event.fields.emplace_back(name, std::move(value));
  };
  if (!row->scheme.empty()) {
    field("scheme", row->scheme);
    field("bits_per_weight", fmt::format("{:.3f}", row->bits_per_weight()));
  }
  const LayerReport& last = row->changes.back();
  if (last.loss) field("loss", fmt::format("{:.6g}", *last.loss));
  field("relative_error", fmt::format("{:.5f}", last.relative_error));
  if (last.rtn_relative_error) field("rtn_relative_error", fmt::format("{:.5f}", *last.rtn_relative_error));
  field("sqnr_db", fmt::format("{:.2f}", last.sqnr_db));
  double seconds = 0;
  for (const LayerReport& change : row->changes) seconds += change.seconds;
  field("seconds", fmt::format("{:.3f}", seconds));
  events.on_event(event);
}

}  // namespace nibble
