// SPDX-License-Identifier: Apache-2.0
#include "modify/modifier.h"

namespace nibble {

ModuleWork* UnitWork::find(std::string_view module_name) {
  for (ModuleWork& work : modules) {
    if (work.module->name == module_name) return &work;
  }
  return nullptr;
}

}  // namespace nibble
