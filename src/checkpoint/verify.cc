// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "checkpoint/online_transforms.h"
#include "checkpoint/quantized_checkpoint.h"
#include "checkpoint/shard_index.h"
#include "checkpoint/tensor_statistics.h"
#include "codec/sparse_format.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

class Verifier {
 public:
  Verifier(const Context& context, const Checkpoint& checkpoint, const VerifyOptions& options)
      : context_(context), checkpoint_(checkpoint), options_(options) {}

  Result<VerifyReport> run() {
    check_index();
    TRY(check_files());
    TRY(check_values());
    check_quantization();
    return std::move(report_);
  }

 private:
  void error(std::string where, std::string what) {
    report_.findings.push_back({true, std::move(where), std::move(what)});
  }
  void warning(std::string where, std::string what) {
    report_.findings.push_back({false, std::move(where), std::move(what)});
  }
  Status stopped() const {
    if (!context_.stop.stop_requested()) return {};
    return Error{ErrorCode::kInterrupted, "stopped", {}, {}};
  }

  std::set<std::string> file_names() const {
    std::set<std::string> names;
    for (const TensorInfo& info : checkpoint_.tensors()) names.insert(info.file);
    return names;
  }

  fs::path file_path(const std::string& name) const {
    std::error_code status;
    const fs::path& path = checkpoint_.path();
    return fs::is_directory(path, status) ? path / name : path.parent_path() / name;
  }

  // The claims of the index that opening does not need.
  void check_index() {
    const fs::path path = checkpoint_.path() / kIndexFileName;
    std::error_code status;
    if (!fs::exists(path, status) || fs::exists(checkpoint_.path() / kSingleFileName, status)) return;
    const auto index = read_shard_index(path);
    if (!index.ok()) return error(std::string(kIndexFileName), index.error().message());
    std::uint64_t bytes = 0;
    for (const TensorInfo& info : checkpoint_.tensors()) {
      bytes += info.stored_bytes;
      // A sparse weight has other names in the file.
      if (index->weight_map.contains(info.name) || sparse_format_from_string(info.stored_as)) continue;
      warning(fmt::format("tensor {}", info.name),
              fmt::format("it stands in {} but not in the index", info.file));
    }
    if (index->total_size && *index->total_size != bytes) {
      warning(std::string(kIndexFileName),
              fmt::format("total_size is {}, the tensors have {} bytes", *index->total_size, bytes));
    }
  }

  Status check_files() {
    for (const std::string& name : file_names()) {
      TRY(stopped());
      TRY_ASSIGN(const auto mapped, MappedFile::open(file_path(name)));
      report_.bytes += mapped->size();
      if (!options_.hashes) continue;
      Sha256 hash;
      constexpr std::uint64_t kHashPiece = 16 << 20;
      for (std::uint64_t at = 0; at < mapped->size(); at += kHashPiece) {
        const std::uint64_t length = std::min(kHashPiece, mapped->size() - at);
        hash.update(mapped->bytes().subspan(at, length));
        mapped->drop(at, length);
      }
      const std::string digest = hash.hex_digest();
      const auto expected = options_.expected_sha256.find(name);
      if (expected != options_.expected_sha256.end() && expected->second != digest) {
        error(fmt::format("file {}", name),
              fmt::format("its SHA-256 is {}, expected {}", digest, expected->second));
      }
      report_.sha256.emplace(name, digest);
    }
    for (const auto& [name, digest] : options_.expected_sha256) {
      if (options_.hashes && !report_.sha256.contains(name))
        error(fmt::format("file {}", name), "it is missing");
    }
    return {};
  }

  Status check_values() {
    report_.tensors = static_cast<std::int64_t>(checkpoint_.tensors().size());
    double done = 0;
    context_.events.phase("verify");
    for (const TensorInfo& info : checkpoint_.tensors()) {
      TRY(stopped());
      if (options_.values && is_float(info.dtype)) check_tensor(info);
      done += static_cast<double>(info.stored_bytes);
      context_.events.progress("verify", done, static_cast<double>(report_.bytes));
    }
    return {};
  }

