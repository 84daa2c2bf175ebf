// The pool under a sanitizer: many short steps, cancelled ones among them; every unit must run exactly once.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cpu/pool.h"

#define PHASES 12
#define UNITS 64

static int32_t ran[PHASES][UNITS];

static void run(void *, int p, int from, int to, int) {
  for (int u = from; u < to; u++) __atomic_fetch_add(&ran[p][u], 1, __ATOMIC_RELAXED);
}

int main(int argc, char **argv) {
  int steps = argc > 1 ? atoi(argv[1]) : 2000, threads = argc > 2 ? atoi(argv[2]) : 4;
  static Pool pool;
  if (!pool_start(&pool, threads)) return 2;
  for (int step = 0; step < steps; step++) {
    int32_t totals[PHASES], pieces[PHASES], cancel = step % 7 == 6;
    for (int p = 0; p < PHASES; p++) {
      totals[p] = (step * 31 + p * 17) % UNITS;
      pieces[p] = 1 + p % 5;
    }
    memset(ran, 0, sizeof(ran));
    bool done = pool_run(&pool, 0, PHASES, totals, pieces, {run, nullptr, &cancel});
    if (done == (cancel != 0)) return fprintf(stderr, "step %d: done %d, cancelled %d\n", step, done, cancel), 1;
    for (int p = 0; done && p < PHASES; p++)
      for (int u = 0; u < UNITS; u++)
        if (ran[p][u] != (u < totals[p])) return fprintf(stderr, "step %d: unit %d of phase %d ran %d times\n", step, u, p, ran[p][u]), 1;
  }
  pool_stop(&pool);
  printf("%d steps with %d threads\n", steps, threads);
  return 0;
}
