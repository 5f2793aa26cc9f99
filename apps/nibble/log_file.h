// SPDX-License-Identifier: Apache-2.0
// Every event as a line with a time stamp, down to debug level, in a file. NIBBLE_LOG_FILE (or
// LLM_COMPRESSOR_LOG_FILE) names the file; otherwise --log-dir gives VERB_YYYY-MM-DD_HH-MM-SS.log; otherwise
// none.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/events.h"
#include "settings.h"

namespace nibble::app {

class LogFile {
 public:
  // Null when no log is wanted.
  static Result<std::unique_ptr<LogFile>> open(const Settings& settings, const std::string& verb);
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  void write(const Event& event);
  void error(const Error& error);
  const std::filesystem::path& path() const { return path_; }

 private:
  LogFile(std::filesystem::path path, std::FILE* file, bool json)
      : path_(std::move(path)), file_(file), json_(json) {}
  void add_line(const char* level, const Event& event);

  std::filesystem::path path_;
  std::FILE* file_;
  bool json_;
};

}  // namespace nibble::app
