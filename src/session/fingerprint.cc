// SPDX-License-Identifier: Apache-2.0
#include "session/fingerprint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/hash.h"
#include "base/json.h"
#include "session/version.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

// Pieces of each file, spread evenly from the first byte to the last.
constexpr std::uint64_t kPieces = 64;
constexpr std::uint64_t kPieceBytes = 4096;

Result<std::uint64_t> sample_file(const fs::path& path, std::uint64_t seed) {
  TRY_ASSIGN(const auto file, MappedFile::open(path));
  const std::uint64_t size = file->size();
  std::uint64_t hash = xxh64(fmt::format("{} {}", path.filename().string(), size), seed);
  if (size <= kPieces * kPieceBytes) return xxh64(file->bytes(), hash);
  for (std::uint64_t i = 0; i < kPieces; ++i) {
    const std::uint64_t at = (size - kPieceBytes) / (kPieces - 1) * i;
    hash = xxh64(file->bytes().subspan(at, kPieceBytes), hash);
  }
  return xxh64(file->bytes().subspan(size - kPieceBytes), hash);
}

std::string plan_hash(const WritePlan& plan) {
  std::uint64_t hash = 0;
  for (const WritePlan::Shard& shard : plan.shards()) hash = xxh64(shard.header, xxh64(shard.file, hash));
  return hex(hash);
}

}  // namespace

Result<std::string> source_fingerprint(const Checkpoint& source) {
  std::uint64_t hash = xxh64(source.config().dump());
  std::set<std::string> files;
  for (const TensorInfo& tensor : source.tensors()) {
    hash = xxh64(fmt::format("{} {} {}", tensor.name, tensor.stored_as, to_string(tensor.shape)), hash);
    files.insert(tensor.file);
  }
  const fs::path root = fs::is_directory(source.path()) ? source.path() : source.path().parent_path();
  for (const std::string& name : files) {
    const fs::path path = fs::exists(root / name) ? root / name : source.path();
    if (!fs::is_regular_file(path)) continue;
    TRY_ASSIGN(hash, sample_file(path, hash));
  }
  return hex(hash);
}

Result<Fingerprint> run_fingerprint(const Checkpoint& source, const Options& options,
                                    const std::string& recipe, const std::string& data,
                                    const WritePlan& plan) {
  TRY_ASSIGN(const std::string source_value, source_fingerprint(source));
  const auto yes_no = [](bool value) { return std::string(value ? "true" : "false"); };
  return Fingerprint{
      {"version", library_version()},
      {"model", source_value},
      {"recipe", hex(xxh64(recipe))},
      {"dataset", data},
      {"output plan", plan_hash(plan)},
      {"pipeline", options.pipeline},
      {"reference", yes_no(options.reference)},
      {"precision", options.precision},
      {"propagate_error", yes_no(options.propagate_error)},
      {"moe_calibrate_all_experts", yes_no(options.moe_calibrate_all_experts)},
      {"sequential_targets", fmt::format("{}", fmt::join(options.sequential_targets, " "))},
      {"sequential_targets_per_subgraph", std::to_string(options.sequential_targets_per_subgraph)},
      {"save_statistics", yes_no(!options.save_statistics.empty())},
      {"seed", std::to_string(options.seed)}};
}

}  // namespace nibble
