// SPDX-License-Identifier: Apache-2.0
// The families that make up the architecture table; each adds its rows.
#pragma once

#include "model/architectures/architecture.h"

namespace nibble {

void add_llama_family(std::vector<Architecture>& table);
void add_mixture_family(std::vector<Architecture>& table);
void add_gpt_family(std::vector<Architecture>& table);
void add_bert_family(std::vector<Architecture>& table);

}  // namespace nibble
