// SPDX-License-Identifier: Apache-2.0
// The flags of one verb: declared once, parsed by CLI11 (included by flags.cc alone), shown by --help. A
// wrong flag or value becomes an Error that names the nearest right one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace nibble::app {

struct FlagSpec {
  std::string names{};        // "-o,--output-dir"; a positional has no dashes
  std::string placeholder{};  // "DIR"; empty for switches
  std::string help{};
  std::string group{};
  std::string default_text{};
  bool positional = false;
  bool required = false;
};

class Flags {
 public:
  Flags();
  ~Flags();
  Flags(const Flags&) = delete;
  Flags& operator=(const Flags&) = delete;

  // What follows belongs under this heading of --help.
  void group(std::string name);

  // MODEL: a required argument without a name.
  void positional(const std::string& name, std::string& target, const std::string& help);
  // Any number of them.
  void positionals(const std::string& name, std::vector<std::string>& target, const std::string& help,
                   bool required = true);

  // `target` keeps its value when the flag is not given; that value is shown as the default.
  void value(const std::string& names, const std::string& placeholder, std::string& target,
             const std::string& help);
  void value(const std::string& names, const std::string& placeholder, std::optional<std::string>& target,
             const std::string& help);
  // Numbers outside [least, most] are refused.
  void value(const std::string& names, const std::string& placeholder, std::int64_t& target,
             const std::string& help, std::int64_t least, std::int64_t most = INT64_MAX);
  void value(const std::string& names, const std::string& placeholder, std::optional<std::int64_t>& target,
             const std::string& help, std::int64_t least, std::int64_t most = INT64_MAX);
  void value(const std::string& names, const std::string& placeholder, double& target,
             const std::string& help, double least, double most);
  void value(const std::string& names, const std::string& placeholder, std::optional<double>& target,
             const std::string& help, double least, double most);
  // One value each time the flag is given.
  void values(const std::string& names, const std::string& placeholder, std::vector<std::string>& target,
              const std::string& help);
  // One of `allowed`; the error has the nearest.
  void choice(const std::string& names, std::string& target, std::vector<std::string> allowed,
              const std::string& help);
  // --name sets it; with `negatable`, --no-name and --name=false unset it.
  void toggle(const std::string& names, bool& target, const std::string& help, bool negatable = false);
  // The same, and nullopt when the user did not say.
  void toggle(const std::string& names, std::optional<bool>& target, const std::string& help);

  const std::vector<FlagSpec>& specs() const;

  // Fills the targets. --help is not an error: `help_wanted` is set instead.
  struct Outcome {
    bool help_wanted = false;
  };
  Result<Outcome> parse(const std::string& verb, const std::vector<std::string>& arguments);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nibble::app
