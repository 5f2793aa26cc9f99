// SPDX-License-Identifier: Apache-2.0
#include "session/version.h"

namespace nibble {

const char* library_version() {
  return NIBBLE_VERSION;
}

}  // namespace nibble
