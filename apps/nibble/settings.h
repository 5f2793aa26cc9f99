// SPDX-License-Identifier: Apache-2.0
// What every verb can be told: flags over environment over defaults. The library reads no environment; this
// is the only place that does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/error.h"
#include "flags.h"

namespace nibble::app {

struct Settings {
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  std::int64_t threads = 0;  // 0: one per available CPU
  std::string cpu_level;     // empty: the best of this machine
  std::string log_dir;
  std::string log_format = "text";
  // From the environment only.
  std::filesystem::path hub_cache;  // where Hugging Face clients keep downloaded models
  std::string log_file;
  bool color = false;     // stderr may be coloured
  bool animated = false;  // stderr is a terminal that can redraw a line
};

void add_common_flags(Flags& flags, Settings& settings);
// Fills what the flags left open from NIBBLE_THREADS, NIBBLE_CPU_LEVEL, NIBBLE_LOG_FILE (or
// LLM_COMPRESSOR_LOG_FILE), HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, NO_COLOR, CLICOLOR_FORCE, TERM, and
// selects the CPU level.
Status apply_environment(Settings& settings);

}  // namespace nibble::app
