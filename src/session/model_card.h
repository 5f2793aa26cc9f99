// SPDX-License-Identifier: Apache-2.0
// README.md of the output: the front matter that the Hugging Face hub reads, and a table for people. Nothing
// is invented: what the source does not say stays absent.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "modify/recipe_value.h"
#include "session/report.h"

namespace nibble {

struct SourceCard {
  std::string base_model;  // org/name where the source says so, else the name of its folder or file
  RecipeValue kept = RecipeValue::Map{};  // licence, language and pipeline tag of the source's own card
  bool has_license() const { return kept.find("license") != nullptr; }
};

// `model` is how the user named the source.
SourceCard read_source_card(const Checkpoint& checkpoint, const std::string& model);

std::string model_card(const SourceCard& source, const RunReport& report, const std::string& version);

}  // namespace nibble
