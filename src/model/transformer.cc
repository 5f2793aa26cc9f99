// SPDX-License-Identifier: Apache-2.0
#include "model/transformer.h"
#include "kernels/convert.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/module_tree.h"
#include "model/quantized/compressed_linear.h"

namespace nibble {

using enum ModuleRole;

// Reads what stands before and after the blocks.
class ModelLoader {
 public:
  ModelLoader(const Context& context, const Checkpoint& checkpoint, const ModelConfig& config,
              const ModelDescription& description, const LinearFactory& linears, bool streams)
      : context_(context),
        checkpoint_(checkpoint),
        config_(config),
        description_(description),
        linears_(linears),
        streams_(streams) {}

  Result<std::unique_ptr<Embedding>> embedding() const {
    std::unique_ptr<Embedding> out(new Embedding(config_));
    for (const ModuleInfo& module : description_.modules) {
      switch (module.role) {
        case kTokenEmbedding:
          TRY(load_tokens(module, *out));
          break;
        case kPositionEmbedding: {
          TRY_ASSIGN(out->positions_, table(module));
          break;
        }
        case kTypeEmbedding: {
          TRY_ASSIGN(out->types_, table(module));
          break;
        }
        case kEmbeddingProjection: {
          TRY_ASSIGN(out->projection_, linears_(context_, checkpoint_, module));
          break;
        }
        case kEmbeddingNorm: {
          TRY_ASSIGN(out->norm_, load_norm(checkpoint_, module));
          break;
        }
        default:
          break;
      }
    }
    return out;
  }

  Result<std::unique_ptr<Head>> head(bool with_lm_head) const {
    std::unique_ptr<Head> out(new Head(config_));
    for (const ModuleInfo& module : description_.modules) {
      switch (module.role) {
        case kFinalNorm: {
          TRY_ASSIGN(out->final_norm_, load_norm(checkpoint_, module));
          break;
        }
        case kHeadProjection:
          TRY(load_into(module, out->projection_));
          break;
        case kLmHead:
          if (with_lm_head) TRY(load_into(module, out->lm_head_));
          break;
        case kSpanHead:
          TRY(load_into(module, out->span_));
          break;
        case kPooler:
          TRY(load_into(module, out->pooler_));
          break;
        case kClassifier:
          TRY(load_into(module, out->classifier_));
          break;
        default:
          break;
      }
    }
    return out;
  }

  static Result<Norm> load_norm(const Checkpoint& checkpoint, const ModuleInfo& module) {
    Norm norm{module.name, module.role, {}, {}};
    if (!module.weight.empty()) {
      TRY_ASSIGN(norm.weight, load_vector(checkpoint, module.weight));
    }
    if (!module.bias.empty()) {
      TRY_ASSIGN(norm.bias, load_vector(checkpoint, module.bias));
    }
    return norm;
  }

 private:
  // A tied module reads the weight of the one it shares.
  ModuleInfo resolved(const ModuleInfo& module) const {
    ModuleInfo copy = module;
    if (copy.weight.empty() && !copy.tied_to.empty()) copy.weight = description_.find(copy.tied_to)->weight;
    return copy;
  }

  // A float tensor without quantization parameters beside it.
  bool is_plain(const ModuleInfo& module) const {
    const TensorInfo* tensor = checkpoint_.find(module.weight);
    const bool quantized = checkpoint_.find(module.weight + "_scale") != nullptr;
    return tensor != nullptr && is_float(tensor->dtype) && dtype_bytes(tensor->dtype) >= 2 && !quantized;
  }

  Status load_tokens(const ModuleInfo& embedding, Embedding& out) const {
    const ModuleInfo module = resolved(embedding);
    if (is_plain(module)) {
      TRY_ASSIGN(out.stored_tokens_, checkpoint_.load(module.weight));
      return {};
    }
    TRY_ASSIGN(const std::unique_ptr<Linear> packed, linears_(context_, checkpoint_, module));
    out.tokens_ = packed->weight();
    return {};
  }

