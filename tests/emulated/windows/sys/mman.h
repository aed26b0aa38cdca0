/*
 * Memory in pages, some of which cannot be touched, on Windows. Its functions are declared here, for <windows.h> brings
 * macros with the names of variables.
 */
#ifndef QZ_EMULATED_MMAN_H
#define QZ_EMULATED_MMAN_H

#include <stddef.h>

__declspec(dllimport) void *__stdcall VirtualAlloc(void *at, size_t bytes, unsigned long how, unsigned long may);
__declspec(dllimport) int __stdcall VirtualProtect(void *at, size_t bytes, unsigned long may, unsigned long *before);
__declspec(dllimport) int __stdcall VirtualFree(void *at, size_t bytes, unsigned long how);

/* Those of Windows, where reading and writing is one right. */
enum { PROT_NONE = 1, PROT_READ = 2, PROT_WRITE = 4, MAP_PRIVATE = 0x2000, MAP_ANONYMOUS = 0x1000 };
#define MAP_FAILED NULL

static inline void *mmap(void *at, size_t bytes, int may, int how, int fd, long offset)
{
    (void)fd, (void)offset;
    return VirtualAlloc(at, bytes, (unsigned long)how, (unsigned long)(may & PROT_WRITE ? PROT_WRITE : may));
}

static inline int mprotect(void *at, size_t bytes, int may)
{
    unsigned long before;
    return VirtualProtect(at, bytes, (unsigned long)(may & PROT_WRITE ? PROT_WRITE : may), &before) ? 0 : -1;
}

static inline int munmap(void *at, size_t bytes)
{
    enum { RELEASE = 0x8000 };
    (void)bytes;
    return VirtualFree(at, 0, RELEASE) ? 0 : -1;
}

#endif
