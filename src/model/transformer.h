// SPDX-License-Identifier: Apache-2.0
// The one forward (design.md, decision 1). Opening reads the configuration and checks every shape; weights
// are read block by block. With Residency::kWhole all blocks are held as fp32; with kStream each is loaded,
// applied to all batches, and dropped, so that memory does not grow with the number of layers.
//
//   TRY_ASSIGN(std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(path));
//   TRY_ASSIGN(std::unique_ptr<Transformer> model, Transformer::open(context, *checkpoint));
//   TRY_ASSIGN(Outputs out, model->outputs(context, Batch::of(ids)));          // logits of every token
//
//   // Perplexity: hidden states never meet the whole vocabulary at once.
//   TRY(model->forward(context, windows, {}, [&](std::size_t i, Matrix hidden) -> Status {
//     return model->head().negative_log_likelihood(context, hidden, targets[i], nll[i]);
//   }));
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/context.h"
#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "model/block.h"
#include "model/config.h"
#include "model/modules.h"
#include "model/pass.h"

namespace nibble {

// What follows the last block. Every function takes the raw output of the last block, [rows, hidden].
class Head {
 public:
  // Final norm and output projection: the reference's last hidden state.
  Matrix finish(const Context& context, const Matrix& hidden) const;
  // Logits [rows, vocabulary] of rows [first, first + count). Memory is count x vocabulary: slice.
  Matrix logits(const Context& context, const Matrix& hidden, std::int64_t first, std::int64_t count) const;
  // nll[r] = -log softmax(logits[r])[target[r]]; a target below 0 gives 0 and costs nothing. Works in slices
  // of rows and of the vocabulary.
  Status negative_log_likelihood(const Context& context, const Matrix& hidden,
                                 std::span<const TokenId> target, std::span<double> nll) const;
  // The input of the head's linear of that role, of the given rows: those of every token, or only of the
  // tokens that stand for their sequences (read_rows).
  Matrix input_of(ModuleRole role, const Context& context, const Matrix& hidden) const;
  // The rows that it reads: one of each sequence before a pooler and a classifier behind it; empty: all.
  std::vector<std::int64_t> read_rows(ModuleRole role, const Batch& batch) const;
  // Scores of a span head [rows, 2], or of a classifier [sequences, labels] from one token of each sequence.
  Matrix span_scores(const Context& context, const Matrix& hidden) const;
  Matrix classify(const Context& context, const Batch& batch, const Matrix& hidden) const;

  Linear* lm_head() { return lm_head_.get(); }
  // No logits will be asked for: gives back the output table.
  void drop_lm_head() { lm_head_.reset(); }
  Norm* final_norm() { return final_norm_ ? &*final_norm_ : nullptr; }

 private:
  friend class ModelLoader;
  explicit Head(const ModelConfig& config) : config_(&config) {}
  Matrix norm_rows(const Context& context, std::span<const float> rows) const;
  Matrix finish_rows(const Context& context, std::span<const float> rows) const;
  Matrix pool(const Context& context, const Matrix& x) const;
  std::vector<std::int64_t> pooled_rows(const Batch& batch) const;

  const ModelConfig* config_;
  std::optional<Norm> final_norm_;
  std::unique_ptr<Linear> projection_, lm_head_, span_, pooler_, classifier_;
};

// Token, position and type embeddings with what stands between them and the first block.
class Embedding {
 public:
  Result<Matrix> apply(const Context& context, const Batch& batch, std::int64_t past) const;
  // Token embeddings [tokens, embedding_dim]: the input of the projection, where there is one.
  Matrix token_rows(const Context& context, const Batch& batch) const;
  void set_projection(std::unique_ptr<Linear> projection) { projection_ = std::move(projection); }
  // Replaces the token table (rotations, quantized embeddings in memory): [vocabulary, embedding_dim].
  void set_tokens(Matrix table) { tokens_ = std::move(table); }

 private:
  friend class ModelLoader;
  explicit Embedding(const ModelConfig& config) : config_(&config) {}
  Result<std::vector<std::int64_t>> position_rows(const Batch& batch, std::int64_t past) const;
  void add_rows(const Context& context, const Matrix& table, std::span<const std::int64_t> rows,
                Matrix& x) const;

