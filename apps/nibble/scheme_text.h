// SPDX-License-Identifier: Apache-2.0
// Quantization schemes in a few words.
#pragma once

#include <string>

#include "codec/scheme.h"

namespace nibble::app {

std::string args_summary(const QuantizationArgs& args);  // "int4 group 128 asymmetric"
std::string scheme_summary(
    const QuantizationScheme& scheme);  // "int4 group 128; activations int8 token dynamic"

}  // namespace nibble::app
