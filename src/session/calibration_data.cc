// SPDX-License-Identifier: Apache-2.0
#include "session/calibration_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "session/load_tokenizer.h"
#include "text/dataset.h"
#include "text/samples.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kUsualLength = 384;

Result<fs::path> data_path(const Options& options) {
  const std::string& given = options.dataset_path.empty() ? options.dataset : options.dataset_path;
  if (fs::exists(given)) return fs::path(given);
  return no_input(fmt::format("the data set {} is no file or folder, and nibble downloads nothing", given),
                  "give a .txt, .jsonl, .json, .csv or .tsv file (also .zst), a folder of these, or a "
                  ".safetensors file with input_ids; a set of the hub becomes one with "
                  "datasets.load_dataset(...).to_json(\"data.jsonl\")");
}

std::int64_t length_limit(const Options& options) {
  return options.max_seq_length.value_or(kUsualLength);
}

// "train[100:200]", "train[:10%]": the rows that the brackets leave. A file has one split, whatever its name.
Result<std::pair<std::size_t, std::size_t>> split_range(const std::string& split, std::size_t rows) {
  const std::size_t open = split.find('[');
  if (open == std::string::npos) return std::pair<std::size_t, std::size_t>{0, rows};
  const Error wrong = usage_error(fmt::format("splits \"{}\" is not understood", split),
                                  "write train[100:200], train[:10%] or leave it out");
  const std::size_t colon = split.find(':', open);
  if (colon == std::string::npos || split.back() != ']') return wrong;
  std::size_t bounds[2] = {0, rows};
  const std::string parts[2] = {split.substr(open + 1, colon - open - 1),
                                split.substr(colon + 1, split.size() - colon - 2)};
  for (int i = 0; i < 2; ++i) {
    std::string digits = parts[i];
    if (digits.empty()) continue;
    const bool percent = digits.back() == '%';
    if (percent) digits.pop_back();
    if (digits.empty() || digits.size() > 15 || digits.find_first_not_of("0123456789") != std::string::npos)
      return wrong;
    const std::size_t number = std::stoull(digits);
    bounds[i] = std::min(rows, percent ? number * rows / 100 : number);
  }
  if (bounds[0] >= bounds[1]) return wrong;
  return std::pair{bounds[0], bounds[1]};
}

// Samples of token ids from documents.
class Tokens {
 public:
  Tokens(const Options& options, const Tokenizer& tokenizer, ThreadPool& pool)
      : options_(options), tokenizer_(tokenizer), pool_(pool) {}

  Result<std::vector<TokenIds>> samples(std::vector<Document> documents) {
    const bool joined = options_.concatenate_data ||
                        std::any_of(documents.begin(), documents.end(),
                                    [](const Document& document) { return document.whole_file; });
    return joined ? blocks(documents) : single_samples(documents);
  }

 private:
  Result<std::vector<TokenIds>> encode(const std::vector<Document>& documents,
                                       const std::vector<std::int64_t>& order) const {
    std::vector<TokenIds> ids(order.size());
    std::vector<Status> statuses(order.size());
    pool_.parallel_for(static_cast<std::int64_t>(order.size()), 1,
                       [&](std::int64_t first, std::int64_t last) {
                         for (std::int64_t i = first; i < last; ++i) {
                           const auto at = static_cast<std::size_t>(i);
                           const Document& document = documents[static_cast<std::size_t>(order[at])];
                           Result<TokenIds> encoded = document_ids(tokenizer_, document);
                           if (encoded.ok()) {
                             ids[at] = std::move(encoded).value();
                           } else {
                             statuses[at] = std::move(encoded).error();
                           }
                         }
                       });
    for (std::size_t i = 0; i < order.size(); ++i)
      TRY(std::move(statuses[i]).at(fmt::format("document {}", order[i])));
    return ids;
  }

  std::vector<std::int64_t> file_order(std::size_t count) const {
    std::vector<std::int64_t> order(count);
    for (std::size_t i = 0; i < count; ++i) order[i] = static_cast<std::int64_t>(i);
    return order;
  }

  Result<std::vector<TokenIds>> blocks(const std::vector<Document>& documents) const {
    TRY_ASSIGN(const std::vector<TokenIds> ids, encode(documents, file_order(documents.size())));
    std::vector<TokenIds> cut = concatenated_blocks(ids, length_limit(options_));
    if (!options_.shuffle_calibration_samples) return cut;
    std::vector<TokenIds> shuffled;
    for (const std::int64_t i : shuffled_order(static_cast<std::int64_t>(cut.size()), options_.seed))
      shuffled.push_back(std::move(cut[static_cast<std::size_t>(i)]));
    return shuffled;
  }

