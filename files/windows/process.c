/*
 * process.c - signals, random bytes, memory and the terminal on Windows
 */
#include <limits.h>

#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <psapi.h>

int qz_windows_sigaction(int number, const struct sigaction *action, struct sigaction *before)
{
    if (number == SIGHUP || number == SIGPIPE || number == SIGXFSZ) {
        if (before)
            *before = (struct sigaction){.sa_handler = SIG_DFL};
        return 0;
    }
    void (*old)(int) = signal(number, action ? action->sa_handler : SIG_DFL);
    if (old == SIG_ERR)
        return -1;
    if (!action)
        signal(number, old);
    if (before)
        *before = (struct sigaction){.sa_handler = old};
    return 0;
}

int qz_windows_getentropy(void *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += sizeof(unsigned)) {
        unsigned random;
        if (rand_s(&random) != 0) {
            errno = EIO;
            return -1;
        }
        memcpy((char *)out + i, &random, bytes - i < sizeof random ? bytes - i : sizeof random);
    }
    return 0;
}

long qz_windows_sysconf(int name)
{
    SYSTEM_INFO info;
    MEMORYSTATUSEX memory = {.dwLength = sizeof memory};
    GetSystemInfo(&info);
    if (name == _SC_PAGESIZE)
        return (long)info.dwPageSize;
    const uint64_t pages = GlobalMemoryStatusEx(&memory) ? memory.ullTotalPhys / info.dwPageSize : 0;
    return pages == 0 || pages > LONG_MAX ? -1 : (long)pages;
}

int qz_windows_getrusage(int of, struct rusage *out)
{
    PROCESS_MEMORY_COUNTERS counters;
    (void)of;
    if (!K32GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof counters))
        return -1;
    out->ru_maxrss = counters.PeakWorkingSetSize;
    return 0;
}

int qz_windows_ioctl(int fd, int what, struct winsize *size)
{
    CONSOLE_SCREEN_BUFFER_INFO info;
    (void)what;
    if (!GetConsoleScreenBufferInfo((HANDLE)_get_osfhandle(fd), &info))
        return -1;
    size->ws_col = (unsigned short)(info.srWindow.Right - info.srWindow.Left + 1);
    return 0;
}
