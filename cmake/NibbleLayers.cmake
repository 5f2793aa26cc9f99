# SPDX-License-Identifier: Apache-2.0
# A layer is one folder of src/. Its files are found by name; a file called <level>.cc inside a kernel folder is
# compiled for that CPU level, everything else for the baseline.
set(NIBBLE_LEVEL_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi2)
set(NIBBLE_LEVEL_FLAGS_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c -mbmi2)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC's own header warns of its _mm512_undefined_ps() (GCC bug 105593).
  list(APPEND NIBBLE_LEVEL_FLAGS_avx512 -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
set(NIBBLE_LEVEL_FLAGS_avx512vnni ${NIBBLE_LEVEL_FLAGS_avx512} -mavx512vnni -mavx512bf16)

function(nibble_layer name)
  cmake_parse_arguments(ARG "" "" "USES;LINK" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cc)
  if(NOT sources)
    add_library(nibble_${name} INTERFACE)
    target_include_directories(nibble_${name} INTERFACE
      $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src> $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>)
    set(scope INTERFACE)
  else()
    add_library(nibble_${name} STATIC ${sources})
    target_include_directories(nibble_${name} PUBLIC
      $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src> $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>)
    target_link_libraries(nibble_${name} PRIVATE nibble_flags)
    set(scope PUBLIC)
    foreach(level avx2 avx512 avx512vnni)
      foreach(source ${sources})
        get_filename_component(stem ${source} NAME_WE)
        if(stem STREQUAL level AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
          set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${NIBBLE_LEVEL_FLAGS_${level}}")
        endif()
      endforeach()
    endforeach()
  endif()
  list(TRANSFORM ARG_USES PREPEND nibble_)
  target_link_libraries(nibble_${name} ${scope} ${ARG_USES} ${ARG_LINK} Threads::Threads)
endfunction()
