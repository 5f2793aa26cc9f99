// SPDX-License-Identifier: Apache-2.0
// Any bytes are a tokenizer file or an error; an accepted tokenizer encodes any text to ids of its
// vocabulary, the same ones with a warm cache, with offsets and on several threads, and decodes them.
//
// Input: a letter for the format (j tokenizer.json, s SentencePiece, t tiktoken, g vocab.json NUL merges.txt,
// w vocab.txt), a new line, the file, and behind the last "\n\0\n" the text.
#include <array>
#include <cstdlib>

#include "text/tokenizer/loaders.h"
#include "text/tokenizer/pipeline.h"

namespace {

using namespace nibble;
using text::TokenizerSpec;

Result<TokenizerSpec> read(char format, std::string_view file) {
  const text::TokenizerSettings settings;
  switch (format) {
    case 's':
      return text::read_sentencepiece_model(file, settings);
    case 't':
      return text::read_tiktoken(file, settings);
    case 'g': {
      const std::size_t cut = file.find('\0');
      const std::string_view merges = cut < file.size() ? file.substr(cut + 1) : std::string_view();
      return text::read_gpt2_files(file.substr(0, cut), merges, settings);
    }
    case 'w':
      return text::read_bert_vocabulary(file, settings);
    default:
      return text::read_tokenizer_json(file);
  }
}

void check(bool holds) {
  if (!holds) std::abort();
}

void use(const Tokenizer& tokenizer, std::string_view text) {
  static ThreadPool pool(2);
  const Result<std::vector<TokenId>> ids = tokenizer.encode(text, true);
  const Result<Encoding> tracked = tokenizer.encode_with_offsets(text, true);
  const std::array<std::string_view, 3> texts{text, text.substr(0, text.size() / 2), text};
  const auto batch = tokenizer.encode_batch(pool, texts, true);
  check(ids.ok() == tracked.ok());
  if (!ids.ok()) return;
  for (const TokenId id : *ids) check(id >= 0 && id < tokenizer.vocabulary_size());
  check(tracked->ids == *ids);
  for (const TokenOffset& offset : tracked->offsets)
    check(offset.begin <= offset.end && offset.end <= text.size());
  if (batch.ok()) check((*batch)[0] == *ids && (*batch)[2] == *ids);
  static_cast<void>(tokenizer.decode(*ids, false).ok());
  static_cast<void>(tokenizer.decode(*ids, true).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::string_view kCut("\n\0\n", 3);
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.size() < 2) return 0;
  const std::size_t cut = std::min(input.rfind(kCut), input.size());
  const std::string_view text =
      cut < input.size() ? input.substr(cut + kCut.size()) : std::string_view("a b");
  Result<TokenizerSpec> spec = read(input[0], cut > 2 ? input.substr(2, cut - 2) : std::string_view());
  if (!spec.ok()) return 0;
  const auto tokenizer = text::Pipeline::create(*std::move(spec));
  if (!tokenizer.ok()) return 0;
  use(**tokenizer, text.substr(0, 2048));
  static_cast<void>((*tokenizer)->to_tokenizer_json().ok());
  return 0;
}
