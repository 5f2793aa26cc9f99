// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hub_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/file.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

struct HubId {
  std::string name;  // "org/name"
  std::string revision;
};

HubId split(std::string_view model) {
  const auto at = model.find('@');
  if (at == std::string_view::npos) return {std::string(model), "main"};
  return {std::string(model.substr(0, at)), std::string(model.substr(at + 1))};
}

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
         c == '.';
}

bool is_name_part(std::string_view part) {
  return !part.empty() && part.front() != '.' && part.front() != '-' &&
         std::all_of(part.begin(), part.end(), is_name_character);
}

// A branch, tag or commit; branch names may have slashes ("refs/pr/3").
bool is_revision(std::string_view revision) {
  return !revision.empty() && revision.front() != '/' && revision.find("..") == std::string_view::npos &&
         std::all_of(revision.begin(), revision.end(),
                     [](char c) { return c == '/' || is_name_character(c); });
}

std::string download_command(const HubId& id) {
  return "hf download " + id.name + (id.revision == "main" ? "" : " --revision " + id.revision);
}

std::vector<fs::path> folders_in(const fs::path& parent) {
  std::vector<fs::path> folders;
  std::error_code status;
  for (fs::directory_iterator it(parent, status), end; !status && it != end; it.increment(status)) {
    if (it->is_directory(status)) folders.push_back(it->path());
  }
  return folders;
}

}  // namespace

bool is_hub_id(std::string_view model) {
  const HubId id = split(model);
  const auto slash = id.name.find('/');
  if (!is_revision(id.revision)) return false;
  if (slash == std::string::npos) return is_name_part(id.name);
  const std::string_view name = id.name;
  return is_name_part(name.substr(0, slash)) && is_name_part(name.substr(slash + 1));
}

Result<fs::path> find_in_hub_cache(const fs::path& cache, std::string_view model) {
  const HubId id = split(model);
  const std::string hint = "fetch it first: " + download_command(id);
  if (cache.empty()) return no_input(fmt::format("{} is no file or folder here", id.name), hint);
  std::string folder_name = "models--" + id.name;
  if (const auto slash = folder_name.find('/'); slash != std::string::npos)
    folder_name.replace(slash, 1, "--");
  const fs::path folder = cache / folder_name;
  std::error_code status;
  if (!fs::is_directory(folder, status)) {
    return no_input(fmt::format("{} is neither a file or folder here nor in the Hugging Face cache {}",
                                id.name, cache.string()),
                    hint);
  }
  std::string commit = id.revision;
  if (const auto ref = read_text_file(folder / "refs" / id.revision, 4096); ref.ok()) {
    commit = ref->substr(0, ref->find_first_of(" \r\n"));
  }
  const std::vector<fs::path> snapshots = folders_in(folder / "snapshots");
  for (const fs::path& snapshot : snapshots) {
    if (snapshot.filename() == commit) return snapshot;
  }
  // A cache filled by commit has no refs/main; a single snapshot is then the one meant.
  if (id.revision == "main" && snapshots.size() == 1) return snapshots.front();
  return no_input(fmt::format("the Hugging Face cache {} has {} but not its revision {} ({} snapshots there)",
                              cache.string(), id.name, id.revision, snapshots.size()),
                  hint);
}

}  // namespace nibble
