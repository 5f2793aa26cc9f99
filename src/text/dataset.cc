// SPDX-License-Identifier: Apache-2.0
#include "text/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "base/json.h"
#include "text/csv.h"
#include "text/record.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

// Data sets come from scripts of all kinds: a key that stands twice is no reason to refuse one.
constexpr JsonLimits kRecordLimits{.allow_duplicate_keys = true};

class TextFile final : public DocumentReader {
 public:
  explicit TextFile(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

  Result<std::optional<Document>> next() override {
    if (!source_) return std::optional<Document>();
    TRY_ASSIGN(std::string text, read_all(*source_, kMaxTextFile));
    source_.reset();
    if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
    constexpr std::size_t kLookedAt = 8192;
    if (std::string_view(text).substr(0, kLookedAt).find('\0') != std::string_view::npos) {
      return bad_data("it holds NUL bytes: it is no text, or one in UTF-16",
                      "give UTF-8; `iconv -f UTF-16 -t UTF-8` converts");
    }
    return std::optional<Document>({.text = std::move(text), .whole_file = true});
  }

 private:
  std::unique_ptr<ByteSource> source_;
};

class JsonLines final : public DocumentReader {
 public:
  JsonLines(std::unique_ptr<ByteSource> source, const DatasetOptions& options)
      : lines_(std::move(source)), options_(options) {}

  Result<std::optional<Document>> next() override {
    std::optional<std::string> line;
    do {
      TRY_ASSIGN(line, lines_.next());
      if (!line) return std::optional<Document>();
    } while (line->find_first_not_of(" \t") == std::string::npos);
    const std::string place = fmt::format("line {}", lines_.line_number());
    TRY_ASSIGN(const Json record, parse_json(*line, kRecordLimits).at(place));
    TRY_ASSIGN(Document document, document_of_record(record, options_).at(place));
    return std::optional<Document>(std::move(document));
  }

 private:
  LineReader lines_;
  const DatasetOptions& options_;
};

// One JSON value: a list of records, or a record that holds such a list ("data", "train", "rows").
class JsonFile final : public DocumentReader {
 public:
  JsonFile(Json records, const DatasetOptions& options) : records_(std::move(records)), options_(options) {}

  Result<std::optional<Document>> next() override {
    if (position_ >= records_.size()) return std::optional<Document>();
    const std::string place = fmt::format("record {}", position_ + 1);
    TRY_ASSIGN(Document document, document_of_record(records_[position_++], options_).at(place));
    return std::optional<Document>(std::move(document));
  }

 private:
  Json records_;
  const DatasetOptions& options_;
  std::size_t position_ = 0;
};

class CsvFile final : public DocumentReader {
 public:
  CsvFile(CsvReader rows, std::size_t column) : rows_(std::move(rows)), column_(column) {}

  static Result<std::unique_ptr<DocumentReader>> open(std::unique_ptr<ByteSource> source, char separator,
                                                      const DatasetOptions& options) {
    CsvReader rows(LineReader(std::move(source)), separator);
    TRY_ASSIGN(const std::optional<std::vector<std::string>> header, rows.next());
    if (!header) return bad_data("the file is empty");
    const auto column = std::find(header->begin(), header->end(), options.text_column);
    if (column == header->end()) return missing_column(options.text_column, *header);
    const auto index = static_cast<std::size_t>(column - header->begin());
    return std::unique_ptr<DocumentReader>(std::make_unique<CsvFile>(std::move(rows), index));
  }

  Result<std::optional<Document>> next() override {
    TRY_ASSIGN(std::optional<std::vector<std::string>> row, rows_.next());
    if (!row) return std::optional<Document>();
    if (row->size() <= column_) {
      return bad_data(fmt::format("the row has {} field(s), but the text is in field {}", row->size(),
                                  column_ + 1))
          .add_context(fmt::format("line {}", rows_.line_number()));
    }
    return std::optional<Document>({.text = std::move((*row)[column_])});
  }

