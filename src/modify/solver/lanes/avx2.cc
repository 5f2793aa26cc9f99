// SPDX-License-Identifier: Apache-2.0
#define NIBBLE_LANE_SPACE avx2
#define NIBBLE_LANE_BYTES 32
#include "modify/solver/lanes/body.inc"
