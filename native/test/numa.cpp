// numa.cpp with a system that has as many nodes as the argument's bits say, in place of the real one. Prints what mbind was
// asked for: start, bytes, policy, nodes, number of them, flags; or nothing.
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned long nodes, refused;

static long fake(long number, ...) {
  va_list a;
  va_start(a, number);
  if (number == SYS_get_mempolicy) {
    int *mode = va_arg(a, int *);
    unsigned long *mask = va_arg(a, unsigned long *), most = va_arg(a, unsigned long);
    void *address = va_arg(a, void *);
    unsigned long flags = va_arg(a, unsigned long);
    if (mode || address || flags != 4 || most < 1024 || nodes == 0) return -1;
    mask[0] = nodes;
  } else if (number == SYS_mbind) {
    void *from = va_arg(a, void *);
    unsigned long bytes = va_arg(a, unsigned long);
    int policy = va_arg(a, int);
    const unsigned long *mask = va_arg(a, const unsigned long *);
    unsigned long most = va_arg(a, unsigned long), flags = va_arg(a, unsigned long);
    printf("%lx %lu %d %lx %lu %lu\n", (unsigned long)from, bytes, policy, mask[0], most, flags);
    if (refused) return -1;
  } else {
    abort();
  }
  va_end(a);
  return 0;
}
#define syscall fake
#include "../cpu/numa.cpp"
#undef syscall

int main(int argc, char **argv) {
  nodes = argc > 1 ? strtoul(argv[1], nullptr, 16) : 0;
  refused = argc > 2;
  printf("%d\n", numa_interleave((void *)0x10000, 8192));
  return 0;
}
