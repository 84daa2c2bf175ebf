// Machines whose memory belongs to several nodes.
#pragma once
#include <stdint.h>

/**
 * Spreads pages that nobody has touched yet over all nodes whose memory this process may use, in turn: all threads read all of the
 * weights, and from every node at once. True if there is more than one node and the system agreed; else pages lie where they are
 * touched first.
 */
bool numa_interleave(void *from, int64_t bytes);
