// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/json.h"

namespace nibble {
namespace {

constexpr std::int64_t kDiffChunk = 1 << 15;  // elements; fixes the order of the sums

struct PartialDifference {
  std::int64_t differing = 0, not_comparable = 0;
  double largest = 0, error_squares = 0, left_squares = 0;
};

PartialDifference compare_chunk(const Tensor& left, const Tensor& right, std::int64_t first,
                                std::int64_t last) {
  const auto length = static_cast<std::size_t>(last - first);
  std::vector<float> a(length), b(length);
  left.decode_f32(first, a);
  right.decode_f32(first, b);
  PartialDifference partial;
  for (std::size_t i = 0; i < length; ++i) {
    const bool finite = std::isfinite(a[i]) && std::isfinite(b[i]);
    if (std::isfinite(a[i])) partial.left_squares += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    ++partial.differing;
    if (!finite) {
      ++partial.not_comparable;
      continue;
    }
    const double error = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    partial.largest = std::max(partial.largest, error);
    partial.error_squares += error * error;
  }
  return partial;
}

void compare_values(const Tensor& left, const Tensor& right, ThreadPool& pool, TensorDifference& difference) {
  const std::int64_t count = left.size();
  std::vector<PartialDifference> partials(static_cast<std::size_t>((count + kDiffChunk - 1) / kDiffChunk));
  pool.parallel_for(static_cast<std::int64_t>(partials.size()), 1,
                    [&](std::int64_t first, std::int64_t last) {
                      for (std::int64_t i = first; i < last; ++i) {
                        partials[static_cast<std::size_t>(i)] =
                            compare_chunk(left, right, i * kDiffChunk, std::min(count, (i + 1) * kDiffChunk));
                      }
                    });
  double errors = 0, squares = 0;
  for (const PartialDifference& partial : partials) {
    difference.differing += partial.differing;
    difference.not_comparable += partial.not_comparable;
    difference.max_error = std::max(difference.max_error, partial.largest);
    errors += partial.error_squares;
    squares += partial.left_squares;
  }
  if (errors > 0) {
    difference.relative_error =
        squares > 0 ? std::sqrt(errors / squares) : std::numeric_limits<double>::infinity();
  }
}

std::string described(const TensorInfo& info) {
  return fmt::format("{} {}", info.stored_as, to_string(info.shape));
}

Result<TensorDifference> compare(const Context& context, const Checkpoint& left, const Checkpoint& right,
                                 const TensorInfo& a, const TensorInfo& b) {
  TensorDifference difference{a.name, DifferenceKind::kEqual, described(a), described(b)};
  if (a.shape != b.shape) {
    difference.kind = DifferenceKind::kShape;
    return difference;
  }
  TRY_ASSIGN(const Tensor x, left.load(a.name));
  TRY_ASSIGN(const Tensor y, right.load(b.name));
  const bool same_bytes = x.dtype() == y.dtype() && std::ranges::equal(x.bytes(), y.bytes());
  if (!same_bytes) compare_values(x, y, context.pool, difference);
  if (difference.differing > 0) {
    difference.kind = DifferenceKind::kValues;
  } else if (a.dtype != b.dtype) {
    difference.kind = DifferenceKind::kDtype;
  }
  left.release(a.name);
  right.release(b.name);
  return difference;
}

void diff_json(const Json& left, const Json& right, const std::string& path, std::vector<std::string>& keys) {
  if (left == right) return;
  if (!left.is_object() || !right.is_object()) {
    keys.push_back(path);
    return;
  }
  std::set<std::string> names;
  for (const auto& [name, value] : left.items()) names.insert(name);
  for (const auto& [name, value] : right.items()) names.insert(name);
  for (const std::string& name : names) {
    const Json absent;
    const auto a = left.find(name);
    const auto b = right.find(name);
    diff_json(a == left.end() ? absent : *a, b == right.end() ? absent : *b,
              path.empty() ? name : path + "/" + name, keys);
  }
}

}  // namespace

std::string_view to_string(DifferenceKind kind) {
  switch (kind) {
    case DifferenceKind::kEqual:
      return "equal";
    case DifferenceKind::kOnlyLeft:
      return "only left";
    case DifferenceKind::kOnlyRight:
      return "only right";
    case DifferenceKind::kShape:
      return "shape";
    case DifferenceKind::kDtype:
      return "dtype";
    case DifferenceKind::kValues:
      return "values";
  }
  return {};
}

Result<DiffReport> diff_checkpoints(const Context& context, const Checkpoint& left, const Checkpoint& right) {
  DiffReport report;
  double done = 0, total = 0;
  for (const TensorInfo& info : left.tensors()) total += static_cast<double>(info.stored_bytes);
  context.events.phase("diff");
  for (const TensorInfo& a : left.tensors()) {
    if (context.stop.stop_requested()) return Error{ErrorCode::kInterrupted, "stopped", {}, {}};
    report.left_bytes += a.stored_bytes;
    const TensorInfo* b = right.find(a.name);
    if (b == nullptr) {
      report.tensors.push_back({a.name, DifferenceKind::kOnlyLeft, described(a), {}});
    } else {
      TRY_ASSIGN(TensorDifference difference, compare(context, left, right, a, *b));
      report.equal += difference.kind == DifferenceKind::kEqual ? 1 : 0;
      report.tensors.push_back(std::move(difference));
    }
    done += static_cast<double>(a.stored_bytes);
    context.events.progress("diff", done, total);
  }
  for (const TensorInfo& b : right.tensors()) {
    report.right_bytes += b.stored_bytes;
    if (left.find(b.name) == nullptr) {
      report.tensors.push_back({b.name, DifferenceKind::kOnlyRight, {}, described(b)});
    }
  }
  diff_json(left.config(), right.config(), "", report.config_keys);
  return report;
}

}  // namespace nibble