  // With a seed's order only the samples that are used are tokenised.
  Result<std::vector<TokenIds>> single_samples(const std::vector<Document>& documents) const {
    const auto count = static_cast<std::int64_t>(documents.size());
    std::vector<TokenIds> samples;
    if (options_.shuffle_calibration_samples) {
      std::vector<std::int64_t> order = shuffled_order(count, options_.seed);
      constexpr std::size_t kPart = 256;
      const auto wanted = static_cast<std::size_t>(options_.num_calibration_samples);
      for (std::size_t at = 0; at < order.size() && samples.size() < wanted; at += kPart) {
        const auto begin = order.begin() + static_cast<std::ptrdiff_t>(at);
        const auto end = order.begin() + static_cast<std::ptrdiff_t>(std::min(at + kPart, order.size()));
        TRY_ASSIGN(std::vector<TokenIds> part, encode(documents, {begin, end}));
        for (TokenIds& ids : part) {
          if (!ids.empty()) samples.push_back(std::move(ids));
        }
      }
      truncate_samples(samples, length_limit(options_));
      return samples;
    }
    TRY_ASSIGN(std::vector<TokenIds> all, encode(documents, file_order(documents.size())));
    truncate_samples(all, length_limit(options_));
    for (const std::int64_t i : longest_first(all)) {
      TokenIds& ids = all[static_cast<std::size_t>(i)];
      if (!ids.empty()) samples.push_back(std::move(ids));
    }
    return samples;
  }

  const Options& options_;
  const Tokenizer& tokenizer_;
  ThreadPool& pool_;
};

Batch to_batch(const SampleBatch& samples) {
  Batch batch;
  batch.sequences = static_cast<std::int64_t>(samples.ids.size());
  batch.length = static_cast<std::int64_t>(samples.ids.front().size());
  bool padded = false;
  for (const std::int64_t length : samples.lengths) padded |= length < batch.length;
  for (std::size_t s = 0; s < samples.ids.size(); ++s) {
    batch.ids.insert(batch.ids.end(), samples.ids[s].begin(), samples.ids[s].end());
    for (std::int64_t t = 0; padded && t < batch.length; ++t)
      batch.mask.push_back(t < samples.lengths[s] ? 1 : 0);
  }
  return batch;
}

Result<std::vector<Batch>> batches_of_text(const fs::path& path, const Options& options,
                                           const Checkpoint& checkpoint, ThreadPool& pool) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (options.tokenizer.empty()) {
    TRY_ASSIGN(tokenizer, load_tokenizer(checkpoint));
  } else {
    TRY_ASSIGN(tokenizer, Tokenizer::from_folder(options.tokenizer));
  }
  TRY_ASSIGN(const DatasetOptions how, dataset_options(*tokenizer, options.text_column));
  const std::int64_t most = options.streaming ? options.num_calibration_samples : INT64_MAX;
  TRY_ASSIGN(std::vector<Document> documents, read_documents(path, how, most));
  TRY_ASSIGN(const auto range, split_range(options.splits, documents.size()));
  documents = {std::make_move_iterator(documents.begin() + static_cast<std::ptrdiff_t>(range.first)),
               std::make_move_iterator(documents.begin() + static_cast<std::ptrdiff_t>(range.second))};
  TRY_ASSIGN(std::vector<TokenIds> samples, Tokens(options, *tokenizer, pool).samples(std::move(documents)));
  if (samples.empty()) {
    return bad_data(
        fmt::format("{} gives no calibration sample of {} tokens", path.string(), length_limit(options)),
        "use more text, or a smaller max_seq_length");
  }
  if (static_cast<std::int64_t>(samples.size()) > options.num_calibration_samples)
    samples.resize(static_cast<std::size_t>(options.num_calibration_samples));
  const auto collator = collator_from_string(options.data_collator);
  if (!collator) {
    return usage_error(fmt::format("data_collator \"{}\" is unknown; allowed are truncation and padding",
                                   options.data_collator));
  }
  const std::int64_t pad_to =
      options.pad_to_max_length && !options.concatenate_data ? length_limit(options) : 0;
  const TokenId pad = tokenizer->eos().value_or(0);
  std::vector<Batch> batches;
  for (const SampleBatch& batch : collate(samples, options.batch_size, *collator, pad, pad_to))
    batches.push_back(to_batch(batch));
  return batches;
}

// The tensors of a .safetensors file by name.
Result<std::map<std::string, Tensor>> read_tensors(const fs::path& path) {
  TRY_ASSIGN(const auto file, MappedFile::open(path));
  TRY_ASSIGN(const SafetensorsHeader header, parse_safetensors_header(file->bytes()).at(path.string()));
  std::map<std::string, Tensor> tensors;
  for (const SafetensorsEntry& entry : header.entries)
    tensors[entry.name] = tensor_from_file(file, header.data_begin + entry.begin, entry.dtype, entry.shape);
  return tensors;
}

Result<std::vector<std::int64_t>> integers(const Tensor& tensor, const std::string& name) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(tensor.size()));
  const auto convert = [&](auto span) { std::copy(span.begin(), span.end(), values.begin()); };
  switch (tensor.dtype()) {
    case DType::kI64:
      convert(tensor.as<std::int64_t>());
      return values;
    case DType::kI32:
      convert(tensor.as<std::int32_t>());
      return values;
    case DType::kU8:
    case DType::kBool:
      convert(tensor.as<std::uint8_t>());
      return values;
    default:
      return bad_data(
          fmt::format("{} is {}; allowed are I64, I32, U8 and BOOL", name, safetensors_name(tensor.dtype())));
  }
}

