// SPDX-License-Identifier: Apache-2.0
// What long-running functions get from their caller: threads, a place for events, a stop signal. Passed down
// as a reference; there is no global state.
#pragma once

#include "base/events.h"
#include "base/thread_pool.h"

namespace nibble {

struct Context {
  ThreadPool& pool;
  EventSink& events;
  const StopToken& stop;
};

}  // namespace nibble
