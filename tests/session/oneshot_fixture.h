// SPDX-License-Identifier: Apache-2.0
// A run of oneshot in a folder of its own that goes away with it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "session/job.h"

namespace nibble {

inline const std::filesystem::path kOneshotGoldens =
    std::filesystem::path(NIBBLE_SOURCE_DIR) / "tests/golden/oneshot";

inline const std::filesystem::path kCalibrationIds =
    std::filesystem::path(NIBBLE_SOURCE_DIR) / "tests/golden/calibrated/calib_ids.safetensors";

inline std::string file_hash(const std::filesystem::path& file) {
  const auto text = read_text_file(file);
  EXPECT_TRUE(text.ok()) << file;
  return text.ok() ? sha256_hex(std::as_bytes(std::span(*text))) : "";
}
inline std::string weights_hash(const std::filesystem::path& folder) {
  return file_hash(folder / "model.safetensors");
}

// Asks for a stop at the n-th event.
class StopAt final : public EventSink {
 public:
  StopAt(StopToken& stop, int event) : stop_(stop), left_(event) {}
  void on_event(const Event&) override {
    if (--left_ == 0) stop_.request_stop();
  }

 private:
  StopToken& stop_;
  int left_;
};

class EventLog final : public EventSink {
 public:
  void on_event(const Event& event) override { events.push_back(event); }
  std::vector<std::string> texts(Event::Kind kind) const {
    std::vector<std::string> out;
    for (const Event& event : events) {
      if (event.kind == kind) out.push_back(event.text.empty() ? event.name : event.text);
    }
    return out;
  }
  std::vector<Event> events;
};

class OneshotRun {
 public:
  OneshotRun() {
    std::string pattern = (std::filesystem::temp_directory_path() / "nibble-oneshot-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~OneshotRun() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  OneshotRun(const OneshotRun&) = delete;
  OneshotRun& operator=(const OneshotRun&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path output() const { return folder_ / "output"; }

  Result<RunReport> start(const Options& options, int threads = 2) {
    ThreadPool pool(threads);
    Context context{pool, log, stop};
    return run_oneshot(options, context);
  }
  Result<std::unique_ptr<Job>> prepare(const Options& options) {
    ThreadPool pool(1);
    Context context{pool, log, stop};
    return Job::prepare(options, context);
  }

  EventLog log;
  StopToken stop;

 private:
  std::filesystem::path folder_;
};

}  // namespace nibble
