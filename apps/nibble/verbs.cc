// SPDX-License-Identifier: Apache-2.0
// The table of verbs, in the order of the overview.
#include "verbs/verbs.h"

#include "verb.h"

namespace nibble::app {

const std::vector<VerbEntry>& verbs() {
  static const std::vector<VerbEntry> table{
      oneshot_verb(), eval_verb(),    generate_verb(),   inspect_verb(),  verify_verb(), diff_verb(),
      report_verb(),  recipes_verb(), statistics_verb(), tokenize_verb(), logits_verb(), doctor_verb(),
  };
  return table;
}

const VerbEntry* find_verb(const std::string& name) {
  for (const VerbEntry& entry : verbs()) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

}  // namespace nibble::app
