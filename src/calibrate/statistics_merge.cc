// SPDX-License-Identifier: Apache-2.0
#include "calibrate/statistics_merge.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

// (a * tokens_a + b * tokens_b) / (tokens_a + tokens_b), element by element.
struct Weights {
  double a, b;
  Weights(std::int64_t tokens_a, std::int64_t tokens_b) {
    const auto all = static_cast<double>(tokens_a + tokens_b);
    a = static_cast<double>(tokens_a) / all;
    b = static_cast<double>(tokens_b) / all;
  }
  template <class T>
  T mean(T x, T y) const {
    return static_cast<T>(a * static_cast<double>(x) + b * static_cast<double>(y));
  }
  template <class From, class Into>
  void mix(const From& x, Into&& into) const {
    for (std::size_t i = 0; i < into.size(); ++i) into[i] = mean(x[i], into[i]);
  }
};

template <class Pick>
void choose(const std::vector<float>& from, std::vector<float>& into, Pick pick) {
  for (std::size_t i = 0; i < into.size(); ++i) into[i] = pick(from[i], into[i]);
}

// As many rows as the larger sample has, from each in proportion to its tokens, evenly spaced.
Matrix drawn(const Matrix& a, const Matrix& b, const Weights& weights) {
  const std::int64_t most = std::max(a.rows(), b.rows());
  const auto share = [&](const Matrix& from, double weight) {
    return std::min<std::int64_t>(from.rows(), std::llround(weight * static_cast<double>(most)));
  };
  const std::int64_t of_a = share(a, weights.a), of_b = share(b, weights.b);
  Matrix result(of_a + of_b, a.cols());
  for (std::int64_t r = 0; r < of_a; ++r)
    std::ranges::copy(a.row(r * a.rows() / of_a), result.row(r).begin());
  for (std::int64_t r = 0; r < of_b; ++r)
    std::ranges::copy(b.row(r * b.rows() / of_b), result.row(of_a + r).begin());
  return result;
}

SavedInput copy(const SavedInput& input) {
  SavedInput result;
  result.record = input.record;
  if (input.hessian) result.hessian = std::make_unique<Hessian>(*input.hessian);
  if (input.sample) result.sample = std::make_unique<Matrix>(*input.sample);
  result.link();
  return result;
}

Error differs(const StatisticsFile& a, const StatisticsFile& b, const std::string& what,
              const std::string& in_a, const std::string& in_b) {
  return usage_error(fmt::format("{} and {} differ in {}: {} and {}", a.path().string(), b.path().string(),
                                 what, in_a, in_b),
                     "statistics of one model and one recipe can be merged, taken on different data");
}

Status check_origins(const StatisticsFile& a, const StatisticsFile& b) {
  const StatisticsOrigin& x = a.origin();
  const StatisticsOrigin& y = b.origin();
  const auto yes_no = [](bool value) { return std::string(value ? "true" : "false"); };
  if (x.model != y.model) return differs(a, b, "model", x.model, y.model);
  if (x.precision != y.precision) return differs(a, b, "precision", x.precision, y.precision);
  if (x.reference != y.reference) return differs(a, b, "reference", yes_no(x.reference), yes_no(y.reference));
  if (x.moe_calibrate_all_experts != y.moe_calibrate_all_experts) {
    return differs(a, b, "moe_calibrate_all_experts", yes_no(x.moe_calibrate_all_experts),
                   yes_no(y.moe_calibrate_all_experts));
  }
  for (const StatisticsFile* file : {&a, &b}) {
    for (const StatisticsOrigin::Set& set : file->origin().sets) {
      const bool used = file->inputs().contains(set.name) || file->outputs().contains(set.name);
      if (set.of_original || !used) continue;
      return usage_error(
          fmt::format(
              "{}: the statistics for {} were taken behind layers that its run had changed, each run in "
              "its own way: they cannot be merged",
              file->path().string(), set.modifiers),
          "take them with --pipeline basic, from the original model");
    }
  }
  for (const StatisticsOrigin::Run& run : x.runs) {
    for (const StatisticsOrigin::Run& other : y.runs) {
      if (run.fingerprint != other.fingerprint) continue;
      return usage_error(fmt::format("both files were taken on the same tokens ({}, fingerprint {})",
                                     run.dataset, run.fingerprint),
                         "merge statistics of different data");
    }
  }
  return {};
}

std::vector<std::string> suffixes(const StatisticsFile::Entry& entry) {
  std::vector<std::string> names;
  for (const SafetensorsEntry& tensor : entry.tensors) {
    const bool compares = tensor.name.starts_with("half_") || tensor.name.starts_with("compared.");
    if (!compares) names.push_back(tensor.name);
  }
  std::ranges::sort(names);
  return names;
}

