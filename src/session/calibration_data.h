// SPDX-License-Identifier: Apache-2.0
// The tokens that calibration runs on, made from a data set by the arguments of llm-compressor's oneshot().
// Nothing is downloaded.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "model/pass.h"
#include "nibble/options.h"

namespace nibble {

struct CalibrationData {
  std::vector<Batch> batches;  // as batch_size and data_collator say
  // With use_loss_mask one a batch: 1 enters statistics. Padding is 0.
  std::vector<std::vector<std::uint8_t>> loss_masks;
  std::int64_t samples = 0;
  std::int64_t tokens = 0;  // that enter statistics
  std::string source;       // for the report
  std::string fingerprint;  // of ids, masks and batches: equal hashes mean equal calibration
  std::vector<std::string> notes;
};

// `dataset` (or `dataset_path`) is a text, JSON lines, CSV, a folder of these, or a .safetensors file with
// input_ids [samples, length] and maybe attention_mask, which is taken as it is and in its order. Texts
// without max_seq_length are cut at 384 tokens.
Result<CalibrationData> load_calibration_data(const Options& options, const Checkpoint& checkpoint,
                                              ThreadPool& pool);

}  // namespace nibble
