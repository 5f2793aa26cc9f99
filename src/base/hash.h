// SPDX-License-Identifier: Apache-2.0
// XXH3-64 for fingerprints inside nibble, SHA-256 for hashes that people compare.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace nibble {

std::uint64_t xxh64(std::span<const std::byte> bytes, std::uint64_t seed = 0);
std::uint64_t xxh64(std::string_view text, std::uint64_t seed = 0);

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::span<const std::byte> bytes);
  std::string hex_digest();  // ends the computation

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::span<const std::byte> bytes);
std::string hex(std::uint64_t value);  // 16 digits

}  // namespace nibble
