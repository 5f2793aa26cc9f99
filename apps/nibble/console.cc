// SPDX-License-Identifier: Apache-2.0
#include "console.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "base/byte_size.h"
#include "base/memory_budget.h"
#include "format.h"

namespace nibble::app {
namespace {

constexpr std::size_t kBarWidth = 24;
constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kPlainLines = std::chrono::seconds(10);

std::string bar(double fraction) {
  const auto filled = static_cast<std::size_t>(fraction * kBarWidth);
  return fmt::format("[{}{}] ", std::string(filled, '#'), std::string(kBarWidth - filled, '.'));
}

}  // namespace

std::string progress_text(std::string_view phase, double done, double total, double seconds) {
  const double fraction = total > 0 ? std::clamp(done / total, 0.0, 1.0) : 0.0;
  std::string text = fmt::format("{}  {:.0f} %  {} elapsed", phase, 100 * fraction, format_duration(seconds));
  // An estimate from less than a second or a percent would only jump.
  if (fraction > 0.01 && fraction < 1 && seconds > 1) {
    text += fmt::format("  {} left", format_duration(seconds * (1 - fraction) / fraction));
  }
  return text;
}

void Console::begin_phase(const std::string& name) {
  phase_ = name;
  phase_start_ = Clock::now();
  last_shown_ = phase_start_;
}

void Console::show_progress(const Event& event) {
  if (event.name != phase_) begin_phase(event.name);
  const Clock::time_point now = Clock::now();
  const bool finished = event.done >= event.total;
  if (now - last_shown_ < (settings_.animated ? Clock::duration(kRedraw) : Clock::duration(kPlainLines))) {
    if (finished) clear_bar();
    return;
  }
  last_shown_ = now;
  const double seconds = std::chrono::duration<double>(now - phase_start_).count();
  std::string text = progress_text(phase_, event.done, event.total, seconds);
  if (!event.text.empty()) text += "  " + event.text;
  text += "  rss " + format_byte_size(resident_bytes());
  if (!settings_.animated) return line(text);
  const double fraction = event.total > 0 ? std::clamp(event.done / event.total, 0.0, 1.0) : 0.0;
  fmt::print(stderr, "\r\x1b[2K{}{}", bar(fraction), text);
  std::fflush(stderr);
  bar_visible_ = true;
  if (finished) clear_bar();
}

void Console::clear_bar() {
  if (!bar_visible_) return;
  std::fputs("\r\x1b[2K", stderr);
  std::fflush(stderr);
  bar_visible_ = false;
}

void Console::line(std::string_view text) {
  if (settings_.quiet) return;
  clear_bar();
  fmt::print(stderr, "{}\n", text);
}

void Console::on_event(const Event& event) {
  if (log_ != nullptr) log_->write(event);
  if (settings_.quiet) return;
  switch (event.kind) {
    case Event::Kind::kPhase:
      begin_phase(event.name);
      if (!event.text.empty()) line(event.text);
      return;
    case Event::Kind::kProgress:
      return show_progress(event);
    case Event::Kind::kModule:
      if (settings_.verbose) line(event.name + "  " + join_fields(event.fields));
      return;
    case Event::Kind::kNote:
      return line(event.text);
    case Event::Kind::kWarning:
      return line((settings_.color ? "\x1b[33mwarning:\x1b[0m " : "warning: ") + event.text);
    case Event::Kind::kDebug:
      return;
  }
}

}  // namespace nibble::app
