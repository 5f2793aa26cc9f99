// SPDX-License-Identifier: Apache-2.0
// What a running verb has: the settings, a Context for the library, and the way to print. stdout carries the
// result and nothing else; everything for people's eyes goes to stderr.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/context.h"
#include "base/json_fwd.h"
#include "console.h"
#include "log_file.h"
#include "settings.h"

namespace nibble::app {

class Program {
 public:
  // `verb` names the log file.
  static Result<std::unique_ptr<Program>> start(const Settings& settings, const std::string& verb,
                                                const StopToken& stop);

  const Settings& settings() const { return settings_; }
  Context& context() { return context_; }
  Console& console() { return console_; }

  // The result: the document with --json, nothing with --quiet alone, the text otherwise. A verb calls it
  // once.
  Status print(const Json& document, std::string_view text);
  // A piece of a text result that grows while the verb works (generated tokens); shown at once.
  Status stream(std::string_view piece);
  // The exit code of a run that succeeded but has something to say by it (`diff` of different models).
  void leave_with(int code) { exit_code_ = code; }
  int exit_code() const { return exit_code_; }
  bool has_printed() const { return printed_; }
  // The error for people on stderr, and as {"error": ...} on stdout with --json when nothing was printed
  // there.
  void print_error(const Error& error);

 private:
  Program(const Settings& settings, std::unique_ptr<LogFile> log, const StopToken& stop);

  Settings settings_;
  std::unique_ptr<LogFile> log_;
  Console console_;
  ThreadPool pool_;
  Context context_;
  bool printed_ = false;
  int exit_code_ = 0;
};

Json error_document(const Error& error);
// Three lines on stderr: what, where, how to mend it.
void print_error_text(const Error& error, bool color);
// Writes to stdout and reports a full disk or a closed pipe.
Status write_stdout(std::string_view text);

}  // namespace nibble::app
