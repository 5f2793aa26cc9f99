# SPDX-License-Identifier: Apache-2.0
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  add_test(NAME kernels.SymbolsTest.FlaggedUnitsExportOnlyTheirOwn
           COMMAND ${CMAKE_SOURCE_DIR}/tools/check_kernel_symbols.sh ${CMAKE_BINARY_DIR})
endif()
