// SPDX-License-Identifier: Apache-2.0
// The forward declaration of Json for headers.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace nibble {
using Json = nlohmann::ordered_json;
}
