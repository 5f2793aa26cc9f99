// SPDX-License-Identifier: Apache-2.0
#include "help.h"

#include <fmt/format.h>

#include <algorithm>

#include "nibble_version.h"

namespace nibble::app {
namespace {

constexpr std::size_t kWidth = 100;
constexpr std::size_t kColumn = 30;

constexpr HelpRow kExitCodes[] = {
    {"0", "done"},
    {"1", "the work failed; of diff: the models differ"},
    {"2", "the request is wrong: verb, flag, recipe, pattern"},
    {"65", "a file is damaged or not what it claims to be; of verify: something is wrong"},
    {"66", "a file, model or data set does not exist"},
    {"73", "the output cannot be written"},
    {"75", "stopped; finished work is kept and --resume continues"},
    {"130", "interrupted, nothing to resume"},
};

constexpr HelpRow kEnvironment[] = {
    {"NIBBLE_THREADS", "worker threads, as --threads"},
    {"NIBBLE_CPU_LEVEL", "instructions to use, as --cpu-level"},
    {"NIBBLE_LOG_FILE, LLM_COMPRESSOR_LOG_FILE", "log file"},
    {"HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME", "where downloaded models are looked up"},
    {"NO_COLOR, CLICOLOR_FORCE, TERM", "colours and the progress bar on stderr"},
};

// `text` broken at blanks into lines that start at `indent`; the first line begins where the caller stands.
std::string wrapped(const std::string& text, std::size_t indent) {
  std::string out;
  std::size_t column = indent;
  std::size_t begin = 0;
  while (begin < text.size()) {
    std::size_t end = std::min(text.find(' ', begin), text.size());
    if (column > indent && column + 1 + (end - begin) > kWidth) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += text.substr(begin, end - begin);
    column += end - begin;
    begin = end + 1;
  }
  return out;
}

std::string entry_text(const std::string& left, const std::string& right) {
  std::string out = "  " + left;
  if (out.size() + 2 > kColumn) {
    out += "\n" + std::string(kColumn, ' ');
  } else {
    out += std::string(kColumn - out.size(), ' ');
  }
  return out + wrapped(right, kColumn) + "\n";
}

std::string flag_text(const FlagSpec& spec) {
  std::string left = spec.names;
  if (const std::size_t comma = left.find(','); comma != std::string::npos) left.replace(comma, 1, ", ");
  if (!spec.placeholder.empty()) left += " " + spec.placeholder;
  std::string right = spec.help;
  if (!spec.default_text.empty()) right += " [" + spec.default_text + "]";
  return entry_text(left, right);
}

}  // namespace

std::span<const HelpRow> exit_codes() {
  return kExitCodes;
}
std::span<const HelpRow> environment_variables() {
  return kEnvironment;
}

std::string overview_help() {
  std::string out =
      "nibble makes language models smaller on ordinary CPUs: quantization, pruning, rotation, in one shot.\n"
      "\nExamples:\n"
      "  nibble oneshot MODEL --scheme W4A16 --output-dir OUT    compress a model\n"
      "  nibble oneshot MODEL --scheme W4A16 --dry-run           what would happen, how big, how long\n"
      "  nibble eval OUT --against MODEL --text wiki.test.raw    perplexity, and distance from the original\n"
      "  nibble generate OUT --prompt \"Once upon a time\"\n"
      "\nMODEL is a folder with safetensors, a .gguf file, or org/name in the local Hugging Face cache.\n"
      "\nUsage: nibble VERB [flags]\n\nVerbs:\n";
  for (const VerbEntry& entry : verbs()) out += entry_text(entry.name, entry.summary);
  out += "\nExit codes:\n";
  for (const HelpRow& row : kExitCodes) out += entry_text(row.name, row.text);
  out += "\nEnvironment:\n";
  for (const HelpRow& row : kEnvironment) out += entry_text(row.name, row.text);
  out += "\nnibble VERB --help shows the flags of a verb; nibble --version the version.\n";
  return out;
}

std::string verb_help(const VerbEntry& entry, const Flags& flags) {
  std::string out = fmt::format("nibble {}: {}\n\nExamples:\n", entry.name, entry.summary);
  for (const std::string& example : entry.examples)
    out += fmt::format("  nibble {}{}{}\n", entry.name, example.empty() ? "" : " ", example);
  out += fmt::format("\nUsage: nibble {} {}\n", entry.name, entry.usage);
  if (!entry.detail.empty()) out += "\n" + wrapped(entry.detail, 0) + "\n";
  std::string group;
  for (const FlagSpec& spec : flags.specs()) {
    const std::string heading = spec.positional ? "Arguments" : spec.group;
    if (heading != group) out += "\n" + heading + ":\n";
    group = heading;
    out += flag_text(spec);
  }
  return out + entry_text("-h, --help", "this text");
}

std::string version_number() {
  return NIBBLE_VERSION;
}
std::string version_commit() {
  return NIBBLE_COMMIT;
}
std::string version_text() {
  return fmt::format("nibble {} (commit {})", version_number(), version_commit());
}

}  // namespace nibble::app
