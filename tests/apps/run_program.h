// SPDX-License-Identifier: Apache-2.0
// Runs the built program with arguments and environment, and keeps what it printed.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "base/json.h"

extern char** environ;

namespace nibble::app_test {

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void write_file(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// A folder of one test, removed at its end.
class Scratch {
 public:
  Scratch() {
    std::string pattern = (std::filesystem::temp_directory_path() / "nibble-test-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// `environment` entries are "NAME=value" and win over the inherited ones. `meanwhile` runs beside the
// program.
inline Outcome run_nibble(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& environment = {},
                          const std::function<void(pid_t child)>& meanwhile = {}) {
  const Scratch scratch;
  const std::string out = scratch / "out";
  const std::string err = scratch / "err";
  std::vector<std::string> words{NIBBLE_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (text.starts_with("NIBBLE_") || text.starts_with("LLM_COMPRESSOR_")) continue;
    variables.push_back(text);  // getenv takes the first
  }
  std::vector<char*> argv;
  std::vector<char*> envp;
  for (std::string& word : words) argv.push_back(word.data());
  for (std::string& variable : variables) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t child = 0;
  const int failed = posix_spawn(&child, NIBBLE_PROGRAM, &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  Outcome outcome;
  if (failed != 0) {
    ADD_FAILURE() << "cannot start " << NIBBLE_PROGRAM;
    return outcome;
  }
  if (meanwhile) meanwhile(child);
  int status = 0;
  waitpid(child, &status, 0);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = read_file(out);
  outcome.err = read_file(err);
  return outcome;
}

// What a successful run prints as JSON.
inline Json json_of(const std::vector<std::string>& arguments) {
  const Outcome outcome = run_nibble(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const Result<Json> document = parse_json(outcome.out);
  EXPECT_TRUE(document.ok()) << outcome.out;
  return document.ok() ? *document : Json();
}

inline std::string source_path(const std::string& relative) {
  return std::string(NIBBLE_SOURCE_DIR) + "/" + relative;
}

// The bundled model and texts.
inline const std::string kStories = source_path("data/models/stories260K");
inline const std::string kTexts = source_path("data/texts/stories.jsonl");

// Words of a command line that must end with this exit code and a message that holds this text.
struct Refusal {
  const char* name;
  std::vector<std::string> words;
  int code;
  std::string message;
};
inline void PrintTo(const Refusal& entry, std::ostream* out) {
  *out << entry.name;
}

// What the program printed with --json.
inline Json document_of(const Outcome& outcome) {
  const Result<Json> document = parse_json(outcome.out);
  EXPECT_TRUE(document.ok()) << outcome.out << outcome.err;
  return document.ok() ? *document : Json();
}

}  // namespace nibble::app_test
