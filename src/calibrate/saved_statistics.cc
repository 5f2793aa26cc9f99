// SPDX-License-Identifier: Apache-2.0
#include "calibrate/saved_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/hash.h"
#include "base/json.h"

namespace nibble {
namespace {

// Of the tensor `counts` of an input: columns; tokens and sequences of all and of those compared; tokens of
// the halves; how the shift is kept.
enum Count : std::size_t {
  kCols,
  kTokens,
  kSequences,
  kComparedTokens,
  kComparedSequences,
  kHalf,
  kShift = 7,
  kCounts
};
enum ShiftForm : std::int64_t { kNoShift = 0, kZeroShift = 1, kStoredShift = 2 };

constexpr const char* kCompared = "compared.";
constexpr std::array<const char*, 2> kHalves{"half_0.", "half_1."};

// Squares of more columns would not fit an address space anyway.
constexpr std::int64_t kMostCols = std::int64_t{1} << 24;

template <class T>
Tensor vector_tensor(DType dtype, const std::vector<T>& values) {
  return Tensor::of<T>(dtype, {static_cast<std::int64_t>(values.size())}, values);
}

Tensor triangle(const Matrix& symmetric) {
  const std::int64_t n = symmetric.rows();
  Tensor tensor(DType::kF32, {n * (n + 1) / 2});
  float* out = tensor.as_mutable<float>().data();
  for (std::int64_t r = 0; r < n; ++r) out = std::copy_n(symmetric.data() + r * n + r, n - r, out);
  return tensor;
}

Matrix symmetric_matrix(std::span<const float> triangle, std::int64_t n) {
  Matrix matrix(n, n);
  const float* value = triangle.data();
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t c = r; c < n; ++c) matrix.at(r, c) = matrix.at(c, r) = *value++;
  }
  return matrix;
}

bool is_zero(const InputShift& shift) {
  return std::ranges::all_of(shift.values.values(), [](float v) { return v == 0; }) &&
         std::ranges::all_of(shift.mean, [](double v) { return v == 0; });
}

ShiftForm form_of(const InputRecord& input) {
  ShiftForm form = kNoShift;
  for (const InputShift* shift : input.shift) {
    if (shift == nullptr) continue;
    if (!is_zero(*shift)) return kStoredShift;
    form = kZeroShift;
  }
  return form;
}

class Reader {
 public:
  explicit Reader(const NamedTensors& tensors) : tensors_(tensors) {}

  const Tensor* find(const std::string& name) const {
    const auto found = std::ranges::find_if(tensors_, [&](const auto& entry) { return entry.first == name; });
    return found != tensors_.end() ? &found->second : nullptr;
  }

  // The values of a tensor of that type and shape; empty when it is optional and not there.
  template <class T>
  Result<std::vector<T>> values(const std::string& name, DType dtype, std::int64_t size,
                                bool optional) const {
    const Tensor* tensor = find(name);
    if (tensor == nullptr && optional) return std::vector<T>();
    if (tensor == nullptr) return bad_data(fmt::format("{} is missing", name));
    TRY(check(name, *tensor, dtype, {size}));
    const auto span = tensor->as<T>();
    return std::vector<T>(span.begin(), span.end());
  }

  Status check(const std::string& name, const Tensor& tensor, DType dtype, const Shape& shape) const {
    if (tensor.dtype() != dtype || tensor.shape() != shape) {
      return bad_data(fmt::format("{} is {} {}, expected {} {}", name, torch_name(tensor.dtype()),
                                  to_string(tensor.shape()), torch_name(dtype), to_string(shape)));
    }
    const auto finite = [](auto values) {
      return std::ranges::all_of(values, [](auto v) { return std::isfinite(v); });
    };
    const bool ok = dtype == DType::kF32   ? finite(tensor.as<float>())
                    : dtype == DType::kF64 ? finite(tensor.as<double>())
                                           : true;
    return ok ? Status() : bad_data(fmt::format("{} holds a value that is not finite", name));
  }

 private:
  const NamedTensors& tensors_;
};

