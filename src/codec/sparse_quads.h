// SPDX-License-Identifier: Apache-2.0
// nibble's own 2:4 form (docs/formats.md, "nibble-24"): of every four columns the two values that may differ
// from zero, and two bits for the place of each. sparse_format.h is the way in.
//   shape      I64 [2]
//   values     dtype of the weight [rows, 2 q], q = ceil(cols / 4); codes of at most four bits: U8 [rows, q],
//              the first value in the low half
//   positions  U8 [rows, ceil(q / 2)]: group 2 j of a row in the low half of byte j, group 2 j + 1 in the
//   high
//              half; of the four bits the lower two are the first position, the others the second
// Positions ascend. Columns behind the last one are zeros. Where a group has fewer than two values, its
// lowest free places stand for zeros: each matrix has one encoding.
#pragma once

#include <map>
#include <string>

#include "base/error.h"
#include "base/tensor.h"
#include "codec/compressed_weight.h"

namespace nibble {

// `code_bits` 4 stores I8 codes from -8 to 7 in half bytes; 0 stores elements as they are. Errors name the
// group that has more than two values.
Result<std::map<std::string, Tensor>> quads_compress(const Tensor& dense, int code_bits);
// Refuses wrong sizes, positions that do not ascend, values behind the last column and values that are not
// finite. Half bytes come back as I8. Gives blocks of `step` rows.
Status quads_decompress_rows(const std::map<std::string, Tensor>& tensors, std::int64_t step,
                             const RowBlockBody& body);

// One tensor of a compressed weight; the error names the one that is missing.
Result<Tensor> required_tensor(const std::map<std::string, Tensor>& tensors, const std::string& suffix);

}  // namespace nibble
