// SPDX-License-Identifier: Apache-2.0
#define NIBBLE_LANE_SPACE avx512
#define NIBBLE_LANE_BYTES 64
#include "modify/solver/lanes/body.inc"
