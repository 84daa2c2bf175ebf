#include "platform.h"

#include <stdlib.h>
#include <string.h>

#include "exports.h"

#define PAGE 4096

#if defined(_WIN32)
// ------------------------------------------------------------------------------------------------------------- Windows
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

void os_sleep_on(int32_t *word, int32_t seen) { WaitOnAddress(word, &seen, sizeof(seen), INFINITE); }
void os_wake(int32_t *word) { WakeByAddressAll(word); }

struct Start {
  void (*main)(void *);
  void *argument;
};

static DWORD WINAPI begin(void *p) {
  Start s = *(Start *)p;
  free(p);
  s.main(s.argument);
  return 0;
}

bool os_start_thread(Thread *thread, void (*main)(void *), void *argument) {
  Start *s = (Start *)malloc(sizeof(Start));
  if (!s) return false;
  *s = {main, argument};
  *thread = CreateThread(nullptr, 0, begin, s, 0, nullptr);
  if (!*thread) free(s);
  return *thread != nullptr;
}

void os_join_thread(Thread thread) {
  WaitForSingleObject(thread, INFINITE);
  CloseHandle(thread);
}

int64_t os_now_ns() {
  LARGE_INTEGER count, second;
  QueryPerformanceCounter(&count);
  QueryPerformanceFrequency(&second);
  const int64_t whole = count.QuadPart / second.QuadPart, part = count.QuadPart % second.QuadPart;
  return whole * 1000000000 + part * 1000000000 / second.QuadPart;
}

void *os_allocate(int64_t bytes) {
  void *p = _aligned_malloc((size_t)bytes, 64);
  if (p) memset(p, 0, (size_t)bytes);
  return p;
}
void os_free(void *p) { _aligned_free(p); }

void *os_pages(int64_t bytes, bool) { return VirtualAlloc(nullptr, (size_t)bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE); }
void *os_reserve(int64_t bytes) { return VirtualAlloc(nullptr, (size_t)bytes, MEM_RESERVE, PAGE_NOACCESS); }
bool os_take(void *p, int64_t bytes) { return VirtualAlloc(p, (size_t)bytes, MEM_COMMIT, PAGE_READWRITE) != nullptr; }
void os_release(void *p, int64_t) { VirtualFree(p, 0, MEM_RELEASE); }

int32_t os_map_file(const char *path, const uint8_t **data, int64_t *bytes) {
  const int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, nullptr, 0);
  wchar_t *wide = length > 0 ? (wchar_t *)malloc((size_t)length * sizeof(wchar_t)) : nullptr;
  if (!wide) return LM_E_IO;
  MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, length);
  HANDLE file = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr, OPEN_EXISTING,
                            FILE_FLAG_SEQUENTIAL_SCAN, nullptr);
  free(wide);
  if (file == INVALID_HANDLE_VALUE) return LM_E_IO;
  LARGE_INTEGER size;
  const bool regular = GetFileType(file) == FILE_TYPE_DISK && GetFileSizeEx(file, &size) && size.QuadPart > 0;
  HANDLE mapping = regular ? CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr) : nullptr;
  CloseHandle(file);
  if (!mapping) return regular ? LM_E_MEMORY : LM_E_IO;
  *data = (const uint8_t *)MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
  CloseHandle(mapping);
  *bytes = size.QuadPart;
  return *data ? LM_OK : LM_E_MEMORY;
}

void os_unmap_file(const uint8_t *data, int64_t) { UnmapViewOfFile(data); }

void os_read_ahead(const uint8_t *from, const uint8_t *to) {
  WIN32_MEMORY_RANGE_ENTRY range = {(void *)from, (SIZE_T)(to - from)};
  PrefetchVirtualMemory(GetCurrentProcess(), 1, &range, 0);
}

// pages that are not locked leave the working set; the file keeps them in the system's cache
void os_drop(const uint8_t *from, const uint8_t *to) {
  if (to > from) VirtualUnlock((void *)from, (size_t)(to - from));
}

