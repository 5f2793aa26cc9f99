// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/output_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/file.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

// Marks a folder as ours to delete, and carries the lock.
constexpr std::string_view kMarker = ".nibble-partial";

fs::path normal(const fs::path& path) {
  std::error_code status;
  fs::path result = fs::weakly_canonical(fs::absolute(path, status), status);
  return result.has_filename() ? result : result.parent_path();
}

fs::path with_suffix(const fs::path& path, std::string_view suffix) {
  return fs::path(path.string() + std::string(suffix));
}

bool is_inside(const fs::path& inner, const fs::path& outer) {
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

bool stands(const fs::path& path) {
  std::error_code status;
  return fs::exists(fs::symlink_status(path, status));
}

bool is_empty_folder(const fs::path& path) {
  std::error_code status;
  return fs::is_directory(path, status) && fs::is_empty(path, status);
}

// Replacing deletes the old folder, so it must look like a model and like nothing else.
Status check_replaceable(const fs::path& folder) {
  std::error_code status;
  if (!fs::is_directory(folder, status) || !fs::exists(folder / "config.json", status)) {
    return cannot_create(
        fmt::format("{} is not replaced: it is no model folder (no config.json)", folder.string()),
        "choose another output folder or remove it yourself");
  }
  for (fs::directory_iterator it(folder, status), end; !status && it != end; it.increment(status)) {
    if (it->is_directory(status) && it->path().filename() != "additional_chat_templates") {
      return cannot_create(fmt::format("{} is not replaced: it holds the folder {}", folder.string(),
                                       it->path().filename().string()),
                           "choose another output folder or remove it yourself");
    }
  }
  return {};
}

Status check_existing_output(const fs::path& folder, const OutputDirectory::Options& options) {
  if (!stands(folder) || is_empty_folder(folder)) return {};
  std::error_code status;
  if (!fs::is_directory(folder, status)) {
    return cannot_create(fmt::format("the output {} is a file, not a folder", folder.string()),
                         "choose another output folder");
  }
  if (options.overwrite) return check_replaceable(folder);
  return cannot_create(fmt::format("the output {} exists already", folder.string()),
                       "choose another folder or allow it to be replaced (overwrite)");
}

Status check_partial(const fs::path& folder, bool resume) {
  const fs::path partial = with_suffix(folder, ".partial");
  if (!stands(partial)) {
    if (!resume) return {};
    return no_input(fmt::format("there is nothing to resume: {} does not exist", partial.string()));
  }
  if (is_empty_folder(partial) && !resume) return {};
  if (stands(partial / kMarker) || stands(folder / kMarker)) return {};  // see finish_interrupted_commit
  return cannot_create(fmt::format("{} is in the way and was not made by nibble", partial.string()),
                       "remove or rename it");
}

Status copy_durably(const fs::path& source, const fs::path& target) {
  TRY_ASSIGN(const auto mapped, MappedFile::open(source));
  TRY_ASSIGN(FileWriter writer, FileWriter::create(target));
  TRY(writer.write(mapped->bytes()));
  return writer.close();
}

// Swaps in one step where the file system can; otherwise the old folder waits under another name for the
// second rename.
Status replace_folder(const fs::path& partial, const fs::path& folder) {
  const fs::path old = with_suffix(folder, ".replaced");
  std::error_code status;
  if (::renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) {
    TRY(sync_folder(folder.parent_path()));
    fs::remove_all(partial, status);
    return {};
  }
  fs::remove_all(old, status);
  TRY(rename_durably(folder, old));
  TRY(rename_durably(partial, folder));
  fs::remove_all(old, status);
  return {};
}

// Mends what a kill inside commit() left. A marker in the final folder: the new output is complete, and what
// lies under the partial or the replaced name is the old one. No final folder but a replaced one: put that
// back.
void finish_interrupted_commit(const fs::path& folder) {
  const fs::path partial = with_suffix(folder, ".partial");
  const fs::path old = with_suffix(folder, ".replaced");
  std::error_code status;
  if (stands(folder / kMarker)) {
    if (!stands(partial / kMarker)) fs::remove_all(partial, status);
    fs::remove_all(old, status);
    fs::remove(folder / kMarker, status);
  } else if (!stands(folder) && stands(old / "config.json")) {
    fs::rename(old, folder, status);
  }
}

}  // namespace

OutputDirectory::OutputDirectory(fs::path final_path, fs::path partial)
    : final_(std::move(final_path)), partial_(std::move(partial)) {}

OutputDirectory::OutputDirectory(OutputDirectory&& other) noexcept
    : final_(std::move(other.final_)),
      partial_(std::move(other.partial_)),
      made_parents_(std::move(other.made_parents_)),
      lock_(std::exchange(other.lock_, -1)) {}

OutputDirectory& OutputDirectory::operator=(OutputDirectory&& other) noexcept {
  std::swap(final_, other.final_);
  std::swap(partial_, other.partial_);
  std::swap(made_parents_, other.made_parents_);
  std::swap(lock_, other.lock_);
  return *this;
}

OutputDirectory::~OutputDirectory() {
  if (lock_ >= 0) ::close(lock_);
}

