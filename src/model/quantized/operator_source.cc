// SPDX-License-Identifier: Apache-2.0
// From the tensors of a compressed checkpoint to operators.
#include <fmt/format.h>

#include <cmath>

#include "base/json.h"
#include "checkpoint/online_transforms.h"
#include "codec/compressed_weight.h"
#include "model/quantized/compressed_linear.h"

namespace nibble {
namespace {

constexpr std::array<float, 16> kFp4 = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                        -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

std::string base_of(const std::string& weight) {
  return weight.substr(0, weight.rfind('.'));
}

// Scales by row and group as the packed kernels want them.
struct ExpandedScales {
  std::vector<float> scales;
  std::vector<std::int8_t> zeros;
  std::int64_t groups = 1, group_size = 0;
  bool shared_row = false;
};

Result<ExpandedScales> expand_scales(const QuantizationArgs& args, DType dtype, std::int64_t rows,
                                     std::int64_t cols, const WeightParams& params) {
  TRY_ASSIGN(const WeightQuantizer quantizer, WeightQuantizer::create(args, dtype, rows, cols, params));
  ExpandedScales out;
  switch (args.strategy.value_or(Strategy::kTensor)) {
    case Strategy::kGroup:
    case Strategy::kTensorGroup:
      out.group_size = args.group_size.value_or(cols);
      break;
    case Strategy::kBlock:
      out.group_size = (*args.block_structure)[1];
      break;
    default:
      out.shared_row = args.strategy.value_or(Strategy::kTensor) == Strategy::kTensor;
  }
  if (out.group_size > 0) out.groups = (cols + out.group_size - 1) / out.group_size;
  // The first column of each group carries its parameters; with act-order any column of the group does.
  std::vector<std::int64_t> column(static_cast<std::size_t>(out.groups), 0);
  for (std::int64_t c = cols; c-- > 0;) {
    const std::int64_t group = !params.g_idx.empty() ? params.g_idx[static_cast<std::size_t>(c)]
                               : out.group_size > 0  ? c / out.group_size
                                                     : 0;
    column[static_cast<std::size_t>(group)] = c;
  }
  for (std::int64_t r = 0; r < (out.shared_row ? 1 : rows); ++r) {
    for (const std::int64_t c : column) {
      out.scales.push_back(quantizer.scale_at(r, c));
      if (quantizer.has_zero_points())
        out.zeros.push_back(static_cast<std::int8_t>(quantizer.zero_point_at(r, c)));
    }
  }
  return out;
}

// Packs rows of a compressed weight piece by piece.
Status pack(const Context& context, const CompressedWeight& weight, CompressedLinear& out) {
  TRY_ASSIGN(const WeightParams params, weight.params());
  TRY_ASSIGN(const Tensor codes, weight.codes(context.pool));
  TRY_ASSIGN(const ExpandedScales expanded,
             expand_scales(weight.args(), weight.dtype(), weight.rows(), weight.cols(), params));
  const std::byte* bytes = codes.bytes().data();
  kernels::CodedWeights coded;
  coded.cols = coded.ld = weight.cols();
  coded.kind = codes.dtype() == DType::kI8   ? kernels::CodeKind::kInteger
               : codes.dtype() == DType::kU8 ? kernels::CodeKind::kTable
                                             : kernels::CodeKind::kFloat8;
  coded.bits = coded.kind == kernels::CodeKind::kInteger ? std::max(2, weight.args().num_bits)
               : coded.kind == kernels::CodeKind::kTable ? 4
                                                         : 8;
  coded.group_size = expanded.group_size;
  coded.scale_ld = expanded.shared_row ? 0 : expanded.groups;
  coded.group_index = params.g_idx.empty() ? nullptr : params.g_idx.data();
  coded.table = kFp4;
  for (std::int64_t r = 0; r < weight.rows(); r += CompressedLinear::kPieceRows) {
    coded.rows = std::min(CompressedLinear::kPieceRows, weight.rows() - r);
    coded.codes = reinterpret_cast<const std::int8_t*>(bytes) + r * weight.cols();
    coded.scales = expanded.scales.data() + r * coded.scale_ld;
    coded.zeros = expanded.zeros.empty() ? nullptr : expanded.zeros.data() + r * coded.scale_ld;
    out.pieces.push_back(kernels::pack_codes(context.pool, coded));
  }
  return {};
}

// `storage` F16 or BF16 only where the weights are of that type.
void pack_plain(const Context& context, const Matrix& weight, DType storage, CompressedLinear& out) {
  for (std::int64_t r = 0; r < weight.rows(); r += CompressedLinear::kPieceRows) {
    const std::int64_t rows = std::min(CompressedLinear::kPieceRows, weight.rows() - r);
    out.pieces.push_back(
        kernels::pack_dense(context.pool, rows, weight.cols(), weight.row(r).data(), weight.cols(), storage));
  }
}

// Weights stored as floats beside their scales: the reference rounds them in every forward.
Result<Matrix> simulate_stored(const Context& context, const QuantizationArgs& args,
                               const CompressedWeight& stored) {
  const auto part = [&stored](const char* suffix) {
    const auto found = stored.tensors().find(suffix);
    return found == stored.tensors().end() ? Tensor() : found->second;
  };
  WeightParams params;
  params.scale = part("weight_scale");
  if (!args.symmetric) params.zero_point = part("weight_zero_point");
  if (const Tensor global = part("weight_global_scale"); global.size() == 1)
    params.global_scale = global.to_f32()[0];
  if (const Tensor index = part("weight_g_idx"); index.size() > 0) {
    const auto values = index.as<std::int32_t>();
    params.g_idx.assign(values.begin(), values.end());
  }
  TRY_ASSIGN(const Tensor simulated, simulate_weight(context.pool, stored.tensor("weight"), args, params));
  Matrix out(stored.rows(), stored.cols());
  simulated.decode_f32(0, out.values());
  return out;
}

}  // namespace

Result<OperatorSource> OperatorSource::open(const Checkpoint& checkpoint) {
  OperatorSource out;
  out.checkpoint_ = &checkpoint;
  const std::string where = fmt::format("file {}", (checkpoint.path() / "config.json").string());
  TRY_ASSIGN(out.quantized_, QuantizedCheckpoint::open(checkpoint).at(where));
  if (out.quantized_ == nullptr) return out;
  TRY_ASSIGN(out.resolver_, SchemeResolver::make(out.quantized_->config()).at(where));
  TRY(out.read_transforms().at(where));
  return out;
}

Status OperatorSource::read_transforms() {
  const QuantizationConfig& config = quantized_->config();
  TRY(check_online_targets(config, *checkpoint_));
  for (const TransformScheme& scheme : config.transforms) {
    for (const TransformUse& use : scheme.uses) {
      if (use.location == "weight_input" || use.location == "weight_output")
        continue;  // folded into the weights
      const bool of_states = use.location == "q_attn" || use.location == "k_cache";
      // Rotations of queries and keys cancel in their product, unless something rounds them in between.
      if (of_states && !config.kv_cache_scheme) continue;
      if (of_states || !scheme.type.ends_with("hadamard")) {
        return Error(bad_data(fmt::format(
                         "a {} matrix at location \"{}\" is not run here; Hadamard matrices at the "
                         "input or output of a linear are",
                         scheme.type, use.location)))
            .add_context(fmt::format("transform {}", scheme.name));
      }
      OnlineRule rule;
      rule.name = scheme.name;
      rule.on_input = use.location == "input";
      rule.inverse = use.inverse;
      rule.block = scheme.head_dim.value_or(0);
      TRY_ASSIGN(rule.targets, ModuleTargets::parse(use.targets));
      TRY_ASSIGN(rule.ignore, ModuleTargets::parse(use.ignore));
      transforms_.push_back(std::move(rule));
    }
  }
  return {};
}

const QuantizationScheme* OperatorSource::scheme_of(const ModuleInfo& module) const {
  if (quantized_ == nullptr) return nullptr;
  if (const QuantizedModule* stored = quantized_->find(base_of(module.weight)); stored != nullptr) {
    return &quantized_->scheme(*stored);
  }
  const std::array<std::string_view, 1> classes{module.kind == ModuleKind::kEmbedding
                                                    ? std::string_view("Embedding")
                                                    : std::string_view(module.class_name)};
  const std::optional<std::size_t> group = resolver_->group_of(module.disk_name, classes);
  return group ? &quantized_->config().groups[*group].second : nullptr;
}

std::vector<const OperatorSource::OnlineRule*> OperatorSource::transforms_of(const ModuleInfo& module) const {
  const std::array<std::string_view, 1> classes{module.class_name};
  std::vector<const OnlineRule*> found;
  for (const OnlineRule& rule : transforms_) {
    if (!rule.targets.matches(module.disk_name, classes) || rule.ignore.matches(module.disk_name, classes))
      continue;
    found.push_back(&rule);
  }
  return found;
}

Result<std::optional<Tensor>> OperatorSource::optional_tensor(const std::string& name) const {
  if (checkpoint_->find(name) == nullptr) return std::optional<Tensor>();
  TRY_ASSIGN(Tensor tensor, checkpoint_->load(name));
  return std::optional<Tensor>(std::move(tensor));
}

// `prefix` is "input_", "output_", "k_" ... Arithmetic is fp32, as the forward's.
Result<ActivationQuantizer> OperatorSource::activation_quantizer(const QuantizationArgs& args,
                                                                 const std::string& base,
                                                                 std::string_view prefix) const {
  ActivationParams params;
  TRY_ASSIGN(const std::optional<Tensor> scale, optional_tensor(fmt::format("{}.{}scale", base, prefix)));
  TRY_ASSIGN(const std::optional<Tensor> zero, optional_tensor(fmt::format("{}.{}zero_point", base, prefix)));
  TRY_ASSIGN(const std::optional<Tensor> global,
             optional_tensor(fmt::format("{}.{}global_scale", base, prefix)));
  if (scale) params.scale = Tensor::from_f32(DType::kF32, scale->shape(), scale->to_f32());
  if (zero) params.zero_point = *zero;
  if (global && global->size() == 1) params.global_scale = global->to_f32()[0];
  return ActivationQuantizer::create(args, DType::kF32, params)
      .at(fmt::format("tensors {}.{}*", base, prefix));
}

Status OperatorSource::load_weight(const Context& context, const ModuleInfo& module,
                                   CompressedLinear& out) const {
  const QuantizedModule* stored = quantized_ == nullptr ? nullptr : quantized_->find(base_of(module.weight));
  if (stored == nullptr) {
    TRY_ASSIGN(const Matrix weight, load_matrix(context, *checkpoint_, module.weight, module.rows,
                                                module.cols, module.transposed));
    const DType stored_as = checkpoint_->find(module.weight)->dtype;
    pack_plain(context, weight,
               stored_as == DType::kF16 || stored_as == DType::kBF16 ? stored_as : DType::kF32, out);
    return {};
  }
  if (module.transposed) return bad_data("a quantized Conv1D weight cannot be read");
  TRY_ASSIGN(const CompressedWeight weight, quantized_->load(*stored));
  if (weight.rows() != module.rows || weight.cols() != module.cols) {
    return bad_data(fmt::format("the weight is {} x {}, the module needs {} x {}", weight.rows(),
                                weight.cols(), module.rows, module.cols));
  }
  if (weight.format() != CompressionFormat::kDense) return pack(context, weight, out);
  TRY_ASSIGN(const Matrix simulated, simulate_stored(context, weight.args(), weight));
  pack_plain(context, simulated, DType::kF32, out);
  return {};
}

Result<OnlineTransform> OperatorSource::load_transform(const ModuleInfo& module,
                                                       const OnlineRule& rule) const {
  const std::int64_t width = rule.on_input ? module.cols : module.rows;
  const std::int64_t n = rule.block > 0 ? rule.block : width;
  // Modules share a matrix of the same size, and the file keeps it under the first one's name.
  const std::string suffix = fmt::format(".{}_{}.weight", rule.name, rule.on_input ? "input" : "output");
  std::string name = module.disk_name + suffix;
  for (const TensorInfo& tensor : checkpoint_->tensors()) {
    if (checkpoint_->find(name) != nullptr) break;
    if (tensor.name.ends_with(suffix) && tensor.shape == Shape{n, n}) name = tensor.name;
  }
  TRY_ASSIGN(const std::optional<Tensor> stored, optional_tensor(name));
  if (!stored || stored->shape() != Shape{n, n} || width % n != 0) {
    return bad_data(
        fmt::format("transform {} needs a {} x {} matrix for {} columns, and {} is missing or has another "
                    "shape",
                    rule.name, n, n, width, name));
  }
  const std::vector<float> values = stored->to_f32();
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
  TRY_ASSIGN(const std::optional<Tensor> permutation, optional_tensor(base_of(name) + ".perm"));
  if (permutation && permutation->dtype() == DType::kI64 && permutation->size() == n) {
    const auto entries = permutation->as<std::int64_t>();
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (entries[i] < 0 || entries[i] >= n)
        return bad_data(fmt::format("{}.perm is not a permutation", base_of(name)));
      order[i] = entries[i];
    }
  }
  OnlineTransform out{Matrix(n, n)};
  const double scale = 1.0 / std::sqrt(static_cast<double>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int64_t at = order[static_cast<std::size_t>(i)] * n + order[static_cast<std::size_t>(j)];
      const double value = static_cast<double>(values[static_cast<std::size_t>(at)]) * scale;
      (rule.inverse ? out.v.at(j, i) : out.v.at(i, j)) = static_cast<float>(value);
    }
  }
  return out;
}

