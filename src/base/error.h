// SPDX-License-Identifier: Apache-2.0
// Errors that users, files and machines cause. An Error teaches: what is wrong (value found and values
// allowed), where (file, tensor, block; outermost first), and how to mend it. Functions return Result<T> or
// Status and add context on the way up with `.at("file model.safetensors")`.
//
//   Result<Tensor> load(std::string_view name) {
//     TRY_ASSIGN(const Entry entry, find(name));
//     TRY(check_bounds(entry).at(fmt::format("tensor {}", name)));
//     return decode(entry);
//   }
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace nibble {

// The values are the exit codes of the program (design.md, decision 13).
enum class ErrorCode {
  kFailed = 1,         // the work could not be done
  kUsage = 2,          // the request itself is wrong: flags, recipe keys, patterns
  kBadData = 65,       // a file is damaged or not what it claims to be
  kNoInput = 66,       // a file, model or data set does not exist or cannot be read
  kCannotCreate = 73,  // the output cannot be written
  kResumable = 75,     // stopped; finished blocks are kept and --resume continues
  kInterrupted = 130,  // stopped by a signal, nothing to resume
};

struct Error {
  ErrorCode code = ErrorCode::kFailed;
  std::string what;   // one sentence: what is wrong, with the value found and what is allowed
  std::string where;  // "file a.safetensors: tensor lm_head.weight"; may be empty
  std::string hint;   // how to mend it; may be empty

  // "where: what (hint)" on one line.
  std::string message() const;
  Error& add_context(std::string_view context);
};

Error bad_data(std::string what, std::string hint = {});
Error no_input(std::string what, std::string hint = {});
Error usage_error(std::string what, std::string hint = {});
Error failed(std::string what, std::string hint = {});
Error cannot_create(std::string what, std::string hint = {});

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return CHECK(ok(), "value() of a failed Result"), std::get<0>(state_); }
  const T& value() const& { return CHECK(ok(), "value() of a failed Result"), std::get<0>(state_); }
  T&& value() && { return CHECK(ok(), "value() of a failed Result"), std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  Error& error() & { return CHECK(!ok(), "error() of a successful Result"), std::get<1>(state_); }
  const Error& error() const& { return CHECK(!ok(), "error() of a successful Result"), std::get<1>(state_); }
  Error&& error() && {
    return CHECK(!ok(), "error() of a successful Result"), std::get<1>(std::move(state_));
  }

  // Adds an outer place to the error, if there is one.
  Result&& at(std::string_view context) && {
    if (!ok()) error().add_context(context);
    return std::move(*this);
  }

 private:
  std::variant<T, Error> state_;
};

// Success or an Error.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  Error& error() & { return CHECK(!ok(), "error() of a successful Status"), *error_; }
  const Error& error() const& { return CHECK(!ok(), "error() of a successful Status"), *error_; }
  Error&& error() && { return CHECK(!ok(), "error() of a successful Status"), *std::move(error_); }

  Status&& at(std::string_view context) && {
    if (!ok()) error_->add_context(context);
    return std::move(*this);
  }

 private:
  std::optional<Error> error_;
};

}  // namespace nibble

// Leaves the function with the error of a Status or Result expression, if it failed.
#define TRY(expression)                                       \
  do {                                                        \
    if (auto try_status_ = (expression); !try_status_.ok()) { \
      return std::move(try_status_).error();                  \
    }                                                         \
  } while (false)

// TRY_ASSIGN(auto x, f()): x is the value of f(), or the function is left with its error.
#define TRY_ASSIGN(declaration, expression) TRY_ASSIGN_IMPL_(declaration, expression, __LINE__)
#define TRY_ASSIGN_IMPL_(declaration, expression, line) TRY_ASSIGN_IMPL2_(declaration, expression, line)
#define TRY_ASSIGN_IMPL2_(declaration, expression, line)                    \
  auto try_result_##line = (expression);                                    \
  if (!try_result_##line.ok()) return std::move(try_result_##line).error(); \
  declaration = std::move(try_result_##line).value()
