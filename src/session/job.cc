// SPDX-License-Identifier: Apache-2.0
#include "session/job.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/byte_size.h"
#include "base/file.h"
#include "base/json.h"
#include "base/suggest.h"
#include "session/calibrated.h"
#include "session/config_writer.h"
#include "session/data_free.h"
#include "session/estimate.h"
#include "session/fingerprint.h"
#include "session/option_notes.h"
#include "session/recipe_shortcuts.h"
#include "session/small_files.h"
#include "session/source.h"
#include "session/version.h"
#include "session/yaml.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

OutputDirectory::Options directory_options(const Options& options, const Checkpoint& checkpoint) {
  return {.overwrite = options.overwrite, .resume = options.resume, .not_touched = {checkpoint.path()}};
}

// Modules that a shortcut leaves alone unless the user says which: the head, and linears that route tokens.
std::vector<std::string> usual_ignore(const ModelDescription& model) {
  std::vector<std::string> ignore;
  for (const ModuleInfo& module : model.modules) {
    const bool routes = module.role == ModuleRole::kSharedRouter;
    if (module.role == ModuleRole::kLmHead || routes) ignore.push_back(module.name);
  }
  return ignore;
}

void measure_source(const Checkpoint& checkpoint, RunReport& report) {
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    report.source_bytes += tensor.stored_bytes;
    report.parameters += element_count(tensor.shape);
  }
}

Error missing_data(const std::string& class_name, const std::string& reason) {
  return usage_error(
      fmt::format("{} needs calibration data{}{}", class_name, reason.empty() ? "" : ": ", reason),
      "give a dataset: a text, JSON lines, CSV, a folder of these, or .safetensors with input_ids");
}