Result<std::unique_ptr<Linear>> OperatorSource::compressed(const Context& context,
                                                           const ModuleInfo& module) const {
  std::vector<float> bias;
  if (!module.bias.empty()) {
    TRY_ASSIGN(bias, load_vector(*checkpoint_, module.bias));
  }
  auto out = std::make_unique<CompressedLinear>(linear_info(module), std::move(bias));
  TRY(load_weight(context, module, *out));
  for (const OnlineRule* rule : transforms_of(module)) {
    TRY_ASSIGN(OnlineTransform transform, load_transform(module, *rule));
    (rule->on_input ? out->input_transforms : out->output_transforms).push_back(std::move(transform));
  }
  const QuantizationScheme* scheme = scheme_of(module);
  const std::string base = base_of(module.weight);
  if (scheme != nullptr && scheme->input_activations) {
    const QuantizationArgs& args = *scheme->input_activations;
    TRY_ASSIGN(out->input, activation_quantizer(args, base, "input_"));
    const bool by_row = args.strategy == Strategy::kToken || args.strategy == Strategy::kTensor;
    out->input_is_int8 = args.type == NumberType::kInt && args.num_bits == 8 && by_row;
  }
  if (scheme != nullptr && scheme->output_activations) {
    TRY_ASSIGN(out->output, activation_quantizer(*scheme->output_activations, base, "output_"));
  }
  return std::unique_ptr<Linear>(std::move(out));
}

