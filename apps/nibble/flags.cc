// SPDX-License-Identifier: Apache-2.0
#include "flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <functional>
#include <iterator>

#include "base/suggest.h"

namespace nibble::app {
namespace {

bool parse_number(const std::string& text, std::int64_t& out) {
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), out);
  return status == std::errc() && end == text.data() + text.size();
}

bool parse_number(const std::string& text, double& out) {
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), out);
  return status == std::errc() && end == text.data() + text.size();
}

template <class T>
std::string range_text(T least, T most) {
  if constexpr (std::is_same_v<T, std::int64_t>) {
    if (most == INT64_MAX) return fmt::format("a whole number, at least {}", least);
    return fmt::format("a whole number from {} to {}", least, most);
  } else {
    if (most >= 1e300) return fmt::format("a number, at least {}", least);
    return fmt::format("a number from {} to {}", least, most);
  }
}

std::string last_name(const std::string& names) {
  return names.substr(names.find_last_of(',') + 1);
}

std::vector<std::string> long_names(const std::vector<FlagSpec>& specs) {
  std::vector<std::string> names{"--help"};
  for (const FlagSpec& spec : specs) {
    if (spec.positional) continue;
    const std::string name = last_name(spec.names);
    const bool negatable = name.starts_with("--[no-]");
    names.push_back(negatable ? "--" + name.substr(7) : name);
    if (negatable) names.push_back("--no-" + name.substr(7));
  }
  return names;
}

}  // namespace

struct Flags::State {
  CLI::App parser;
  std::string group = "Flags";
  std::vector<FlagSpec> specs;
  std::optional<Error> wrong_value;  // what a callback found; CLI11's own message would be poorer

  void add_spec(FlagSpec spec) {
    spec.group = group;
    specs.push_back(std::move(spec));
  }

  // Values arrive as text, so that every message about them is ours.
  CLI::Option* add_text(const std::string& names,
                        std::function<std::optional<Error>(const std::string&)> accept) {
    CLI::Option* option = parser.add_option(
        names,
        [this, accept = std::move(accept)](const CLI::results_t& results) {
          for (const std::string& text : results) {
            if (std::optional<Error> error = accept(text)) {
              if (!wrong_value) wrong_value = std::move(error);
              return false;
            }
          }
          return true;
        },
        "");
    option->type_size(1)->expected(1)->take_last()->trigger_on_parse(false);
    return option;
  }

  template <class T, class Target>
  void add_number(const std::string& names, Target& target, T least, T most) {
    add_text(names, [&target, least, most, name = last_name(names)](const std::string& text) {
      T number{};
      if (!parse_number(text, number) || !(number >= least && number <= most)) {
        return std::optional<Error>(
            usage_error(fmt::format("{} is \"{}\", but must be {}", name, text, range_text(least, most))));
      }
      target = number;
      return std::optional<Error>();
    });
  }
};

Flags::Flags() : state_(std::make_unique<State>()) {
  state_->parser.set_help_flag("-h,--help", "");
  state_->parser.allow_extras();
}
Flags::~Flags() = default;

void Flags::group(std::string name) {
  state_->group = std::move(name);
}
const std::vector<FlagSpec>& Flags::specs() const {
  return state_->specs;
}

void Flags::positional(const std::string& name, std::string& target, const std::string& help) {
  state_->parser.add_option(name, target, "")->required();
  state_->add_spec({.names = name, .help = help, .positional = true, .required = true});
}

void Flags::positionals(const std::string& name, std::vector<std::string>& target, const std::string& help,
                        bool required) {
  CLI::Option* option = state_->parser.add_option(name, target, "");
  if (required) option->required();
  state_->add_spec({.names = name, .help = help, .positional = true, .required = required});
}

void Flags::value(const std::string& names, const std::string& placeholder, std::string& target,
                  const std::string& help) {
  state_->add_text(names, [&target](const std::string& text) {
    target = text;
    return std::optional<Error>();
  });
  state_->add_spec({.names = names, .placeholder = placeholder, .help = help, .default_text = target});
}

void Flags::value(const std::string& names, const std::string& placeholder,
                  std::optional<std::string>& target, const std::string& help) {
  state_->add_text(names, [&target](const std::string& text) {
    target = text;
    return std::optional<Error>();
  });
  state_->add_spec({.names = names, .placeholder = placeholder, .help = help});
}

void Flags::value(const std::string& names, const std::string& placeholder, std::int64_t& target,
                  const std::string& help, std::int64_t least, std::int64_t most) {
  state_->add_number(names, target, least, most);
  state_->add_spec(
      {.names = names, .placeholder = placeholder, .help = help, .default_text = fmt::to_string(target)});
}

void Flags::value(const std::string& names, const std::string& placeholder,
                  std::optional<std::int64_t>& target, const std::string& help, std::int64_t least,
                  std::int64_t most) {
  state_->add_number(names, target, least, most);
  state_->add_spec({.names = names, .placeholder = placeholder, .help = help});
}

