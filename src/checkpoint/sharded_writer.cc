// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/sharded_writer.h"

#include <fmt/format.h>

#include <cstring>

#include "base/hash.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

// Larger parts are on their way to the disk while the next ones are computed.
constexpr std::size_t kSyncedPart = std::size_t{1} << 20;

// Left to the writing thread at most.
constexpr std::size_t kLeftBytes = std::size_t{16} << 20;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

Status check_existing(const fs::path& file, const WritePlan::Shard& shard) {
  TRY_ASSIGN(const std::shared_ptr<const MappedFile> mapped, MappedFile::open(file));
  const bool same = mapped->size() == shard.file_bytes &&
                    std::memcmp(mapped->bytes().data(), shard.header.data(), shard.header.size()) == 0;
  if (same) return {};
  return Error(bad_data("the unfinished file does not belong to this plan: its size or header differs",
                        "start again without resuming"))
      .add_context(fmt::format("file {}", file.string()));
}

}  // namespace

ShardedWriter::ShardedWriter(WritePlan plan, fs::path folder)
    : plan_(std::move(plan)), folder_(std::move(folder)), missing_bytes_(plan_.tensors().size()) {
  for (std::size_t i = 0; i < missing_bytes_.size(); ++i) missing_bytes_[i] = plan_.slots()[i].bytes;
}

Result<std::unique_ptr<ShardedWriter>> ShardedWriter::create(WritePlan plan, const fs::path& folder) {
  std::unique_ptr<ShardedWriter> writer(new ShardedWriter(std::move(plan), folder));
  for (const WritePlan::Shard& shard : writer->plan_.shards()) {
    TRY_ASSIGN(FileWriter file, FileWriter::create(folder / shard.file));
    TRY(file.reserve(shard.file_bytes));
    TRY(file.write(bytes_of(shard.header)));
    writer->files_.push_back(std::move(file));
  }
  return writer;
}

Result<std::unique_ptr<ShardedWriter>> ShardedWriter::resume(WritePlan plan, const fs::path& folder) {
  std::unique_ptr<ShardedWriter> writer(new ShardedWriter(std::move(plan), folder));
  for (const WritePlan::Shard& shard : writer->plan_.shards()) {
    TRY(check_existing(folder / shard.file, shard));
    TRY_ASSIGN(FileWriter file, FileWriter::reopen(folder / shard.file));
    writer->files_.push_back(std::move(file));
  }
  return writer;
}

Result<std::size_t> ShardedWriter::index_of(std::string_view name) const {
  const std::size_t i = plan_.index_of(name);
  if (i == plan_.tensors().size())
    return failed(fmt::format("tensor {} is not in the plan of the output", name));
  return i;
}

Status ShardedWriter::write(std::string_view name, const Tensor& tensor) {
  TRY_ASSIGN(const std::size_t i, index_of(name));
  const PlannedTensor& planned = plan_.tensors()[i];
  if (planned.dtype != tensor.dtype() || planned.shape != tensor.shape()) {
    return failed(fmt::format("tensor {} was planned as {} {}, but {} {} is to be written", name,
                              safetensors_name(planned.dtype), to_string(planned.shape),
                              safetensors_name(tensor.dtype()), to_string(tensor.shape())));
  }
  switch (take_turn(i, tensor)) {
    case Turn::kLeft:
      return {};
    case Turn::kBeside:
      return write_bytes(i, 0, tensor.bytes());
    case Turn::kMine:
      break;
  }
  Status status = write_bytes(i, 0, tensor.bytes());
  while (const auto left = next_left()) {
    if (status.ok()) status = write_bytes(left->first, 0, left->second.bytes());
  }
  return status;
}

ShardedWriter::Turn ShardedWriter::take_turn(std::size_t index, const Tensor& tensor) {
  const std::scoped_lock lock(mutex_);
  if (!std::exchange(writing_, true)) return Turn::kMine;
  if (left_bytes_ + tensor.byte_size() > kLeftBytes) return Turn::kBeside;
  left_bytes_ += tensor.byte_size();
  left_.emplace_back(index, tensor);
  return Turn::kLeft;
}

