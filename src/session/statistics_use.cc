// SPDX-License-Identifier: Apache-2.0
#include "session/statistics_use.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/hash.h"
#include "session/fingerprint.h"
#include "session/version.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

// Statistics that a file can hold, and the tensor that has them.
struct Kept {
  unsigned bit;
  const char* name;    // as people say
  const char* suffix;  // of the tensor
};
constexpr std::array kKept{Kept{kInputAbsMean, "mean of |x| per input channel", "abs_mean"},
                           Kept{kInputSquareMean, "mean of x^2 per input channel", "square_mean"},
                           Kept{kInputColumnRange, "range per input channel", "column_min"},
                           Kept{kHessian, "second moments of the input", "second_moments"},
                           Kept{kInputSample, "sample of input rows", "sample"},
                           Kept{kInputShift, "deviation from the original model's input", nullptr},
                           Kept{kOutputColumnRange, "range per output channel", "min"}};
constexpr unsigned kNeverKept = kInputParams | kOutputParams | kSublayerError;

const char* never_kept(unsigned needs) {
  if ((needs & kSublayerError) != 0) return "outputs of the sublayers for candidates of its search";
  return "static scales of activations, which are observed on the data themselves";
}

bool is_kept(const StatisticsFile& file, const std::string& set, const ModelState& state,
             const ModuleInfo& module, const Kept& kept, bool of_original) {
  if (kept.bit == kOutputColumnRange) {
    const ModuleInfo* reader = reader_of(state.model, module);
    const StatisticsFile::Entry* input = reader != nullptr ? file.input_of(set, reader->name) : nullptr;
    return file.output_of(set, module.name) != nullptr || (input != nullptr && input->has("column_min"));
  }
  const StatisticsFile::Entry* entry = file.input_of(set, module.name);
  if (entry == nullptr) return false;
  // No token came when it was gathered: nothing is there, as in the run itself.
  if (entry->cols == 0) return true;
  if (kept.bit == kInputShift) {
    // Routed experts have other rows in the original model: there is no shift for them.
    return of_original || entry->zero_shift || entry->has("half_0.shift") ||
           (module.expert >= 0 && entry->has("second_moments"));
  }
  return entry->has(kept.suffix);
}

Status check_module(const StatisticsFile& file, const std::string& set, const ModelState& state,
                    const Modifier& modifier, const ModuleInfo& module, unsigned needs) {
  if ((needs & kNeverKept) != 0) {
    return usage_error(fmt::format("{} needs, of {}, {}: no statistics file holds them",
                                   modifier.class_name(), module.name, never_kept(needs)),
                       "give --dataset instead of --statistics");
  }
  const StatisticsOrigin::Set* origin = file.origin().find(set);
  const bool of_original = origin != nullptr && origin->of_original;
  for (const Kept& kept : kKept) {
    if ((needs & kept.bit) == 0 || is_kept(file, set, state, module, kept, of_original)) continue;
    return usage_error(
        fmt::format("{} needs, of {}, the {}, which set \"{}\" of {} does not hold", modifier.class_name(),
                    module.name, kept.name, set, file.path().string()),
        fmt::format("save statistics with a recipe that has {} for these modules, or give --dataset",
                    modifier.class_name()));
  }
  return {};
}

std::string joined(const std::vector<std::string>& texts) {
  return texts.empty() ? "none" : fmt::format("{}", fmt::join(texts, ", "));
}

std::string modifiers_of(const Lifecycle& lifecycle, const std::vector<std::size_t>& which) {
  std::vector<std::string> names;
  for (const std::size_t k : which) names.push_back(lifecycle.modifiers()[k]->class_name());
  return fmt::format("{}", fmt::join(names, ", "));
}

// The inputs of a phase are the original model's when nothing that runs before it, in its own block or in an
// earlier one, has changed a weight.
bool sees_original(const StatisticsRun& run, std::size_t phase) {
  for (std::size_t p = 0; p < run.walk.phases.size(); ++p) {
    const WalkPhase& other = run.walk.phases[p];
    const bool changes = std::ranges::any_of(other.modifiers, [&](std::size_t k) {
      return run.lifecycle.modifiers()[k]->changes_weights(run.state);
    });
    if (!changes) continue;
    if (p < phase || run.walk.propagates_error) return false;
    if (p == phase && other.segments.size() > 1) return false;
  }
  return true;
}

}  // namespace

std::string set_of_phase(std::size_t phase) {
  return std::to_string(phase);
}

Result<StatisticsOrigin> origin_of(const StatisticsRun& run) {
  StatisticsOrigin origin{.nibble_version = library_version(),
                          .model = {},
                          .model_type = run.state.model.architecture,
                          .precision = std::string(torch_name(run.storage.model_dtype)),
                          .reference = run.options.reference,
                          .moe_calibrate_all_experts = run.options.moe_calibrate_all_experts,
                          .pipeline = run.options.pipeline,
                          .sequential_targets = run.options.sequential_targets,
                          .sequential_targets_per_subgraph = run.options.sequential_targets_per_subgraph,
                          .propagate_error = run.options.propagate_error,
                          .recipe = hex(xxh64(run.recipe)),
                          .sets = {},
                          .runs = {}};
  TRY_ASSIGN(origin.model, source_fingerprint(run.checkpoint));
  origin.sets.push_back({kSurveySet, "profiles of the original model", true});
  for (std::size_t p = 0; p < run.walk.phases.size(); ++p) {
    origin.sets.push_back(
        {set_of_phase(p), modifiers_of(run.lifecycle, run.walk.phases[p].modifiers), sees_original(run, p)});
  }
  if (run.data != nullptr)
    origin.runs.push_back({run.data->source, run.data->fingerprint, run.data->samples, run.data->tokens});
  return origin;
}

