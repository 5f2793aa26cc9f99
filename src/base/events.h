// SPDX-License-Identifier: Apache-2.0
// What the library tells while it works. The library prints nothing: the program decides what becomes a
// progress bar, a log line or a JSON line.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nibble {

struct Event {
  enum class Kind {
    kPhase,     // a named phase begins: "load", "calibrate", "write"
    kProgress,  // `done` of `total` units of the phase (units are work, so that a time estimate is linear in
                // them)
    kModule,    // one module is finished: `name` and `fields`
    kNote,      // worth a line
    kWarning,   // worth a user's attention
    kDebug,     // for log files
  };
  Kind kind = Kind::kNote;
  std::string name{};  // phase, module or event name
  std::string text{};  // for people
  double done = 0;
  double total = 0;
  std::vector<std::pair<std::string, std::string>> fields{};  // for machines, in order
};

class EventSink {
 public:
  virtual ~EventSink() = default;
  // Called from one thread at a time.
  virtual void on_event(const Event& event) = 0;

  void phase(std::string name) { on_event({.kind = Event::Kind::kPhase, .name = std::move(name)}); }
  void progress(std::string phase_name, double done, double total) {
    on_event({.kind = Event::Kind::kProgress, .name = std::move(phase_name), .done = done, .total = total});
  }
  void note(std::string text) { on_event({.kind = Event::Kind::kNote, .text = std::move(text)}); }
  void warning(std::string text) { on_event({.kind = Event::Kind::kWarning, .text = std::move(text)}); }
};

// Drops every event.
class NullSink final : public EventSink {
 public:
  void on_event(const Event&) override {}
};

// Set by a signal handler; long work looks at it between modules and windows and stops cleanly.
class StopToken {
 public:
  void request_stop() { stop_.store(true, std::memory_order_relaxed); }
  bool stop_requested() const { return stop_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> stop_{false};
};

}  // namespace nibble
