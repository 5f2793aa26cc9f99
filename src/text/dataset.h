// SPDX-License-Identifier: Apache-2.0
// Documents of a data set, one after the other: .txt (the whole file), .jsonl and .json (a column,
// conversations, or token ids), .csv and .tsv, each also as .zst, and folders of these.
//
//   TRY_ASSIGN(std::unique_ptr<DocumentReader> reader, DocumentReader::open("c4.jsonl.zst", {}));
//   while (true) {
//     TRY_ASSIGN(std::optional<Document> document, reader->next());
//     if (!document) break;
//   }
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace nibble {

struct Document {
  std::string text{};
  // The text is a whole file, to be cut where needed, and not a sample of its own.
  bool whole_file = false;
  // A chat template has written BOS and its like: tokenise without adding special tokens.
  bool has_special_tokens = false;
  // Exact tokens instead of a text.
  std::optional<std::vector<TokenId>> ids{};
};

struct DatasetOptions {
  std::string text_column = "text";
  // For records with conversations (`messages`, or `conversations` with from/value).
  std::optional<ChatTemplate> chat_template{};
  std::map<std::string, std::string> special_tokens{};
};

// The options that fit a model's tokenizer.
Result<DatasetOptions> dataset_options(const Tokenizer& tokenizer, std::string text_column = "text");

class DocumentReader {
 public:
  // A folder stands for its files with known endings, below it too, in the order of their names.
  static Result<std::unique_ptr<DocumentReader>> open(const std::filesystem::path& path,
                                                      const DatasetOptions& options);
  virtual ~DocumentReader() = default;
  // nullopt at the end. Errors name file and line.
  virtual Result<std::optional<Document>> next() = 0;
};

// At most `most` documents.
Result<std::vector<Document>> read_documents(const std::filesystem::path& path, const DatasetOptions& options,
                                             std::int64_t most = INT64_MAX);

// Token ids of a document; BOS and its like are added unless the text holds them already.
Result<std::vector<TokenId>> document_ids(const Tokenizer& tokenizer, const Document& document);

}  // namespace nibble
