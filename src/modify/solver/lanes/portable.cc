// SPDX-License-Identifier: Apache-2.0
#define NIBBLE_LANE_SPACE portable
#define NIBBLE_LANE_BYTES 16
#include "modify/solver/lanes/body.inc"
