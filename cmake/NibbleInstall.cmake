# SPDX-License-Identifier: Apache-2.0
# Installs the program, the public headers and the library; find_package(nibble) gives the target nibble::nibble.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(nibble_library INTERFACE)
set_target_properties(nibble_library PROPERTIES EXPORT_NAME nibble)
target_include_directories(nibble_library INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(nibble_library INTERFACE nibble_session)
add_library(nibble::nibble ALIAS nibble_library)

install(TARGETS nibble_library nibble_flags nibble_base nibble_kernels nibble_codec nibble_checkpoint nibble_text
                nibble_model nibble_calibrate nibble_modify nibble_evaluate nibble_session
        EXPORT nibbleTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}/nibble)
install(DIRECTORY include/nibble DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT nibbleTargets NAMESPACE nibble:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nibble)
install(FILES cmake/NibbleDependencies.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nibble)
file(WRITE ${CMAKE_BINARY_DIR}/nibbleConfig.cmake
  "include(\${CMAKE_CURRENT_LIST_DIR}/NibbleDependencies.cmake)\ninclude(\${CMAKE_CURRENT_LIST_DIR}/nibbleTargets.cmake)\n")
write_basic_package_version_file(${CMAKE_BINARY_DIR}/nibbleConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/nibbleConfig.cmake ${CMAKE_BINARY_DIR}/nibbleConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nibble)
