# SPDX-License-Identifier: Apache-2.0
# End-to-end tests run the built program.
target_compile_definitions(test_apps PRIVATE NIBBLE_PROGRAM="$<TARGET_FILE:nibble>")
add_dependencies(test_apps nibble)
