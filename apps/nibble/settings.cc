// SPDX-License-Identifier: Apache-2.0
#include "settings.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>

#include "base/suggest.h"
#include "kernels/cpu_level.h"

namespace nibble::app {
namespace {

// The trimmed value; empty when unset.
std::string environment(const char* name) {
  const char* raw = std::getenv(name);
  if (raw == nullptr) return {};
  std::string value(raw);
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (!value.empty() && blank(value.back())) value.pop_back();
  std::size_t first = 0;
  while (first < value.size() && blank(value[first])) ++first;
  return value.substr(first);
}

std::string expand_home(std::string path) {
  if (path == "~" || path.starts_with("~/")) return environment("HOME") + path.substr(1);
  return path;
}

std::filesystem::path find_hub_cache() {
  if (const std::string cache = environment("HF_HUB_CACHE"); !cache.empty()) return expand_home(cache);
  if (const std::string home = environment("HF_HOME"); !home.empty()) {
    return std::filesystem::path(expand_home(home)) / "hub";
  }
  const std::string xdg = environment("XDG_CACHE_HOME");
  const std::filesystem::path cache = xdg.empty() ? expand_home("~/.cache") : expand_home(xdg);
  return cache / "huggingface" / "hub";
}

Status find_threads(Settings& settings) {
  const std::string text = environment("NIBBLE_THREADS");
  if (settings.threads > 0 || text.empty()) return {};
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), settings.threads);
  if (status != std::errc() || end != text.data() + text.size() || settings.threads < 1 ||
      settings.threads > 4096) {
    return usage_error(
        fmt::format("NIBBLE_THREADS is \"{}\", but must be a whole number from 1 to 4096", text));
  }
  return {};
}

Status select_level(Settings& settings) {
  std::string source = "--cpu-level";
  if (settings.cpu_level.empty()) {
    settings.cpu_level = environment("NIBBLE_CPU_LEVEL");
    source = "NIBBLE_CPU_LEVEL";
  }
  if (settings.cpu_level.empty()) return {};
  std::vector<std::string> names;
  for (const kernels::CpuLevel level : kernels::available_levels())
    names.emplace_back(kernels::level_name(level));
  const std::optional<kernels::CpuLevel> wanted = kernels::level_from_name(settings.cpu_level);
  const std::string offer = "this machine has " + join_or(names);
  if (!wanted) {
    return usage_error(fmt::format("{} is \"{}\", which is no CPU level", source, settings.cpu_level), offer);
  }
  if (*wanted > kernels::best_level()) {
    return usage_error(fmt::format("{} is \"{}\", which this CPU does not have", source, settings.cpu_level),
                       offer);
  }
  kernels::set_active_level(*wanted);
  return {};
}

void look_at_terminal(Settings& settings) {
  const bool terminal = isatty(STDERR_FILENO) != 0 && environment("TERM") != "dumb";
  settings.animated = terminal && !settings.quiet;
  settings.color =
      environment("NO_COLOR").empty() &&
      (terminal || (!environment("CLICOLOR_FORCE").empty() && environment("CLICOLOR_FORCE") != "0"));
}

}  // namespace

void add_common_flags(Flags& flags, Settings& settings) {
  flags.group("Common flags");
  flags.toggle("--json", settings.json, "one JSON document on stdout (docs/json.md) instead of text");
  flags.toggle("-q,--quiet", settings.quiet,
               "print errors only (and the document of --json); the exit code tells the rest");
  flags.toggle("-v,--verbose", settings.verbose, "a line for every finished module");
  flags.value("-t,--threads", "N", settings.threads,
              "worker threads; 0 is one per available CPU (NIBBLE_THREADS); results do not depend on it", 0,
              4096);
  flags.value("--cpu-level", "LEVEL", settings.cpu_level,
              "portable, avx2, avx512 or avx512vnni instead of the best one (NIBBLE_CPU_LEVEL)");
  flags.value("--log-dir", "DIR", settings.log_dir,
              "write a log file there (NIBBLE_LOG_FILE names one directly)");
  flags.choice("--log-format", settings.log_format, {"text", "json"}, "lines of the log file");
}

Status apply_environment(Settings& settings) {
  TRY(find_threads(settings));
  TRY(select_level(settings));
  settings.hub_cache = find_hub_cache();
  settings.log_file = expand_home(environment("NIBBLE_LOG_FILE"));
  if (settings.log_file.empty()) settings.log_file = expand_home(environment("LLM_COMPRESSOR_LOG_FILE"));
  look_at_terminal(settings);
  return {};
}

}  // namespace nibble::app
