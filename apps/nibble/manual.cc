// SPDX-License-Identifier: Apache-2.0
#include "manual.h"

#include <fmt/format.h>

#include "help.h"
#include "settings.h"
#include "verb.h"

namespace nibble::app {
namespace {

// Text that roff takes as it stands: no requests, no escapes, dashes that can be copied.
std::string plain(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  if (out.starts_with('.') || out.starts_with('\'')) out.insert(0, "\\&");
  return out;
}

std::string tagged(const std::string& tag, const std::string& text) {
  return fmt::format(".TP\n\\fB{}\\fR\n{}\n", plain(tag), plain(text));
}

std::string flag_paragraph(const FlagSpec& spec) {
  std::string tag = spec.names;
  if (const std::size_t comma = tag.find(','); comma != std::string::npos) tag.replace(comma, 1, ", ");
  if (!spec.placeholder.empty()) tag += " " + spec.placeholder;
  std::string text = spec.help;
  if (!spec.default_text.empty()) text += " (default: " + spec.default_text + ")";
  return tagged(tag, text);
}

std::string verb_text(const VerbEntry& entry) {
  std::string out =
      fmt::format(".SS \"nibble {} {}\"\n{}.\n", plain(entry.name), plain(entry.usage), plain(entry.summary));
  if (!entry.detail.empty()) out += ".PP\n" + plain(entry.detail) + "\n";
  Flags flags;
  entry.make()->add_flags(flags);
  std::string group;
  for (const FlagSpec& spec : flags.specs()) {
    if (!spec.positional && spec.group != group && spec.group != "Flags")
      out += fmt::format(".PP\n\\fI{}\\fR\n", plain(spec.group));
    if (!spec.positional) group = spec.group;
    out += flag_paragraph(spec);
  }
  out += ".PP\nExamples:\n.PP\n.nf\n";
  for (const std::string& example : entry.examples)
    out += fmt::format("    nibble {} {}\n", plain(entry.name), plain(example));
  return out + ".fi\n";
}

}  // namespace

std::string manual_page() {
  std::string out = fmt::format(
      ".TH NIBBLE 1 \"\" \"nibble {}\" \"User Commands\"\n"
      ".SH NAME\nnibble \\- makes language models smaller on ordinary CPUs\n"
      ".SH SYNOPSIS\n\\fBnibble\\fR \\fIVERB\\fR [flags]\n"
      ".SH DESCRIPTION\n",
      version_number());
  out += plain(
             "Quantization, pruning and rotation of transformer language models in one shot. A MODEL is a "
             "folder "
             "with safetensors, a .gguf file, or org/name in the local Hugging Face cache; nothing is ever "
             "downloaded. The result goes to stdout, everything else to stderr.") +
         "\n.SH VERBS\n";
  for (const VerbEntry& entry : verbs()) out += verb_text(entry);
  out += ".SH COMMON FLAGS\n";
  Settings settings;
  Flags common;
  add_common_flags(common, settings);
  for (const FlagSpec& spec : common.specs()) out += flag_paragraph(spec);
  out += ".SH EXIT STATUS\n";
  for (const HelpRow& row : exit_codes()) out += tagged(row.name, row.text);
  out += ".SH ENVIRONMENT\n";
  for (const HelpRow& row : environment_variables()) out += tagged(row.name, row.text);
  return out;
}

}  // namespace nibble::app
