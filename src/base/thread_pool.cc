// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"

namespace nibble {
namespace {
thread_local bool inside_task = false;
}  // namespace

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable idle;
  std::vector<std::jthread> workers;
  std::mutex entry;  // one parallel_for at a time

  // The current job; written under `mutex` while no worker is active.
  const std::function<void(std::int64_t, std::int64_t)>* body = nullptr;
  std::int64_t count = 0;
  std::int64_t grain = 1;
  std::atomic<std::int64_t> next{0};
  std::uint64_t generation = 0;
  int active = 0;
  bool stopping = false;
  std::exception_ptr failure;

  void run_chunks() {
    inside_task = true;
    for (;;) {
      const std::int64_t first = next.fetch_add(grain, std::memory_order_relaxed);
      if (first >= count) break;
      try {
        (*body)(first, std::min(first + grain, count));
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (!failure) failure = std::current_exception();
        next.store(count, std::memory_order_relaxed);
      }
    }
    inside_task = false;
  }

  void work() {
    std::uint64_t seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return stopping || generation != seen; });
        if (stopping) return;
        seen = generation;
      }
      run_chunks();
      const std::scoped_lock lock(mutex);
      if (--active == 0) idle.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  CHECK(threads >= 0, "a thread count is not negative");
  const int wanted = threads == 0 ? available_cpus() : threads;
  for (int i = 1; i < wanted; ++i) state_->workers.emplace_back([this] { state_->work(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  state_->workers.clear();
}

int ThreadPool::size() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::parallel_for(std::int64_t count, std::int64_t grain,
                              const std::function<void(std::int64_t, std::int64_t)>& body) {
  CHECK(grain >= 1, "a grain is at least 1");
  if (count <= 0) return;
  if (inside_task || state_->workers.empty() || count <= grain) {
    for (std::int64_t first = 0; first < count; first += grain) body(first, std::min(first + grain, count));
    return;
  }
  State& s = *state_;
  const std::scoped_lock entry(s.entry);
  {
    const std::scoped_lock lock(s.mutex);
    s.body = &body;
    s.count = count;
    s.grain = grain;
    s.next.store(0, std::memory_order_relaxed);
    s.active = static_cast<int>(s.workers.size());
    s.failure = nullptr;
    ++s.generation;
  }
  s.wake.notify_all();
  s.run_chunks();
  std::unique_lock lock(s.mutex);
  s.idle.wait(lock, [&] { return s.active == 0; });
  if (s.failure) std::rethrow_exception(s.failure);
}

int available_cpus() {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = CPU_COUNT(&set);
  std::ifstream quota_file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (quota_file >> quota >> period && quota != "max" && period > 0) {
    cpus = std::min(cpus, static_cast<int>(std::ceil(std::strtod(quota.c_str(), nullptr) / period)));
  }
  return std::max(cpus, 1);
}

}  // namespace nibble