// attention_mask or loss_mask of a file, of the shape of its ids.
Result<std::vector<std::int64_t>> mask_of(const std::map<std::string, Tensor>& tensors,
                                          const std::string& name, const Shape& shape, const fs::path& path) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) return std::vector<std::int64_t>();
  if (found->second.shape() != shape)
    return bad_data(fmt::format("{} of {} has another shape than input_ids", name, path.string()));
  return integers(found->second, name).at(path.string());
}

Error no_loss_mask(const fs::path& path) {
  return usage_error(
      fmt::format("use_loss_mask is on, but {} holds no loss_mask", path.string()),
      "give a .safetensors file with input_ids and loss_mask (1: the token counts), or leave out "
      "use_loss_mask: all tokens but padding count");
}

Status batches_of_ids(const fs::path& path, const Options& options, CalibrationData& data) {
  TRY_ASSIGN(const auto tensors, read_tensors(path));
  const auto found = tensors.find("input_ids");
  if (found == tensors.end()) {
    return bad_data(fmt::format("{} holds no input_ids", path.string()),
                    "it needs a tensor input_ids [samples, length]");
  }
  const Shape& shape = found->second.shape();
  if (shape.empty() || shape.size() > 2 || found->second.size() == 0) {
    return bad_data(
        fmt::format("input_ids of {} is {}; [samples, length] is needed", path.string(), to_string(shape)));
  }
  const std::int64_t stored_length = shape.back();
  const std::int64_t count = std::min(found->second.size() / stored_length, options.num_calibration_samples);
  const std::int64_t length = std::min(stored_length, options.max_seq_length.value_or(stored_length));
  TRY_ASSIGN(const auto ids, integers(found->second, "input_ids").at(path.string()));
  TRY_ASSIGN(const auto mask, mask_of(tensors, "attention_mask", shape, path));
  TRY_ASSIGN(const auto loss_mask, mask_of(tensors, "loss_mask", shape, path));
  if (options.use_loss_mask && loss_mask.empty()) return no_loss_mask(path);
  for (std::int64_t s = 0; s < count; s += options.batch_size) {
    Batch batch;
    std::vector<std::uint8_t> counted;
    batch.sequences = std::min(options.batch_size, count - s);
    batch.length = length;
    for (std::int64_t i = 0; i < batch.sequences; ++i) {
      for (std::int64_t t = 0; t < length; ++t) {
        const auto at = static_cast<std::size_t>((s + i) * stored_length + t);
        batch.ids.push_back(static_cast<TokenId>(ids[at]));
        if (!mask.empty()) batch.mask.push_back(mask[at] != 0 ? 1 : 0);
        if (options.use_loss_mask) counted.push_back(loss_mask[at] == 1 && (mask.empty() || mask[at] != 0));
      }
    }
    data.batches.push_back(std::move(batch));
    if (options.use_loss_mask) data.loss_masks.push_back(std::move(counted));
  }
  return {};
}

template <class T>
std::uint64_t hash_values(const std::vector<T>& values, std::uint64_t seed) {
  return xxh64(std::as_bytes(std::span(values)), seed);
}

void summarise(CalibrationData& data) {
  std::uint64_t hash = 0;
  for (const Batch& batch : data.batches) {
    data.samples += batch.sequences;
    const auto padding = std::count(batch.mask.begin(), batch.mask.end(), std::uint8_t{0});
    data.tokens += batch.tokens() - padding;
    hash = hash_values(std::vector<std::int64_t>{batch.sequences, batch.length}, hash);
    hash = hash_values(batch.mask, hash_values(batch.ids, hash));
  }
  if (!data.loss_masks.empty()) data.tokens = 0;
  for (const std::vector<std::uint8_t>& mask : data.loss_masks) {
    data.tokens += std::count(mask.begin(), mask.end(), std::uint8_t{1});
    hash = hash_values(mask, hash);
  }
  data.fingerprint = hex(hash);
}

}  // namespace

Result<CalibrationData> load_calibration_data(const Options& options, const Checkpoint& checkpoint,
                                              ThreadPool& pool) {
  if (!options.preprocessing.empty()) {
    return usage_error(fmt::format("preprocessing \"{}\" is not known", options.preprocessing),
                       "prepare the texts in the file; chat records with `messages` are rendered by the "
                       "model's own template");
  }
  TRY_ASSIGN(const fs::path path, data_path(options));
  CalibrationData data;
  data.source = path.string();
  if (path.extension() == ".safetensors") {
    TRY(batches_of_ids(path, options, data));
  } else {
    if (options.use_loss_mask) return no_loss_mask(path);
    TRY_ASSIGN(data.batches, batches_of_text(path, options, checkpoint, pool));
  }
  summarise(data);
  if (data.samples < options.num_calibration_samples) {
    data.notes.push_back(fmt::format("{} has {} calibration samples, {} were asked for", data.source,
                                     data.samples, options.num_calibration_samples));
  }
  if (data.tokens == 0)
    return bad_data(fmt::format("{} holds {} only", data.source,
                                data.loss_masks.empty() ? "padding" : "tokens that do not count"));
  return data;
}

}  // namespace nibble
