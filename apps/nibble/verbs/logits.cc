// SPDX-License-Identifier: Apache-2.0
// nibble logits: the raw outputs of a model for given token ids, for tests and for the curious.
#include <fmt/format.h>

#include "base/json.h"
#include "checkpoint/sharded_writer.h"
#include "model_access.h"
#include "program.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

Tensor as_tensor(const Matrix& values, Shape shape) {
  return Tensor::from_f32(DType::kF32, std::move(shape), values.values());
}

Status check_shape(const IdTable& table, const IdTable& ids, const std::string& name) {
  if (table.rows == ids.rows && table.columns == ids.columns) return {};
  return bad_data(fmt::format("{} is [{}, {}], input_ids is [{}, {}]", name, table.rows, table.columns,
                              ids.rows, ids.columns));
}

Result<Batch> read_batch(const Checkpoint& file) {
  TRY_ASSIGN(const IdTable ids, read_id_tensor(file, "input_ids"));
  Batch batch{.sequences = ids.rows,
              .length = ids.columns,
              .ids = ids.ids,
              .mask = {},
              .token_types = {},
              .positions = {}};
  if (file.find("attention_mask") != nullptr) {
    TRY_ASSIGN(const IdTable mask, read_id_tensor(file, "attention_mask"));
    TRY(check_shape(mask, ids, "attention_mask"));
    for (const TokenId value : mask.ids) batch.mask.push_back(value != 0 ? 1 : 0);
  }
  if (file.find("token_type_ids") != nullptr) {
    TRY_ASSIGN(const IdTable types, read_id_tensor(file, "token_type_ids"));
    TRY(check_shape(types, ids, "token_type_ids"));
    batch.token_types = types.ids;
  }
  return batch;
}

class Logits final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positional("MODEL", model_, "the model");
    flags.value("--ids", "FILE", ids_,
                ".safetensors with input_ids [b, s]; attention_mask, token_type_ids if there are");
    flags.value("-o,--output", "FILE", output_,
                ".safetensors to write: logits, or start_logits and end_logits, in fp32");
    flags.toggle("--hidden-states", hidden_states_,
                 "also hidden_states.0 (embeddings) to hidden_states.N (last block)");
  }

  Status run(Program& program) override {
    if (ids_.empty()) return usage_error("--ids is missing", "name a .safetensors file with input_ids");
    if (output_.empty()) return usage_error("--output is missing", "name the .safetensors file to write");
    TRY_ASSIGN(const std::unique_ptr<Checkpoint> file, open_checkpoint(program, ids_));
    TRY_ASSIGN(const Batch batch, read_batch(*file).at(fmt::format("file {}", ids_)));
    TRY_ASSIGN(const LoadedModel model, load_model(program, model_));
    TRY_ASSIGN(const Outputs outputs, model.transformer->outputs(program.context(), batch, hidden_states_));
    const auto tensors = collect(batch, outputs);
    TRY(write_safetensors_file(output_, tensors));
    Json document{{"model", model_}, {"output", output_}};
    std::string text;
    for (const auto& [name, tensor] : tensors) {
      document["tensors"][name] = tensor.shape();
      text += fmt::format("{} {}\n", name, to_string(tensor.shape()));
    }
    return program.print(document, text);
  }

 private:
  static std::vector<std::pair<std::string, Tensor>> collect(const Batch& batch, const Outputs& outputs) {
    std::vector<std::pair<std::string, Tensor>> tensors;
    const auto add = [&](const std::string& name, const Matrix& values, Shape shape) {
      if (!values.empty()) tensors.emplace_back(name, as_tensor(values, std::move(shape)));
    };
    const bool of_tokens = outputs.logits.rows() == batch.tokens();
    add("logits", outputs.logits,
        of_tokens ? Shape{batch.sequences, batch.length, outputs.logits.cols()}
                  : Shape{outputs.logits.rows(), outputs.logits.cols()});
    add("start_logits", outputs.start_logits, {batch.sequences, batch.length});
    add("end_logits", outputs.end_logits, {batch.sequences, batch.length});
    if (tensors.empty()) {
      add("last_hidden_state", outputs.last_hidden,
          {batch.sequences, batch.length, outputs.last_hidden.cols()});
    }
    for (std::size_t i = 0; i < outputs.hidden_states.size(); ++i) {
      const Matrix& hidden = outputs.hidden_states[i];
      add(fmt::format("hidden_states.{}", i), hidden, {batch.sequences, batch.length, hidden.cols()});
    }
    return tensors;
  }

  std::string model_;
  std::string ids_;
  std::string output_;
  bool hidden_states_ = false;
};

}  // namespace

VerbEntry logits_verb() {
  return {.name = "logits",
          .usage = "MODEL --ids IN.safetensors --output OUT.safetensors [flags]",
          .summary = "raw model outputs for given token ids",
          .detail = {},
          .examples = {"MODEL --ids ids.safetensors --output logits.safetensors --hidden-states"},
          .make = []() -> std::unique_ptr<Verb> { return std::make_unique<Logits>(); }};
}

}  // namespace nibble::app
