// SPDX-License-Identifier: Apache-2.0
#include "session/calibrated.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/hash.h"
#include "base/memory_budget.h"
#include "session/calibration_estimate.h"
#include "session/divergence_survey.h"
#include "session/mask_watch.h"
#include "session/module_rows.h"
#include "session/snapshot.h"
#include "session/stream_runner.h"

namespace nibble {
namespace {

// An expert that saw fewer tokens has statistics that say little.
constexpr std::int64_t kFewTokens = 256;

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.bytes().data() == b.bytes().data();
}

// What a module was before a modifier saw it.
struct Before {
  Tensor weight, bias;
  explicit Before(const ModuleWork& work) : weight(work.weight), bias(work.bias.value_or(Tensor())) {}
  bool is_changed(const ModuleWork& work) const {
    return work.compressed.has_value() || !same_bytes(weight, work.weight) ||
           (work.bias && !same_bytes(bias, *work.bias));
  }
};

class Walk {
 public:
  Walk(const CalibratedRun& run, RunReport& report, Context& context)
      : run_(run),
        report_(report),
        rows_(report),
        context_(context),
        output_(run.checkpoint, run.plan, run.state) {
    for (const auto& unit : run.plan.units) {
      for (const std::size_t i : unit)
        units_[run.plan.quantized[i].module] = run.plan.quantized[unit[0]].module->name;
    }
  }

  Status run() {
    TRY(open());
    TRY(survey());
    TRY(run_.lifecycle.start(run_.state));
    TRY(restore());
    TRY(do_before());
    // All streams have begun; the head is seen through its input.
    model_->drop_vocabulary();
    const int blocks = run_.state.model.num_blocks;
    for (int first = finished_; first < blocks; first += run_.walk.blocks_at_once) {
      TRY(do_group(first, std::min(first + run_.walk.blocks_at_once, blocks)));
      // Blocks leave holes between what stays: without this the heap of a 30-block model doubles.
      release_free_heap();
      context_.events.progress("calibrate", std::min(first + run_.walk.blocks_at_once, blocks), blocks + 1);
    }
    TRY(do_outside());
    TRY(copy_rest());
    context_.events.progress("calibrate", blocks + 1, blocks + 1);
    return {};
  }

 private:
  const std::vector<std::unique_ptr<Modifier>>& modifiers() const { return run_.lifecycle.modifiers(); }

  Status open() {
    Transformer::Options options{.residency = Residency::kStream};
    options.lm_head = std::ranges::any_of(modifiers(), &Modifier::measures_divergence);
    if (run_.options.reference) options.activation_dtype = run_.storage.model_dtype;
    TRY_ASSIGN(model_, Transformer::open(context_, run_.checkpoint, options));
    if (run_.data == nullptr) return {};
    TRY_ASSIGN(runner_, make_runner(run_.walk.streams, run_.walk.compared_sequences));
    return {};
  }

  Result<std::unique_ptr<StreamRunner>> make_runner(int streams, std::int64_t compared_sequences) {
    const StreamRunner::Settings settings{.streams = streams,
                                          .compared_sequences = compared_sequences,
                                          .all_experts = run_.options.moe_calibrate_all_experts,
                                          .chunk_tokens = run_.chunk_tokens,
                                          .widest_input = widest_input(run_.state.model)};
    return StreamRunner::create(context_, *model_, *run_.data, settings,
                                {.budget = run_.budget, .spill_folder = run_.spill_folder});
  }

  std::unique_ptr<Gatherer> make_gatherer() const {
    std::int64_t tokens = 0;
    if (run_.data != nullptr) {
      for (const Batch& batch : run_.data->batches) tokens += batch.tokens();
    }
    const Gatherer::Settings settings{.dtype = run_.storage.model_dtype,
                                      .all_experts = run_.options.moe_calibrate_all_experts,
                                      .compared_sequences = run_.walk.compared_sequences,
                                      .tokens = tokens};
    auto gatherer = std::make_unique<Gatherer>(context_.pool, model_->config(), run_.state, settings);
    if (run_.saver != nullptr) gatherer->keep_more();
    return gatherer;
  }

  std::string phase_set(const WalkPhase& phase) const {
    return set_of_phase(static_cast<std::size_t>(&phase - run_.walk.phases.data()));
  }

  // What was just gathered, for the file of statistics.
  Status save(const std::string& set, int block, const Gatherer& gatherer) {
    int& number = block < run_.state.model.num_blocks ? saved_ : saved_outside_;
    return run_.saver != nullptr ? run_.saver->save(set, block, number++, gatherer) : Status();
  }

