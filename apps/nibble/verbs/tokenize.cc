// SPDX-License-Identifier: Apache-2.0
// nibble tokenize: texts to token ids and back.
#include <fmt/format.h>

#include <charconv>

#include "base/file.h"
#include "base/json.h"
#include "model_access.h"
#include "program.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

// The `column` of every line of a JSON-lines file.
Result<std::vector<std::string>> read_jsonl(const std::string& path, const std::string& column) {
  TRY_ASSIGN(const std::string content, read_text_file(path));
  std::vector<std::string> texts;
  std::size_t line_number = 0;
  for (std::size_t start = 0; start < content.size();) {
    const std::size_t end = std::min(content.find('\n', start), content.size());
    const std::string_view line(content.data() + start, end - start);
    start = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string place = fmt::format("file {}, line {}", path, line_number);
    TRY_ASSIGN(const Json row, parse_json(line).at(place));
    TRY_ASSIGN(std::string text, json_string(row, column).at(place));
    texts.push_back(std::move(text));
  }
  return texts;
}

std::string joined(std::span<const TokenId> ids) {
  std::string text;
  for (const TokenId id : ids) text += fmt::format("{}{}", text.empty() ? "" : " ", id);
  return text;
}

// Ids as printed by this verb: a JSON list, or numbers between spaces or commas.
Result<std::vector<TokenId>> parse_ids(std::string text, std::int64_t vocabulary) {
  for (char& c : text) {
    if (c == ',' || c == '[' || c == ']' || c == '\n') c = ' ';
  }
  std::vector<TokenId> ids;
  for (std::size_t at = text.find_first_not_of(' '); at != std::string::npos;
       at = text.find_first_not_of(' ', at)) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    TokenId id = -1;
    const auto [rest, error] = std::from_chars(text.data() + at, text.data() + end, id);
    if (error != std::errc() || rest != text.data() + end || id < 0 || id >= vocabulary) {
      return usage_error(fmt::format("\"{}\" is no token id, allowed are 0 to {}", text.substr(at, end - at),
                                     vocabulary - 1));
    }
    ids.push_back(id);
    at = end;
  }
  return ids;
}

class Tokenize final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positional("MODEL", model_, "model, folder with tokenizer files, or vocabulary-only GGUF");
    flags.values("--text", "TEXT", texts_, "a text; may be given several times");
    flags.value("--file", "FILE", file_, "one text from a file");
    flags.value("--jsonl", "FILE", jsonl_, "a text from every line of a JSON-lines file");
    flags.value("--column", "NAME", column_, "the key of the text in --jsonl");
    flags.toggle("--no-special-tokens", no_special_tokens_,
                 "leave out what the model puts around a text (BOS, [CLS])");
    flags.toggle("--decode", decode_, "the texts are ids: print what they say");
  }

  Status run(Program& program) override {
    TRY_ASSIGN(const std::vector<std::string> texts, read_texts());
    TRY_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, open_tokenizer(program, model_));
    return decode_ ? print_texts(program, *tokenizer, texts) : print_ids(program, *tokenizer, texts);
  }

 private:
  Result<std::vector<std::string>> read_texts() const {
    const int sources = (texts_.empty() ? 0 : 1) + (file_.empty() ? 0 : 1) + (jsonl_.empty() ? 0 : 1);
    if (sources != 1) return usage_error("give one of --text, --file and --jsonl");
    if (!jsonl_.empty()) return read_jsonl(jsonl_, column_);
    if (file_.empty()) return texts_;
    TRY_ASSIGN(std::string text, read_text_file(file_));
    return std::vector<std::string>{std::move(text)};
  }

  Status print_ids(Program& program, const Tokenizer& tokenizer,
                   const std::vector<std::string>& texts) const {
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    TRY_ASSIGN(const auto ids, tokenizer.encode_batch(program.context().pool, views, !no_special_tokens_));
    std::string lines;
    for (const std::vector<TokenId>& one : ids) lines += joined(one) + "\n";
    return program.print(Json(ids), lines);
  }

  Status print_texts(Program& program, const Tokenizer& tokenizer,
                     const std::vector<std::string>& texts) const {
    Json decoded = Json::array();
    std::string lines;
    for (const std::string& text : texts) {
      TRY_ASSIGN(const std::vector<TokenId> ids, parse_ids(text, tokenizer.vocabulary_size()));
      TRY_ASSIGN(std::string one, tokenizer.decode(ids, no_special_tokens_));
      decoded.push_back(std::move(one));
      lines += decoded.back().get_ref<const std::string&>() + "\n";
    }
    return program.print(decoded, lines);
  }

  std::string model_;
  std::vector<std::string> texts_;
  std::string file_;
  std::string jsonl_;
  std::string column_ = "text";
  bool no_special_tokens_ = false;
  bool decode_ = false;
};

}  // namespace

VerbEntry tokenize_verb() {
  return {.name = "tokenize",
          .usage = "MODEL (--text T | --file F | --jsonl F) [flags]",
          .summary = "token ids of texts, and back with --decode",
          .detail = "With --json: one JSON list with a list of ids (or a string) for every text.",
          .examples = {"MODEL --text 'Once upon a time'", "MODEL --jsonl texts.jsonl --column text --json",
                       "MODEL --decode --text '403 407 261 378'"},
          .make = []() -> std::unique_ptr<Verb> { return std::make_unique<Tokenize>(); }};
}

}  // namespace nibble::app
