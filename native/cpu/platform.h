// What the library asks of the operating system, for Linux, macOS and Windows; everything else is plain C++.
#pragma once
#include <stdint.h>

/** Sleeps while *word is `seen`; may return for no reason. */
void os_sleep_on(int32_t *word, int32_t seen);
/** Wakes all who sleep on it. */
void os_wake(int32_t *word);

typedef void *Thread;
/** False if the system refuses. */
bool os_start_thread(Thread *thread, void (*main)(void *), void *argument);
void os_join_thread(Thread thread);

int64_t os_now_ns();

/** Zeroed memory, aligned to 64 bytes, for records that are small. Null if refused. */
void *os_allocate(int64_t bytes);
void os_free(void *p);

/** Zeroed pages that become ours when they are touched; in huge pages if the system likes. Null if refused. */
void *os_pages(int64_t bytes, bool huge);
/** Address space that nothing may touch before os_take. Null if refused. */
void *os_reserve(int64_t bytes);
/** Part of what was reserved becomes ours now, not when it is first written: then what the system calls free is free. */
bool os_take(void *p, int64_t bytes);
/** Gives back all of what os_pages or os_reserve gave. */
void os_release(void *p, int64_t bytes);

/** Maps a regular file for reading from its beginning to its end; `path` is UTF-8. LM_OK or a code. */
int32_t os_map_file(const char *path, const uint8_t **data, int64_t *bytes);
void os_unmap_file(const uint8_t *data, int64_t bytes);
/** Begins to read this part of a mapped file, where it is not in memory yet; waits for nothing. */
void os_read_ahead(const uint8_t *from, const uint8_t *to);
/** This part of a mapped file is not needed any more. */
void os_drop(const uint8_t *from, const uint8_t *to);
