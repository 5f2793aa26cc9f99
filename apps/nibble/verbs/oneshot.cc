// SPDX-License-Identifier: Apache-2.0
// nibble oneshot: a model and a recipe in, a smaller model out. The flags are the arguments of
// llm-compressor's oneshot() with dashes.
#include "base/json.h"
#include "nibble/options.h"
#include "program.h"
#include "run_summary.h"
#include "session/job.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

void add_recipe_flags(Flags& flags, Options& o) {
  flags.group("What to do");
  flags.values("-r,--recipe", "FILE", o.recipe, "recipe: YAML, JSON, Markdown front matter, or its text");
  flags.values("--recipe-args,--set", "KEY=VALUE", o.recipe_args, "replace a variable of the recipe's args");
  flags.value("--stage", "NAME", o.stage, "only stages whose name starts with this");
  flags.value("--scheme", "NAME", o.scheme,
              "instead of a recipe: a preset such as W4A16 (nibble recipes lists them)");
  flags.value("--method", "NAME", o.method,
              "with --scheme: rtn (the default), gptq, awq, awq+gptq, smoothquant ...");
  flags.value("--group-size", "N", o.group_size, "with --scheme: another group size; -1 is one scale a row",
              -1);
  flags.values("--ignore", "NAME", o.ignore,
               "with --scheme: modules left alone, names or re: patterns; default: the head");
}

void add_output_flags(Flags& flags, Options& o) {
  flags.group("Output");
  flags.value("-o,--output-dir", "DIR", o.output_dir,
              "where the model goes; without it only the report is made");
  flags.toggle("--dry-run", o.dry_run, "only show what would happen, how big, how long");
  flags.toggle("--save-compressed", o.save_compressed, "packed codes; off: float weights", true);
  flags.choice("--sparsity-format", o.sparsity_format,
               {"dense", "sparse-bitmask", "sparse-24-bitmask", "nibble-24"},
               "how pruned weights are stored; only dense loads everywhere");
  flags.value("--max-shard-size", "SIZE", o.max_shard_size, "size at which a new file begins");
  flags.toggle("--overwrite", o.overwrite, "replace an earlier output");
  flags.toggle("--resume", o.resume, "go on where a stopped run left off");
}

void add_data_flags(Flags& flags, Options& o) {
  flags.group("Calibration data");
  flags.value("-d,--dataset", "DATA", o.dataset,
              "text, JSON lines, CSV (each also .zst), a folder, or .safetensors with input_ids");
  flags.value("--dataset-path", "PATH", o.dataset_path, "the data, where --dataset names a kind of data set");
  flags.value("--dataset-config-name", "NAME", o.dataset_config_name,
              "no effect: data sets are files or folders");
  flags.value("--splits", "NAME", o.splits, "part of the data: train, or a slice such as train[:512]");
  flags.value("--text-column", "NAME", o.text_column, "column that holds the text");
  flags.value("--num-calibration-samples", "N", o.num_calibration_samples, "samples", 1);
  flags.value("--max-seq-length", "N", o.max_seq_length, "tokens of a sample at most", 1);
  flags.value("--batch-size", "N", o.batch_size, "samples that go through the model together", 1);
  flags.choice("--data-collator", o.data_collator, {"truncation", "padding"},
               "how samples of a batch get one length");
  flags.toggle("--shuffle-calibration-samples", o.shuffle_calibration_samples,
               "in an order that --seed decides", true);
  flags.toggle("--concatenate-data", o.concatenate_data, "join texts and cut them into full samples", true);
  flags.toggle("--pad-to-max-length", o.pad_to_max_length, "no effect: padding never enters a statistic",
               true);
  flags.value("--preprocessing", "NAME", o.preprocessing, "refused: prepare the texts in the file");
  flags.toggle("--streaming", o.streaming, "read a large data set as it is needed", true);
  flags.toggle("--use-loss-mask", o.use_loss_mask,
               "only tokens whose loss_mask in the .safetensors data is 1 count", true);
}

void add_calibration_flags(Flags& flags, Options& o) {
  flags.group("Calibration");
  flags.value("--pipeline", "NAME", o.pipeline, "independent, sequential, basic or data_free");
  flags.values("--sequential-targets", "NAME", o.sequential_targets,
               "modules that end a step; default: the layers");
  flags.value("--sequential-targets-per-subgraph", "N", o.sequential_targets_per_subgraph,
              "targets in one step", 1);
  flags.choice("--sequential-offload-device", o.sequential_offload_device, {"ram", "cpu", "disk"},
               "no effect: activations wait in memory");
  flags.toggle("--sequential-prefetch", o.sequential_prefetch, "no effect: weights are mapped", true);
  flags.toggle("--propagate-error", o.propagate_error, "later layers see the changed earlier ones", true);
  flags.toggle("--quantization-aware-calibration", o.quantization_aware_calibration,
               "no effect: --propagate-error decides", true);
  flags.toggle("--moe-calibrate-all-experts", o.moe_calibrate_all_experts, "every expert sees every token",
               true);
}

