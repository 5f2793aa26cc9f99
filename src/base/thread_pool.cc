// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
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

// Jobs follow each other within microseconds, and waking a sleeping thread takes longer than most of them:
// who waits looks for this long before it sleeps.
constexpr std::chrono::microseconds kLooks{50};

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks until `ready()` holds, for kLooks at most.
template <class Ready>
void look_for(Ready ready) {
  const auto end = std::chrono::steady_clock::now() + kLooks;
  do {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
}
}  // namespace

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable idle;
  std::vector<std::jthread> workers;
  std::mutex entry;    // one parallel_for at a time
  bool looks = false;  // not where threads are more than CPUs: who looks would keep another from working

  // The current job; written under `mutex` while no worker is active.
  const std::function<void(std::int64_t, std::int64_t)>* body = nullptr;
  std::int64_t count = 0;
  std::int64_t grain = 1;
  std::atomic<std::int64_t> next{0};
  std::exception_ptr failure;

  // Written under `mutex`, looked at without it.
  std::atomic<std::uint64_t> generation{0};
  std::atomic<int> active{0};  // workers inside the job; one that comes when it is no longer open stays out
  bool open = false;
  std::atomic<bool> stopping{false};

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

  // False when the pool ends. Afterwards `seen` is the job's number and the worker counts as active.
  bool enter_next_job(std::uint64_t& seen) {
    const auto is_new = [&] { return stopping || generation != seen; };
    for (;;) {
      if (looks) look_for(is_new);
      std::unique_lock lock(mutex);
      wake.wait(lock, is_new);
      if (stopping) return false;
      seen = generation;
      if (!open) continue;
      ++active;
      return true;
    }
  }

  void work() {
    for (std::uint64_t seen = 0; enter_next_job(seen);) {
      run_chunks();
      const std::scoped_lock lock(mutex);
      if (--active == 0) idle.notify_one();
    }
  }

  void start(std::int64_t items, std::int64_t items_per_chunk,
             const std::function<void(std::int64_t, std::int64_t)>& chunk_body) {
    {
      const std::scoped_lock lock(mutex);
      body = &chunk_body;
      count = items;
      grain = items_per_chunk;
      next.store(0, std::memory_order_relaxed);
      failure = nullptr;
      open = true;
      ++generation;
    }
    wake.notify_all();
  }

  void wait_for_all() {
    {
      const std::scoped_lock lock(mutex);
      open = false;
    }
    const auto is_done = [&] { return active == 0; };
    if (looks) look_for(is_done);
    std::unique_lock lock(mutex);
    idle.wait(lock, is_done);
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  CHECK(threads >= 0, "a thread count is not negative");
  const int cpus = available_cpus(), wanted = threads == 0 ? cpus : threads;
  state_->looks = wanted <= cpus;
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
  s.start(count, grain, body);
  s.run_chunks();
  s.wait_for_all();
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