Result<std::unique_ptr<Linear>> OperatorSource::linear(const Context& context, const ModuleInfo& module,
                                                       OperatorForm form) const {
  const bool plain = quantized_ == nullptr || (scheme_of(module) == nullptr && transforms_of(module).empty());
  if (plain && form == OperatorForm::kDense) return load_linear(context, *checkpoint_, module);
  return compressed(context, module);
}

Result<std::unique_ptr<AttentionQuantizers>> OperatorSource::attention(const ModuleInfo& module) const {
  if (quantized_ == nullptr) return std::unique_ptr<AttentionQuantizers>();
  const QuantizationScheme* scheme = scheme_of(module);
  const bool whole = scheme != nullptr && scheme->input_activations.has_value();
  const std::optional<QuantizationArgs>& cache = quantized_->config().kv_cache_scheme;
  if (!whole && !cache) return std::unique_ptr<AttentionQuantizers>();
  const QuantizationArgs& args = whole ? *scheme->input_activations : *cache;
  auto out = std::make_unique<AttentionQuantizers>();
  TRY_ASSIGN(out->key, activation_quantizer(args, module.disk_name, "k_"));
  TRY_ASSIGN(out->value, activation_quantizer(args, module.disk_name, "v_"));
  if (whole) {
    TRY_ASSIGN(out->query, activation_quantizer(args, module.disk_name, "q_"));
  }
  return out;
}

}  // namespace nibble
