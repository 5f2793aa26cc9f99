// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nibble {

const char* library_version();  // "0.1.0", of the CMake project

}  // namespace nibble