  Status load_into(const ModuleInfo& tied, std::unique_ptr<Linear>& out) const {
    const ModuleInfo module = resolved(tied);
    const bool large = module.role == kLmHead && streams_;
    if (large && is_plain(module) && checkpoint_.find(module.weight)->dtype != DType::kF64) {
      TRY_ASSIGN(Tensor weight, checkpoint_.load(module.weight));
      out = std::make_unique<StoredLinear>(linear_info(module), std::move(weight), std::vector<float>());
      return {};
    }
    TRY_ASSIGN(out, linears_(context_, checkpoint_, module));
    return {};
  }

  Result<Matrix> table(const ModuleInfo& module) const {
    return load_matrix(context_, checkpoint_, module.weight, module.rows, module.cols, false);
  }

  const Context& context_;
  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const ModelDescription& description_;
  const LinearFactory& linears_;
  bool streams_;  // the head stays in the checkpoint's bytes
};

namespace {

Status check_range(std::string_view what, std::span<const std::int32_t> values, std::int64_t limit) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= limit) {
      return bad_data(fmt::format("{} {} at position {} is outside 0..{}", what, values[i], i, limit - 1),
                      "the tokenizer and the model may not belong together");
    }
  }
  return {};
}

Status check_batch(const ModelConfig& config, const Batch& batch, const KvCache* cache) {
  const auto tokens = static_cast<std::size_t>(batch.tokens());
  if (batch.sequences < 1 || batch.length < 1 || batch.ids.size() != tokens) {
    return bad_data(
        fmt::format("a batch of {} x {} tokens has {} ids", batch.sequences, batch.length, batch.ids.size()));
  }
  const auto fits = [tokens](std::size_t size) { return size == 0 || size == tokens; };
  if (!fits(batch.mask.size()) || !fits(batch.token_types.size()) || !fits(batch.positions.size())) {
    return bad_data("attention_mask, token_type_ids and position_ids must have the shape of input_ids");
  }
  TRY(check_range("token id", batch.ids, config.vocab));
  if (config.type_vocab > 0) TRY(check_range("token type", batch.token_types, config.type_vocab));
  TRY(check_range("position", batch.positions, std::int64_t{1} << 24));
  if (cache == nullptr) return {};
  if (!batch.mask.empty()) return bad_data("a batch with padding cannot use the key/value cache");
  if (cache->sequences() != batch.sequences || cache->length() + batch.length > cache->capacity()) {
    return bad_data(fmt::format("the key/value cache holds {} sequences of {} tokens, {} x {} are needed",
                                cache->sequences(), cache->capacity(), batch.sequences,
                                cache->length() + batch.length));
  }
  return {};
}

LinearFactory operator_factory(std::shared_ptr<const OperatorSource> operators, OperatorForm form) {
  return [operators = std::move(operators), form](const Context& context, const Checkpoint&,
                                                  const ModuleInfo& module) {
    return operators->linear(context, module, form);
  };
}

Error stopped() {
  return Error{ErrorCode::kInterrupted, "stopped on request", {}, {}};
}

}  // namespace

Transformer::~Transformer() = default;

Result<std::unique_ptr<Transformer>> Transformer::open(const Context& context, const Checkpoint& checkpoint,
                                                       Options options) {
  std::unique_ptr<Transformer> model(new Transformer());
  model->checkpoint_ = &checkpoint;
  model->options_ = std::move(options);
  TRY_ASSIGN(model->config_, read_checkpoint_config(checkpoint));
  TRY_ASSIGN(model->description_, describe_model(checkpoint));
  TRY_ASSIGN(OperatorSource source, OperatorSource::open(checkpoint));
  model->operators_ = std::make_shared<const OperatorSource>(std::move(source));
  if (!model->options_.linears) {
    model->options_.linears = operator_factory(model->operators_, OperatorForm::kDense);
  }
  const bool whole = model->options_.residency == Residency::kWhole;
  const bool packs = whole && !options.linears;
  const LinearFactory held =
      packs ? operator_factory(model->operators_, OperatorForm::kPacked) : model->options_.linears;
  const ModelLoader loader(context, checkpoint, model->config_, model->description_, held, !whole);
  TRY_ASSIGN(model->embedding_, loader.embedding());
  TRY_ASSIGN(model->head_, loader.head(model->options_.lm_head));
  if (whole) {
    for (int i = 0; i < static_cast<int>(model->config_.layers); ++i) {
      TRY_ASSIGN(std::unique_ptr<Block> block, model->make_block(context, i, held));
      model->blocks_.push_back(std::move(block));
    }
  }
  return model;
}

