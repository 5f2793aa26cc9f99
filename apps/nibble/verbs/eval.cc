// SPDX-License-Identifier: Apache-2.0
// nibble eval: perplexity on a text, and beside a base model what the change lost.
#include <fmt/format.h>

#include <chrono>

#include "base/json.h"
#include "evaluate/perplexity.h"
#include "format.h"
#include "model_access.h"
#include "program.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

// GPTQ's 2048 and llama.cpp's 512, or what the model can take.
constexpr std::int64_t kGptqContext = 2048;
constexpr std::int64_t kLlamaCppContext = 512;

struct Arguments {
  std::string model;
  std::string against;
  std::string text;
  std::string convention = "gptq";
  std::optional<std::int64_t> context;
  std::optional<std::int64_t> max_windows;
};

Json perplexity_json(const Perplexity& p) {
  return {{"perplexity", p.perplexity}, {"standard_error", p.standard_error}};
}

Json document_of(const Arguments& arguments, const Evaluation& result, std::span<const Window> windows,
                 double seconds) {
  Json document{{"model", arguments.model}, {"text", arguments.text}};
  document["perplexity"] = result.model.perplexity;
  document["standard_error"] = result.model.standard_error;
  document["windows"] = result.model.windows;
  document["context"] = windows.front().ids.size();
  document["tokens"] = static_cast<std::int64_t>(windows.size() * windows.front().ids.size());
  document["predictions"] = result.model.predictions;
  document["token_hash"] = token_hash(windows);
  document["convention"] = arguments.convention;
  if (result.divergence) {
    const Divergence& d = *result.divergence;
    document["against"] = arguments.against;
    document["base"] = perplexity_json(*result.base);
    document["ppl_ratio"] = d.ppl_ratio;
    document["ppl_ratio_standard_error"] = d.ppl_ratio_standard_error;
    document["mean_kl"] = d.mean_kl;
    document["mean_kl_standard_error"] = d.mean_kl_standard_error;
    document["median_kl"] = d.median_kl;
    document["kl_90"] = d.kl_90;
    document["kl_95"] = d.kl_95;
    document["kl_99"] = d.kl_99;
    document["kl_999"] = d.kl_999;
    document["max_kl"] = d.max_kl;
    document["same_top1"] = d.same_top1;
    document["rms_delta_p"] = d.rms_delta_p;
  }
  document["seconds"] = seconds;
  return document;
}

std::string text_of(const Arguments& arguments, const Evaluation& result, std::span<const Window> windows,
                    double seconds) {
  Table table({"", ""});
  const auto figure = [](const Perplexity& p) {
    return fmt::format("{:.4f} +- {:.4f}", p.perplexity, p.standard_error);
  };
  table.row({"perplexity", figure(result.model)});
  if (result.divergence) {
    const Divergence& d = *result.divergence;
    table.row({"perplexity of the base", figure(*result.base)});
    table.row({"perplexity ratio", fmt::format("{:.5f} +- {:.5f}", d.ppl_ratio, d.ppl_ratio_standard_error)});
    table.row({"KL divergence, mean", fmt::format("{:.6f} +- {:.6f}", d.mean_kl, d.mean_kl_standard_error)});
    table.row({"KL divergence, median", fmt::format("{:.6f}", d.median_kl)});
    table.row({"KL divergence, 99 %", fmt::format("{:.6f}", d.kl_99)});
    table.row({"KL divergence, max", fmt::format("{:.6f}", d.max_kl)});
    table.row({"same top token", fmt::format("{:.2f} %", 100 * d.same_top1)});
  }
  table.row({"windows", fmt::format("{} of {} tokens, convention {}", result.model.windows,
                                    windows.front().ids.size(), arguments.convention)});
  table.row({"predictions", format_count(result.model.predictions)});
  table.row({"token hash", token_hash(windows)});
  table.row({"time", format_duration(seconds)});
  const std::string text = table.text();
  return text.substr(text.find('\n') + 1);
}