std::string saved_set(const StatisticsFile& file, const std::string& wished) {
  if (file.inputs().contains(wished) || file.outputs().contains(wished)) return wished;
  const std::string first = set_of_phase(0);
  const StatisticsOrigin::Set* set = file.origin().find(first);
  return set != nullptr && set->of_original ? first : wished;
}

Status adopt_calibration(const StatisticsFile& file, Options& options) {
  const StatisticsOrigin& origin = file.origin();
  if (!options.pipeline.empty() && options.pipeline != origin.pipeline) {
    return usage_error(
        fmt::format("pipeline is {}, but {} was calibrated with {}", options.pipeline, file.path().string(),
                    origin.pipeline.empty() ? "the stage-wise default" : origin.pipeline),
        "leave out --pipeline: the file decides it");
  }
  if (!options.sequential_targets.empty() && options.sequential_targets != origin.sequential_targets) {
    return usage_error(fmt::format("sequential_targets are {}, but {} was calibrated with {}",
                                   joined(options.sequential_targets), file.path().string(),
                                   joined(origin.sequential_targets)),
                       "leave out --sequential-targets: the file decides them");
  }
  options.pipeline = origin.pipeline;
  options.sequential_targets = origin.sequential_targets;
  options.sequential_targets_per_subgraph = origin.sequential_targets_per_subgraph;
  options.propagate_error = origin.propagate_error;
  options.moe_calibrate_all_experts = origin.moe_calibrate_all_experts;
  return {};
}

Status check_statistics(const StatisticsFile& file, const StatisticsRun& run,
                        std::vector<std::string>& notes) {
  TRY_ASSIGN(const StatisticsOrigin now, origin_of(run));
  const StatisticsOrigin& then = file.origin();
  if (now.model != then.model) {
    return usage_error(
        fmt::format("{} was taken from another model: fingerprint {} ({}), and {} has {} ({})",
                    file.path().string(), then.model, then.model_type, run.options.model, now.model,
                    now.model_type),
        "give the model the statistics were taken from, or take them again with --save-statistics");
  }
  for (std::size_t p = 0; p < run.walk.phases.size(); ++p) {
    for (const std::size_t k : run.walk.phases[p].modifiers) {
      const Modifier& modifier = *run.lifecycle.modifiers()[k];
      if (modifier.measures_divergence()) {
        return usage_error(
            fmt::format("{} measures its profile by running the model: no statistics file replaces that",
                        modifier.class_name()),
            "give --dataset instead of --statistics, or sparsity_profile: owl");
      }
      for (const ModuleInfo& module : run.state.model.modules) {
        TRY(check_module(file, saved_set(file, set_of_phase(p)), run.state, modifier, module,
                         modifier.needs(run.state, module)));
        TRY(check_module(file, saved_set(file, kSurveySet), run.state, modifier, module,
                         modifier.survey_needs(run.state, module)));
      }
    }
    const StatisticsOrigin::Set* set = then.find(saved_set(file, set_of_phase(p)));
    if (set != nullptr && !set->of_original && now.recipe != then.recipe) {
      notes.push_back(
          fmt::format("the statistics for {} were taken behind layers that another recipe had "
                      "changed (--pipeline basic takes those of the original model)",
                      modifiers_of(run.lifecycle, run.walk.phases[p].modifiers)));
    }
  }
  if (now.precision != then.precision)
    notes.push_back(
        fmt::format("the statistics were taken with precision {}, now {}", then.precision, now.precision));
  if (now.reference != then.reference) {
    notes.push_back(fmt::format("the statistics were taken {} reference, now {} it",
                                then.reference ? "with" : "without", now.reference ? "with" : "without"));
  }
  return {};
}

Status check_statistics_target(const Options& options) {
  const fs::path path(options.save_statistics);
  std::error_code status;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (path.extension() != ".safetensors") {
    return usage_error(
        fmt::format("save_statistics is {}, expected a name that ends in .safetensors", path.string()));
  }
  if (!fs::is_directory(folder, status)) {
    return cannot_create(fmt::format("the folder of {} does not exist", path.string()), "make it first");
  }
  if (fs::exists(path, status) && !options.overwrite && !options.resume) {
    return cannot_create(fmt::format("{} exists already", path.string()),
                         "give another name, or --overwrite");
  }
  return {};
}

Result<StatisticsSaver> StatisticsSaver::create(const Options& options) {
  TRY_ASSIGN(StatisticsWriter writer, StatisticsWriter::create(options.save_statistics, options.resume));
  return StatisticsSaver(std::move(writer));
}

namespace {

// Survey parts stand first; blocks in their order.
std::string part_name(const std::string& set, int block, int number) {
  return set == kSurveySet ? fmt::format("a-{:06}", block) : fmt::format("b-{:06}-{:03}", block, number);
}

}  // namespace

Status StatisticsSaver::save(const std::string& set, int block, int number, const Gatherer& gatherer) const {
  StatisticsPart part;
  gatherer.add_to(part, set);
  return part.empty() ? Status() : writer_.write_part(part_name(set, block, number), part);
}

Status StatisticsSaver::go_on(int finished, bool has_phases) const {
  TRY(writer_.drop_from(part_name({}, finished, 0)));
  if (finished == 0 || !has_phases || writer_.has_part(part_name({}, 0, 0))) return {};
  return bad_data(fmt::format("the statistics that the stopped run saved are not in {} any more",
                              writer_.folder().string()),
                  "start again without --resume");
}

}  // namespace nibble