  // Statistics of the original model for those who need them before the first block.
  Status survey() {
    std::vector<std::size_t> asking;
    for (std::size_t k = 0; k < modifiers().size(); ++k) {
      for (const ModuleInfo& module : run_.state.model.modules) {
        if (modifiers()[k]->survey_needs(run_.state, module) == kNoStatistic) continue;
        asking.push_back(k);
        break;
      }
    }
    if (asking.empty() || (run_.data == nullptr && run_.statistics == nullptr)) return {};
    context_.events.phase("survey");
    std::unique_ptr<StreamRunner> runner;
    if (run_.statistics == nullptr) {
      TRY_ASSIGN(runner, make_runner(1, 0));
    }
    TRY_ASSIGN(Trials trials, make_trials(asking));
    for (int b = 0; b < run_.state.model.num_blocks; ++b) {
      std::vector<BlockWork> works(1);
      TRY_ASSIGN(works[0], load_block_work(context_, *model_, run_.state, output_, b, false));
      std::vector<BlockGathering> gatherings(1);
      gatherings[0].gatherer = make_gatherer();
      for (ModuleWork& work : works[0].modules) {
        for (const std::size_t k : asking)
          TRY(gatherings[0].gatherer->want(*work.module,
                                           modifiers()[k]->survey_needs(run_.state, *work.module)));
      }
      Gatherer& gatherer = *gatherings[0].gatherer;
      if (runner) {
        TRY(runner->gather(0, works, {0, 1, 2, 3}, gatherings, false, true));
        TRY(save(kSurveySet, b, gatherer));
      } else {
        TRY(gatherer.load(*run_.statistics, saved_set(*run_.statistics, kSurveySet)));
      }
      UnitWork unit;
      unit.name = works[0].name;
      unit.modules = std::move(works[0].modules);
      for (ModuleWork& work : unit.modules) work.statistics = gatherings[0].gatherer->of(*work.module);
      for (const std::size_t k : asking) TRY(modifiers()[k]->on_survey(unit, context_));
      for (auto& [k, trial] : trials) TRY(try_block(k, *works[0].block, unit, *trial));
      context_.events.progress("survey", b + 1, run_.state.model.num_blocks);
    }
    for (auto& [k, trial] : trials) {
      TRY_ASSIGN(const std::vector<double> divergences, trial->divergences());
      std::map<int, double> by_block;
      for (const double kl : divergences) by_block[static_cast<int>(by_block.size())] = kl;
      modifiers()[k]->on_divergences(by_block);
    }
    context_.events.phase("calibrate");
    return {};
  }

  // By modifier.
  using Trials = std::map<std::size_t, std::unique_ptr<DivergenceSurvey>>;
  Result<Trials> make_trials(const std::vector<std::size_t>& asking) {
    Trials trials;
    for (const std::size_t k : asking) {
      if (!modifiers()[k]->measures_divergence()) continue;
      CHECK(run_.data != nullptr, "statistics_use.h refuses profiles that run the model");
      TRY_ASSIGN(trials[k],
                 DivergenceSurvey::create(context_, *model_, *run_.data,
                                          {.budget = run_.budget, .spill_folder = run_.spill_folder},
                                          run_.chunk_tokens));
    }
    return trials;
  }

  // The block is as before when this returns.
  Status try_block(std::size_t k, Block& block, const UnitWork& original, DivergenceSurvey& survey) {
    TRY(survey.pass(block));
    UnitWork changed;
    changed.name = original.name;
    changed.modules = original.modules;
    TRY(modifiers()[k]->on_trial(changed, context_));
    for (const ModuleWork& work : changed.modules) {
      if (work.weight.size() > 0) TRY(put_back(context_, block, work));
    }
    TRY(survey.try_changed(block));
    for (const ModuleWork& work : original.modules) {
      if (work.weight.size() > 0) TRY(put_back(context_, block, work));
    }
    return {};
  }

  Status do_group(int first, int last) {
    std::vector<BlockWork> works;
    group_ = first;
    part_ = 0;
    saved_ = 0;
    for (int b = first; b < last; ++b) {
      TRY_ASSIGN(BlockWork work, load_block_work(context_, *model_, run_.state, output_, b,
                                                 runner_ && runner_->has_original()));
      works.push_back(std::move(work));
    }
    for (const WalkPhase& phase : run_.walk.phases) TRY(do_phase(phase, works));
    if (runner_ && runner_->has_original()) TRY(runner_->move_original_on(works));
    for (BlockWork& work : works) {
      for (const ModuleWork& module : work.modules) TRY(write(module));
    }
    return note(last, works);
  }