void Transformer::drop_vocabulary() {
  embedding_.reset();
  head_->drop_lm_head();
  for (const ModuleInfo& module : description_.modules) {
    if ((module.role == kTokenEmbedding || module.role == kLmHead) && !module.weight.empty())
      checkpoint_->release(module.weight);
  }
}

Result<std::unique_ptr<Block>> Transformer::load_block(const Context& context, int index) const {
  return make_block(context, index, options_.linears);
}

Result<std::unique_ptr<Block>> Transformer::make_block(const Context& context, int index,
                                                       const LinearFactory& linears) const {
  auto block = std::make_unique<Block>(config_, index);
  for (const ModuleInfo& module : description_.modules) {
    if (module.block != index) continue;
    if (module.kind == ModuleKind::kLinear) {
      TRY_ASSIGN(std::unique_ptr<Linear> linear,
                 linears(context, *checkpoint_, module).at(fmt::format("module {}", module.name)));
      block->add(std::move(linear));
    } else if (module.kind == ModuleKind::kNorm) {
      TRY_ASSIGN(Norm norm, ModelLoader::load_norm(*checkpoint_, module));
      block->add(std::move(norm));
    } else if (module.kind == ModuleKind::kAttention) {
      block->attention_name = module.name;
      TRY_ASSIGN(block->attention_quantizers, operators_->attention(module));
    }
  }
  return block;
}

Block& Transformer::block(int index) {
  CHECK(!blocks_.empty(), "blocks are held with Residency::kWhole only");
  return *blocks_[static_cast<std::size_t>(index)];
}

Result<Pass> Transformer::begin(const Context& context, const Batch& batch, KvCache* cache) const {
  TRY(check_batch(config_, batch, cache));
  Pass pass;
  pass.context = &context;
  pass.sequences = batch.sequences;
  pass.length = batch.length;
  pass.cache = cache;
  pass.dtype = options_.activation_dtype;
  const bool padded = std::ranges::count(batch.mask, std::uint8_t{0}) > 0;
  if (padded) pass.mask = batch.mask.data();
  if (config_.ropes.empty()) return pass;

  const auto past = static_cast<std::int32_t>(cache == nullptr ? 0 : cache->length());
  pass.rope_rows = batch.positions;
  for (std::int64_t i = static_cast<std::int64_t>(pass.rope_rows.size()); i < batch.tokens(); ++i) {
    pass.rope_rows.push_back(past + static_cast<std::int32_t>(i % batch.length));
  }
  const auto [low, high] = std::ranges::minmax(pass.rope_rows);
  for (std::int32_t& row : pass.rope_rows) row -= low;
  for (const RopeConfig& rope : config_.ropes) pass.ropes.push_back(rope_table(rope, low, high - low + 1));
  return pass;
}

Result<Matrix> Transformer::embed(const Context& context, const Batch& batch, const KvCache* cache) const {
  CHECK(embedding_ != nullptr, "the vocabulary was dropped");
  TRY(check_batch(config_, batch, cache));
  TRY_ASSIGN(Matrix x, embedding_->apply(context, batch, cache == nullptr ? 0 : cache->length()));
  if (options_.activation_dtype != DType::kF32) {
    kernels::round_through(context.pool, options_.activation_dtype, x.data(), x.rows() * x.cols());
  }
  return x;
}

