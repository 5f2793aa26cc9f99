// SPDX-License-Identifier: Apache-2.0
// The origin of a statistics file as the JSON in its metadata.
#include <algorithm>

#include "base/json.h"
#include "calibrate/saved_statistics.h"

namespace nibble {

const StatisticsOrigin::Set* StatisticsOrigin::find(const std::string& name) const {
  const auto found = std::ranges::find_if(sets, [&](const Set& set) { return set.name == name; });
  return found != sets.end() ? &*found : nullptr;
}

Json to_json(const StatisticsOrigin& origin) {
  Json json{{"nibble_version", origin.nibble_version},
            {"model", origin.model},
            {"model_type", origin.model_type},
            {"precision", origin.precision},
            {"reference", origin.reference},
            {"moe_calibrate_all_experts", origin.moe_calibrate_all_experts},
            {"pipeline", origin.pipeline},
            {"sequential_targets", origin.sequential_targets},
            {"sequential_targets_per_subgraph", origin.sequential_targets_per_subgraph},
            {"propagate_error", origin.propagate_error},
            {"recipe", origin.recipe},
            {"sets", Json::array()},
            {"runs", Json::array()}};
  for (const StatisticsOrigin::Set& set : origin.sets) {
    json["sets"].push_back({{"name", set.name},
                            {"modifiers", set.modifiers},
                            {"stream", set.of_original ? "original" : "changed"}});
  }
  for (const StatisticsOrigin::Run& run : origin.runs) {
    json["runs"].push_back({{"dataset", run.dataset},
                            {"fingerprint", run.fingerprint},
                            {"samples", run.samples},
                            {"tokens", run.tokens}});
  }
  return json;
}

Result<StatisticsOrigin> statistics_origin(const Json& json) {
  StatisticsOrigin origin;
  try {
    origin.nibble_version = json.at("nibble_version").get<std::string>();
    origin.model = json.at("model").get<std::string>();
    origin.model_type = json.at("model_type").get<std::string>();
    origin.precision = json.at("precision").get<std::string>();
    origin.reference = json.at("reference").get<bool>();
    origin.moe_calibrate_all_experts = json.at("moe_calibrate_all_experts").get<bool>();
    origin.pipeline = json.at("pipeline").get<std::string>();
    origin.sequential_targets = json.at("sequential_targets").get<std::vector<std::string>>();
    origin.sequential_targets_per_subgraph = json.at("sequential_targets_per_subgraph").get<std::int64_t>();
    origin.propagate_error = json.at("propagate_error").get<bool>();
    origin.recipe = json.at("recipe").get<std::string>();
    for (const Json& set : json.at("sets")) {
      origin.sets.push_back({set.at("name").get<std::string>(), set.at("modifiers").get<std::string>(),
                             set.at("stream").get<std::string>() == "original"});
    }
    for (const Json& run : json.at("runs")) {
      origin.runs.push_back({run.at("dataset").get<std::string>(), run.at("fingerprint").get<std::string>(),
                             run.at("samples").get<std::int64_t>(), run.at("tokens").get<std::int64_t>()});
    }
  } catch (const Json::exception& e) {
    return bad_data(std::string("the origin of the statistics is damaged: ") + e.what());
  }
  return origin;
}

}  // namespace nibble
