// SPDX-License-Identifier: Apache-2.0
#include "session/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/hash.h"

namespace nibble {
namespace {

// Rows that are written or read at once.
constexpr std::int64_t kRows = 1024;

std::vector<ActivationBuffer*> buffers_of(StreamRunner& runner) {
  std::vector<ActivationBuffer*> buffers;
  for (Stream& stream : runner.streams()) buffers.push_back(&stream.buffer());
  if (runner.has_original()) buffers.push_back(&runner.original().buffer());
  return buffers;
}

std::span<std::byte> rows_of(ActivationBuffer& buffer, std::int64_t first, std::int64_t count) {
  return {reinterpret_cast<std::byte*>(buffer.row(first)),
          static_cast<std::size_t>(count * buffer.cols()) * sizeof(float)};
}

Result<std::string> save(ActivationBuffer& buffer, const std::filesystem::path& path) {
  TRY_ASSIGN(FileWriter writer, FileWriter::create(path));
  std::uint64_t hash = 0;
  for (std::int64_t first = 0; first < buffer.rows(); first += kRows) {
    const std::int64_t count = std::min(kRows, buffer.rows() - first);
    const auto bytes = rows_of(buffer, first, count);
    hash = xxh64(bytes, hash);
    TRY(writer.write(bytes));
    buffer.release(first, count);
  }
  TRY(writer.close());
  return hex(hash);
}

Result<bool> load(ActivationBuffer& buffer, const std::filesystem::path& path, const std::string& noted) {
  if (!std::filesystem::exists(path)) return false;
  TRY_ASSIGN(const auto file, MappedFile::open(path));
  const std::uint64_t row_bytes = static_cast<std::uint64_t>(buffer.cols()) * sizeof(float);
  if (file->size() != row_bytes * static_cast<std::uint64_t>(buffer.rows())) return false;
  std::uint64_t hash = 0;
  for (std::int64_t first = 0; first < buffer.rows(); first += kRows) {
    const std::int64_t count = std::min(kRows, buffer.rows() - first);
    const auto to = rows_of(buffer, first, count);
    const auto from = file->bytes().subspan(static_cast<std::uint64_t>(first) * row_bytes, to.size());
    hash = xxh64(from, hash);
    std::memcpy(to.data(), from.data(), from.size());
    buffer.release(first, count);
  }
  return hex(hash) == noted;
}

}  // namespace

Result<std::vector<std::pair<std::string, std::string>>> save_streams(StreamRunner& runner, int blocks,
                                                                      const std::filesystem::path& folder) {
  std::vector<std::pair<std::string, std::string>> saved;
  for (ActivationBuffer* buffer : buffers_of(runner)) {
    const std::string name = fmt::format("stream-{}-{}.bin", saved.size(), blocks);
    TRY_ASSIGN(std::string hash, save(*buffer, folder / name));
    saved.emplace_back(name, std::move(hash));
  }
  TRY(sync_folder(folder));
  return saved;
}

Result<bool> load_streams(StreamRunner& runner,
                          const std::vector<std::pair<std::string, std::string>>& streams,
                          const std::filesystem::path& folder) {
  const std::vector<ActivationBuffer*> buffers = buffers_of(runner);
  if (buffers.size() != streams.size()) return false;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    TRY_ASSIGN(const bool same, load(*buffers[i], folder / streams[i].first, streams[i].second));
    if (!same) return false;
  }
  return true;
}

}  // namespace nibble
