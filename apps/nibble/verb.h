// SPDX-License-Identifier: Apache-2.0
// A verb declares its flags, then runs: parse, call the library, print. verbs.cc holds the table of all of
// them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "flags.h"

namespace nibble::app {

class Program;

class Verb {
 public:
  virtual ~Verb() = default;
  virtual void add_flags(Flags& flags) = 0;
  // The exit code of the program is that of the error.
  virtual Status run(Program& program) = 0;
};

struct VerbEntry {
  std::string name;
  std::string usage;     // "MODEL [flags]"
  std::string summary;   // one line
  std::string detail{};  // what --help says below it; may be empty
  std::vector<std::string> examples;
  std::unique_ptr<Verb> (*make)();
};

const std::vector<VerbEntry>& verbs();
const VerbEntry* find_verb(const std::string& name);

}  // namespace nibble::app