  // Goes on where a stopped run left off.
  Status restore() {
    const bool stopped = run_.ledger != nullptr && !run_.ledger->entries().empty();
    const int finished = stopped ? run_.ledger->entries().back().blocks : 0;
    if (run_.saver != nullptr) TRY(run_.saver->go_on(finished, run_.walk.streams > 0));
    if (!stopped) return {};
    const LedgerEntry& last = run_.ledger->entries().back();
    if (runner_) {
      TRY_ASSIGN(const bool loaded, load_streams(*runner_, last.streams, run_.spill_folder));
      if (!loaded) {
        return bad_data("the calibration streams of the stopped run are not complete",
                        "start again without --resume");
      }
    }
    for (const LedgerEntry& entry : run_.ledger->entries()) {
      rows_.add(entry.changes, run_.state.model);
      report_.warnings.insert(report_.warnings.end(), entry.warnings.begin(), entry.warnings.end());
      for (const auto& [name, hash] : entry.tensors) written_.insert(name);
    }
    finished_ = last.blocks;
    context_.events.note(
        fmt::format("resumed behind block {} of {}", finished_, run_.state.model.num_blocks));
    return {};
  }

  // The group is finished: first its bytes, then the streams, then the line that says so.
  Status note(int last, const std::vector<BlockWork>& works) {
    if (run_.ledger == nullptr) return {};
    entry_.blocks = last;
    TRY(run_.writer->sync());
    for (const BlockWork& work : works) {
      for (const ModuleWork& module : work.modules) {
        for (const std::string& name : output_.tensor_names(*module.module)) {
          TRY_ASSIGN(const std::uint64_t hash, run_.writer->stored_hash(name));
          entry_.tensors.emplace_back(name, hex(hash));
        }
      }
    }
    if (runner_) {
      TRY_ASSIGN(entry_.streams, save_streams(*runner_, last, run_.spill_folder));
    }
    TRY(run_.ledger->append(std::move(entry_)));
    entry_ = {};
    return {};
  }

  Status do_phase(const WalkPhase& phase, std::vector<BlockWork>& works) {
    bool moved = false;
    for (const std::vector<int>& stages : phase.segments) {
      std::vector<BlockGathering> gatherings(works.size());
      TRY(gather(phase, works, stages, gatherings, moved));
      for (const std::size_t k : phase.modifiers) {
        for (std::size_t b = 0; b < works.size(); ++b) TRY(apply(k, works[b], stages, gatherings[b]));
      }
    }
    if (runner_ && phase.moves_stream && !moved) TRY(runner_->move_on(phase.stream, works));
    return {};
  }

  // `moved`: the forward that gathered also went on to the next block, since no weight that it used changes.
  Status gather(const WalkPhase& phase, std::vector<BlockWork>& works, const std::vector<int>& stages,
                std::vector<BlockGathering>& gatherings, bool& moved) {
    bool wanted = false;
    for (std::size_t b = 0; b < works.size(); ++b) {
      gatherings[b].gatherer = make_gatherer();
      Gatherer& gatherer = *gatherings[b].gatherer;
      for (const std::size_t k : phase.modifiers) {
        for (const ModuleWork& work : works[b].modules) {
          if (!is_of(*work.module, stages)) continue;
          TRY(gatherer.want(*work.module, modifiers()[k]->needs(run_.state, *work.module)));
        }
      }
      if (runner_ && gatherer.wants(kSublayerError))
        gatherings[b].judge = runner_->make_judge(*works[b].block);
      wanted |= gatherer.wants_anything();
    }
    if (run_.statistics != nullptr) return load(phase, gatherings);
    const bool whole = stages.size() == Block::kStages;
    const bool changes = std::any_of(phase.modifiers.begin(), phase.modifiers.end(), [&](std::size_t k) {
      return modifiers()[k]->changes_weights(run_.state);
    });
    const bool moves_on = phase.moves_stream && whole && (!changes || !run_.walk.propagates_error);
    if (phase.stream < 0 || (!wanted && !moves_on)) return {};
    TRY(runner_->gather(phase.stream, works, stages, gatherings, phase.moves_stream, moves_on));
    moved = moves_on;
    for (BlockWork& work : works) warn_of_few_tokens(work, gatherings);
    for (const BlockGathering& gathering : gatherings)
      TRY(save(phase_set(phase), group_, *gathering.gatherer));
    return {};
  }