 private:
  CsvReader rows_;
  std::size_t column_;
};

// A .json file may hold JSON lines, as many data sets do: it is one when its first line is a whole record.
Result<std::unique_ptr<DocumentReader>> open_json(const fs::path& path, std::unique_ptr<ByteSource> source,
                                                  const DatasetOptions& options) {
  TRY_ASSIGN(const std::string text, read_all(*source, kMaxTextFile));
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const std::size_t line_end = text.find('\n', first);
  if (first != std::string::npos && text[first] == '{' && line_end != std::string::npos &&
      text.find_first_not_of(" \t\r\n", line_end) != std::string::npos &&
      parse_json(std::string_view(text).substr(first, line_end - first)).ok()) {
    TRY_ASSIGN(source, ByteSource::open(path));
    return std::unique_ptr<DocumentReader>(std::make_unique<JsonLines>(std::move(source), options));
  }
  TRY_ASSIGN(Json value, parse_json(text, kRecordLimits));
  for (const char* key : {"data", "train", "rows"}) {
    if (value.is_object() && value.contains(key) && value[key].is_array())
      value = Json(std::move(value[key]));
  }
  if (value.is_object()) value = Json::array({std::move(value)});
  if (!value.is_array()) return bad_data("a data set in JSON is a list of records");
  return std::unique_ptr<DocumentReader>(std::make_unique<JsonFile>(std::move(value), options));
}

// "c4.jsonl.zst" -> ".jsonl"
std::string ending(const fs::path& path) {
  return (path.extension() == ".zst" ? path.stem() : path.filename()).extension().string();
}

struct RefusedEnding {
  std::string_view ending;
  std::string_view way_out;
};
constexpr RefusedEnding kRefused[] = {
    {".gz", "unpack it first: gunzip FILE"},
    {".bz2", "unpack it first: bunzip2 FILE"},
    {".xz", "unpack it first: unxz FILE"},
    {".zip", "unpack it first: unzip FILE"},
    {".parquet",
     "convert it: python -c \"import pandas, sys; pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], "
     "orient='records', lines=True)\" IN.parquet OUT.jsonl"},
    {".arrow", "save the data set as JSON lines: dataset.to_json('OUT.jsonl')"},
    {".safetensors",
     "a .safetensors data set holds a tensor named input_ids and is read by the token reader"},
};

Result<std::unique_ptr<DocumentReader>> open_file(const fs::path& path, const DatasetOptions& options) {
  const std::string kind = ending(path);
  for (const RefusedEnding& refused : kRefused) {
    if (path.extension() == refused.ending) {
      return bad_data(fmt::format("{} files are not read as text", refused.ending),
                      std::string(refused.way_out));
    }
  }
  TRY_ASSIGN(std::unique_ptr<ByteSource> source, ByteSource::open(path));
  if (kind == ".jsonl" || kind == ".ndjson") {
    return std::unique_ptr<DocumentReader>(std::make_unique<JsonLines>(std::move(source), options));
  }
  if (kind == ".json") return open_json(path, std::move(source), options);
  if (kind == ".csv") return CsvFile::open(std::move(source), ',', options);
  if (kind == ".tsv") return CsvFile::open(std::move(source), '\t', options);
  return std::unique_ptr<DocumentReader>(std::make_unique<TextFile>(std::move(source)));
}

// Several files as one; owns the options that the readers refer to.
class Files final : public DocumentReader {
 public:
  Files(std::vector<fs::path> paths, const DatasetOptions& options)
      : paths_(std::move(paths)), options_(options) {}

  Result<std::optional<Document>> next() override {
    while (true) {
      if (!current_) {
        if (position_ == paths_.size()) return std::optional<Document>();
        TRY_ASSIGN(current_, open_file(paths_[position_++], options_).at(place()));
      }
      TRY_ASSIGN(std::optional<Document> document, current_->next().at(place()));
      if (document) return document;
      current_.reset();
    }
  }

  // Opens the first file, so that errors in it appear at once.
  Status start() {
    TRY_ASSIGN(current_, open_file(paths_[position_++], options_).at(place()));
    return {};
  }

 private:
  std::string place() const { return "file " + paths_[position_ - 1].string(); }

  std::vector<fs::path> paths_;
  DatasetOptions options_;
  std::size_t position_ = 0;
  std::unique_ptr<DocumentReader> current_;
};

constexpr std::array<std::string_view, 9> kFolderEndings{".txt",  ".text",   ".raw", ".utf8", ".jsonl",
                                                         ".json", ".ndjson", ".csv", ".tsv"};

Result<std::vector<fs::path>> files_of(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return no_input("the data set does not exist");
  if (!fs::is_directory(status)) return std::vector<fs::path>{path};
  std::vector<fs::path> paths;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const bool known =
        std::find(kFolderEndings.begin(), kFolderEndings.end(), ending(it->path())) != kFolderEndings.end();
    if (it->is_regular_file(error) && known) paths.push_back(it->path());
  }
  if (error) return no_input(fmt::format("the folder cannot be read: {}", error.message()));
  if (paths.empty()) {
    return no_input("the folder holds no texts",
                    fmt::format("known endings are {}, each also with .zst", fmt::join(kFolderEndings, " ")));
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

Result<DatasetOptions> dataset_options(const Tokenizer& tokenizer, std::string text_column) {
  DatasetOptions options{.text_column = std::move(text_column),
                         .special_tokens = special_token_names(tokenizer)};
  if (tokenizer.chat_template().empty()) return options;
  TRY_ASSIGN(options.chat_template, ChatTemplate::parse(tokenizer.chat_template()));
  return options;
}

Result<std::unique_ptr<DocumentReader>> DocumentReader::open(const fs::path& path,
                                                             const DatasetOptions& options) {
  TRY_ASSIGN(std::vector<fs::path> paths, files_of(path).at("data set " + path.string()));
  auto files = std::make_unique<Files>(std::move(paths), options);
  TRY(files->start());
  return std::unique_ptr<DocumentReader>(std::move(files));
}

Result<std::vector<Document>> read_documents(const fs::path& path, const DatasetOptions& options,
                                             std::int64_t most) {
  TRY_ASSIGN(const std::unique_ptr<DocumentReader> reader, DocumentReader::open(path, options));
  std::vector<Document> documents;
  while (static_cast<std::int64_t>(documents.size()) < most) {
    TRY_ASSIGN(std::optional<Document> document, reader->next());
    if (!document) break;
    documents.push_back(*std::move(document));
  }
  return documents;
}

Result<std::vector<TokenId>> document_ids(const Tokenizer& tokenizer, const Document& document) {
  if (document.ids) return *document.ids;
  return tokenizer.encode(document.text, !document.has_special_tokens);
}

}  // namespace nibble
