// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "modify/golden.h"
#include "modify/gptq.h"
#include "modify/layers.h"

namespace nibble {
namespace {

using testing::Golden;
using testing::golden_args;

double mean_square_error(const Matrix& x, const Matrix& a, const Matrix& b) {
  double sum = 0;
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t r = 0; r < a.rows(); ++r) {
      double y = 0;
      for (std::int64_t c = 0; c < x.cols(); ++c) {
        y += static_cast<double>(x.at(t, c)) *
             (static_cast<double>(a.at(r, c)) - static_cast<double>(b.at(r, c)));
      }
      sum += y * y;
    }
  }
  return sum / static_cast<double>(x.rows() * a.rows());
}

Matrix rounded_to(DType dtype, Matrix m) {
  for (float& value : m.values()) value = round_to(dtype, value);
  return m;
}

class GptqGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(GptqGolden, CodesEqual) {
  static const Golden golden("gptq_layer");
  const Json& meta = golden.cases()[GetParam()];
  const std::string key = GetParam() + "/";
  const QuantizationArgs args = golden_args(meta["args"]);
  const DType dtype = *dtype_from_torch(meta["dtype"].get<std::string>());
  const Matrix weight = rounded_to(dtype, golden.matrix("W"));
  const Matrix x = golden.matrix(meta["x"].get<std::string>());

  QuantParams params{.scale = golden.matrix(key + "scale"), .zero_point = {}};
  if (golden.has(key + "zero_point")) params.zero_point = golden.matrix(key + "zero_point");
  if (golden.has(key + "global_scale")) params.global_scale = golden.matrix(key + "global_scale").at(0, 0);

  ThreadPool pool(2);
  HessianAccumulator sum(x.cols());
  const Matrix seen = rounded_to(dtype, x);
  for (std::int64_t t = 0; t < x.rows(); t += 48) sum.add(pool, seen.data() + t * x.cols(), 48, x.cols(), 1);
  const Hessian hessian = sum.finish(pool).value();
  const GptqReferenceOptions options{.block_size = meta["block_size"].get<std::int64_t>(),
                                     .dampening_frac = meta["dampening_frac"].get<double>(),
                                     .model_dtype = dtype,
                                     .observe = {}};
  const Result<GptqResult> result = gptq_reference(pool, weight, hessian, args, params, options);
  ASSERT_TRUE(result.ok()) << result.error().message();

  if (meta["rtn_fallback"].get<bool>()) {
    // The reference rounds to nearest here; we raise the damping and say so.
    EXPECT_GT(result->damping.raises, 0);
    EXPECT_LT(mean_square_error(x, result->weight, weight), meta["output_mse"].get<double>());
    return;
  }
  EXPECT_EQ(result->damping.raises, 0);
  const bool has_codes = golden.has(key + "codes");
  const Matrix expected = golden.matrix(key + (has_codes ? "codes" : "weight"));
  const Matrix& found = has_codes ? result->codes : result->weight;
  std::int64_t different = 0;
  for (std::int64_t i = 0; i < expected.rows() * expected.cols(); ++i) {
    different += found.data()[i] != expected.data()[i];
  }
  RecordProperty("different_codes", static_cast<int>(different));
  // Near-ties between factorisations in fp32 (theirs) and fp64 (ours): at most 0.1 %.
  EXPECT_LE(different, expected.rows() * expected.cols() / 1000);
  EXPECT_NEAR(result->loss / meta["loss"].get<double>(), 1.0, 1e-3);
  EXPECT_NEAR(mean_square_error(x, result->weight, weight) / meta["output_mse"].get<double>(), 1.0, 5e-3);
}

INSTANTIATE_TEST_SUITE_P(AllCases, GptqGolden, ::testing::ValuesIn(testing::golden_names("gptq_layer")),
                         testing::test_name);

}  // namespace
}  // namespace nibble
