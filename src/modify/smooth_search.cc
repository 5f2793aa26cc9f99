// SPDX-License-Identifier: Apache-2.0
#include "modify/smooth_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "modify/smoothquant.h"

namespace nibble {
namespace {

// Descent (Adam, 1412.6980) on log u. The maxima are p-norms that grow sharper; p is a power of two, so
// powers are squarings and the same on every machine.
constexpr int kSteps = 120;
constexpr int kFirstSquarings = 2, kLastSquarings = 5;
constexpr double kFirstRate = 0.15, kLastRate = 0.0075;
// log u stays this close to SmoothQuant's: channels that the calibration hardly used must not be let go.
constexpr double kReach = 4;
constexpr std::int64_t kMostSampleRows = 512;
constexpr std::int64_t kRowsPerTask = 32;

double code_range(const QuantizationArgs& args) {
  return std::pow(2.0, args.num_bits) - 1;
}

// Rows evenly spaced over the matrix, squared.
Matrix squares_of_rows(const Matrix& from) {
  const std::int64_t rows = std::min(from.rows(), kMostSampleRows);
  Matrix squares(rows, from.cols());
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::span<const float> row = from.row(r * from.rows() / rows);
    std::ranges::transform(row, squares.row(r).begin(), [](float v) { return v * v; });
  }
  return squares;
}

Matrix squared_column_maxima(const Matrix& from) {
  Matrix squares(1, from.cols());
  for (std::int64_t r = 0; r < from.rows(); ++r) {
    for (std::int64_t c = 0; c < from.cols(); ++c)
      squares.at(0, c) = std::max(squares.at(0, c), from.at(r, c) * from.at(r, c));
  }
  return squares;
}

std::int64_t group_width(const QuantizationArgs& args, std::int64_t cols) {
  const bool is_grouped = args.strategy == Strategy::kGroup || args.strategy == Strategy::kTensorGroup;
  return is_grouped && args.group_size.value_or(0) > 0 ? std::min(*args.group_size, cols) : cols;
}

// factor * sum over groups of [ sum_r max_j squares_rj u_j^sign ] [ sum_j gain_j u_j^-sign ]
struct NoiseTerm {
  Matrix squares;
  std::vector<double> gain;
  std::int64_t group = 0;
  int sign = 1;
  double factor = 1;
};

// p-norm of v over [first, last) of the row, p = 2^squarings; `weight` becomes its derivative by log v.
float soft_maximum(std::span<const float> squares, std::span<const float> power, std::int64_t first,
                   std::int64_t last, int squarings, float* weight) {
  float largest = 0;
  for (std::int64_t c = first; c < last; ++c) {
    const auto at = static_cast<std::size_t>(c);
    weight[c] = squares[at] * power[at];
    largest = std::max(largest, weight[c]);
  }
  if (!(largest > 0)) {
    std::fill(weight + first, weight + last, 0.0f);
    return 0;
  }
  const float scale = 1 / largest;
  for (std::int64_t c = first; c < last; ++c) {
    float ratio = weight[c] * scale;
    for (int k = 0; k < squarings; ++k) ratio *= ratio;
    weight[c] = ratio;
  }
  const float sum = std::accumulate(weight + first, weight + last, 0.0f);
  const float norm = largest * std::pow(sum, 1.0f / static_cast<float>(1 << squarings));
  const float share = norm / sum;
  for (std::int64_t c = first; c < last; ++c) weight[c] *= share;
  return norm;
}

class Noise {
 public:
  Noise(ThreadPool& pool, std::int64_t cols) : pool_(pool), cols_(cols) {}

  void add(NoiseTerm term) { terms_.push_back(std::move(term)); }
  bool empty() const { return terms_.empty(); }

  // The value at log u, and its derivative.
  double operator()(std::span<const float> log_u, int squarings, std::vector<double>& slope) const {
    slope.assign(static_cast<std::size_t>(cols_), 0);
    double value = 0;
    for (const NoiseTerm& term : terms_) value += add_term(term, log_u, squarings, slope);
    return value;
  }

 private:
  // Sums over rows, task by task: the order does not depend on threads.
  struct Sums {
    std::vector<double> peaks;    // a group: of the maxima
    std::vector<double> weights;  // a column: of their derivatives
  };

