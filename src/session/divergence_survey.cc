// SPDX-License-Identifier: Apache-2.0
#include "session/divergence_survey.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nibble {
namespace {

// Rows whose logits lie in memory together, of two models.
constexpr std::int64_t kRowsAtOnce = 64;

CalibrationData first_batches(const CalibrationData& data) {
  CalibrationData part;
  std::int64_t sequences = 0, tokens = 0;
  for (const Batch& batch : data.batches) {
    const bool fits = sequences + batch.sequences <= DivergenceSurvey::kSequences &&
                      tokens + batch.tokens() <= DivergenceSurvey::kTokens;
    if (!part.batches.empty() && !fits) break;
    part.batches.push_back(batch);
    sequences += batch.sequences;
    tokens += batch.tokens();
  }
  return part;
}

// KL(p, q) of softmax(p) from softmax(q).
double divergence(std::span<const float> p, std::span<const float> q) {
  const auto top_p = static_cast<double>(*std::ranges::max_element(p));
  const auto top_q = static_cast<double>(*std::ranges::max_element(q));
  double sum_p = 0, sum_q = 0, weighted = 0;
  for (std::size_t v = 0; v < p.size(); ++v) {
    const auto x = static_cast<double>(p[v]), y = static_cast<double>(q[v]);
    const double e = std::exp(x - top_p);
    sum_p += e;
    sum_q += std::exp(y - top_q);
    weighted += e * (x - y);
  }
  return weighted / sum_p - (top_p + std::log(sum_p) - top_q - std::log(sum_q));
}

}  // namespace

Result<std::unique_ptr<DivergenceSurvey>> DivergenceSurvey::create(Context& context, Transformer& model,
                                                                   const CalibrationData& data,
                                                                   Stream::Place place,
                                                                   std::int64_t chunk_tokens) {
  if (model.head().lm_head() == nullptr) {
    return usage_error("a profile by KL divergence needs a model that predicts tokens",
                       "use sparsity_profile: owl, or one sparsity for all layers");
  }
  std::unique_ptr<DivergenceSurvey> survey(new DivergenceSurvey(context, model, std::move(place)));
  survey->chunks_ = make_chunks(first_batches(data).batches, chunk_tokens);
  for (const Chunk& chunk : survey->chunks_) {
    TRY_ASSIGN(Pass pass, model.begin(context, chunk.batch));
    survey->passes_.push_back(std::move(pass));
  }
  TRY_ASSIGN(Stream original,
             Stream::create(survey->rows(), model.config().hidden, model.config().hidden, survey->place_));
  for (std::size_t i = 0; i < survey->chunks_.size(); ++i) {
    const Chunk& chunk = survey->chunks_[i];
    TRY_ASSIGN(const Matrix hidden, model.embed(context, chunk.batch));
    original.put_hidden(survey->passes_[i], chunk, hidden);
  }
  survey->streams_.push_back(std::move(original));
  return survey;
}

Status DivergenceSurvey::move(Stream& stream, const Block& block) {
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    if (context_.stop.stop_requested()) return Error{ErrorCode::kInterrupted, "stopped", {}, {}};
    stream.put_hidden(passes_[i], chunks_[i],
                      block.forward(passes_[i], stream.hidden(passes_[i], chunks_[i])));
  }
  return {};
}

Status DivergenceSurvey::pass(const Block& original) {
  TRY_ASSIGN(Stream before, Stream::create(rows(), model_.config().hidden, model_.config().hidden, place_));
  for (std::size_t i = 0; i < chunks_.size(); ++i)
    before.put_hidden(passes_[i], chunks_[i], streams_[0].hidden(passes_[i], chunks_[i]));
  before_.emplace(std::move(before));
  for (Stream& stream : streams_) TRY(move(stream, original));
  return {};
}

Status DivergenceSurvey::try_changed(const Block& changed) {
  CHECK(before_.has_value(), "the block passes before it is tried, once");
  Stream stream = std::move(*before_);
  before_.reset();
  TRY(move(stream, changed));
  streams_.push_back(std::move(stream));
  return {};
}

Matrix DivergenceSurvey::compared_rows(const Stream& stream, std::size_t chunk) const {
  const Matrix hidden = stream.hidden(passes_[chunk], chunks_[chunk]);
  std::vector<std::int64_t> wanted;
  for (std::int64_t r = kEvery - 1; r < hidden.rows(); r += kEvery) {
    const std::uint8_t* mask = passes_[chunk].mask;
    if (mask == nullptr || mask[r] != 0) wanted.push_back(r);
  }
  Matrix rows(static_cast<std::int64_t>(wanted.size()), hidden.cols());
  for (std::size_t i = 0; i < wanted.size(); ++i)
    std::ranges::copy(hidden.row(wanted[i]), rows.row(static_cast<std::int64_t>(i)).begin());
  return rows;
}

Result<std::vector<double>> DivergenceSurvey::divergences() {
  std::vector<double> sums(streams_.size() - 1);
  std::int64_t compared = 0;
  const Head& head = model_.head();
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    const Matrix base = compared_rows(streams_[0], i);
    compared += base.rows();
    std::vector<Matrix> tried;
    for (std::size_t s = 1; s < streams_.size(); ++s) tried.push_back(compared_rows(streams_[s], i));
    for (std::int64_t first = 0; first < base.rows(); first += kRowsAtOnce) {
      if (context_.stop.stop_requested()) return Error{ErrorCode::kInterrupted, "stopped", {}, {}};
      const std::int64_t count = std::min(kRowsAtOnce, base.rows() - first);
      const Matrix p = head.logits(context_, base, first, count);
      for (std::size_t s = 0; s < tried.size(); ++s) {
        const Matrix q = head.logits(context_, tried[s], first, count);
        std::vector<double> rows(static_cast<std::size_t>(count));
        context_.pool.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t r = begin; r < end; ++r)
            rows[static_cast<std::size_t>(r)] = divergence(p.row(r), q.row(r));
        });
        for (const double kl : rows) sums[s] += kl;
      }
    }
  }
  for (double& sum : sums) {
    sum = compared > 0 ? sum / static_cast<double>(compared) : 0;
    if (!std::isfinite(sum))
      return bad_data("the KL divergence of a pruned block is not finite",
                      "check the weights with nibble verify");
  }
  return sums;
}

}  // namespace nibble
