// SPDX-License-Identifier: Apache-2.0
#include "model/architectures/rows.h"

namespace nibble {

std::span<const Architecture> architectures() {
  static const std::vector<Architecture> table = [] {
    std::vector<Architecture> rows;
    add_llama_family(rows);
    add_mixture_family(rows);
    add_gpt_family(rows);
    add_bert_family(rows);
    return rows;
  }();
  return table;
}

const Architecture* find_architecture(std::string_view model_type) {
  for (const Architecture& row : architectures()) {
    if (row.model_type == model_type) return &row;
  }
  return nullptr;
}

const Architecture* find_architecture_of_class(std::string_view class_name) {
  for (const Architecture& row : architectures()) {
    for (const HeadClass& head : row.classes) {
      if (head.name == class_name) return &row;
    }
  }
  return nullptr;
}

}  // namespace nibble
