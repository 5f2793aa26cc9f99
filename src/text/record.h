// SPDX-License-Identifier: Apache-2.0
// One record of a JSON data set as a document.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "text/dataset.h"

namespace nibble {

// A bare string is its own text. In an object, the first that fits: the text column (a string, or a
// conversation); `input_ids`; a conversation in `messages` or `conversations`.
Result<Document> document_of_record(const Json& record, const DatasetOptions& options);

// "there is no column ...": names those there are and the nearest.
Error missing_column(const std::string& column, const std::vector<std::string>& columns);

}  // namespace nibble
