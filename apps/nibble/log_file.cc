// SPDX-License-Identifier: Apache-2.0
#include "log_file.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/json.h"
#include "format.h"

namespace nibble::app {
namespace {

std::string local_time(const char* pattern) {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format(fmt::runtime(fmt::format("{{:{}}}", pattern)), fmt::localtime(now));
}

struct KindName {
  Event::Kind kind;
  const char* level;
  const char* name;
};
constexpr KindName kKinds[] = {
    {Event::Kind::kPhase, "INFO", "phase"},        {Event::Kind::kProgress, "DEBUG", "progress"},
    {Event::Kind::kModule, "INFO", "module"},      {Event::Kind::kNote, "INFO", "note"},
    {Event::Kind::kWarning, "WARNING", "warning"}, {Event::Kind::kDebug, "DEBUG", "debug"},
};

const KindName& kind_name(Event::Kind kind) {
  for (const KindName& entry : kKinds) {
    if (entry.kind == kind) return entry;
  }
  CHECK(false, "an event kind without a name");
  return kKinds[0];
}

}  // namespace

Result<std::unique_ptr<LogFile>> LogFile::open(const Settings& settings, const std::string& verb) {
  std::filesystem::path path = settings.log_file;
  if (path.empty() && settings.log_dir.empty()) return std::unique_ptr<LogFile>();
  if (path.empty())
    path = std::filesystem::path(settings.log_dir) / (verb + "_" + local_time("%Y-%m-%d_%H-%M-%S") + ".log");
  std::error_code ignored;  // opening the file gives the reason
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), ignored);
  std::FILE* file = std::fopen(path.c_str(), "a");
  if (file == nullptr) {
    return cannot_create(fmt::format("the log file cannot be written: {}", std::strerror(errno)),
                         "--log-dir and NIBBLE_LOG_FILE choose another place")
        .add_context("file " + path.string());
  }
  return std::unique_ptr<LogFile>(new LogFile(std::move(path), file, settings.log_format == "json"));
}

LogFile::~LogFile() {
  std::fclose(file_);
}

void LogFile::add_line(const char* level, const Event& event) {
  const char* name = kind_name(event.kind).name;
  if (json_) {
    Json line{{"time", local_time("%Y-%m-%dT%H:%M:%S%z")}, {"level", level}, {"event", name}};
    if (!event.name.empty()) line["name"] = event.name;
    if (!event.text.empty()) line["text"] = event.text;
    if (event.total > 0) line.update(Json{{"done", event.done}, {"total", event.total}});
    for (const auto& [key, value] : event.fields) line["fields"][key] = value;
    fmt::print(file_, "{}\n", line.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    std::string text = event.name;
    if (!event.text.empty()) text += (text.empty() ? "" : "  ") + event.text;
    if (event.total > 0) text += fmt::format("  {:.6g}/{:.6g}", event.done, event.total);
    if (!event.fields.empty()) text += "  " + join_fields(event.fields);
    fmt::print(file_, "{} {:<7} {:<8} {}\n", local_time("%Y-%m-%d %H:%M:%S"), level, name, text);
  }
  std::fflush(file_);  // a killed run leaves its story
}

void LogFile::write(const Event& event) {
  add_line(kind_name(event.kind).level, event);
}

void LogFile::error(const Error& error) {
  add_line("ERROR", {.kind = Event::Kind::kNote, .name = "error", .text = error.message()});
}

}  // namespace nibble::app
