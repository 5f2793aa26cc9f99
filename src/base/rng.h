// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers (Philox4x32-10; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// 2011). A stream is named by (seed, stream), so what a task draws does not depend on the order of tasks.
#pragma once

#include <array>
#include <cstdint>

namespace nibble {

class Rng {
 public:
  explicit Rng(std::uint64_t seed, std::uint64_t stream = 0);

  std::uint32_t next_u32();
  std::uint64_t next_u64();
  double uniform();                      // [0, 1), 53 bits
  double normal();                       // mean 0, deviation 1 (Box-Muller)
  std::uint64_t below(std::uint64_t n);  // [0, n), n >= 1, without bias

 private:
  void refill();

  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
  bool has_spare_ = false;
  double spare_ = 0;
};

}  // namespace nibble