#else
// ------------------------------------------------------------------------------------------------------ Linux and macOS
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if defined(__APPLE__)
// Exported by libSystem since macOS 10.12; what its C++ library waits with.
extern "C" int __ulock_wait(uint32_t operation, void *address, uint64_t value, uint32_t microseconds);
extern "C" int __ulock_wake(uint32_t operation, void *address, uint64_t value);
#define COMPARE_AND_WAIT 1
#define WAKE_ALL 0x100
void os_sleep_on(int32_t *word, int32_t seen) { __ulock_wait(COMPARE_AND_WAIT, word, (uint32_t)seen, 0); }
void os_wake(int32_t *word) { __ulock_wake(COMPARE_AND_WAIT | WAKE_ALL, word, 0); }
#else
#include <linux/futex.h>
#include <sys/syscall.h>
void os_sleep_on(int32_t *word, int32_t seen) { syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0); }
void os_wake(int32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 0x7fffffff, 0, 0, 0); }
#endif

struct Started {
  pthread_t thread;
  void (*main)(void *);
  void *argument;
};

static void *begin(void *p) {
  Started *s = (Started *)p;
  s->main(s->argument);
  return nullptr;
}

bool os_start_thread(Thread *thread, void (*main)(void *), void *argument) {
  Started *s = (Started *)malloc(sizeof(Started));
  if (!s) return false;
  *s = {{}, main, argument};
  if (pthread_create(&s->thread, nullptr, begin, s)) {
    free(s);
    return false;
  }
  *thread = s;
  return true;
}

void os_join_thread(Thread thread) {
  pthread_join(((Started *)thread)->thread, nullptr);
  free(thread);
}

int64_t os_now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void *os_allocate(int64_t bytes) {
  void *p = nullptr;
  if (posix_memalign(&p, 64, (size_t)bytes)) return nullptr;
  memset(p, 0, (size_t)bytes);
  return p;
}
void os_free(void *p) { free(p); }

static void *map(int64_t bytes, int access, bool huge) {
  void *p = mmap(nullptr, (size_t)bytes, access, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return nullptr;
#if defined(MADV_HUGEPAGE)
  if (huge) madvise(p, (size_t)bytes, MADV_HUGEPAGE);
#else
  (void)huge;
#endif
  return p;
}
void *os_pages(int64_t bytes, bool huge) { return map(bytes, PROT_READ | PROT_WRITE, huge); }
void *os_reserve(int64_t bytes) { return map(bytes, PROT_NONE, true); }

bool os_take(void *p, int64_t bytes) {
  if (mprotect(p, (size_t)bytes, PROT_READ | PROT_WRITE)) return false;
#if defined(__linux__)
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
  if (madvise(p, (size_t)bytes, MADV_POPULATE_WRITE) == 0) return true;
  if (errno != EINVAL) return false;
#endif
  // macOS, Linux before 5.14
  for (int64_t at = 0; at < bytes; at += PAGE) *(volatile uint8_t *)((uint8_t *)p + at) = 0;
  return true;
}

void os_release(void *p, int64_t bytes) { munmap(p, (size_t)bytes); }

int32_t os_map_file(const char *path, const uint8_t **data, int64_t *bytes) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return LM_E_IO;
  struct stat st;
  if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size <= 0) {
    close(fd);
    return LM_E_IO;
  }
  void *p = mmap(nullptr, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (p == MAP_FAILED) return LM_E_MEMORY;
  *data = (const uint8_t *)p;
  *bytes = st.st_size;
  madvise(p, (size_t)st.st_size, MADV_SEQUENTIAL);
  return LM_OK;
}

void os_unmap_file(const uint8_t *data, int64_t bytes) { munmap((void *)data, (size_t)bytes); }

void os_read_ahead(const uint8_t *from, const uint8_t *to) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), a = (uintptr_t)from & ~(page - 1);
  madvise((void *)a, (uintptr_t)to - a, MADV_WILLNEED);
}

void os_drop(const uint8_t *from, const uint8_t *to) {
  // whole pages only: 16 kB on Apple silicon, 64 kB on some Arm servers
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  const uintptr_t a = ((uintptr_t)from + page - 1) & ~(page - 1), b = (uintptr_t)to & ~(page - 1);
  if (b > a) madvise((void *)a, b - a, MADV_DONTNEED);
}
#endif
