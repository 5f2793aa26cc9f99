// SPDX-License-Identifier: Apache-2.0
// CHECK guards against bugs of nibble itself and aborts with a message. Nothing a user, a file or the
// environment can cause may reach it: such trouble is a Result (error.h).
#pragma once

namespace nibble::internal {
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const char* message);
}

#define CHECK(condition, message)         \
  (static_cast<bool>(condition) ? void(0) \
                                : ::nibble::internal::check_failed(__FILE__, __LINE__, #condition, message))