void add_statistics_flags(Flags& flags, Options& o) {
  flags.group("Statistics files");
  flags.value("--save-statistics", "FILE", o.save_statistics,
              "keep what calibration learns in FILE.safetensors; --pipeline basic: of the original model");
  flags.value("--statistics", "FILE", o.statistics,
              "instead of a dataset: what an earlier run saved, no forward pass is made");
}

void add_model_flags(Flags& flags, Options& o) {
  flags.group("Model");
  flags.choice("--precision", o.precision, {"auto", "fp16", "bf16", "fp32"},
               "dtype of scales and unquantized tensors");
  flags.toggle("--tie-word-embeddings", o.tie_word_embeddings, "keep a shared head shared", true);
  flags.value("--tokenizer", "DIR", o.tokenizer, "folder (or org/name in the cache) with another tokenizer");
  flags.value("--config-name", "DIR", o.config_name,
              "folder or file (or org/name in the cache): another config.json");
  flags.value("--processor", "DIR", o.processor,
              "folder whose preprocessor files, and tokenizer unless --tokenizer is given, the output gets");
  flags.value("--model-revision", "NAME", o.model_revision,
              "branch, tag or commit of MODEL given as org/name: its snapshot in the local cache");
  flags.toggle("--trust-remote-code-model", o.trust_remote_code_model,
               "no effect: no code of a model is ever run", true);
}

void add_run_flags(Flags& flags, Options& o, std::int64_t& seed) {
  flags.group("Run");
  flags.toggle("--reference", o.reference,
               "keep to the reference tool's arithmetic and layout in every choice");
  flags.value("--memory-budget", "SIZE", o.memory_budget,
              "such as 12GB; default: 80 % of what the container allows");
  flags.value("--seed", "N", seed, "order of samples and random matrices", 0);
  flags.value("--preprocessing-num-workers", "N", o.preprocessing_num_workers, "no effect: --threads decides",
              0);
  flags.value("--dataloader-num-workers", "N", o.dataloader_num_workers, "no effect: --threads decides", 0);
  flags.toggle("--overwrite-cache", o.overwrite_cache, "no effect: data sets are not cached", true);
  flags.toggle("--clear-sparse-session", o.clear_sparse_session,
               "no effect: every run has a session of its own", true);
}

class Oneshot final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positional("MODEL", options_.model, "folder, .gguf file, or org/name in the local cache");
    add_recipe_flags(flags, options_);
    add_output_flags(flags, options_);
    add_data_flags(flags, options_);
    add_calibration_flags(flags, options_);
    add_statistics_flags(flags, options_);
    add_model_flags(flags, options_);
    add_run_flags(flags, options_, seed_);
  }

  Status run(Program& program) override {
    options_.seed = static_cast<std::uint64_t>(seed_);
    options_.threads = program.context().pool.size();
    options_.log_dir = program.settings().log_dir;
    options_.hub_cache = program.settings().hub_cache.string();
    if (options_.sequential_offload_device == "cpu") options_.sequential_offload_device = "ram";
    TRY_ASSIGN(const std::unique_ptr<Job> job, Job::prepare(options_, program.context()));
    if (options_.dry_run) return program.print(plan_json(*job), plan_text(*job));
    TRY_ASSIGN(const RunReport report, job->run(program.context()));
    return program.print(to_json(report), run_summary(report));
  }

 private:
  Options options_;
  std::int64_t seed_ = static_cast<std::int64_t>(Options().seed);
};

}  // namespace

VerbEntry oneshot_verb() {
  return {
      .name = "oneshot",
      .usage = "MODEL (--recipe FILE | --scheme NAME) [flags]",
      .summary = "compress a model: quantize, prune, rotate, and save what vLLM and transformers load",
      .detail =
          "The flags are the arguments of llm-compressor's oneshot() with dashes. Nothing of an earlier "
          "output "
          "or of the source is touched before the new model is complete.",
      .examples = {"MODEL --scheme W4A16 --output-dir OUT", "MODEL --scheme W4A16 --dry-run",
                   "MODEL --recipe recipe.yaml --dataset c4.jsonl --output-dir OUT",
                   "MODEL --scheme W4A16 --method gptq --dataset c4.jsonl -o OUT",
                   "MODEL -r gptq.yaml -d c4.jsonl --pipeline basic --save-statistics c4.safetensors -o OUT",
                   "MODEL -r other.yaml --statistics c4.safetensors -o OUT2",
                   "MODEL -r recipe.yaml --set bits=3 --stage quant -o OUT"},
      .make = []() -> std::unique_ptr<Verb> { return std::make_unique<Oneshot>(); }};
}

}  // namespace nibble::app