  Status load(const WalkPhase& phase, std::vector<BlockGathering>& gatherings) const {
    for (BlockGathering& gathering : gatherings)
      TRY(gathering.gatherer->load(*run_.statistics, saved_set(*run_.statistics, phase_set(phase))));
    return {};
  }

  static bool is_of(const ModuleInfo& module, const std::vector<int>& stages) {
    if (stages.size() == Block::kStages) return true;
    const int stage = module.kind == ModuleKind::kAttention ? 0 : module.stage;
    return std::find(stages.begin(), stages.end(), stage) != stages.end();
  }

  void warn_of_few_tokens(const BlockWork& work, const std::vector<BlockGathering>& gatherings) {
    std::vector<std::string> few;
    for (const BlockGathering& gathering : gatherings) {
      for (const ModuleWork& module : work.modules) {
        const ModuleStatistics* statistics = gathering.gatherer->of(*module.module);
        if (statistics == nullptr || module.module->expert < 0 || statistics->tokens >= kFewTokens) continue;
        if (module.module->stage == Block::kStages - 1)
          few.push_back(fmt::format("{} ({})", module.module->expert, statistics->tokens));
      }
    }
    if (few.empty()) return;
    std::string text = fmt::format("{}: experts that saw fewer than {} tokens: {}", work.name, kFewTokens,
                                   fmt::join(few, ", "));
    context_.events.warning(text);
    entry_.warnings.push_back(text);
    report_.warnings.push_back(std::move(text));
  }

  // Units of the modifier's grain, out of what the stages hold of the block. Modules go back where they came
  // from.
  Status apply(std::size_t k, BlockWork& work, const std::vector<int>& stages, BlockGathering& gathering) {
    const bool single = modifiers()[k]->grain(run_.state) == Grain::kModule;
    std::map<std::string, std::vector<std::size_t>> units;
    std::vector<std::string> order;
    for (std::size_t i = 0; i < work.modules.size(); ++i) {
      const ModuleInfo& module = *work.modules[i].module;
      if (!is_of(module, stages)) continue;
      const std::string key = single ? unit_of(module) : work.name;
      const auto [entry, is_new] = units.try_emplace(key);
      if (is_new) order.push_back(key);
      entry->second.push_back(i);
    }
    for (const std::string& key : order) {
      TRY(check_stop());
      UnitWork unit;
      unit.name = key;
      unit.judge = gathering.judge.get();
      for (const std::size_t i : units[key]) unit.modules.push_back(std::move(work.modules[i]));
      const Status status = apply(k, unit, *gathering.gatherer, &work);
      for (std::size_t i = 0; i < unit.modules.size(); ++i)
        work.modules[units[key][i]] = std::move(unit.modules[i]);
      if (!status.ok()) return status;
      tell_progress(work, unit);
    }
    return {};
  }

  Status check_stop() const {
    if (!context_.stop.stop_requested()) return {};
    return Error{ErrorCode::kInterrupted, "stopped", {}, {}};
  }

  // Within a group each modifier counts with the modules that it has seen.
  void tell_progress(const BlockWork& work, const UnitWork& unit) {
    const auto all = static_cast<double>(work.modules.size() * modifiers().size());
    part_ = std::min(part_ + static_cast<double>(unit.modules.size()) / all,
                     static_cast<double>(run_.walk.blocks_at_once));
    context_.events.progress("calibrate", group_ + part_, run_.state.model.num_blocks + 1);
  }

  // The first of the siblings that share a global scale; any other module is a unit of its own.
  std::string unit_of(const ModuleInfo& module) const {
    const auto found = units_.find(&module);
    return found != units_.end() ? found->second : module.name;
  }

  Status apply(std::size_t k, UnitWork& unit, Gatherer& gatherer, BlockWork* block) {
    if (unit.modules.empty()) return {};
    std::vector<Before> before;
    for (ModuleWork& work : unit.modules) {
      work.statistics = gatherer.of(*work.module);
      before.emplace_back(work);
    }
    const MaskWatch masks(run_.lifecycle, k, unit);
    TRY_ASSIGN(std::vector<LayerReport> reports, run_.lifecycle.apply(k, unit, context_));
    TRY(masks.compare(unit, context_.pool, reports));
    const bool changes = modifiers()[k]->changes_weights(run_.state);
    for (std::size_t i = 0; i < unit.modules.size(); ++i) {
      ModuleWork& work = unit.modules[i];
      work.statistics = nullptr;
      if (block == nullptr || !changes || !before[i].is_changed(work)) continue;
      TRY(put_back(context_, *block->block, work));
      if (block->original && modifiers()[k]->preserves_function()) put_back_original(*block->original, work);
    }
    rows_.add(reports, run_.state.model);
    entry_.changes.insert(entry_.changes.end(), reports.begin(), reports.end());
    for (const LayerReport& report : reports) rows_.tell(report.module, context_.events);
    return {};
  }

