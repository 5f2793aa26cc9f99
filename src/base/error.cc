// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

namespace nibble {

std::string Error::message() const {
  std::string text = where.empty() ? what : where + ": " + what;
  if (!hint.empty()) text += " (" + hint + ")";
  return text;
}

Error& Error::add_context(std::string_view context) {
  where = where.empty() ? std::string(context) : std::string(context) + ": " + where;
  return *this;
}

Error bad_data(std::string what, std::string hint) {
  return {ErrorCode::kBadData, std::move(what), {}, std::move(hint)};
}
Error no_input(std::string what, std::string hint) {
  return {ErrorCode::kNoInput, std::move(what), {}, std::move(hint)};
}
Error usage_error(std::string what, std::string hint) {
  return {ErrorCode::kUsage, std::move(what), {}, std::move(hint)};
}
Error failed(std::string what, std::string hint) {
  return {ErrorCode::kFailed, std::move(what), {}, std::move(hint)};
}
Error cannot_create(std::string what, std::string hint) {
  return {ErrorCode::kCannotCreate, std::move(what), {}, std::move(hint)};
}

}  // namespace nibble
