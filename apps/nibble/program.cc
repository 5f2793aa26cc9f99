// SPDX-License-Identifier: Apache-2.0
#include "program.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/json.h"

namespace nibble::app {

Result<std::unique_ptr<Program>> Program::start(const Settings& settings, const std::string& verb,
                                                const StopToken& stop) {
  TRY_ASSIGN(std::unique_ptr<LogFile> log, LogFile::open(settings, verb));
  return std::unique_ptr<Program>(new Program(settings, std::move(log), stop));
}

Program::Program(const Settings& settings, std::unique_ptr<LogFile> log, const StopToken& stop)
    : settings_(settings),
      log_(std::move(log)),
      console_(settings_, log_.get()),
      pool_(static_cast<int>(settings.threads)),
      context_{pool_, console_, stop} {}

Status Program::print(const Json& document, std::string_view text) {
  console_.clear_bar();
  printed_ = true;
  if (settings_.quiet && !settings_.json) return {};
  if (!settings_.json) return write_stdout(text);
  // Text of models and files may hold bytes that are not UTF-8; JSON may not.
  return write_stdout(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Status Program::stream(std::string_view piece) {
  console_.clear_bar();
  printed_ = true;
  if (settings_.quiet) return {};
  return write_stdout(piece);
}

void Program::print_error(const Error& error) {
  console_.clear_bar();
  if (log_) log_->error(error);
  print_error_text(error, settings_.color);
  if (settings_.json && !printed_) {
    const std::string text = error_document(error).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
}

Json error_document(const Error& error) {
  return {{"error",
           {{"code", static_cast<int>(error.code)},
            {"what", error.what},
            {"where", error.where},
            {"hint", error.hint}}}};
}

void print_error_text(const Error& error, bool color) {
  std::string text = color ? "\x1b[1;31merror:\x1b[0m " : "error: ";
  text += error.what + "\n";
  if (!error.where.empty()) text += "   in: " + error.where + "\n";
  if (!error.hint.empty()) text += " hint: " + error.hint + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
}

Status write_stdout(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return {};
  return cannot_create(fmt::format("the result could not be written to stdout: {}", std::strerror(errno)));
}

}  // namespace nibble::app
