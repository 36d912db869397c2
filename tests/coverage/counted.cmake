# SPDX-License-Identifier: Apache-2.0
# The build that counts what runs. Counters lie in files that every process maps: they survive whatever
# ends it, and a front, which may open nothing, needs nothing. All runs of Kipgate share one file
# (tests of the rooms get files of their own: tests/coverage.sh).
if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "KIPGATE_COVERAGE needs clang: -DCMAKE_C_COMPILER=clang")
endif()
set(KIPGATE_PROFILE ${CMAKE_BINARY_DIR}/profile)
set(KIPGATE_COUNTED -fprofile-instr-generate=${KIPGATE_PROFILE}/%c%m.profraw -fcoverage-mapping
    "SHELL:-mllvm -runtime-counter-relocation")
add_link_options(-fprofile-instr-generate)

# The instance table has no branches: its cells are counted where it is asked.
function(kipgate_count_cells target)
  target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests/coverage/cells.c)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/tests/coverage/cells.c PROPERTIES
    COMPILE_DEFINITIONS KIPGATE_CELLS="${KIPGATE_PROFILE}/cells")
  set_source_files_properties(${CMAKE_SOURCE_DIR}/orchestrator/fleet_step.c PROPERTIES
    COMPILE_DEFINITIONS instance_cell=coverage_cell)
endfunction()
