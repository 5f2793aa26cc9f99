// SPDX-License-Identifier: Apache-2.0
// Rules of single recipe fields (canonical form of a value, or what is wrong with it) and rules that tie the
// fields of a modifier together: the vocabulary of modifier_table.cc.
#pragma once

#include "modify/fields.h"

namespace nibble::field_rules {

Result<RecipeValue> list_of_texts(const RecipeValue& value);
Result<RecipeValue> lower_case(const RecipeValue& value);
Result<RecipeValue> upper_case(const RecipeValue& value);
Result<RecipeValue> preset_names_only(const RecipeValue& value);
Result<RecipeValue> full_groups(const RecipeValue& value);
Result<RecipeValue> full_kv_args(const RecipeValue& value);
Result<RecipeValue> known_observer(const RecipeValue& value);
Result<RecipeValue> observer_map(const RecipeValue& value);
Result<RecipeValue> awq_mappings(const RecipeValue& value);
Result<RecipeValue> smooth_mappings(const RecipeValue& value);
Result<RecipeValue> mask_structure(const RecipeValue& value);
Result<RecipeValue> float_dtype(const RecipeValue& value);
Result<RecipeValue> json_path(const RecipeValue& value);
Result<RecipeValue> always_false(const RecipeValue& value);
Result<RecipeValue> not_true(const RecipeValue& value);

Status check_quantization(Arguments& arguments);
Status check_owl(Arguments& arguments);
Status check_whole_run(Arguments& arguments);
Status check_open_interval(Arguments& arguments);

}  // namespace nibble::field_rules
