// SPDX-License-Identifier: Apache-2.0
// nibble VERB ...: finds the verb, parses its flags, runs it, and turns every failure into a text and an exit
// code.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/suggest.h"
#include "help.h"
#include "manual.h"
#include "program.h"
#include "signals.h"
#include "verb.h"

namespace nibble::app {
namespace {

int exit_code(const Error& error) {
  return static_cast<int>(error.code);
}

int fail(const Error& error, const Settings& settings) {
  print_error_text(error, settings.color);
  if (settings.json) {
    const std::string text = error_document(error).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  return exit_code(error);
}

int print_and_leave(const std::string& text) {
  const Status status = write_stdout(text);
  return status.ok() ? 0 : exit_code(status.error());
}

// What other tools call it.
constexpr std::pair<std::string_view, const char*> kOtherWords[] = {
    {"quantize", "oneshot"}, {"compress", "oneshot"},  {"prune", "oneshot"},  {"quant", "oneshot"},
    {"perplexity", "eval"},  {"ppl", "eval"},          {"evaluate", "eval"},  {"run", "generate"},
    {"chat", "generate"},    {"complete", "generate"}, {"info", "inspect"},   {"show", "inspect"},
    {"check", "verify"},     {"validate", "verify"},   {"compare", "diff"},   {"schemes", "recipes"},
    {"encode", "tokenize"},  {"version", "--version"}, {"summary", "report"},
};

Error unknown_verb(const std::string& word) {
  for (const auto& [other, ours] : kOtherWords) {
    if (word == other)
      return usage_error(fmt::format("nibble has no verb \"{}\"", word),
                         fmt::format("did you mean {}?", ours));
  }
  std::error_code status;
  if (std::filesystem::exists(word, status)) {
    return usage_error(fmt::format("{} is a file or folder, but the verb comes first", word),
                       fmt::format("nibble oneshot {} ..., or nibble inspect {}", word, word));
  }
  std::vector<std::string> names;
  for (const VerbEntry& entry : verbs()) names.push_back(entry.name);
  const std::string nearest = did_you_mean(word, names);
  return usage_error(fmt::format("nibble has no verb \"{}\"", word),
                     nearest.empty() ? "the verbs are " + join_or(names) : nearest);
}

// Position of the verb: common flags may stand before it.
std::size_t verb_position(const std::vector<std::string>& arguments) {
  std::size_t i = 0;
  while (i < arguments.size() && arguments[i].starts_with("-")) {
    Settings ignored;
    Flags flags;
    add_common_flags(flags, ignored);
    bool takes_value = false;
    for (const FlagSpec& spec : flags.specs()) {
      takes_value |= !spec.placeholder.empty() &&
                     ("," + spec.names + ",").find("," + arguments[i] + ",") != std::string::npos;
    }
    i += takes_value ? 2 : 1;
  }
  return i;
}

int run_verb(const VerbEntry& entry, const std::vector<std::string>& arguments, Settings& settings) {
  const std::unique_ptr<Verb> verb = entry.make();
  Flags flags;
  verb->add_flags(flags);
  add_common_flags(flags, settings);
  const Result<Flags::Outcome> outcome = flags.parse(entry.name, arguments);
  if (outcome.ok() && outcome->help_wanted) return print_and_leave(verb_help(entry, flags));
  const Status environment = apply_environment(settings);
  if (!outcome.ok()) return fail(outcome.error(), settings);
  if (!environment.ok()) return fail(environment.error(), settings);
  Result<std::unique_ptr<Program>> program = Program::start(settings, entry.name, stop_on_signals());
  if (!program.ok()) return fail(program.error(), settings);
  const Status status = verb->run(**program);
  if (status.ok()) return (*program)->exit_code();
  (*program)->print_error(status.error());
  return exit_code(status.error());
}

int run_program(std::vector<std::string> arguments, Settings& settings) {
  if (arguments.empty()) {
    std::fputs(overview_help().c_str(), stderr);
    return static_cast<int>(ErrorCode::kUsage);
  }
  if (arguments == std::vector<std::string>{"help", "--man"}) return print_and_leave(manual_page());
  if (arguments[0] == "help" && arguments.size() > 1) {
    arguments = {arguments[1], "--help"};
  } else if (arguments[0] == "help" || arguments[0] == "--help" || arguments[0] == "-h") {
    return print_and_leave(overview_help());
  } else if (arguments[0] == "--version" || arguments[0] == "-V") {
    return print_and_leave(version_text() + "\n");
  }
  const std::size_t position = verb_position(arguments);
  if (position >= arguments.size()) {
    return fail(usage_error("no verb given", "nibble --help lists the verbs"), settings);
  }
  const std::string word = arguments[position];
  arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(position));
  const VerbEntry* entry = find_verb(word);
  if (entry == nullptr) return fail(unknown_verb(word), settings);
  return run_verb(*entry, arguments, settings);
}

}  // namespace
}  // namespace nibble::app

int main(int argc, char** argv) {
  using namespace nibble;
  app::Settings settings;
  try {
    return app::run_program({argv + 1, argv + argc}, settings);
  } catch (const std::bad_alloc&) {
    return app::fail(
        failed("memory ran out", "a smaller --context, --batch-size or number of samples needs less"),
        settings);
  } catch (const std::exception& e) {
    return app::fail(failed(fmt::format("unexpected trouble: {}", e.what()),
                            "this is a fault of nibble; please report it with the command you ran"),
                     settings);
  }
}
