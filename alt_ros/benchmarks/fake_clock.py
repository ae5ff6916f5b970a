"""Sets the system clock of some processes and of nothing else: a library that is loaded first.

It answers for CLOCK_REALTIME with an offset that a mapped file holds, and moves the deadlines of
timed waits back onto the kernel's clock. CLOCK_MONOTONIC runs on. A wait that has begun lasts as
long as it would have; where the real clock is set back, it lasts longer.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

from alt_ros.errors import DependencyError
from alt_ros.types import NANOSECONDS

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void map_offset(void) {
  int file = open(getenv("ALT_CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
  if (file < 0) abort();
  offset = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (offset == MAP_FAILED) abort();
}

static struct timespec moved(const struct timespec *from, int sign) {
  int64_t ns = from->tv_sec * 1000000000LL + from->tv_nsec + (offset ? sign * *offset : 0);
  return (struct timespec){ns / 1000000000LL, ns % 1000000000LL};
}

static int real_clock(clockid_t clock, struct timespec *out) {
  static int (*next)(clockid_t, struct timespec *);
  if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
  return next(clock, out);
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  int failed = real_clock(clock, out);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    *out = moved(out, 1);
  return failed;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  *out = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}

/* A deadline of this century is on CLOCK_REALTIME: CLOCK_MONOTONIC counts from the start-up. */
static const struct timespec *kernels(const struct timespec *deadline, struct timespec *room) {
  if (!deadline || deadline->tv_sec < 1000000000LL) return deadline;
  *room = moved(deadline, -1);
  return room;
}

#define NEXT(name, version) \
  static __typeof__(&name) next; \
  if (!next) next = dlvsym(RTLD_NEXT, #name, version); \
  if (!next) next = dlsym(RTLD_NEXT, #name);

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline) {
  NEXT(pthread_cond_timedwait, "GLIBC_2.3.2")
  struct timespec room;
  return next(cond, mutex, kernels(deadline, &room));
}

int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           clockid_t clock, const struct timespec *restrict deadline) {
  NEXT(pthread_cond_clockwait, "GLIBC_2.34")
  struct timespec room;
  return next(cond, mutex, clock, kernels(deadline, &room));
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict deadline) {
  NEXT(sem_timedwait, "GLIBC_2.34")
  struct timespec room;
  return next(sem, kernels(deadline, &room));
}

int sem_clockwait(sem_t *restrict sem, clockid_t clock,
                  const struct timespec *restrict deadline) {
  NEXT(sem_clockwait, "GLIBC_2.34")
  struct timespec room;
  return next(sem, clock, kernels(deadline, &room));
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex,
                            const struct timespec *restrict deadline) {
  NEXT(pthread_mutex_timedlock, "GLIBC_2.34")
  struct timespec room;
  return next(mutex, kernels(deadline, &room));
}

int pthread_mutex_clocklock(pthread_mutex_t *restrict mutex, clockid_t clock,
                            const struct timespec *restrict deadline) {
  NEXT(pthread_mutex_clocklock, "GLIBC_2.34")
  struct timespec room;
  return next(mutex, clock, kernels(deadline, &room));
}
"""


class FakeClock:
    """The system clock of the processes that get ``variables``.

    Args:
        folder: For the library and the offset.

    Attributes:
        variables: Environment of the processes.

    Raises:
        DependencyError: There is no C compiler, or the library does not build.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise DependencyError("setting the nodes' system clock needs a C compiler 'cc'")
        source, library = folder / "fake_clock.c", folder / "fake_clock.so"
        source.write_text(_SOURCE, encoding="utf-8")
        done = subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DependencyError(f"'{source}' does not compile: {done.stderr.strip()}")
        self._file = folder / "clock_offset"
        self._offset = 0
        self._file.write_bytes(struct.pack("<q", 0))
        self.variables = {"LD_PRELOAD": str(library), "ALT_CLOCK_OFFSET": str(self._file)}

    def __call__(self, seconds: float) -> None:
        """Move the clock by seconds."""
        self._offset += round(seconds * NANOSECONDS)
        with self._file.open("r+b") as file:  # the processes have this very file mapped
            file.write(struct.pack("<q", self._offset))
