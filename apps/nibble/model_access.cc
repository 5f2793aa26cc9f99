// SPDX-License-Identifier: Apache-2.0
#include "model_access.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/memory_budget.h"
#include "session/load_tokenizer.h"
#include "text/dataset.h"
#include "text/tokenizer/unicode.h"

namespace nibble::app {
namespace {

namespace fs = std::filesystem;

std::uint64_t dense_bytes(const Checkpoint& checkpoint) {
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    bytes += static_cast<std::uint64_t>(element_count(tensor.shape)) * sizeof(float);
  }
  return bytes;
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_checkpoint(Program& program, const std::string& model) {
  return Checkpoint::open(model, {.hub_cache = program.settings().hub_cache});
}

Result<std::unique_ptr<Tokenizer>> open_tokenizer(Program& program, const std::string& model) {
  if (fs::is_directory(model)) return Tokenizer::from_folder(model).at(fmt::format("folder {}", model));
  TRY_ASSIGN(const std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(program, model));
  return load_tokenizer(*checkpoint);
}

Result<LoadedModel> load_model(Program& program, const std::string& model) {
  LoadedModel loaded;
  TRY_ASSIGN(loaded.checkpoint, open_checkpoint(program, model));
  const bool fits = dense_bytes(*loaded.checkpoint) < usable_memory_bytes() / 2;
  loaded.residency = fits ? Residency::kWhole : Residency::kStream;
  program.context().events.phase(fits ? "load" : "open");
  auto opened = Transformer::open(program.context(), *loaded.checkpoint, {.residency = loaded.residency});
  TRY_ASSIGN(loaded.transformer, std::move(opened).at(fmt::format("model {}", model)));
  return loaded;
}

Result<IdTable> read_id_tensor(const Checkpoint& file, const std::string& tensor) {
  TRY_ASSIGN(const Tensor ids, file.load(tensor));
  if (ids.shape().empty() || ids.shape().size() > 2) {
    return bad_data(fmt::format("tensor {} has the shape {}, expected [tokens] or [rows, tokens]", tensor,
                                to_string(ids.shape())));
  }
  IdTable table;
  table.columns = ids.shape().back();
  table.rows = ids.shape().size() == 2 ? ids.dim(0) : 1;
  table.ids.reserve(static_cast<std::size_t>(ids.size()));
  if (ids.dtype() == DType::kI64) {
    for (const std::int64_t id : ids.as<std::int64_t>()) {
      if (id < INT32_MIN || id > INT32_MAX)
        return bad_data(fmt::format("tensor {} holds the id {}", tensor, id));
      table.ids.push_back(static_cast<TokenId>(id));
    }
  } else if (ids.dtype() == DType::kI32) {
    const std::span<const std::int32_t> values = ids.as<std::int32_t>();
    table.ids.assign(values.begin(), values.end());
  } else {
    return bad_data(
        fmt::format("tensor {} is {}, token ids are I64 or I32", tensor, safetensors_name(ids.dtype())));
  }
  return table;
}

bool holds_token_ids(const std::string& text) {
  return fs::path(text).extension() == ".safetensors";
}

Result<std::vector<TokenId>> read_text_ids(Program& program, const std::string& path,
                                           const Tokenizer* tokenizer) {
  if (holds_token_ids(path)) {
    TRY_ASSIGN(const std::unique_ptr<Checkpoint> file, open_checkpoint(program, path));
    TRY_ASSIGN(IdTable table, read_id_tensor(*file, "input_ids").at(fmt::format("file {}", path)));
    return std::move(table.ids);
  }
  TRY_ASSIGN(const DatasetOptions options, dataset_options(*tokenizer));
  TRY_ASSIGN(const std::vector<Document> documents, read_documents(path, options));
  std::vector<TokenId> ids;
  std::string joined;
  std::size_t not_utf8 = 0;
  for (const Document& document : documents) {
    if (!document.ids && !text::is_valid_utf8(document.text)) ++not_utf8;
    if (document.ids || document.has_special_tokens) {
      TRY_ASSIGN(const std::vector<TokenId> own, document_ids(*tokenizer, document));
      ids.insert(ids.end(), own.begin(), own.end());
    } else {
      joined += (joined.empty() ? "" : "\n\n") + document.text;
    }
  }
  if (not_utf8 > 0) {
    program.context().events.warning(fmt::format(
        "{} of {} texts of {} are not UTF-8: wrong bytes are read as U+FFFD, and figures mean less", not_utf8,
        documents.size(), path));
  }
  if (!joined.empty()) {
    TRY_ASSIGN(const std::vector<TokenId> own, tokenizer->encode(joined, true));
    ids.insert(ids.end(), own.begin(), own.end());
  }
  return ids;
}

}  // namespace nibble::app