  Sums sum_rows(const NoiseTerm& term, std::span<const float> power, int squarings) const {
    const auto groups = static_cast<std::size_t>((cols_ + term.group - 1) / term.group);
    const std::int64_t tasks = (term.squares.rows() + kRowsPerTask - 1) / kRowsPerTask;
    std::vector<Sums> parts(static_cast<std::size_t>(tasks));
    pool_.parallel_for(term.squares.rows(), kRowsPerTask, [&](std::int64_t first, std::int64_t last) {
      Sums& part = parts[static_cast<std::size_t>(first / kRowsPerTask)];
      part.peaks.resize(groups);
      part.weights.resize(static_cast<std::size_t>(cols_));
      std::vector<float> weight(static_cast<std::size_t>(cols_));
      for (std::int64_t r = first; r < last; ++r) {
        for (std::size_t g = 0; g < groups; ++g) {
          const std::int64_t begin = static_cast<std::int64_t>(g) * term.group;
          const std::int64_t end = std::min(begin + term.group, cols_);
          part.peaks[g] += static_cast<double>(
              soft_maximum(term.squares.row(r), power, begin, end, squarings, weight.data()));
        }
        for (std::size_t c = 0; c < weight.size(); ++c) part.weights[c] += static_cast<double>(weight[c]);
      }
    });
    Sums sums{std::vector<double>(groups), std::vector<double>(static_cast<std::size_t>(cols_))};
    for (const Sums& part : parts) {
      for (std::size_t g = 0; g < groups; ++g) sums.peaks[g] += part.peaks[g];
      for (std::size_t c = 0; c < sums.weights.size(); ++c) sums.weights[c] += part.weights[c];
    }
    return sums;
  }

  double add_term(const NoiseTerm& term, std::span<const float> log_u, int squarings,
                  std::vector<double>& slope) const {
    const auto width = static_cast<std::size_t>(cols_);
    std::vector<float> power(width);
    for (std::size_t c = 0; c < width; ++c) power[c] = std::exp(static_cast<float>(term.sign) * log_u[c]);
    const Sums sums = sum_rows(term, power, squarings);
    double value = 0;
    for (std::size_t g = 0; g < sums.peaks.size(); ++g) {
      const std::size_t begin = g * static_cast<std::size_t>(term.group);
      const std::size_t end = std::min(begin + static_cast<std::size_t>(term.group), width);
      double gain = 0;
      for (std::size_t c = begin; c < end; ++c) gain += term.gain[c] / static_cast<double>(power[c]);
      value += term.factor * sums.peaks[g] * gain;
      for (std::size_t c = begin; c < end; ++c) {
        const double own = term.gain[c] / static_cast<double>(power[c]);
        slope[c] += term.factor * term.sign * (gain * sums.weights[c] - sums.peaks[g] * own);
      }
    }
    return value;
  }

  ThreadPool& pool_;
  std::int64_t cols_;
  std::vector<NoiseTerm> terms_;
};

std::vector<double> column_energy(const Matrix& weight) {
  std::vector<double> energy(static_cast<std::size_t>(weight.cols()));
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    const std::span<const float> row = weight.row(r);
    for (std::size_t c = 0; c < row.size(); ++c)
      energy[c] += static_cast<double>(row[c]) * static_cast<double>(row[c]);
  }
  return energy;
}

NoiseTerm activation_term(const SmoothInputs& inputs, const SmoothLayer& layer) {
  const QuantizationArgs& args = *layer.activations;
  const std::int64_t cols = layer.weight->cols();
  NoiseTerm term{.squares = {}, .gain = column_energy(*layer.weight), .group = group_width(args, cols)};
  if (args.strategy == Strategy::kTensor) {
    term.squares = Matrix(1, cols);
    std::ranges::transform(inputs.abs_max, term.squares.values().begin(), [](float v) { return v * v; });
  } else {
    term.squares = squares_of_rows(*inputs.sample);
  }
  term.sign = -1;
  term.factor = 1 / (static_cast<double>(term.squares.rows()) * code_range(args) * code_range(args));
  return term;
}

NoiseTerm weight_term(const SmoothInputs& inputs, const SmoothLayer& layer) {
  const QuantizationArgs& args = *layer.weights;
  const bool is_whole = args.strategy == Strategy::kTensor;
  NoiseTerm term{.squares = is_whole ? squared_column_maxima(*layer.weight) : squares_of_rows(*layer.weight),
                 .gain = {inputs.mean_square.begin(), inputs.mean_square.end()},
                 .group = group_width(args, layer.weight->cols())};
  term.factor = static_cast<double>(layer.weight->rows()) /
                (static_cast<double>(term.squares.rows()) * code_range(args) * code_range(args));
  return term;
}

