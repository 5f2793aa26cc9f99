// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/rows.h"
#include "model/transformer.h"

namespace nibble {
namespace {

// A tile of logits is at most kRows x kVocabulary fp32 (16 MB).
constexpr std::int64_t kRows = 1024;
constexpr std::int64_t kVocabulary = 4096;

std::span<const float> rows_of(const Matrix& matrix, std::int64_t first, std::int64_t count) {
  return matrix.values().subspan(static_cast<std::size_t>(first * matrix.cols()),
                                 static_cast<std::size_t>(count * matrix.cols()));
}

double log_add(double a, double b) {
  const double high = std::max(a, b);
  return high == -std::numeric_limits<double>::infinity()
             ? high
             : high + std::log1p(std::exp(std::min(a, b) - high));
}

Matrix gather(const Matrix& from, std::span<const std::int64_t> rows) {
  Matrix out(static_cast<std::int64_t>(rows.size()), from.cols());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(out.row(static_cast<std::int64_t>(i)).data(), from.row(rows[i]).data(),
                from.row(0).size_bytes());
  }
  return out;
}

Matrix apply(const Context& context, const Linear& linear, const Matrix& x) {
  Matrix y(x.rows(), linear.info().rows);
  linear.apply(context.pool, x.data(), x.rows(), y.data());
  return y;
}

}  // namespace

Matrix Head::norm_rows(const Context& context, std::span<const float> rows) const {
  const auto count = static_cast<std::int64_t>(rows.size()) / config_->hidden;
  Matrix x(count, config_->hidden);
  if (final_norm_) {
    apply_norm(context.pool, *config_, *final_norm_, count, rows.data(), x.data());
  } else {
    std::memcpy(x.data(), rows.data(), rows.size_bytes());
  }
  return x;
}

Matrix Head::finish_rows(const Context& context, std::span<const float> rows) const {
  Matrix x = norm_rows(context, rows);
  return projection_ == nullptr ? std::move(x) : apply(context, *projection_, x);
}

Matrix Head::finish(const Context& context, const Matrix& hidden) const {
  return finish_rows(context, hidden.values());
}

Matrix Head::logits(const Context& context, const Matrix& hidden, std::int64_t first,
                    std::int64_t count) const {
  Matrix out = apply(context, *lm_head_, finish_rows(context, rows_of(hidden, first, count)));
  if (config_->logit_softcap > 0) {
    kernels::soft_cap(context.pool, out.rows(), out.cols(), static_cast<float>(config_->logit_softcap),
                      out.data(), out.cols());
  }
  return out;
}

Status Head::negative_log_likelihood(const Context& context, const Matrix& hidden,
                                     std::span<const TokenId> target, std::span<double> nll) const {
  CHECK(static_cast<std::int64_t>(target.size()) == hidden.rows() && nll.size() == target.size(),
        "one target and one result a row");
  std::vector<std::int64_t> wanted;
  for (std::size_t r = 0; r < target.size(); ++r) {
    nll[r] = 0;
    if (target[r] >= config_->vocab) {
      return bad_data(fmt::format("token id {} is outside the vocabulary of {}", target[r], config_->vocab));
    }
    if (target[r] >= 0) wanted.push_back(static_cast<std::int64_t>(r));
  }
  std::vector<double> part(static_cast<std::size_t>(kRows));
  Matrix tile(std::min(kRows, static_cast<std::int64_t>(wanted.size())),
              std::min(kVocabulary, config_->vocab));
  for (std::size_t begin = 0; begin < wanted.size(); begin += kRows) {
    const std::span<const std::int64_t> slice =
        std::span(wanted).subspan(begin, std::min<std::size_t>(kRows, wanted.size() - begin));
    const auto rows = static_cast<std::int64_t>(slice.size());
    const Matrix x = finish_rows(context, gather(hidden, slice).values());
    std::vector<double> total(slice.size(), -std::numeric_limits<double>::infinity());
    for (std::int64_t v = 0; v < config_->vocab; v += kVocabulary) {
      const std::int64_t width = std::min(kVocabulary, config_->vocab - v);
      lm_head_->apply_rows(context.pool, x.data(), rows, v, width, tile.data(), width);
      if (config_->logit_softcap > 0) {
        kernels::soft_cap(context.pool, rows, width, static_cast<float>(config_->logit_softcap), tile.data(),
                          width);
      }
      kernels::log_sum_exp(context.pool, rows, width, tile.data(), width, part.data());
      for (std::size_t i = 0; i < slice.size(); ++i) {
        total[i] = log_add(total[i], part[i]);
        const std::int64_t at = target[static_cast<std::size_t>(slice[i])] - v;
        if (at >= 0 && at < width) {
          nll[static_cast<std::size_t>(slice[i])] -= tile.data()[static_cast<std::int64_t>(i) * width + at];
        }
      }
    }
    for (std::size_t i = 0; i < slice.size(); ++i) nll[static_cast<std::size_t>(slice[i])] += total[i];
  }
  return {};
}

Matrix Head::span_scores(const Context& context, const Matrix& hidden) const {
  return apply(context, *span_, finish(context, hidden));
}

// Causal models: the last token that is not padding; others: the first.
std::vector<std::int64_t> Head::pooled_rows(const Batch& batch) const {
  std::vector<std::int64_t> chosen;
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    const std::int64_t start = s * batch.length;
    std::int64_t at = 0;
    if (config_->row->causal) {
      for (std::int64_t t = 0; t < batch.length; ++t) {
        const auto i = static_cast<std::size_t>(start + t);
        const bool counts = batch.mask.empty() ? batch.ids[i] != config_->pad_token : batch.mask[i] != 0;
        if (counts) at = t;
      }
    }
    chosen.push_back(start + at);
  }
  return chosen;
}

Matrix Head::pool(const Context& context, const Matrix& x) const {
  Matrix y = apply(context, *pooler_, x);
  const auto activation = find_activation(config_->row->pooler_activation, "").value().kind;
  kernels::activate(context.pool, activation, y.rows(), y.cols(), y.data(), y.cols(), y.data(), y.cols());
  return y;
}

Matrix Head::classify(const Context& context, const Batch& batch, const Matrix& hidden) const {
  const Matrix x = finish_rows(context, gather(hidden, pooled_rows(batch)).values());
  return apply(context, *classifier_, pooler_ != nullptr ? pool(context, x) : x);
}

// A causal classifier scores every token, as in PyTorch, before one of each sequence is taken.
std::vector<std::int64_t> Head::read_rows(ModuleRole role, const Batch& batch) const {
  const bool is_pooled =
      role == ModuleRole::kPooler || (role == ModuleRole::kClassifier && !config_->row->causal);
  return is_pooled ? pooled_rows(batch) : std::vector<std::int64_t>();
}

Matrix Head::input_of(ModuleRole role, const Context& context, const Matrix& hidden) const {
  if (role == ModuleRole::kHeadProjection) return norm_rows(context, hidden.values());
  Matrix x = finish_rows(context, hidden.values());
  return role == ModuleRole::kClassifier && pooler_ != nullptr ? pool(context, x) : std::move(x);
}

}  // namespace nibble
