# Where cross builds find the zlib.h beside this file: -DCMAKE_MODULE_PATH names this folder.
if(NOT TARGET ZLIB::ZLIB)
    add_library(ZLIB::ZLIB INTERFACE IMPORTED)
    set_target_properties(ZLIB::ZLIB PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${CMAKE_CURRENT_LIST_DIR})
endif()
set(ZLIB_FOUND TRUE)