Status read_hessian(const Reader& reader, const std::string& prefix, std::int64_t cols, std::int64_t tokens,
                    std::int64_t sequences, std::unique_ptr<Hessian>& into) {
  const std::string name = prefix + "second_moments";
  const Tensor* tensor = reader.find(name);
  if (tensor == nullptr) return {};
  TRY(reader.check(name, *tensor, DType::kF32, {cols * (cols + 1) / 2}));
  auto hessian = std::make_unique<Hessian>();
  TRY_ASSIGN(hessian->mean, reader.values<double>(prefix + "mean", DType::kF64, cols, false));
  hessian->values = symmetric_matrix(tensor->as<float>(), cols);
  hessian->tokens = tokens;
  hessian->sequences = std::max<std::int64_t>(sequences, 1);
  if (hessian->tokens < 1) return bad_data(fmt::format("{} stands for no token", name));
  into = std::move(hessian);
  return {};
}

// Of a half that saw a token.
Status read_shift(const Reader& reader, const std::vector<std::int64_t>& counts, std::size_t half,
                  SavedInput& input) {
  const std::int64_t tokens = counts[kHalf + half];
  if (counts[kShift] != kStoredShift || tokens < 1) return {};
  const std::int64_t n = input.record.cols;
  auto shift = std::make_unique<InputShift>();
  shift->tokens = tokens;
  shift->values = Matrix(n, n);
  const std::string name = fmt::format("{}shift", kHalves[half]);
  const Tensor* tensor = reader.find(name);
  if (tensor == nullptr) return bad_data(fmt::format("{} is missing", name));
  TRY(reader.check(name, *tensor, DType::kF32, {n, n}));
  std::ranges::copy(tensor->as<float>(), shift->values.values().begin());
  TRY_ASSIGN(shift->mean, reader.values<double>(name + "_mean", DType::kF64, n, false));
  input.shift[half] = std::move(shift);
  return {};
}

Status read_sample(const Reader& reader, SavedInput& input) {
  const Tensor* tensor = reader.find("sample");
  if (tensor == nullptr) return {};
  if (tensor->shape().size() != 2 || tensor->dim(0) < 1)
    return bad_data(fmt::format("sample is {}, expected rows", to_string(tensor->shape())));
  TRY(reader.check("sample", *tensor, DType::kF32, {tensor->dim(0), input.record.cols}));
  input.sample = std::make_unique<Matrix>(tensor->dim(0), input.record.cols);
  std::ranges::copy(tensor->as<float>(), input.sample->values().begin());
  return {};
}

void put_hessian(const Hessian& hessian, const std::string& prefix, std::vector<DeferredTensor>& tensors) {
  CHECK(!hessian.centred, "statistics are kept as they were gathered");
  const std::int64_t n = hessian.cols();
  tensors.push_back({prefix + "second_moments", DType::kF32, {n * (n + 1) / 2}, [&hessian] {
                       return triangle(hessian.values);
                     }});
  tensors.push_back(
      {prefix + "mean", DType::kF64, {n}, [&hessian] { return vector_tensor(DType::kF64, hessian.mean); }});
}

// The compared sequences and their shifts.
void put_comparison(const InputRecord& input, std::vector<std::int64_t>& counts,
                    std::vector<DeferredTensor>& tensors) {
  if (input.compared == nullptr) return;
  counts[kComparedTokens] = input.compared->tokens;
  counts[kComparedSequences] = input.compared->sequences;
  if (input.compared != input.hessian) put_hessian(*input.compared, kCompared, tensors);
  const std::int64_t n = input.cols;
  for (std::size_t half = 0; half < 2; ++half) {
    const InputShift* const shift = input.shift[half];
    if (shift == nullptr) continue;
    counts[kHalf + half] = shift->tokens;
    const std::string name = fmt::format("{}shift", kHalves[half]);
    tensors.push_back({name, DType::kF32, {n, n}, [=] {
                         return Tensor::of<float>(DType::kF32, {n, n}, shift->values.values());
                       }});
    tensors.push_back(
        {name + "_mean", DType::kF64, {n}, [=] { return vector_tensor(DType::kF64, shift->mean); }});
  }
}

}  // namespace

bool has_zero_shift(const InputRecord& input) {
  return form_of(input) == kZeroShift;
}

void SavedInput::link() {
  record.hessian = hessian.get();
  record.compared = compared ? compared.get() : hessian.get();
  for (std::size_t half = 0; half < 2; ++half) record.shift[half] = shift[half].get();
  record.sample = sample.get();
}

