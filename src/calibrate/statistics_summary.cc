// SPDX-License-Identifier: Apache-2.0
// What a statistics file holds, in numbers.
#include <cmath>

#include "calibrate/statistics_merge.h"
#include "kernels/factor.h"

namespace nibble {
namespace {

constexpr int kSteps = 64;

// Scales to length 1 and gives the length it had.
double normalise(std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  const double length = std::sqrt(sum);
  for (double& v : x) v /= length;
  return length;
}

// A start that no eigenvector of a real input is orthogonal to.
std::vector<double> start(std::size_t n) {
  std::vector<double> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = 1.0 + static_cast<double>(i % 7) / 8.0;
  normalise(x);
  return x;
}

double largest_eigenvalue(const Matrix& h) {
  std::vector<double> x = start(static_cast<std::size_t>(h.rows())), y(x.size());
  double value = 0;
  for (int step = 0; step < kSteps; ++step) {
    for (std::int64_t r = 0; r < h.rows(); ++r) {
      double sum = 0;
      for (std::int64_t c = 0; c < h.cols(); ++c)
        sum += static_cast<double>(h.at(r, c)) * x[static_cast<std::size_t>(c)];
      y[static_cast<std::size_t>(r)] = sum;
    }
    std::swap(x, y);
    value = normalise(x);
  }
  return value;
}

std::optional<double> smallest_eigenvalue(ThreadPool& pool, const Matrix& h) {
  const std::int64_t n = h.rows();
  std::vector<double> factor(h.values().begin(), h.values().end());
  if (!kernels::cholesky(pool, n, factor.data()).ok()) return std::nullopt;
  std::vector<double> x = start(static_cast<std::size_t>(n));
  double value = 0;
  for (int step = 0; step < kSteps; ++step) {
    kernels::solve_factored(pool, n, factor.data(), 1, x.data());
    value = normalise(x);
  }
  return std::isfinite(value) && value > 0 ? std::optional<double>(1 / value) : std::nullopt;
}

}  // namespace

Result<std::vector<InputSummary>> summarise_statistics(const StatisticsFile& file, Context& context) {
  std::vector<InputSummary> rows;
  for (const auto& [set, names] : file.inputs()) {
    for (const auto& [name, entry] : names) {
      if (context.stop.stop_requested()) return Error{ErrorCode::kInterrupted, "stopped", {}, {}};
      TRY_ASSIGN(const SavedInput input, file.load_input(set, name));
      InputSummary row;
      row.set = set;
      row.modules = entry.modules;
      row.cols = input.record.cols;
      row.tokens = input.record.tokens;
      row.sequences = input.record.sequences;
      if (!input.record.abs_mean.empty()) row.statistics.emplace_back("columns");
      if (input.hessian) {
        const Matrix& h = input.hessian->values;
        row.statistics.emplace_back("second_moments");
        double trace = 0;
        for (std::int64_t c = 0; c < h.rows(); ++c) trace += static_cast<double>(h.at(c, c));
        row.trace = trace;
        if (const auto smallest = smallest_eigenvalue(context.pool, h))
          row.condition = largest_eigenvalue(h) / *smallest;
      }
      if (input.sample) row.statistics.emplace_back("sample");
      if (input.shift[0] || input.shift[1]) row.statistics.emplace_back("shift");
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace nibble
