# SPDX-License-Identifier: Apache-2.0
# Everything comes from the distribution; packages.txt lists the packages.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)

# Makes an imported target NAME from a header and a library that ship no CMake package.
function(nibble_plain_library name header library)
  cmake_parse_arguments(ARG "" "" "PATHS;SUFFIXES" ${ARGN})
  string(MAKE_C_IDENTIFIER ${name} id)
  find_path(${id}_INCLUDE ${header} PATH_SUFFIXES ${ARG_SUFFIXES} REQUIRED)
  find_library(${id}_LIBRARY ${library} PATH_SUFFIXES ${ARG_SUFFIXES} REQUIRED)
  add_library(${name} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES
    IMPORTED_LOCATION ${${id}_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${${id}_INCLUDE})
endfunction()

nibble_plain_library(PCRE2::8 pcre2.h pcre2-8)
nibble_plain_library(xxHash::xxhash xxhash.h xxhash)
nibble_plain_library(utf8proc::utf8proc utf8proc.h utf8proc)
nibble_plain_library(ZSTD::zstd zstd.h zstd)
# The serial flavour: all parallel work runs in nibble's own threads. It carries CBLAS and LAPACKE.
nibble_plain_library(OpenBLAS::serial cblas.h openblas SUFFIXES openblas-serial)