// 2 log of SmoothQuant's scales with strength 0.6. Channels that are nearly silent count as if they were not.
std::vector<float> starting_point(const SmoothInputs& inputs, std::span<const SmoothLayer> layers) {
  std::vector<const Matrix*> weights;
  for (const SmoothLayer& layer : layers) weights.push_back(layer.weight);
  const std::vector<float> w = smooth_weight_scales(weights, SmoothStatistic::kAbsMax);
  const float loudest_x = std::ranges::max(inputs.abs_max), loudest_w = std::ranges::max(w);
  std::vector<float> log_u(w.size());
  for (std::size_t c = 0; c < w.size(); ++c) {
    const float a = std::max(inputs.abs_max[c], 1e-4f * loudest_x);
    const float b = std::max(w[c], 1e-4f * loudest_w);
    log_u[c] = a > 0 && b > 0 ? 1.2f * std::log(a) - 0.8f * std::log(b) : 0;
  }
  const float mean = std::accumulate(log_u.begin(), log_u.end(), 0.0f) / static_cast<float>(log_u.size());
  for (float& v : log_u) v -= mean;
  return log_u;
}

// Adam with a falling rate, inside a box around the start.
class Descent {
 public:
  explicit Descent(std::vector<float> start) : start_(start), at_(std::move(start)) {
    momentum_.resize(at_.size());
    energy_.resize(at_.size());
  }
  std::span<const float> at() const { return at_; }

  void step(std::span<const float> slope) {
    constexpr double kMomentum = 0.9, kEnergy = 0.999;
    const double progress = static_cast<double>(taken_++) / kSteps;
    const double rate = kFirstRate * std::pow(kLastRate / kFirstRate, progress);
    const double warm = 1 - std::pow(kMomentum, taken_), warm_energy = 1 - std::pow(kEnergy, taken_);
    for (std::size_t c = 0; c < at_.size(); ++c) {
      const auto s = static_cast<double>(slope[c]);
      momentum_[c] = kMomentum * momentum_[c] + (1 - kMomentum) * s;
      energy_[c] = kEnergy * energy_[c] + (1 - kEnergy) * s * s;
      const double move = rate * (momentum_[c] / warm) / (std::sqrt(energy_[c] / warm_energy) + 1e-12);
      const auto centre = static_cast<double>(start_[c]);
      at_[c] = static_cast<float>(
          std::clamp(static_cast<double>(at_[c]) - move, centre - kReach, centre + kReach));
    }
  }

 private:
  std::vector<float> start_, at_;
  std::vector<double> momentum_, energy_;
  int taken_ = 0;
};

double signal_of(const SmoothInputs& inputs, std::span<const SmoothLayer> layers) {
  double signal = 0;
  for (const SmoothLayer& layer : layers) {
    const std::vector<double> energy = column_energy(*layer.weight);
    for (std::size_t c = 0; c < energy.size(); ++c)
      signal += energy[c] * static_cast<double>(inputs.mean_square[c]);
  }
  return signal;
}

}  // namespace

SmoothChoice search_smooth_scales(ThreadPool& pool, const SmoothInputs& inputs,
                                  std::span<const SmoothLayer> layers,
                                  const std::function<std::vector<float>(std::span<const float>)>& tie) {
  const std::int64_t cols = layers[0].weight->cols();
  Noise noise(pool, cols);
  for (const SmoothLayer& layer : layers) {
    if (layer.activations) noise.add(activation_term(inputs, layer));
    if (layer.weights) noise.add(weight_term(inputs, layer));
  }
  CHECK(!noise.empty(), "something is rounded");
  Descent descent(tie(starting_point(inputs, layers)));
  std::vector<double> slope;
  for (int step = 0; step < kSteps; ++step) {
    const int squarings = kFirstSquarings + (kLastSquarings - kFirstSquarings + 1) * step / kSteps;
    const double value = noise(descent.at(), squarings, slope);
    if (!(value > 0)) break;
    std::vector<float> relative(slope.size());
    for (std::size_t c = 0; c < slope.size(); ++c) relative[c] = static_cast<float>(slope[c] / value);
    descent.step(tie(relative));
  }
  SmoothChoice choice;
  double mean = 0;
  for (const float v : descent.at()) mean += static_cast<double>(v) / static_cast<double>(cols);
  for (const float v : descent.at())
    choice.scales.push_back(static_cast<float>(std::exp((static_cast<double>(v) - mean) / 2)));
  const double signal = signal_of(inputs, layers);
  const std::vector<float> none(static_cast<std::size_t>(cols), 0.0f);
  choice.noise_before = noise(none, kLastSquarings, slope) / signal;
  choice.noise_after = noise(descent.at(), kLastSquarings, slope) / signal;
  return choice;
}

}  // namespace nibble