Status OutputDirectory::check(const fs::path& final_path, const Options& options) {
  if (final_path.empty()) return usage_error("the name of the output folder is empty");
  const fs::path folder = normal(final_path);
  if (!folder.has_relative_path())
    return usage_error(fmt::format("{} cannot be an output folder", folder.string()));
  for (const fs::path& source : options.not_touched) {
    const fs::path kept = normal(source);
    std::error_code status;
    if (fs::is_directory(kept, status) && is_inside(folder, kept) && folder != kept) {
      return usage_error(
          fmt::format("the output {} lies in the folder of the source {}", folder.string(), kept.string()),
          "the source is never touched: choose a folder beside it");
    }
    if (is_inside(kept, folder)) {
      return usage_error(
          fmt::format("the output {} would replace the source {}", folder.string(), kept.string()),
          "the source is never touched: choose another output folder");
    }
  }
  TRY(check_existing_output(folder, options));
  TRY(check_partial(folder, options.resume));
  fs::path parent = folder.parent_path();
  std::error_code status;
  while (!fs::exists(parent, status) && parent.has_relative_path()) parent = parent.parent_path();
  if (::access(parent.c_str(), W_OK | X_OK) == 0 && fs::is_directory(parent, status)) return {};
  return cannot_create(fmt::format("cannot write into the folder {}", parent.string()),
                       fs::is_directory(parent, status) ? "you have no permission there: choose another place"
                                                        : "it is no folder: choose another place");
}

Result<OutputDirectory> OutputDirectory::create(const fs::path& final_path, const Options& options) {
  const fs::path folder = normal(final_path);
  finish_interrupted_commit(folder);
  TRY(check(final_path, options));
  OutputDirectory output(folder, with_suffix(folder, ".partial"));
  std::error_code status;
  for (fs::path parent = folder.parent_path(); !fs::exists(parent, status) && parent.has_relative_path();
       parent = parent.parent_path()) {
    output.made_parents_.push_back(parent);
  }
  fs::create_directories(output.partial_, status);
  if (status)
    return cannot_create(fmt::format("cannot create {}: {}", output.partial_.string(), status.message()));
  TRY(output.lock());
  if (options.resume) return output;
  for (fs::directory_iterator it(output.partial_, status), end; !status && it != end; it.increment(status)) {
    if (it->path().filename() == kMarker) continue;
    fs::remove_all(it->path(), status);
    if (status) break;
  }
  if (status)
    return cannot_create(fmt::format("cannot clear {}: {}", output.partial_.string(), status.message()));
  return output;
}

Status OutputDirectory::lock() {
  const fs::path marker = partial_ / kMarker;
  lock_ = ::open(marker.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0)
    return cannot_create(fmt::format("cannot create {}: {}", marker.string(), std::strerror(errno)));
  if (::flock(lock_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
    return {};  // some file systems have no locks
  return cannot_create(fmt::format("another run is writing to {}", partial_.string()),
                       "wait for it or stop it");
}

Status OutputDirectory::write_file(std::string_view name, std::string_view content) {
  TRY_ASSIGN(FileWriter writer, FileWriter::create(partial_ / name));
  TRY(writer.write(std::as_bytes(std::span(content.data(), content.size()))));
  return writer.close();
}

Status OutputDirectory::copy_file(const fs::path& source, std::string_view name) {
  return copy_durably(source, partial_ / (name.empty() ? source.filename() : fs::path(name)));
}

Result<std::vector<std::string>> OutputDirectory::copy_companions(const Checkpoint& source,
                                                                  const std::vector<std::string>& except) {
  std::error_code status;
  const fs::path root = fs::absolute(source.path(), status);
  std::vector<std::string> names;
  for (const fs::path& file : source.companion_files()) {
    const fs::path relative = file.lexically_relative(root);
    const std::string name = relative.string();
    if (std::find(except.begin(), except.end(), name) != except.end()) continue;
    if (relative.has_parent_path()) fs::create_directories(partial_ / relative.parent_path(), status);
    TRY(copy_durably(file, partial_ / relative));
    names.push_back(name);
  }
  return names;
}

Status OutputDirectory::remove_file(std::string_view name) {
  std::error_code status;
  fs::remove(partial_ / name, status);
  if (status)
    return cannot_create(fmt::format("cannot remove {}: {}", (partial_ / name).string(), status.message()));
  return {};
}

void OutputDirectory::discard() {
  // Without the marker it is no partial folder any more: commit() has swapped it for the old output.
  std::error_code status;
  if (stands(partial_ / kMarker)) fs::remove_all(partial_, status);
  for (const fs::path& parent : made_parents_) {
    if (!is_empty_folder(parent) || !fs::remove(parent, status)) return;
  }
}

Status OutputDirectory::commit() {
  std::error_code status;
  for (fs::recursive_directory_iterator it(partial_, status), end; !status && it != end;
       it.increment(status)) {
    if (it->is_directory(status)) TRY(sync_folder(it->path()));
  }
  TRY(sync_folder(partial_));
  if (stands(final_) && !is_empty_folder(final_)) {
    TRY(replace_folder(partial_, final_));
  } else {
    TRY(rename_durably(partial_, final_));  // an empty folder is replaced by the rename itself
  }
  // The marker is taken away last: before the rename a kill would leave a partial folder that nobody may
  // clear.
  fs::remove(final_ / kMarker, status);
  return sync_folder(final_);
}

}  // namespace nibble