// Every entry of one has its like in the other, with the same tensors unless it saw no token.
Status check_entries(const StatisticsFile& a, const StatisticsFile& b, const StatisticsFile::Entries& in_a,
                     const StatisticsFile::Entries& in_b) {
  for (const auto& [set, names] : in_a) {
    for (const auto& [name, entry] : names) {
      const auto sets = in_b.find(set);
      const StatisticsFile::Entry* other = nullptr;
      if (sets != in_b.end()) {
        const auto found = sets->second.find(name);
        if (found != sets->second.end()) other = &found->second;
      }
      if (other == nullptr || other->modules != entry.modules)
        return differs(a, b, fmt::format("the statistics of {}", name), "there", "not there");
      if (entry.cols == 0 || other->cols == 0) continue;
      const auto x = suffixes(entry), y = suffixes(*other);
      if (x != y || entry.cols != other->cols) {
        return differs(a, b, fmt::format("the statistics of {}", name), fmt::format("{}", fmt::join(x, " ")),
                       fmt::format("{}", fmt::join(y, " ")));
      }
    }
  }
  return {};
}

}  // namespace

SavedInput merged(const SavedInput& a, const SavedInput& b) {
  if (a.record.tokens == 0) return copy(b);
  if (b.record.tokens == 0) return copy(a);
  SavedInput result = copy(b);
  InputRecord& into = result.record;
  const Weights weights(a.record.tokens, b.record.tokens);
  into.tokens += a.record.tokens;
  into.sequences += a.record.sequences;
  weights.mix(a.record.abs_mean, into.abs_mean);
  weights.mix(a.record.square_mean, into.square_mean);
  choose(a.record.column_min, into.column_min, [](float x, float y) { return std::min(x, y); });
  choose(a.record.column_max, into.column_max, [](float x, float y) { return std::max(x, y); });
  if (a.sample && result.sample) {
    result.sample = std::make_unique<Matrix>(drawn(*a.sample, *result.sample, weights));
    result.link();
  }
  if (!a.hessian || !result.hessian) return result;
  Hessian& hessian = *result.hessian;
  weights.mix(a.hessian->values.values(), hessian.values.values());
  weights.mix(a.hessian->mean, hessian.mean);
  hessian.tokens += a.hessian->tokens;
  hessian.sequences += a.hessian->sequences;
  return result;
}

SavedOutput merged(const SavedOutput& a, const SavedOutput& b) {
  if (a.min.empty()) return b;
  if (b.min.empty()) return a;
  SavedOutput result = b;
  result.tokens += a.tokens;
  result.sequences += a.sequences;
  choose(a.min, result.min, [](float x, float y) { return std::min(x, y); });
  choose(a.max, result.max, [](float x, float y) { return std::max(x, y); });
  return result;
}

Status merge_statistics(const StatisticsFile& a, const StatisticsFile& b, const std::filesystem::path& out,
                        Context& context) {
  TRY(check_origins(a, b));
  TRY(check_entries(a, b, a.inputs(), b.inputs()));
  TRY(check_entries(b, a, b.inputs(), a.inputs()));
  TRY(check_entries(a, b, a.outputs(), b.outputs()));
  TRY(check_entries(b, a, b.outputs(), a.outputs()));
  TRY_ASSIGN(const StatisticsWriter writer, StatisticsWriter::create(out, false));
  int number = 0;
  const auto stopped = [&] { return context.stop.stop_requested(); };
  for (const auto& [set, names] : a.inputs()) {
    for (const auto& [name, entry] : names) {
      if (stopped()) break;
      TRY_ASSIGN(const SavedInput x, a.load_input(set, name));
      TRY_ASSIGN(const SavedInput y, b.load_input(set, name));
      const SavedInput both = merged(x, y);
      StatisticsPart part;
      part.add_input(set, both.record);
      TRY(writer.write_part(fmt::format("{:08}", number++), part));
    }
  }
  for (const auto& [set, names] : a.outputs()) {
    for (const auto& [name, entry] : names) {
      if (stopped()) break;
      TRY_ASSIGN(const SavedOutput x, a.load_output(set, name));
      TRY_ASSIGN(const SavedOutput y, b.load_output(set, name));
      StatisticsPart part;
      part.add_output(set, name, merged(x, y));
      TRY(writer.write_part(fmt::format("{:08}", number++), part));
    }
  }
  if (stopped()) {
    writer.discard_parts();
    return Error{ErrorCode::kInterrupted, "stopped; nothing is written", {}, {}};
  }
  StatisticsOrigin origin = a.origin();
  origin.runs.insert(origin.runs.end(), b.origin().runs.begin(), b.origin().runs.end());
  TRY(writer.finish(origin));
  writer.discard_parts();
  return {};
}

}  // namespace nibble
