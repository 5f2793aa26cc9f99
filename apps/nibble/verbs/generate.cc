// SPDX-License-Identifier: Apache-2.0
// nibble generate: the continuation of a prompt, shown as it grows.
#include "model/generate.h"

#include <fmt/format.h>

#include <chrono>

#include "base/file.h"
#include "base/json.h"
#include "model_access.h"
#include "program.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

// Tokens are shown once they are whole UTF-8: a piece that ends inside a character waits for the next one.
class TextStream {
 public:
  TextStream(Program& program, const Tokenizer& tokenizer) : program_(program), tokenizer_(tokenizer) {}

  Status add(TokenId token) {
    ids_.push_back(token);
    return show(/*last=*/false);
  }
  Status finish() { return show(/*last=*/true); }

 private:
  Status show(bool last) {
    TRY_ASSIGN(const std::string text, tokenizer_.decode(ids_, true));
    constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
    if (!last && text.ends_with(kReplacement)) return {};
    if (text.size() <= shown_) return {};
    const std::string piece = text.substr(shown_);
    shown_ = text.size();
    return program_.stream(piece);
  }

  Program& program_;
  const Tokenizer& tokenizer_;
  std::vector<TokenId> ids_;
  std::size_t shown_ = 0;
};

// The ids that end a text: `eos_token_id` of generation_config.json or config.json (a number or a list), and
// the tokenizer's own.
std::vector<TokenId> stop_tokens(const Checkpoint& checkpoint, const Tokenizer& tokenizer) {
  std::vector<TokenId> ids;
  const auto add = [&](const Json& config) {
    if (!config.is_object() || !config.contains("eos_token_id")) return;
    const Json& eos = config["eos_token_id"];
    for (const Json& id : eos.is_array() ? eos : Json::array({eos})) {
      if (id.is_number_integer()) ids.push_back(id.get<TokenId>());
    }
  };
  add(checkpoint.config());
  for (const std::filesystem::path& file : checkpoint.companion_files()) {
    if (file.filename() != "generation_config.json") continue;
    if (const Result<Json> config = read_json_file(file); config.ok()) add(*config);
  }
  if (ids.empty() && tokenizer.eos()) ids.push_back(*tokenizer.eos());
  return ids;
}

class Generate final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positional("MODEL", model_, "the model");
    flags.value("--prompt", "TEXT", prompt_, "the text to continue");
    flags.value("-n,--max-new-tokens", "N", options_.max_new_tokens, "stop after this many tokens", 1);
    flags.value("--temperature", "T", options_.sampling.temperature, "0 is greedy; higher is more random", 0,
                100);
    flags.value("--top-k", "K", options_.sampling.top_k, "sample among the K likeliest (0: all)", 0);
    flags.value("--top-p", "P", options_.sampling.top_p,
                "sample among the fewest that reach this probability", 0, 1);
    flags.value("--seed", "N", seed_, "of the draw; equal seeds give equal texts", 0);
  }

  Status run(Program& program) override {
    options_.sampling.seed = static_cast<std::uint64_t>(seed_);
    TRY(options_.sampling.validate());
    TRY_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, open_tokenizer(program, model_));
    TRY_ASSIGN(const std::vector<TokenId> prompt, tokenizer->encode(prompt_, true));
    if (prompt.empty()) return usage_error("the prompt has no tokens", "give --prompt TEXT");
    TRY_ASSIGN(LoadedModel model, load_model(program, model_));
    options_.stop_tokens = stop_tokens(*model.checkpoint, *tokenizer);

    TextStream stream(program, *tokenizer);
    Status shown;
    options_.on_token = [&](TokenId token) {
      if (!program.settings().json) shown = stream.add(token);
      return shown.ok() && !program.context().stop.stop_requested();
    };
    const auto start = std::chrono::steady_clock::now();
    if (!program.settings().json) TRY(program.stream(prompt_));
    TRY_ASSIGN(const std::vector<TokenId> ids,
               nibble::generate(program.context(), *model.transformer, prompt, options_));
    TRY(std::move(shown));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (!program.settings().json) {
      TRY(stream.finish());
      return program.stream("\n");
    }
    Json document{{"model", model_}, {"prompt", prompt_}, {"prompt_ids", prompt}, {"ids", ids}};
    TRY_ASSIGN(document["text"], tokenizer->decode(ids, true));
    document["seconds"] = seconds.count();
    return program.print(document, "");
  }

 private:
  std::string model_;
  std::string prompt_;
  std::int64_t seed_ = 0;
  GenerateOptions options_;
};

}  // namespace

VerbEntry generate_verb() {
  return {.name = "generate",
          .usage = "MODEL [--prompt TEXT] [flags]",
          .summary = "continue a prompt: greedy, or sampled",
          .detail = {},
          .examples = {"MODEL --prompt 'Once upon a time'",
                       "MODEL --prompt 'Once upon a time' --temperature 0.8 --top-p 0.9 --seed 7"},
          .make = []() -> std::unique_ptr<Verb> { return std::make_unique<Generate>(); }};
}

}  // namespace nibble::app