std::optional<std::pair<std::size_t, Tensor>> ShardedWriter::next_left() {
  const std::scoped_lock lock(mutex_);
  if (left_.empty()) {
    writing_ = false;
    return std::nullopt;
  }
  std::pair<std::size_t, Tensor> next = std::move(left_.back());
  left_.pop_back();
  left_bytes_ -= next.second.byte_size();
  return next;
}

Status ShardedWriter::write_part(std::string_view name, std::uint64_t offset,
                                 std::span<const std::byte> bytes) {
  TRY_ASSIGN(const std::size_t i, index_of(name));
  return write_bytes(i, offset, bytes);
}

Status ShardedWriter::write_bytes(std::size_t tensor, std::uint64_t offset,
                                  std::span<const std::byte> bytes) {
  const WritePlan::Slot& slot = plan_.slots()[tensor];
  const std::string& name = plan_.tensors()[tensor].name;
  CHECK(offset <= slot.bytes && bytes.size() <= slot.bytes - offset, "a part reaches beyond its tensor");
  CHECK(missing_bytes_[tensor].load() >= bytes.size(), "a tensor was written twice");
  TRY(files_[slot.shard].write_at(slot.offset + offset, bytes).at(fmt::format("tensor {}", name)));
  if (bytes.size() >= kSyncedPart) files_[slot.shard].start_sync(slot.offset + offset, bytes.size());
  missing_bytes_[tensor] -= bytes.size();
  return {};
}

bool ShardedWriter::is_finished(std::string_view name) const {
  const std::size_t i = plan_.index_of(name);
  return i < missing_bytes_.size() && missing_bytes_[i] == 0;
}

void ShardedWriter::mark_finished(std::string_view name) {
  const std::size_t i = plan_.index_of(name);
  CHECK(i < missing_bytes_.size(), "the tensor is not in the plan");
  missing_bytes_[i] = 0;
}

Status ShardedWriter::sync() {
  for (FileWriter& file : files_) TRY(file.sync());
  return {};
}

Result<std::uint64_t> ShardedWriter::stored_hash(std::string_view name) const {
  TRY_ASSIGN(const std::size_t i, index_of(name));
  const WritePlan::Slot& slot = plan_.slots()[i];
  TRY_ASSIGN(const auto mapped, MappedFile::open(folder_ / plan_.shards()[slot.shard].file));
  if (mapped->size() < slot.offset + slot.bytes) return bad_data(fmt::format("tensor {} is cut short", name));
  return xxh64(mapped->bytes().subspan(slot.offset, slot.bytes));
}

Status ShardedWriter::finish() {
  for (std::size_t i = 0; i < missing_bytes_.size(); ++i) {
    if (missing_bytes_[i] == 0) continue;
    return failed(fmt::format("the output is not complete: {} bytes of tensor {} were not written",
                              missing_bytes_[i].load(), plan_.tensors()[i].name));
  }
  for (FileWriter& file : files_) TRY(file.close());
  files_.clear();
  if (plan_.index_json().empty()) return {};
  TRY_ASSIGN(FileWriter index, FileWriter::create(folder_ / "model.safetensors.index.json"));
  TRY(index.write(bytes_of(plan_.index_json())));
  return index.close();
}

Status write_safetensors_file(const fs::path& path,
                              const std::vector<std::pair<std::string, Tensor>>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::vector<PlannedTensor> planned;
  for (const auto& [name, tensor] : tensors) planned.push_back({name, tensor.dtype(), tensor.shape()});
  const std::string temporary = path.filename().string() + ".partial";
  TRY_ASSIGN(WritePlan plan, WritePlan::make_single_file(std::move(planned), temporary, metadata));
  TRY_ASSIGN(const auto writer, ShardedWriter::create(std::move(plan), path.parent_path()));
  for (const auto& [name, tensor] : tensors) TRY(writer->write(name, tensor));
  TRY(writer->finish());
  return rename_durably(path.parent_path() / temporary, path);
}

}  // namespace nibble
