// SPDX-License-Identifier: Apache-2.0
// Which order of input channels suits N:M pruning: channels of one group compete, so groups should mix
// important ones with unimportant ones (Pool and Yu, Channel Permutations for N:M Sparsity, NeurIPS 2021).
// The search swaps channels between groups while that raises the importance |w| * a that the pattern retains.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "modify/solver/mask.h"

namespace nibble {

// Channel order[c] comes to place c.
using ChannelOrder = std::vector<std::int64_t>;

// The sum of the largest group - zeros scores of every `group` consecutive columns, over all rows.
double retained_importance(const Matrix& scores, const PrunePattern& pattern);
double retained_importance(const Matrix& scores, const PrunePattern& pattern, const ChannelOrder& order);

// Rounds of disjoint swaps, the best first; at most `rounds`. Costs columns^2 * rows additions a round; of
// more than 1024 rows every k-th is looked at. Never retains less than the order that is there.
ChannelOrder find_channel_order(ThreadPool& pool, const Matrix& scores, const PrunePattern& pattern,
                                int rounds);

}  // namespace nibble