Status Transformer::forward(const Context& context, std::span<const Batch> batches,
                            const ForwardOptions& options, const Done& done) {
  CHECK(options.cache == nullptr || batches.size() == 1, "a cache belongs to one batch");
  const bool whole = options_.residency == Residency::kWhole;
  const auto workspace = std::make_shared<Workspace>();
  std::vector<Matrix> hidden(batches.size());
  const auto start = [&](std::size_t i) -> Status {
    TRY_ASSIGN(hidden[i], embed(context, batches[i], options.cache));
    return options.on_layer ? options.on_layer(i, -1, hidden[i]) : Status();
  };
  const auto run = [&](std::size_t i, const Pass& pass, const Block& block) -> Status {
    if (context.stop.stop_requested()) return stopped();
    hidden[i] = block.forward(pass, std::move(hidden[i]));
    return options.on_layer ? options.on_layer(i, block.index(), hidden[i]) : Status();
  };
  const auto make_pass = [&](std::size_t i) -> Result<Pass> {
    TRY_ASSIGN(Pass pass, begin(context, batches[i], options.cache));
    pass.tap = options.tap;
    pass.all_experts = options.all_experts;
    pass.workspace = workspace;
    return pass;
  };

  for (std::size_t i = 0; whole && i < batches.size(); ++i) {
    TRY_ASSIGN(const Pass pass, make_pass(i));
    TRY(start(i));
    for (const auto& block : blocks_) TRY(run(i, pass, *block));
    if (options.cache != nullptr) options.cache->set_length(options.cache->length() + batches[i].length);
    TRY(done(i, std::move(hidden[i])));
  }
  if (whole) return {};

  for (std::size_t i = 0; i < batches.size(); ++i) TRY(start(i));
  for (int index = 0; index < static_cast<int>(config_.layers); ++index) {
    TRY_ASSIGN(const std::unique_ptr<Block> block, load_block(context, index));
    for (std::size_t i = 0; i < batches.size(); ++i) {
      TRY_ASSIGN(const Pass pass, make_pass(i));
      TRY(run(i, pass, *block));
    }
  }
  if (options.cache != nullptr) options.cache->set_length(options.cache->length() + batches[0].length);
  for (std::size_t i = 0; i < batches.size(); ++i) TRY(done(i, std::move(hidden[i])));
  return {};
}

Result<Matrix> Transformer::hidden(const Context& context, const Batch& batch,
                                   const ForwardOptions& options) {
  Matrix out;
  TRY(forward(context, std::span(&batch, 1), options, [&out](std::size_t, Matrix hidden) -> Status {
    out = std::move(hidden);
    return {};
  }));
  return out;
}

Result<Outputs> Transformer::outputs(const Context& context, const Batch& batch, bool with_hidden_states) {
  Outputs out;
  ForwardOptions options;
  if (with_hidden_states) {
    options.on_layer = [&out](std::size_t, int, const Matrix& hidden) -> Status {
      out.hidden_states.push_back(hidden);
      return {};
    };
  }
  TRY_ASSIGN(const Matrix last, hidden(context, batch, options));
  out.last_hidden = head_->finish(context, last);
  switch (config_.head) {
    case HeadKind::kNone:
      break;
    case HeadKind::kLm:
      out.logits = head_->logits(context, last, 0, last.rows());
      break;
    case HeadKind::kSequence:
      out.logits = head_->classify(context, batch, last);
      break;
    case HeadKind::kSpan: {
      const Matrix scores = head_->span_scores(context, last);
      out.start_logits = Matrix(batch.sequences, batch.length);
      out.end_logits = Matrix(batch.sequences, batch.length);
      for (std::int64_t t = 0; t < scores.rows(); ++t) {
        out.start_logits.data()[t] = scores.at(t, 0);
        out.end_logits.data()[t] = scores.at(t, 1);
      }
      break;
    }
  }
  return out;
}

}  // namespace nibble
