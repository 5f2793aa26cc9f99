// SPDX-License-Identifier: Apache-2.0
// The public interface of the library: one call from a model on disk to a smaller model on disk.
//
//   nibble::Options options;
//   options.model = "SmolLM2-135M";
//   options.scheme = "W4A16";
//   options.output_dir = "SmolLM2-135M-W4A16";
//   const nibble::Outcome outcome = nibble::oneshot(options);
//   if (!outcome.ok()) std::cerr << outcome.error << '\n';
//
// The library prints nothing, never exits and reads no environment.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nibble/options.h"

namespace nibble {

// Gets what happens while a run works; called from one thread at a time.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual void on_phase(const std::string& /*name*/) {}
  // `done` of `total` units of work of the phase; time is about linear in them.
  virtual void on_progress(const std::string& /*phase*/, double /*done*/, double /*total*/) {}
  virtual void on_note(const std::string& /*text*/) {}
  virtual void on_warning(const std::string& /*text*/) {}
  // Looked at between modules: true stops the run cleanly.
  virtual bool should_stop() { return false; }
};

struct Outcome {
  int code = 0;                    // 0, or the exit code of the program (docs/design.md, decision 13)
  std::string error;               // where and what, when code is not 0
  std::string hint;                // how to mend it
  std::string output_dir;          // where the model is; empty when nothing was saved
  std::uint64_t output_bytes = 0;  // of the weights on disk
  double bits_per_weight = 0;      // of the quantized modules, scales included
  std::vector<std::string> warnings;
  std::string report_json;  // report.json, or the plan

  bool ok() const { return code == 0; }
};

// Runs the job. With dry_run, or without output_dir, nothing is written.
Outcome oneshot(const Options& options, Listener* listener = nullptr);
// What oneshot() would do: treatment of each module, exact bytes, memory, time. Reads no weights.
Outcome plan(const Options& options, Listener* listener = nullptr);

const char* version();  // "0.1.0"

}  // namespace nibble
