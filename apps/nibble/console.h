// SPDX-License-Identifier: Apache-2.0
// Shows the library's events on stderr: one redrawn line with a bar and an estimate on a terminal, plain
// lines at most every few seconds elsewhere, nothing with --quiet. Everything also goes to the log file, if
// there is one.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/events.h"
#include "log_file.h"
#include "settings.h"

namespace nibble::app {

class Console final : public EventSink {
 public:
  Console(const Settings& settings, LogFile* log) : settings_(settings), log_(log) {}
  ~Console() override { clear_bar(); }

  void on_event(const Event& event) override;
  // Removes the bar, so that other output starts on an empty line.
  void clear_bar();
  // A line on stderr that is not an event.
  void line(std::string_view text);

 private:
  using Clock = std::chrono::steady_clock;
  void begin_phase(const std::string& name);
  void show_progress(const Event& event);

  const Settings& settings_;
  LogFile* log_;
  std::string phase_;
  Clock::time_point phase_start_ = Clock::now();
  Clock::time_point last_shown_{};
  bool bar_visible_ = false;
};

// "block work  43 %  12m 3s elapsed  41m left": the text of the progress line, for `done` of `total` after
// `seconds`.
std::string progress_text(std::string_view phase, double done, double total, double seconds);

}  // namespace nibble::app