class Timer {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> elapsed = now - last_;
    last_ = now;
    return elapsed.count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace

Job::Job(const Options& options, std::unique_ptr<Checkpoint> checkpoint, ModelDescription model)
    : options_(options),
      checkpoint_(std::move(checkpoint)),
      model_(std::move(model)),
      state_{.model = model_,
             .rules = {.strict = options.reference},
             .schemes = SchemeMap(model_),
             .matches = {},
             .pruned = {},
             .unties_embeddings = !options.tie_word_embeddings} {}

Result<std::unique_ptr<Job>> Job::prepare(const Options& options, Context& context) {
  Timer timer;
  context.events.phase("prepare");
  if (options.model.empty()) return usage_error("no model is given");
  TRY(check_options(options));
  TRY_ASSIGN(Source source, open_source(options, context));
  TRY_ASSIGN(ModelDescription model, describe_model(*source.checkpoint));
  std::unique_ptr<Job> job(new Job(options, std::move(source.checkpoint), std::move(model)));
  job->options_.tokenizer = source.tokenizer;
  job->options_.processor = source.processor;
  for (std::string& text : source.warnings) job->warn(context, std::move(text));
  TRY(job->read_recipe(context));
  TRY(job->plan_files(context));
  job->resume_only_what_exists(context);
  TRY(job->check_output());
  job->report_.phases.emplace_back("prepare", timer.lap());
  return job;
}

void Job::warn(Context& context, std::string text) {
  context.events.warning(text);
  report_.warnings.push_back(std::move(text));
}

Status Job::read_recipe(Context& context) {
  if (options_.recipe.empty() == options_.scheme.empty()) {
    return usage_error(options_.recipe.empty() ? "neither a recipe nor a scheme is given"
                                               : "both a recipe and a scheme are given",
                       "give a recipe file, or a scheme such as W4A16");
  }
  if (!options_.scheme.empty()) {
    const Shortcut shortcut{.scheme = options_.scheme,
                            .method = options_.method.empty() ? "rtn" : options_.method,
                            .group_size = options_.group_size,
                            .ignore = options_.ignore.empty() ? usual_ignore(model_) : options_.ignore};
    TRY_ASSIGN(recipe_, recipe_of_shortcut(shortcut));
  } else {
    std::vector<Recipe> recipes;
    for (const std::string& text : options_.recipe) {
      const RecipeOptions how{.recipe_args = options_.recipe_args,
                              .stage = options_.stage,
                              .rules = {.strict = options_.reference}};
      TRY_ASSIGN(Recipe recipe, load_recipe(text, how));
      recipes.push_back(std::move(recipe));
    }
    recipe_ = join_recipes(std::move(recipes));
  }
  for (const std::string& text : recipe_.warnings) warn(context, "recipe: " + text);
  // As llm-compressor does: a stage without modifiers is no mistake.
  if (recipe_.empty() && options_.stage.empty() && !recipe_.stages.empty()) {
    warn(context, "the recipe holds no modifier: the model is written as it is");
  } else if (recipe_.empty()) {
    return usage_error(options_.stage.empty() ? "the recipe holds no modifier"
                                              : fmt::format("no stage starts with \"{}\"", options_.stage),
                       recipe_.stages.empty() ? "modifiers stand under keys that end in _stage and _modifiers"
                                              : "stages are " + join_or(recipe_.stages));
  }
  TRY_ASSIGN(const Pipeline wished, pipeline_from_string(options_.pipeline));
  for (const ModifierConfig& config : recipe_.modifiers) {
    const PipelineChoice choice = choose_pipeline(config, wished);
    if (!choice.note.empty()) warn(context, choice.note);
  }
  TRY(check_data_is_given());
  TRY_ASSIGN(lifecycle_, Lifecycle::create(recipe_, state_, context.events));
  for (std::string& text : state_.matches.warnings) warn(context, std::move(text));
  return read_data(context);
}

bool Job::has_dataset() const {
  return !options_.dataset.empty() || !options_.dataset_path.empty();
}

Status Job::check_data_is_given() const {
  if (has_dataset() && !options_.statistics.empty()) {
    return usage_error("both a dataset and statistics are given",
                       "statistics stand for the forward passes on a dataset: leave one out");
  }
  if (has_dataset() || !options_.statistics.empty()) return {};
  for (const ModifierConfig& config : recipe_.modifiers) {
    TRY_ASSIGN(const std::string reason, calibration_reason(config));
    if (!reason.empty()) return missing_data(config.class_name(), reason);
  }
  return {};
}

StatisticsRun Job::statistics_run() const {
  return {.checkpoint = *checkpoint_,
          .options = options_,
          .state = state_,
          .lifecycle = *lifecycle_,
          .walk = walk_,
          .storage = storage_,
          .data = data_ ? &*data_ : nullptr,
          .recipe = report_.recipe};
}

// After everything else about the run is known: what the file must hold follows from it.
Status Job::read_statistics(Context& context) {
  if (!statistics_) return {};
  std::vector<std::string> notes;
  TRY(check_statistics(*statistics_, statistics_run(), notes));
  for (std::string& note : notes) warn(context, std::move(note));
  for (const StatisticsOrigin::Run& run : statistics_->origin().runs) {
    report_.calibration_data +=
        fmt::format("{}{}", report_.calibration_data.empty() ? "" : ", ", run.dataset);
    report_.calibration_samples += run.samples;
    report_.calibration_tokens += run.tokens;
  }
  report_.calibration_data += fmt::format(" (statistics {})", options_.statistics);
  report_.calibration_hash = statistics_->fingerprint();
  return {};
}

Status Job::check_saved_statistics(bool needed) const {
  if (options_.save_statistics.empty()) return {};
  if (!options_.statistics.empty()) {
    return usage_error("both statistics and save_statistics are given",
                       "with --statistics nothing new is gathered: leave out --save-statistics");
  }
  if (!needed) {
    return usage_error("there are no statistics to save: no modifier of the recipe needs any",
                       "leave out --save-statistics, or use a recipe that calibrates");
  }
  return check_statistics_target(options_);
}

// Rows that are routed to experts have no place in a mask; llm-compressor uses it for AWQ alone.
Status Job::check_loss_mask() const {
  if (!options_.use_loss_mask) return {};
  const bool has_experts =
      std::ranges::any_of(model_.modules, [](const ModuleInfo& module) { return module.expert >= 0; });
  if (has_experts && !options_.moe_calibrate_all_experts) {
    return usage_error("use_loss_mask needs moe_calibrate_all_experts in a mixture of experts",
                       "leave one of them out");
  }
  for (const auto& modifier : lifecycle_->modifiers()) {
    if (!options_.reference || modifier->class_name() == "AWQModifier" || !needs_data(*modifier, state_))
      continue;
    return usage_error(
        fmt::format("with reference the loss mask belongs to AWQ alone, and {} needs data too",
                    modifier->class_name()),
        "leave out use_loss_mask or reference: ours leaves masked tokens out of every statistic");
  }
  return {};
}

// Tokenised before any weight is read: a data set that cannot be used is found in the first second.
Status Job::read_data(Context& context) {
  bool needed = false;
  for (const auto& modifier : lifecycle_->modifiers()) {
    is_walk_ |= modifier->class_name() != "QuantizationModifier";
    if (!needs_data(*modifier, state_)) continue;
    needed = true;
    if (!has_dataset() && options_.statistics.empty()) return missing_data(modifier->class_name(), {});
  }
  is_walk_ |= needed;
  TRY(check_saved_statistics(needed));
  if (needed && !options_.statistics.empty()) {
    TRY_ASSIGN(statistics_, StatisticsFile::open(options_.statistics));
    TRY(adopt_calibration(*statistics_, options_));
  }
  TRY_ASSIGN(walk_, plan_walk(options_, *lifecycle_, state_));
  report_.pipeline = walk_.name;
  for (std::string& text : options_without_effect(options_, model_, needed)) warn(context, std::move(text));
  if (!needed || statistics_) return {};
  TRY(check_loss_mask());
  context.events.phase("tokenize");
  TRY_ASSIGN(data_, load_calibration_data(options_, *checkpoint_, context.pool));
  for (const std::string& note : data_->notes) warn(context, note);
  report_.calibration_data = data_->source;
  report_.calibration_hash = data_->fingerprint;
  report_.calibration_samples = data_->samples;
  report_.calibration_tokens = data_->tokens;
  return {};
}

Status Job::plan_files(Context& context) {
  TRY_ASSIGN(storage_, storage_rule(*checkpoint_, options_.precision, options_.reference));
  if (!storage_.note.empty()) warn(context, storage_.note);
  OutputRules rules{.save_compressed = options_.save_compressed,
                    .tie_word_embeddings = options_.tie_word_embeddings,
                    .storage = storage_,
                    .sparse = {},
                    .max_shard_bytes = 0};
  TRY_ASSIGN(const std::optional<SparseFormat> sparse, parse_sparsity_format(options_.sparsity_format));
  if (sparse && !options_.save_compressed)
    return usage_error("sparsity_format and save_compressed: false exclude each other",
                       "leave one of them out");
  if (sparse) {
    TRY_ASSIGN(rules.sparse, plan_sparse_layouts(*sparse, *lifecycle_, state_, *checkpoint_, context.pool));
  }
  TRY_ASSIGN(rules.max_shard_bytes, parse_byte_size(options_.max_shard_size));
  TRY_ASSIGN(output_, plan_output(*checkpoint_, model_, state_.schemes, rules));
  if (output_.quantized.empty() && output_.activations.empty() && !is_walk_ && !recipe_.empty()) {
    return usage_error("the recipe quantizes no module of this model",
                       "`nibble inspect MODEL --tree` lists the modules and their classes");
  }
  card_ = read_source_card(*checkpoint_, options_.model);
  if (!card_.has_license())
    warn(context, "the source does not say under which licence it is; the model card leaves it out");

  report_.model = options_.model;
  report_.architecture = model_.architecture;
  report_.output_dir = options_.output_dir;
  report_.precision = std::string(torch_name(storage_.model_dtype));
  report_.threads = context.pool.size();
  report_.seed = options_.seed;
  report_.patterns = state_.matches.counts;
  measure_source(*checkpoint_, report_);
  report_.output_bytes = output_.files.exact_bytes();
  report_.unquantized = ignored_modules(model_, state_.schemes);
  for (const PlannedModule& quantized : output_.quantized) report_.modules.push_back(make_row(quantized));
  for (const CarriedTensor& tensor : output_.carried) {
    for (const std::string& name : tensor.names())
      report_.carried_bytes += output_.files.slots()[output_.files.index_of(name)].bytes;
  }
  TRY_ASSIGN(report_.recipe, recipe_text());
  TRY(read_statistics(context));
  if (!options_.memory_budget.empty()) {
    TRY_ASSIGN(memory_budget_, parse_byte_size(options_.memory_budget));
  }
  estimate_ = estimate_data_free(*checkpoint_, output_, memory_budget_, context.pool);
  if (is_walk_) TRY(estimate_walk(context));
  if (estimate_.peak_memory_bytes > memory_budget_) {
    warn(context,
         fmt::format("the work needs about {}, more than the memory budget of {}",
                     format_byte_size(estimate_.peak_memory_bytes), format_byte_size(memory_budget_)));
  }
  return {};
}

// A run that was killed before it had written anything is started again.
void Job::resume_only_what_exists(Context& context) {
  if (!options_.resume || options_.output_dir.empty()) return;
  std::error_code status;
  const fs::path folder = fs::path(options_.output_dir).lexically_normal();
  const fs::path partial =
      (folder.has_filename() ? folder : folder.parent_path()).string() + std::string(".partial");
  if (fs::exists(partial, status) && !fs::is_empty(partial, status)) return;
  if (fs::exists(folder, status)) return;
  warn(context,
       fmt::format("there is nothing to resume at {}: the run starts from the beginning", partial.string()));
  options_.resume = false;
}

// Replaces the memory, adds the time.
Status Job::estimate_walk(Context& context) {
  const CalibrationNeeds needs{.checkpoint = *checkpoint_,
                               .options = options_,
                               .state = state_,
                               .plan = output_,
                               .walk = walk_,
                               .lifecycle = *lifecycle_,
                               .data = data_ ? &*data_ : nullptr};
  TRY_ASSIGN(memory_, calibration_memory(needs));
  TRY_ASSIGN(const double seconds, calibration_seconds(needs, context.pool));
  estimate_.peak_memory_bytes = memory_.peak(memory_budget_);
  estimate_.seconds += seconds;
  return {};
}

Status Job::check_output() const {
  if (options_.output_dir.empty()) return {};
  TRY(OutputDirectory::check(options_.output_dir, directory_options(options_, *checkpoint_)));
  constexpr std::uint64_t kSmallFiles = std::uint64_t{16} << 20;
  // For --resume the streams of a block are kept until those of the next one are complete.
  std::uint64_t needed = output_.files.exact_bytes() + kSmallFiles + 2 * memory_.streams;
  for (const fs::path& file : checkpoint_->companion_files()) {
    std::error_code ignored;
    const std::uintmax_t size = fs::file_size(file, ignored);
    if (!ignored) needed += size;
  }
  TRY_ASSIGN(const std::uint64_t available, free_disk_bytes(options_.output_dir));
  if (available >= needed) return {};
  return cannot_create(
      fmt::format("the output needs {}, but only {} are free at {}", format_byte_size(needed),
                  format_byte_size(available), options_.output_dir),
      "free some space, or choose another folder");
}

Result<std::string> Job::recipe_text() const {
  TRY_ASSIGN(RecipeValue tree, recipe_tree(recipe_, {.strict = options_.reference}));
  for (const fs::path& file : checkpoint_->companion_files()) {
    if (file.filename() != "recipe.yaml") continue;
    TRY_ASSIGN(const std::string text, read_text_file(file));
    // A recipe that cannot be read any more is part of the source's history, not of this run.
    if (auto existing = read_yaml(text); existing.ok())
      tree = append_recipe_tree(std::move(existing).value(), tree);
  }
  return write_yaml(tree);
}

Result<RunReport> Job::run(Context& context) {
  if (options_.dry_run) return report_;
  if (options_.output_dir.empty()) {
    warn(context, "no output_dir is given: nothing is saved, only the report is made");
    return run_phases(nullptr, context);
  }
  TRY_ASSIGN(OutputDirectory output,
             OutputDirectory::create(options_.output_dir, directory_options(options_, *checkpoint_)));
  Result<RunReport> report = run_phases(&output, context);
  if (report.ok() || report.error().code == ErrorCode::kResumable) return report;
  if (ledger_ && !ledger_->entries().empty()) {
    std::string& hint = report.error().hint;
    hint +=
        fmt::format("{}{} blocks are finished and kept: the same command with --resume goes on behind them",
                    hint.empty() ? "" : "; ", ledger_->entries().back().blocks);
  } else if (!options_.resume) {
    if (saver_) saver_->discard_parts();
    output.discard();
  }
  return report;
}

Result<RunReport> Job::run_phases(OutputDirectory* output, Context& context) {
  Timer timer;
  if (output) TRY(open_writer(*output, context));
  const char* phase = data_ || statistics_ ? "calibrate" : "quantize";
  context.events.phase(phase);
  if (!options_.save_statistics.empty()) {
    TRY_ASSIGN(saver_, StatisticsSaver::create(options_));
  }
  TRY(run_modifiers(output ? output->partial() : fs::temp_directory_path(), context));
  TRY(lifecycle_->end(state_));
  TRY(lifecycle_->finalize(state_));
  if (saver_) {
    TRY_ASSIGN(const StatisticsOrigin origin, origin_of(statistics_run()));
    TRY(saver_->finish(origin));
  }
  report_.phases.emplace_back(phase, timer.lap());
  report_.peak_memory_bytes = peak_resident_bytes();

  if (output) {
    context.events.phase("write");
    TRY(writer_->finish());
    report_.phases.emplace_back("write", timer.lap());
    TRY(write_small_files(*output));
    if (ledger_) {
      for (const std::string& name : ledger_->file_names()) TRY(output->remove_file(name));
    }
    TRY(output->commit());
  }
  if (saver_) saver_->discard_parts();
  return report_;
}

// A run without forward passes is as quick as reading what is there: it keeps no ledger, and its resumption
// starts again.
Status Job::open_writer(const OutputDirectory& output, Context& context) {
  const fs::path& folder = output.partial();
  if (!is_walk_) {
    TRY_ASSIGN(writer_, ShardedWriter::create(output_.files, folder));
    return {};
  }
  TRY_ASSIGN(const Fingerprint fingerprint, run_fingerprint(*checkpoint_, options_, report_.recipe,
                                                            report_.calibration_hash, output_.files));
  if (options_.resume) {
    TRY_ASSIGN(ledger_, Ledger::reopen(folder, fingerprint));
  }
  if (ledger_ && !ledger_->entries().empty()) {
    TRY_ASSIGN(writer_, ShardedWriter::resume(output_.files, folder));
    TRY_ASSIGN(const bool same, restore_tensors(*ledger_, *writer_));
    if (same) return {};
    warn(context, "the partial output is not what the stopped run noted: all blocks are done again");
  }
  TRY_ASSIGN(writer_, ShardedWriter::create(output_.files, folder));
  TRY_ASSIGN(ledger_, Ledger::start(folder, fingerprint));
  return {};
}

Status Job::run_modifiers(const fs::path& folder, Context& context) {
  if (!is_walk_) {
    TRY(lifecycle_->start(state_));
    return run_data_free({*checkpoint_, output_, *lifecycle_, writer_.get(), memory_budget_}, report_.modules,
                         context);
  }
  const bool on_disk = options_.sequential_offload_device == "disk";
  MemoryBudget budget(on_disk ? 0 : memory_.buffer_budget(memory_budget_));
  const CalibratedRun run{.checkpoint = *checkpoint_,
                          .options = options_,
                          .state = state_,
                          .plan = output_,
                          .walk = walk_,
                          .storage = storage_,
                          .lifecycle = *lifecycle_,
                          .data = data_ ? &*data_ : nullptr,
                          .statistics = statistics_ ? &*statistics_ : nullptr,
                          .saver = saver_ ? &*saver_ : nullptr,
                          .writer = writer_.get(),
                          .budget = budget,
                          .spill_folder = folder,
                          .chunk_tokens = memory_.chunk_tokens(memory_budget_),
                          .ledger = ledger_ ? &*ledger_ : nullptr};
  return run_calibrated(run, report_, context);
}

Status Job::write_small_files(OutputDirectory& output) {
  SmallFiles files(*checkpoint_, output);
  TRY(files.copy_companions(options_.tokenizer, options_.processor));
  const QuantizationConfig quantization =
      output_quantization(model_, state_.schemes, output_, options_.save_compressed);
  TRY(files.write("config.json", output_config_text(checkpoint_->config(), quantization, output_, storage_)));
  TRY(files.write("recipe.yaml", report_.recipe));
  TRY(files.write("README.md", model_card(card_, report_, library_version())));
  report_.copied_files = files.copied();
  report_.files = files.written();
  for (const WritePlan::Shard& shard : output_.files.shards())
    report_.files.emplace_back(shard.file, shard.file_bytes);
  report_.peak_memory_bytes = peak_resident_bytes();
  return files.write("report.json", to_json(report_).dump(2, ' ', false, Json::error_handler_t::replace));
}

Result<RunReport> run_oneshot(const Options& options, Context& context) {
  TRY_ASSIGN(const std::unique_ptr<Job> job, Job::prepare(options, context));
  return job->run(context);
}

}  // namespace nibble