class Eval final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positional("MODEL", arguments_.model, "the model to judge");
    flags.value("--text", "FILE", arguments_.text, "text, data set, or .safetensors with input_ids");
    flags.value("--against", "BASE", arguments_.against,
                "the original: adds KL divergence, same top token, ratio");
    flags.choice(
        "--convention", arguments_.convention, {"gptq", "llama.cpp"},
        "gptq: every prediction of windows without overlap; llama.cpp: the second half of each window");
    flags.value("--context", "N", arguments_.context,
                "tokens in a window (default 2048, llama.cpp 512, at most what the model takes)", 2);
    flags.value("--max-windows", "N", arguments_.max_windows, "use the first N windows (default: all)", 1);
  }

  Status run(Program& program) override {
    if (arguments_.text.empty()) return usage_error("--text is missing", "name a text to judge the model on");
    const auto start = std::chrono::steady_clock::now();
    TRY_ASSIGN(const std::vector<Window> windows, windows_of(program));
    TRY_ASSIGN(LoadedModel model, load_model(program, arguments_.model));
    TRY(check_context(*model.transformer, windows));
    LoadedModel base;
    if (!arguments_.against.empty()) {
      TRY_ASSIGN(base, load_model(program, arguments_.against));
      TRY(check_context(*base.transformer, windows));
    }
    const bool streams = model.residency == Residency::kStream || base.residency == Residency::kStream;
    const EvaluateOptions options{.convention = *convention_from_string(arguments_.convention),
                                  .all_at_once = streams};
    TRY_ASSIGN(const Evaluation result,
               evaluate(program.context(), *model.transformer, base.transformer.get(), windows, options));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    return program.print(document_of(arguments_, result, windows, seconds.count()),
                         text_of(arguments_, result, windows, seconds.count()));
  }

 private:
  // Reads the text before any weight: a wrong file name costs no loading time.
  Result<std::vector<Window>> windows_of(Program& program) {
    TRY_ASSIGN(const std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(program, arguments_.model));
    TRY_ASSIGN(const ModelConfig config, read_model_config(checkpoint->config()));
    if (config.head != HeadKind::kLm) {
      return usage_error(
          fmt::format("{} has no language-model head, perplexity is not defined", arguments_.model));
    }
    std::unique_ptr<Tokenizer> tokenizer;
    if (!holds_token_ids(arguments_.text)) {
      TRY_ASSIGN(tokenizer, open_tokenizer(program, arguments_.model));
    }
    TRY_ASSIGN(const std::vector<TokenId> ids, read_text_ids(program, arguments_.text, tokenizer.get()));
    WindowOptions options{.convention = *convention_from_string(arguments_.convention),
                          .context = 0,
                          .max_windows = arguments_.max_windows,
                          .bos = std::nullopt};
    const bool llama_cpp = options.convention == Convention::kLlamaCpp;
    options.context = arguments_.context.value_or(
        std::min(llama_cpp ? kLlamaCppContext : kGptqContext, config.max_positions));
    if (llama_cpp && tokenizer != nullptr && puts_bos_first(*tokenizer)) options.bos = tokenizer->bos();
    return cut_windows(ids, options).at(fmt::format("text {}", arguments_.text));
  }

  static bool puts_bos_first(const Tokenizer& tokenizer) {
    const Result<std::vector<TokenId>> ids = tokenizer.encode("a", true);
    return tokenizer.bos() && ids.ok() && !ids->empty() && ids->front() == *tokenizer.bos();
  }

  static Status check_context(const Transformer& model, std::span<const Window> windows) {
    const auto context = static_cast<std::int64_t>(windows.front().ids.size());
    if (context <= model.config().max_positions) return {};
    return usage_error(fmt::format("--context {} is more than the model's limit of {} positions", context,
                                   model.config().max_positions));
  }

  Arguments arguments_;
};

}  // namespace

VerbEntry eval_verb() {
  return {
      .name = "eval",
      .usage = "MODEL --text FILE [flags]",
      .summary = "perplexity; with --against also KL divergence to the original",
      .detail = "Figures compare only at equal convention, context, windows and token hash.",
      .examples = {"MODEL --text wiki.test.raw", "OUT --against MODEL --text wiki.test.raw --max-windows 20",
                   "MODEL --text wiki.test.raw --convention llama.cpp --json"},
      .make = []() -> std::unique_ptr<Verb> { return std::make_unique<Eval>(); }};
}

}  // namespace nibble::app
