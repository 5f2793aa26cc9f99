// SPDX-License-Identifier: Apache-2.0
#include "signals.h"

#include <signal.h>
#include <unistd.h>

#include <string_view>

#include "base/error.h"

namespace nibble::app {
namespace {

StopToken stop;

// Only async-signal-safe calls: a lock-free store, write and _exit.
void handle(int) {
  if (stop.stop_requested()) _exit(static_cast<int>(ErrorCode::kInterrupted));
  stop.request_stop();
  constexpr std::string_view kText = "\nstopping at the next safe point; press again to stop at once\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kText.data(), kText.size());
}

}  // namespace

const StopToken& stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A file beyond `ulimit -f` is an error of the write, with a message, not the end of the process.
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, nullptr);
  return stop;
}

}  // namespace nibble::app
