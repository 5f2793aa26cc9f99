// SPDX-License-Identifier: Apache-2.0
// One function per file of this folder: the entry of its verb.
#pragma once

#include "verb.h"

namespace nibble::app {

VerbEntry diff_verb();
VerbEntry doctor_verb();
VerbEntry eval_verb();
VerbEntry generate_verb();
VerbEntry inspect_verb();
VerbEntry logits_verb();
VerbEntry oneshot_verb();
VerbEntry recipes_verb();
VerbEntry report_verb();
VerbEntry statistics_verb();
VerbEntry tokenize_verb();
VerbEntry verify_verb();

}  // namespace nibble::app
