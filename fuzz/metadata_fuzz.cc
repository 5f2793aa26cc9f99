// SPDX-License-Identifier: Apache-2.0
// Any text is a shard index or an error, and a configuration or an error; quantization metadata that were
// read are written so that they are read again as the same.
#include <array>
#include <cstdlib>

#include "base/json.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/shard_index.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nibble;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static_cast<void>(parse_shard_index(text).ok());
  const auto json = parse_json(text);
  if (!json.ok()) return 0;
  const auto config = read_quantization_config(*json);
  if (!config.ok() || !config->has_value()) return 0;
  const std::string text_written = config_text(*json, &**config);
  const auto written = parse_json(text_written);
  if (!written.ok()) std::abort();
  const auto again = read_quantization_config(*written);
  if (!again.ok() || !again->has_value() || config_text(*written, &**again) != text_written) std::abort();
  const auto resolver = SchemeResolver::make(**config);
  constexpr std::array<std::string_view, 1> kLinear{"Linear"};
  if (resolver.ok()) static_cast<void>(resolver->group_of("model.layers.0.q_proj", kLinear));
  return 0;
}
