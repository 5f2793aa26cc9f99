// SPDX-License-Identifier: Apache-2.0
// Where the reports of modifiers go: the row of the module, and an event for those who watch.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/context.h"
#include "session/report.h"

namespace nibble {

class ModuleRows {
 public:
  explicit ModuleRows(RunReport& report);
  // A module that is changed but not quantized gets a row when it is first reported.
  void add(const std::vector<LayerReport>& changes, const ModelDescription& model);
  // One line a module, as far as its changes are known.
  void tell(const std::string& module, EventSink& events) const;
  const ModuleRow* find(const std::string& module) const;

 private:
  RunReport& report_;
  std::map<std::string, std::pair<bool, std::size_t>> index_;  // quantized?, position
};

}  // namespace nibble
