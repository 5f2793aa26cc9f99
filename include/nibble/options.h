// SPDX-License-Identifier: Apache-2.0
// Everything a run can be told, in one flat struct. The names are those of llm-compressor's oneshot() and of
// the recipe fields; the flags of `nibble oneshot` are the same words with dashes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nibble {

struct Options {
  // The model: a folder, a .gguf file, or org/name in the local Hugging Face cache. Nothing is ever
  // downloaded.
  std::string model;
  std::string config_name;          // another config.json, or the folder that holds it
  std::string tokenizer;            // folder with another tokenizer
  std::string processor;            // folder whose preprocessor files the output gets
  std::string precision = "auto";   // dtype of what stays unquantized, and of scales: auto, fp16, bf16, fp32
  bool tie_word_embeddings = true;  // false: the head gets a weight of its own
  bool save_compressed = true;      // false: float weights and their scales
  // Of pruned modules: dense, sparse-bitmask, sparse-24-bitmask, nibble-24 (docs/formats.md).
  std::string sparsity_format = "dense";
  std::string model_revision = "main";   // snapshot of org/name in the cache
  bool trust_remote_code_model = false;  // no effect: no code of a model is ever run
  std::string hub_cache;                 // the Hugging Face cache (HF_HUB_CACHE)

  // What to do: recipes (files or texts, run in order), or a scheme and a method.
  std::vector<std::string> recipe;
  std::vector<std::string> recipe_args;  // "key=value" for the variables of a recipe
  std::string stage;                     // only the stages whose name starts with this
  std::string scheme;                    // a preset: W4A16, W8A8, FP8_DYNAMIC ...
  std::string method;                    // rtn (default), gptq, awq, awq+gptq, smoothquant, smoothquant+gptq
  std::optional<std::int64_t> group_size;  // another one than the scheme's
  std::vector<std::string> ignore;         // modules left alone, with scheme; empty: lm_head and routers
  bool clear_sparse_session = false;       // no effect: every run has a session of its own

  // Calibration data.
  std::string dataset;  // a registered name, a file, or a folder
  std::string dataset_config_name;
  std::string dataset_path;
  std::string splits;
  std::int64_t batch_size = 1;
  std::string data_collator = "truncation";
  std::int64_t num_calibration_samples = 512;
  bool shuffle_calibration_samples = true;
  std::optional<std::int64_t> max_seq_length;  // empty: 384, and token ids as they are
  bool pad_to_max_length = false;
  std::string text_column = "text";
  std::string preprocessing;
  bool concatenate_data = false;
  bool streaming = false;
  bool overwrite_cache = false;
  std::optional<std::int64_t> preprocessing_num_workers;
  std::int64_t dataloader_num_workers = 0;
  bool use_loss_mask = false;

  // Calibration.
  // independent, sequential, basic, data_free; empty: stage by stage, under `reference` independent.
  std::string pipeline;
  std::vector<std::string> sequential_targets;
  std::int64_t sequential_targets_per_subgraph = 1;
  std::string sequential_offload_device = "ram";  // or disk
  bool sequential_prefetch = false;
  bool propagate_error = true;
  bool quantization_aware_calibration = true;
  bool moe_calibrate_all_experts = true;

  // Statistics files (.safetensors): what this run gathers is kept in one; instead of a dataset one is used.
  std::string save_statistics;
  std::string statistics;

  // Output.
  std::string output_dir;  // empty: nothing is saved, only the report
  std::string log_dir;
  std::string max_shard_size = "5GB";
  bool overwrite = false;  // replace an earlier output

  // How to run.
  bool reference = false;     // keep to the reference tool in every choice
  bool dry_run = false;       // only plan
  bool resume = false;        // go on where a stopped run left off
  std::string memory_budget;  // "12GB"; empty: 80 % of what the container allows
  int threads = 0;            // 0: all
  std::uint64_t seed = 42;
};

}  // namespace nibble