  const ModelConfig* config_;
  Tensor stored_tokens_;  // as in the checkpoint: only the rows that occur are decoded
  Matrix tokens_;         // when not empty, used instead
  Matrix positions_, types_;
  std::unique_ptr<Linear> projection_;
  std::optional<Norm> norm_;
};

// Outputs of one batch, by head: logits [tokens, vocabulary] (LM), [sequences, labels] (classifier), start
// and end [sequences, length] (span head). last_hidden is [tokens, hidden] after the final norm.
struct Outputs {
  Matrix logits, start_logits, end_logits, last_hidden;
  std::vector<Matrix> hidden_states;  // on demand: the embeddings, then the output of every block
};

enum class Residency { kWhole, kStream };

class OperatorSource;  // quantized/compressed_linear.h

class Transformer {
 public:
  struct Options {
    Residency residency = Residency::kWhole;
    // Makes operators from modules; empty: dense or compressed ones as the checkpoint says. Those that the
    // model holds (Residency::kWhole) are packed in the checkpoint's own precision; load_block() gives dense
    // ones, which may be changed. The bits of the outputs are the same.
    LinearFactory linears = nullptr;
    // BF16 or F16: every operation rounds its result to this type, as PyTorch's do (stored_precision.h).
    DType activation_dtype = DType::kF32;
    // Without it the head has no output table: no logits can be asked for.
    bool lm_head = true;
  };
  // `checkpoint` must outlive the model.
  static Result<std::unique_ptr<Transformer>> open(const Context& context, const Checkpoint& checkpoint,
                                                   Options options);
  static Result<std::unique_ptr<Transformer>> open(const Context& context, const Checkpoint& checkpoint) {
    return open(context, checkpoint, Options{});
  }
  ~Transformer();

  const ModelConfig& config() const { return config_; }
  const ModelDescription& description() const { return description_; }
  Head& head() { return *head_; }
  Embedding& embedding() { return *embedding_; }

  // Neither embed() nor logits will be asked for: gives back the tables of the vocabulary, in fp32 often the
  // largest of a small model, and their pages of the file.
  void drop_vocabulary();

  // A block with its weights; the caller owns it. Independent of those that the model holds.
  Result<std::unique_ptr<Block>> load_block(const Context& context, int index) const;
  // The held block (Residency::kWhole only).
  Block& block(int index);

  // Checks the batch (ids, mask, positions) and prepares a pass through the blocks.
  Result<Pass> begin(const Context& context, const Batch& batch, KvCache* cache = nullptr) const;
  // The input of the first block.
  Result<Matrix> embed(const Context& context, const Batch& batch, const KvCache* cache = nullptr) const;

  struct ForwardOptions {
    Tap* tap = nullptr;
    bool all_experts = false;
    KvCache* cache = nullptr;  // one batch only
    // After the embedding (layer -1) and after every block, with the batch's number.
    std::function<Status(std::size_t batch, int layer, const Matrix& hidden)> on_layer;
  };
  using Done = std::function<Status(std::size_t batch, Matrix hidden)>;
  // Runs the batches through all blocks and hands each one's last hidden state to `done`.
  Status forward(const Context& context, std::span<const Batch> batches, const ForwardOptions& options,
                 const Done& done);
  Result<Matrix> hidden(const Context& context, const Batch& batch, const ForwardOptions& options);
  // Everything the head gives, for tests and for `nibble logits`.
  Result<Outputs> outputs(const Context& context, const Batch& batch, bool with_hidden_states = false);

 private:
  Transformer() = default;
  Result<std::unique_ptr<Block>> make_block(const Context& context, int index,
                                            const LinearFactory& linears) const;

  const Checkpoint* checkpoint_ = nullptr;
  Options options_;
  std::shared_ptr<const OperatorSource> operators_;
  ModelConfig config_;
  ModelDescription description_;
  std::unique_ptr<Embedding> embedding_;
  std::unique_ptr<Head> head_;
  std::vector<std::unique_ptr<Block>> blocks_;
};

}  // namespace nibble
