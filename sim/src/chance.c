/* Chance and the date of a simulated process: from a seed, so that a run can be repeated.
 *
 * Everything in the process draws its random numbers, in the end, by getrandom: the standard
 * library for its maps, the runtime for the order of what is ready at the same time, ids, keys and
 * signatures. Here they follow from LOGD_SIM_SEED; the date stands still. Without that variable, all
 * is as the system has it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* 2026-06-01, seconds since 1970. */
#define DATE_S 1780272000

static uint64_t state;
static int known; /* 0: not looked; 1: seeded; 2: not seeded */

static int seeded(void) {
  if (known == 0) {
    const char *seed = getenv("LOGD_SIM_SEED");
    if (seed != NULL) state = strtoull(seed, NULL, 10);
    known = seed != NULL ? 1 : 2;
  }
  return known == 1;
}

/* SplitMix64, one step for all threads together. */
static uint64_t draw(void) {
  uint64_t z = __atomic_add_fetch(&state, 0x9E3779B97F4A7C15u, __ATOMIC_RELAXED);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

ssize_t getrandom(void *into, size_t length, unsigned int flags) {
  if (!seeded()) return syscall(SYS_getrandom, into, length, flags);
  unsigned char *bytes = into;
  for (size_t at = 0; at < length; at += 8) {
    uint64_t drawn = draw();
    for (size_t i = 0; i < 8 && at + i < length; i++) bytes[at + i] = (unsigned char)(drawn >> (8 * i));
  }
  return (ssize_t)length;
}

int clock_gettime(clockid_t id, struct timespec *time) {
  if (id == CLOCK_REALTIME && seeded()) {
    time->tv_sec = DATE_S;
    time->tv_nsec = 0;
    return 0;
  }
  static int (*libc)(clockid_t, struct timespec *);
  if (libc == NULL) libc = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  return libc(id, time);
}
