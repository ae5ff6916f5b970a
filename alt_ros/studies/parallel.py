"""Independent parts of a study, side by side on the cores that there are.

Each part runs in a process of its own with one thread: small networks gain little from a second
one, and lose much where two processes fight for it. Sums of several threads round otherwise, so a
part has one thread in this process too: no figure depends on the number of cores.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from alt_ros.errors import AltError
from alt_ros.progress import Advance

Result = TypeVar("Result", covariant=True)
_REPORTED_EVERY = 0.5  # seconds


class Work(Protocol[Result]):
    """What a part does: a function of a module, or a ``functools.partial`` of one."""

    def __call__(self, *, progress: Advance) -> Result:
        """Do it, and report (done, total)."""
        ...


@dataclass(frozen=True, eq=False)
class Part(Generic[Result]):
    """One part of a study.

    Attributes:
        work: What it does; it and what it returns must pickle.
        size: How long it takes beside the other parts, for the bar.
    """

    work: Work[Result]
    size: int = 1


def side_by_side(
    parts: Sequence[Part[Result]],
    progress: Advance = lambda done, total: None,
    workers: int | None = None,
) -> list[Result]:
    """Do all parts, the longest first, and return what each gave, in their order.

    After an error no part is begun, and those that run end when they next report.

    Args:
        parts: What is to be done.
        progress: Called with (size done, size of all).
        workers: Processes; None takes one for each core. One does everything in this process.

    Raises:
        AltError: A part's own, or its process was killed.
    """
    total = sum(part.size for part in parts)
    wanted = min(len(parts), _cores() if workers is None else workers)
    if wanted <= 1:
        return _in_turn(parts, progress, total)
    context = multiprocessing.get_context("spawn")
    shares = context.Array("d", len(parts), lock=False)
    stop = context.Value("b", 0, lock=False)
    order = sorted(range(len(parts)), key=lambda number: -parts[number].size)
    pool = ProcessPoolExecutor(wanted, context, initializer=_begin, initargs=(shares, stop))
    try:
        futures: dict[int, Future[Result]] = {
            number: pool.submit(_do, number, parts[number].work) for number in order
        }
        left = set(futures.values())
        while left:
            finished, left = wait(left, timeout=_REPORTED_EVERY, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()  # an error ends the study here, not after hours
            done = sum(part.size * share for part, share in zip(parts, shares, strict=True))
            progress(round(done), total)
        return [futures[number].result() for number in range(len(parts))]
    except BrokenProcessPool as error:
        raise AltError(
            "a study's process was killed, by the system where memory ran out: run it again, what "
            "is done is kept"
        ) from error
    finally:
        stop.value = 1
        pool.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _in_turn(parts: Sequence[Part[Result]], progress: Advance, total: int) -> list[Result]:
    import torch  # not above: _begin says how many threads before it is imported

    results: list[Result] = []
    before, threads = 0, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for part in parts:

            def report(done: int, of: int, before: int = before, size: int = part.size) -> None:
                progress(before + int(size * _share(done, of)), total)

            results.append(part.work(progress=report))
            before += part.size
            progress(before, total)
    finally:
        torch.set_num_threads(threads)
    return results


def _share(done: int, of: int) -> float:
    return min(done / max(of, 1), 1.0)


_shares: Any = None
_stop: Any = None


def _begin(shares: Any, stop: Any) -> None:
    global _shares, _stop
    _shares, _stop = shares, stop
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def _do(number: int, work: Work[Result]) -> Result:
    def report(done: int, of: int) -> None:
        if _stop.value:
            raise AltError("study: another part failed, so this one was broken off")
        _shares[number] = _share(done, of)

    result = work(progress=report)
    _shares[number] = 1.0
    return result
