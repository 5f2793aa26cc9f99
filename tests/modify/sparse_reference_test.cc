// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "modify/golden.h"
#include "modify/layers.h"
#include "modify/magnitude.h"
#include "modify/sparsegpt.h"
#include "modify/wanda.h"

namespace nibble {
namespace {

using testing::Golden;

class SparseGptGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(SparseGptGolden, MasksEqualAndWeightsAgree) {
  static const Golden golden("sparse_layer");
  const Json& meta = golden.cases()[GetParam()];
  const Matrix weight = golden.matrix(meta["w"].get<std::string>());
  const Matrix x = golden.matrix(meta["x"].get<std::string>());
  const Matrix expected = golden.matrix(GetParam() + "/weight");
  ThreadPool pool(2);
  HessianAccumulator sum(x.cols());
  for (std::int64_t t = 0; t < x.rows(); t += 40) sum.add(pool, x.data() + t * x.cols(), 40, x.cols(), 1);
  SparseGptOptions options;
  options.pattern =
      parse_mask_structure(meta["mask_structure"].get<std::string>(), meta["sparsity"].get<double>()).value();
  options.block_size = meta["block_size"].get<std::int64_t>();
  options.dampening_frac = meta["dampening_frac"].get<double>();
  options.preserve_sparsity_mask = meta["preserve_sparsity_mask"].get<bool>();
  const Result<SparsityResult> result = sparsegpt_reference(pool, weight, sum.finish(pool).value(), options);
  ASSERT_TRUE(result.ok()) << result.error().message();

  // With a preserved n:m mask the reference reads the mask of the first block for every block.
  const bool first_block_only = options.preserve_sparsity_mask && options.pattern.is_structured();
  const std::int64_t cols = first_block_only ? options.block_size : weight.cols();
  std::int64_t masks = 0, weights = 0;
  double scale = 0;
  for (const float w : weight.values()) scale = std::max(scale, std::abs(static_cast<double>(w)));
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const float found = result->weight.at(r, c), wanted = expected.at(r, c);
      masks += (found == 0) != (wanted == 0);
      weights += std::abs(static_cast<double>(found) - static_cast<double>(wanted)) > 1e-4 * scale;
    }
  }
  RecordProperty("masks", static_cast<int>(masks));
  RecordProperty("weights", static_cast<int>(weights));
  EXPECT_LE(masks, weight.rows() * cols / 1000);
  EXPECT_LE(weights, weight.rows() * cols / 1000);
  if (first_block_only) return;
  EXPECT_NEAR(result->loss / meta["loss"].get<double>(), 1, 1e-3);
}

std::vector<std::string> cases_of(const std::string& method) {
  std::vector<std::string> names;
  const Golden golden("sparse_layer");
  for (const auto& item : golden.cases().items()) {
    if (item.key().starts_with(method) && !item.value().contains("error")) names.push_back(item.key());
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(AllCases, SparseGptGolden, ::testing::ValuesIn(cases_of("sparsegpt.")),
                         testing::test_name);

class WandaGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(WandaGolden, WeightsEqual) {
  static const Golden golden("sparse_layer");
  const Json& meta = golden.cases()[GetParam()];
  const Matrix weight = golden.matrix(meta["w"].get<std::string>());
  const Matrix norms = golden.matrix("wanda_row_scalars");
  const PrunePattern pattern =
      parse_mask_structure(meta["mask_structure"].get<std::string>(), meta["sparsity"].get<double>()).value();
  ThreadPool pool(2);
  const Matrix keep = wanda_mask(pool, weight, norms.row(0), pattern).value();
  EXPECT_TRUE(testing::same_bits(masked(weight, keep), golden.matrix(GetParam() + "/weight")));
}

INSTANTIATE_TEST_SUITE_P(AllCases, WandaGolden, ::testing::ValuesIn(cases_of("wanda.")), testing::test_name);

class MagnitudeGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(MagnitudeGolden, MasksEqual) {
  static const Golden golden("sparse_layer");
  const Json& meta = golden.cases()[GetParam()];
  ThreadPool pool(2);
  const Matrix keep =
      magnitude_mask(pool, golden.matrix(meta["w"].get<std::string>()),
                     meta["mask_structure"].get<std::string>(), meta["sparsity"].get<double>())
          .value();
  EXPECT_TRUE(testing::same_bits(keep, golden.matrix(GetParam() + "/mask")));
}

INSTANTIATE_TEST_SUITE_P(AllCases, MagnitudeGolden, ::testing::ValuesIn(cases_of("magnitude.")),
                         testing::test_name);

}  // namespace
}  // namespace nibble
