// SPDX-License-Identifier: Apache-2.0
// The one thread pool. Work is split by output into tasks whose results do not depend on who runs them or in
// what order, so results are equal for any number of threads; reductions are never split (design.md, decision
// 8).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace nibble {

class ThreadPool {
 public:
  // `threads` >= 1 counts the calling thread; 0 means one per available CPU (affinity mask and cgroup quota).
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Runs body(first, last) over [0, count) in chunks of at most `grain` (>= 1) and returns when all are done.
  // Chunk borders depend only on count and grain. A call from inside a task runs inline. An exception
  // (bad_alloc) leaves from the caller after all tasks have stopped.
  void parallel_for(std::int64_t count, std::int64_t grain,
                    const std::function<void(std::int64_t first, std::int64_t last)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// CPUs this process may use: the affinity mask, cut to the cgroup's quota (rounded up).
int available_cpus();

}  // namespace nibble
