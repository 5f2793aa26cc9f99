# SPDX-License-Identifier: Apache-2.0
# Flags that hold for every target. The baseline is plain x86-64 (or whatever the compiler's default is):
# instruction sets above it appear only in kernel units, see NibbleLayers.cmake.
add_library(nibble_flags INTERFACE)
target_compile_options(nibble_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Werror
  # g++ 12 sees overlaps in `"literal" + std::string` that are not there (GCC bug 105651).
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
  # A batch of sources fits in memory (0.9 GB): collecting garbage before that costs the compiler a tenth of its time.
  $<$<CXX_COMPILER_ID:GNU>:--param=ggc-min-heapsize=1048576>
  # Rounding must not depend on which products a compiler fuses: fused products are written as such.
  -ffp-contract=off)
if(NIBBLE_SANITIZE)
  target_compile_options(nibble_flags INTERFACE -fsanitize=${NIBBLE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(nibble_flags INTERFACE -fsanitize=${NIBBLE_SANITIZE})
endif()

find_program(NIBBLE_CCACHE ccache)
if(NIBBLE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${NIBBLE_CCACHE})
endif()