  Status write(const ModuleWork& work) {
    if (run_.writer != nullptr) TRY(output_.write(work, *run_.writer, context_.pool));
    for (const std::string& name : output_.tensor_names(*work.module)) written_.insert(name);
    output_.release(*work.module);
    return {};
  }

  // The projection behind the embeddings, whose change all blocks see. Cheap: a resumed run does it again,
  // and the ledger does not know it.
  Status do_before() {
    for (const ModuleInfo& module : run_.state.model.modules) {
      if (module.role != ModuleRole::kEmbeddingProjection) continue;
      TRY_ASSIGN(const ModuleWork work, do_outside(module));
      entry_ = {};
      if (!runner_ || !run_.walk.propagates_error) continue;
      TRY_ASSIGN(std::unique_ptr<Linear> changed, linear_of(context_, work));
      model_->embedding().set_projection(std::move(changed));
      if (finished_ == 0) TRY(runner_->begin_again());
    }
    return {};
  }

  // What stands before and after the blocks: every linear, and embeddings that are quantized.
  Status do_outside() {
    for (const ModuleInfo& module : run_.state.model.modules) {
      if (module.block >= 0 || !output_.is_written(module)) continue;
      const bool quantized = run_.state.schemes.find(run_.state.model, module) != nullptr;
      if (module.kind != ModuleKind::kLinear && !(module.kind == ModuleKind::kEmbedding && quantized))
        continue;
      if (module.role == ModuleRole::kEmbeddingProjection) continue;  // do_before
      TRY(do_outside(module).at(fmt::format("module {}", module.name)));
    }
    return {};
  }

  Result<ModuleWork> do_outside(const ModuleInfo& module) {
    TRY(check_stop());
    UnitWork unit;
    unit.name = module.name;
    TRY_ASSIGN(ModuleWork work, output_.load(module, context_.pool));
    unit.modules.push_back(std::move(work));
    for (const WalkPhase& phase : run_.walk.phases) {
      const auto gatherer = make_gatherer();
      for (const std::size_t k : phase.modifiers)
        TRY(gatherer->want(module, modifiers()[k]->needs(run_.state, module)));
      if (run_.statistics != nullptr) {
        TRY(gatherer->load(*run_.statistics, saved_set(*run_.statistics, phase_set(phase))));
      } else if (gatherer->wants_anything() && phase.stream >= 0) {
        TRY(runner_->gather_outside(phase.stream, module, *gatherer));
        TRY(save(phase_set(phase), run_.state.model.num_blocks, *gatherer));
      }
      for (const std::size_t k : phase.modifiers) TRY(apply(k, unit, *gatherer, nullptr));
    }
    TRY(write(unit.modules[0]));
    return std::move(unit.modules[0]);
  }

  // Tensors that no modifier touches.
  Status copy_rest() {
    if (run_.writer == nullptr) return {};
    for (const CarriedTensor& tensor : run_.plan.carried) {
      if (written_.contains(tensor.names().front())) continue;
      TRY(copy_carried(run_.checkpoint, tensor, *run_.writer, context_.pool));
    }
    return {};
  }

  const CalibratedRun& run_;
  RunReport& report_;
  ModuleRows rows_;
  Context& context_;
  ModuleOutput output_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<StreamRunner> runner_;
  std::map<const ModuleInfo*, std::string> units_;
  std::set<std::string> written_;
  int saved_ = 0;          // parts of the statistics file in this group
  int saved_outside_ = 0;  // and of linears outside the blocks
  int finished_ = 0;       // blocks
  int group_ = 0;          // first block of the group in work
  double part_ = 0;        // of it, in blocks
  LedgerEntry entry_;      // of the group
};

}  // namespace

Status run_calibrated(const CalibratedRun& run, RunReport& report, Context& context) {
  Status status = Walk(run, report, context).run();
  if (status.ok() || status.error().code != ErrorCode::kInterrupted || run.ledger == nullptr) return status;
  const std::size_t groups = run.ledger->entries().size();
  return Error{ErrorCode::kResumable,
               fmt::format("stopped; {} of {} blocks are finished and kept",
                           groups == 0 ? 0 : run.ledger->entries().back().blocks, run.state.model.num_blocks),
               {},
               "the same command with --resume goes on from there"};
}

}  // namespace nibble