  void check_tensor(const TensorInfo& info) {
    const std::string where = fmt::format("tensor {}", info.name);
    const auto tensor = checkpoint_.load(info.name);
    if (!tensor.ok()) return error(where, tensor.error().message());
    const TensorStatistics statistics = tensor_statistics(*tensor, context_.pool);
    checkpoint_.release(info.name);
    if (statistics.nans + statistics.infinities > 0) {
      error(where, fmt::format("{} of {} values are NaN and {} infinite", statistics.nans, statistics.count,
                               statistics.infinities));
    }
    // A weight's own scale may be negative: it turns the grid, whose longer side is the negative one.
    const bool is_scale = info.name.ends_with("_scale") && !info.name.ends_with("weight_scale");
    if (is_scale && statistics.finite() > 0 && statistics.minimum < 0) {
      error(where, fmt::format("a scale is negative: {}", statistics.minimum));
    }
  }

  void check_quantization() {
    const auto quantized = QuantizedCheckpoint::open(checkpoint_);
    if (!quantized.ok()) return error("quantization_config", quantized.error().message());
    if (*quantized == nullptr) return;
    const QuantizedCheckpoint& model = **quantized;
    report_.quantized_modules = static_cast<std::int64_t>(model.modules().size());
    for (const QuantizedModule& module : model.modules()) {
      const auto weight = model.load(module);
      if (!weight.ok()) error(fmt::format("module {}", module.name), weight.error().message());
    }
    const QuantizationConfig& config = model.config();
    if (!config.groups.empty() && config.status != "compressed" && has_packed(model)) {
      error("quantization_config",
            fmt::format("quantization_status is \"{}\"; clients load packed weights only when it "
                        "is \"compressed\", and random ones otherwise",
                        config.status));
    }
    if (config.status == "compressed") check_dense_modules(model);
    std::vector<std::string> unmatched;
    const Status rotations = check_online_targets(config, checkpoint_, &unmatched);
    if (!rotations.ok()) error("quantization_config", rotations.error().message());
    for (std::string& entry : unmatched) warning("quantization_config", std::move(entry));
  }

  static bool has_packed(const QuantizedCheckpoint& model) {
    return std::any_of(model.modules().begin(), model.modules().end(),
                       [](const QuantizedModule& m) { return m.format != CompressionFormat::kDense; });
  }

  // A linear that the metadata calls quantized but that is stored dense: clients would look for packed
  // tensors.
  void check_dense_modules(const QuantizedCheckpoint& model) {
    const auto resolver = SchemeResolver::make(model.config());
    if (!resolver.ok()) return error("quantization_config", resolver.error().message());
    for (const TensorInfo& info : checkpoint_.tensors()) {
      constexpr std::string_view kWeight = ".weight";
      if (!info.name.ends_with(kWeight) || info.shape.size() != 2) continue;
      const std::string module = info.name.substr(0, info.name.size() - kWeight.size());
      if (model.find(module) != nullptr || looks_like_embedding(module)) continue;
      const auto group = resolver->group_of(module, kLinearClass);
      if (!group || !model.config().groups[*group].second.weights) continue;
      error(fmt::format("module {}", module),
            fmt::format(
                "quantization_config says it is quantized ({}), but it is stored as {}; it belongs into "
                "\"ignore\"",
                model.config().groups[*group].first, info.stored_as));
    }
  }

  const Context& context_;
  const Checkpoint& checkpoint_;
  const VerifyOptions& options_;
  VerifyReport report_;
};

}  // namespace

bool VerifyReport::ok() const {
  return std::none_of(findings.begin(), findings.end(), [](const VerifyFinding& f) { return f.is_error; });
}

Result<VerifyReport> verify_checkpoint(const Context& context, const Checkpoint& checkpoint,
                                       const VerifyOptions& options) {
  return Verifier(context, checkpoint, options).run();
}

}  // namespace nibble