void Flags::value(const std::string& names, const std::string& placeholder, double& target,
                  const std::string& help, double least, double most) {
  state_->add_number(names, target, least, most);
  state_->add_spec(
      {.names = names, .placeholder = placeholder, .help = help, .default_text = fmt::to_string(target)});
}

void Flags::value(const std::string& names, const std::string& placeholder, std::optional<double>& target,
                  const std::string& help, double least, double most) {
  state_->add_number(names, target, least, most);
  state_->add_spec({.names = names, .placeholder = placeholder, .help = help});
}

void Flags::values(const std::string& names, const std::string& placeholder, std::vector<std::string>& target,
                   const std::string& help) {
  CLI::Option* option = state_->add_text(names, [&target](const std::string& text) {
    target.push_back(text);
    return std::optional<Error>();
  });
  option->take_all()->expected(1, CLI::detail::expected_max_vector_size)->allow_extra_args(false);
  state_->add_spec({.names = names, .placeholder = placeholder, .help = help + " (repeatable)"});
}

void Flags::choice(const std::string& names, std::string& target, std::vector<std::string> allowed,
                   const std::string& help) {
  state_->add_spec({.names = names,
                    .placeholder = fmt::format("{}", fmt::join(allowed, "|")),
                    .help = help,
                    .default_text = target});
  state_->add_text(
      names, [&target, allowed = std::move(allowed), name = last_name(names)](const std::string& text) {
        if (std::find(allowed.begin(), allowed.end(), text) == allowed.end()) {
          return std::optional<Error>(
              usage_error(fmt::format("{} is \"{}\", but must be {}", name, text, join_or(allowed)),
                          did_you_mean(text, allowed)));
        }
        target = text;
        return std::optional<Error>();
      });
}

namespace {
// "-x,--name" gains "!--no-name", CLI11's spelling of a negative flag.
std::string with_negative(const std::string& names) {
  const std::string name = last_name(names);
  return names + ",!--no-" + name.substr(2);
}
}  // namespace

void Flags::toggle(const std::string& names, bool& target, const std::string& help, bool negatable) {
  std::string shown = names;
  if (negatable) shown.insert(shown.rfind("--") + 2, "[no-]");
  state_->add_spec({.names = shown, .help = help, .default_text = negatable ? (target ? "on" : "off") : ""});
  state_->parser.add_flag(negatable ? with_negative(names) : names, target, "");
}

void Flags::toggle(const std::string& names, std::optional<bool>& target, const std::string& help) {
  std::string shown = names;
  shown.insert(shown.rfind("--") + 2, "[no-]");
  state_->add_spec({.names = shown, .help = help});
  state_->parser.add_flag_callback(
      last_name(names), [&target] { target = true; }, "");
  state_->parser.add_flag_callback(
      "--no-" + last_name(names).substr(2), [&target] { target = false; }, "");
}

namespace {

Error unknown_argument(const std::string& verb, const std::string& argument,
                       const std::vector<FlagSpec>& specs) {
  const std::string help = fmt::format("nibble {} --help lists the flags", verb);
  if (argument.size() > 1 && argument[0] == '-') {
    const std::string name = argument.substr(0, argument.find('='));
    const std::string nearest = did_you_mean(name, long_names(specs));
    return usage_error(fmt::format("nibble {} has no flag {}", verb, name), nearest.empty() ? help : nearest);
  }
  return usage_error(fmt::format("nibble {} does not know what to do with \"{}\"", verb, argument),
                     "one argument too many? " + help);
}

}  // namespace

namespace {
// The arguments of the reference's oneshot() are written with underscores: --max_seq_length is a flag too.
std::string with_dashes(std::string argument) {
  if (!argument.starts_with("--")) return argument;
  const std::size_t end = std::min(argument.find('='), argument.size());
  std::replace(argument.begin(), argument.begin() + static_cast<std::ptrdiff_t>(end), '_', '-');
  return argument;
}
}  // namespace

Result<Flags::Outcome> Flags::parse(const std::string& verb, const std::vector<std::string>& arguments) {
  std::vector<std::string> reversed;
  std::transform(arguments.rbegin(), arguments.rend(), std::back_inserter(reversed), with_dashes);
  std::optional<Error> error;
  try {
    state_->parser.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    return Outcome{.help_wanted = true};
  } catch (const CLI::ParseError& e) {
    error = usage_error(e.what(), fmt::format("nibble {} --help shows how", verb));
    for (const FlagSpec& spec : state_->specs) {
      if (spec.positional && spec.required && std::string(e.what()).starts_with(spec.names + " is required"))
        error->what = fmt::format("the argument {} is missing: {}", spec.names, spec.help);
    }
  }
  if (state_->wrong_value) return *state_->wrong_value;
  // An unknown flag explains most other complaints, so it goes first.
  const std::vector<std::string> extras = state_->parser.remaining();
  const auto flag =
      std::find_if(extras.begin(), extras.end(), [](const auto& extra) { return extra[0] == '-'; });
  if (flag != extras.end()) return unknown_argument(verb, *flag, state_->specs);
  if (error) return *error;
  if (!extras.empty()) return unknown_argument(verb, extras.front(), state_->specs);
  return Outcome{};
}

}  // namespace nibble::app
