// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <fmt/format.h>

#include "text/tokenizer/folder.h"
#include "text/tokenizer/loaders.h"
#include "text/tokenizer/pipeline.h"

namespace nibble {

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_folder(const std::filesystem::path& folder) {
  TRY_ASSIGN(text::TokenizerSpec spec, text::read_tokenizer_folder(folder));
  return text::Pipeline::create(std::move(spec)).at(fmt::format("tokenizer of {}", folder.string()));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_gguf(const GgufVocabulary& vocabulary) {
  TRY_ASSIGN(text::TokenizerSpec spec,
             text::read_gguf_vocabulary(vocabulary).at("vocabulary of the GGUF file"));
  return text::Pipeline::create(std::move(spec)).at("vocabulary of the GGUF file");
}

Result<std::vector<std::vector<TokenId>>> Tokenizer::encode_batch(ThreadPool& pool,
                                                                  std::span<const std::string_view> texts,
                                                                  bool add_special_tokens) const {
  std::vector<std::vector<TokenId>> ids(texts.size());
  std::vector<Status> statuses(texts.size());
  pool.parallel_for(static_cast<std::int64_t>(texts.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) {
      Result<std::vector<TokenId>> encoded = encode(texts[i], add_special_tokens);
      if (encoded.ok()) {
        ids[i] = std::move(encoded).value();
      } else {
        statuses[i] = std::move(encoded).error();
      }
    }
  });
  for (std::size_t i = 0; i < texts.size(); ++i) TRY(std::move(statuses[i]).at(fmt::format("text {}", i)));
  return ids;
}

}  // namespace nibble
