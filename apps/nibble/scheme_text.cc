// SPDX-License-Identifier: Apache-2.0
#include "scheme_text.h"

#include <fmt/format.h>

namespace nibble::app {

std::string args_summary(const QuantizationArgs& args) {
  std::string text = fmt::format("{}{} {}", to_string(args.type), args.num_bits,
                                 args.strategy ? to_string(*args.strategy) : "tensor");
  if (args.group_size && *args.group_size > 0) text += fmt::format(" {}", *args.group_size);
  if (!args.symmetric) text += " asymmetric";
  if (args.dynamic == Dynamic::kTrue) text += " dynamic";
  if (args.dynamic == Dynamic::kLocal) text += " local";
  return text;
}

std::string scheme_summary(const QuantizationScheme& scheme) {
  std::string text = scheme.weights ? args_summary(*scheme.weights) : std::string("weights stay");
  if (scheme.input_activations) text += "; activations " + args_summary(*scheme.input_activations);
  return text;
}

}  // namespace nibble::app