std::vector<DeferredTensor> tensors_of(const InputRecord& input) {
  const auto record = std::make_shared<const InputRecord>(input);
  const std::int64_t n = input.cols;
  std::vector<std::int64_t> counts(kCounts);
  counts[kCols] = n;
  counts[kTokens] = input.tokens;
  counts[kSequences] = input.sequences;
  const ShiftForm form = form_of(input);
  counts[kShift] = form;
  std::vector<DeferredTensor> tensors;
  if (input.hessian != nullptr) put_hessian(*input.hessian, "", tensors);
  if (form == kStoredShift) put_comparison(input, counts, tensors);
  if (input.sample != nullptr) {
    const Matrix* const sample = input.sample;
    tensors.push_back({"sample", DType::kF32, {sample->rows(), n}, [=] {
                         return Tensor::of<float>(DType::kF32, {sample->rows(), n}, sample->values());
                       }});
  }
  using Column = std::vector<float> InputRecord::*;
  for (const auto& [name, column] : {std::pair<const char*, Column>{"abs_mean", &InputRecord::abs_mean},
                                     {"square_mean", &InputRecord::square_mean},
                                     {"column_min", &InputRecord::column_min},
                                     {"column_max", &InputRecord::column_max}}) {
    if (((*record).*column).empty()) continue;
    const Column kept = column;
    tensors.push_back({name, DType::kF32, {n}, [=] { return vector_tensor(DType::kF32, (*record).*kept); }});
  }
  tensors.push_back({"counts", DType::kI64, {kCounts}, [=] { return vector_tensor(DType::kI64, counts); }});
  std::ranges::sort(tensors, {}, &DeferredTensor::name);
  return tensors;
}

std::vector<DeferredTensor> tensors_of(const SavedOutput& output) {
  const auto kept = std::make_shared<const SavedOutput>(output);
  const auto n = static_cast<std::int64_t>(output.min.size());
  const std::vector<std::int64_t> counts{output.tokens, output.sequences};
  return {{"counts", DType::kI64, {2}, [=] { return vector_tensor(DType::kI64, counts); }},
          {"max", DType::kF32, {n}, [=] { return vector_tensor(DType::kF32, kept->max); }},
          {"min", DType::kF32, {n}, [=] { return vector_tensor(DType::kF32, kept->min); }}};
}

std::uint64_t hash_with(std::uint64_t hash, std::string_view name, const Tensor& tensor) {
  return xxh64(tensor.bytes(), xxh64(name, hash));
}

Result<SavedInput> input_of(const NamedTensors& tensors) {
  const Reader reader(tensors);
  TRY_ASSIGN(const auto counts, reader.values<std::int64_t>("counts", DType::kI64, kCounts, false));
  const bool counted = std::ranges::all_of(counts, [](std::int64_t count) { return count >= 0; });
  const std::int64_t cols = counts[kCols];
  if (!counted || cols < 1 || cols > kMostCols || counts[kShift] > kStoredShift)
    return bad_data("counts holds numbers that no calibration gives");
  SavedInput input;
  input.record.cols = cols;
  input.record.tokens = counts[kTokens];
  input.record.sequences = counts[kSequences];
  const std::pair<const char*, std::vector<float>*> columns[] = {{"abs_mean", &input.record.abs_mean},
                                                                 {"square_mean", &input.record.square_mean},
                                                                 {"column_min", &input.record.column_min},
                                                                 {"column_max", &input.record.column_max}};
  for (const auto& [name, values] : columns) {
    TRY_ASSIGN(*values, reader.values<float>(name, DType::kF32, cols, true));
  }
  TRY(read_hessian(reader, "", cols, counts[kTokens], counts[kSequences], input.hessian));
  TRY(read_hessian(reader, kCompared, cols, counts[kComparedTokens], counts[kComparedSequences],
                   input.compared));
  for (std::size_t half = 0; half < 2; ++half) TRY(read_shift(reader, counts, half, input));
  TRY(read_sample(reader, input));
  input.link();
  return input;
}

Result<SavedOutput> output_of(const NamedTensors& tensors) {
  const Reader reader(tensors);
  const Tensor* min = reader.find("min");
  const std::int64_t size = min != nullptr ? min->size() : 0;
  SavedOutput output;
  TRY_ASSIGN(const auto counts, reader.values<std::int64_t>("counts", DType::kI64, 2, false));
  TRY_ASSIGN(output.min, reader.values<float>("min", DType::kF32, size, false));
  TRY_ASSIGN(output.max, reader.values<float>("max", DType::kF32, size, false));
  output.tokens = counts[0];
  output.sequences = counts[1];
  return output;
}

}  // namespace nibble
